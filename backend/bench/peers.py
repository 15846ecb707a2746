"""The library's own decoding, as the peer that ours is measured against: the model as it loads it, `generate` as it comes.

Goes in: a model's folder, prompt ids. Comes out: new ids. Nothing of Loupe's faster forward is in these models.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from backend.model_source import get
from backend.models import LoadedModel, Plan, load_weights
from backend.paths import assets_dir


def untouched(loaded: LoadedModel, data_dir: Path) -> PreTrainedModel:
    """The same weights in the same dtype, loaded once more, without anything that Loupe does to a model."""
    plan = Plan(loaded.id, loaded.passport.n_parameters, loaded.dtype)
    return load_weights(plan, get(loaded.id, data_dir, assets_dir()), loaded.device)


def library_ids(model: PreTrainedModel, prompt_ids: Sequence[int], n: int, stop_ids: Collection[int], **more: Any) -> list[int]:
    """Greedy new ids by `generate`, at most n, a stop id included; `more` are its own options (a lookup, an assistant)."""
    block = torch.tensor([list(prompt_ids)], device=model.device)
    options = {"do_sample": False, "max_new_tokens": n, "eos_token_id": list(stop_ids), "pad_token_id": 0, **more}
    with torch.inference_mode():
        return model.generate(block, attention_mask=torch.ones_like(block), **options)[0, len(prompt_ids) :].tolist()


def assistant(model: PreTrainedModel, n_tokens: int | None) -> PreTrainedModel:
    """A draft model as `generate` wants it configured: exactly `n_tokens` a round, or (None) the library's defaults."""
    config = model.generation_config
    config.num_assistant_tokens = n_tokens or 20
    config.num_assistant_tokens_schedule = "constant"
    config.assistant_confidence_threshold = 0.0 if n_tokens else 0.4
    return model
