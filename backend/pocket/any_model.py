"""Any causal model of transformers, as the training loop wants one.

Goes in: a `PreTrainedModel`, then documents laid end to end, those of one length side by side. Comes out: logits. Where matrices are
multiplied in bf16 the weights stay fp32 masters (autocast). Knows nothing of losses, optimizers or files.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from backend.pocket.lean_llama import Shapes


class AnyModel(nn.Module):
    """`model(ids, shapes, dtype)` over a model of transformers; its weights are under `model.`."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, shapes: Shapes, dtype: torch.dtype = torch.float32) -> Tensor:
        """Logits `(tokens, V)` of `ids` `(tokens,)` int64; a document is read alone, its padding stands behind it."""
        parts = ids.split([documents * length for documents, length in shapes])
        with torch.autocast(ids.device.type, dtype, enabled=dtype != torch.float32):
            return torch.cat([self._logits(part.view(shape)) for part, shape in zip(parts, shapes, strict=True)])

    def _logits(self, rows: Tensor) -> Tensor:
        seen = torch.ones_like(rows)  # said so, because padding's id at a row's end makes transformers warn
        return self.model(input_ids=rows, attention_mask=seen, use_cache=False).logits.flatten(0, 1)
