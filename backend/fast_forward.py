"""A faster forward on a CPU: the same numbers, with less waiting.

Goes in: a loaded causal language model. Comes out: the same model, changed in place. Knows nothing of caches, tokens or methods.

Measured (SmolLM2-135M, bf16, one thread of an EPYC with AVX512-BF16, CPU time of one token): at a context of 200, 62 ms as loaded,
45 with packed weights, 40 with grouped heads too; at 1,500, 102, 91 and 49. Packed weights gave bit-identical logits; grouping rounds differently.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

GROUPED = "sdpa_grouped"
MAX_QUERIES = 64  # a longer block is a prefill, where the library's kernel has enough to do


def group_query_heads(model: PreTrainedModel) -> bool:
    """Let all query heads that share a key head be rows of one product; whether the model now does. Only for models that use `sdpa`.

    The library's CPU kernel goes through the keys once for every query head, and in bf16 converts them each time.
    """
    if model.config._attn_implementation != "sdpa":
        return model.config._attn_implementation == GROUPED
    AttentionInterface.register(GROUPED, grouped_attention)
    AttentionMaskInterface.register(GROUPED, sdpa_mask)
    model.set_attn_implementation(GROUPED)
    return True


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of `(n, h, t, d)` queries over `(n, g, T, d)` keys, g dividing h; `(n, t, h, d)`. Falls back on the library's own."""
    n, h, t, d = query.shape
    share = h // key.shape[1]
    hides = attention_mask is not None and attention_mask.shape[1] == 1
    plain = dropout == 0 and more.get("position_bias") is None and (hides or t == 1 and attention_mask is None)
    if query.device.type != "cpu" or share == 1 or t > MAX_QUERIES or not plain:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, is_causal, **more)
    mask = attention_mask.repeat(1, 1, share, 1) if hides and t > 1 else attention_mask  # (n, 1, share * t, T)
    rows = query.reshape(n, h // share, share * t, d)
    mixed = functional.scaled_dot_product_attention(rows, key, value, attn_mask=mask, scale=scaling)
    return mixed.view(n, h, t, value.shape[-1]).transpose(1, 2).contiguous(), None


def packs_weights(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether something is to be won: on a CPU, in bf16, with kernels for it."""
    if device.type != "cpu" or dtype != torch.bfloat16 or not torch.backends.mkldnn.is_available():
        return False
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def pack_weights(model: PreTrainedModel) -> int:
    """Lay out the weights of all linear layers the way the CPU's bf16 kernels want them, once instead of at every call.

    Returns the bytes it took (as much again as the layers have), 0 where nothing is to be won: not on a CPU, not bf16, no bf16 kernels.
    A layer whose weight was changed, or that needs a gradient, goes the old way.
    """
    if not packs_weights(model.device, torch.bfloat16):
        return 0
    layers = [m for m in model.modules() if type(m) is torch.nn.Linear and m.weight.dtype == torch.bfloat16]
    for layer in layers:
        layer.forward = packed_forward(layer)
    return sum(layer.weight.nbytes for layer in layers)


def packed_forward(layer: torch.nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    """The layer's forward over a packed copy of its weight, as long as the weight is the one that was copied."""
    weight = layer.weight
    packed, version = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), 1), weight._version

    def forward(inputs: torch.Tensor) -> torch.Tensor:
        current = layer.weight
        if torch.is_grad_enabled() or current is not weight or current._version != version or inputs.dtype != weight.dtype:
            return functional.linear(inputs, current, layer.bias)
        return torch.ops.mkldnn._linear_pointwise(inputs, packed, layer.bias, "none", [], "")

    return forward
