"""How to call one model: which arguments it knows, how long a context it reads, which cache it takes, and what that cache can do.

Goes in: a causal language model. Comes out: one forward, and its capabilities. Knows nothing of which tokens are held, of rollback or of methods.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache

from backend.errors import ModelError
from backend.tree_masks import takes_trees

ATTENTION_LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}


@dataclass(frozen=True)
class Capabilities:
    """What a model's cache can do. `rollback`: forget tokens at the end exactly; `batch`: many rows at once (`batch.Rows`);
    `trees`: blocks that branch (`Decoder.append`), as far as its config tells (`tree_check.trees_work` measures it)."""

    rollback: bool
    batch: bool
    trees: bool


class ForwardCall:
    """How to call one model: which arguments it knows, how long a context it reads, which cache it takes."""

    def __init__(self, model: PreTrainedModel, name: str) -> None:
        parameters = inspect.signature(model.forward).parameters
        self._model, self._name = model, name
        self._cache_argument = next((n for n in ("cache", "past_key_values", "cache_params") if n in parameters), None)
        if self._cache_argument is None or not takes_dynamic_cache(model):
            raise ModelError(f"{name} keeps its state in a form of its own ({type(model).__name__}), which nobody can carry on.")
        self._slices_logits = "logits_to_keep" in parameters
        self.takes_positions = "position_ids" in parameters
        self._config = model.config.get_text_config(decoder=True)
        self._stateful = is_stateful(model)
        self.rope_border = rope_border(self._config)
        self.limit: int | None = getattr(self._config, "max_position_embeddings", None)

    def new_cache(self) -> DynamicCache:
        """An empty cache. Without a config all attention layers keep everything (the masks still end at the sliding window), so that
        cropping is exact past the window too; only a recurrent model needs its layers told apart."""
        return DynamicCache(config=self._config) if self._stateful else DynamicCache()

    def check_length(self, n_tokens: int) -> None:
        """`ModelError` if the model has fewer positions (on CUDA a table read past its end would take the whole process down)."""
        if self.limit is not None and n_tokens > self.limit:
            raise ModelError(f"{self._name} reads at most {self.limit} tokens, the context has {n_tokens}. Shorten the prompt or the answer.")

    def long_rope(self, n_tokens: int) -> bool:
        """Whether a context of this length turns all its rotary angles the long way; keys hold only among contexts that agree in this."""
        return n_tokens > self.rope_border

    def __call__(self, tokens: torch.Tensor, cache: Cache, last: int, fresh: bool) -> torch.Tensor:
        """Append `(T,)` ids to the cache (`fresh`: it is empty); (last, V) logits of the last of them."""
        if fresh or not self._stateful:
            return self.rows(tokens[None], cache, last)[0]
        # recurrent layers take up a stored state only for one token at a time
        steps = [self.rows(token[None], cache, 1)[0] for token in tokens.split(1)]
        return torch.cat(steps[-last:])

    def rows(self, input_ids: torch.Tensor, cache: Cache, last: int, **more: Any) -> torch.Tensor:
        """One forward over `(n, T)` ids; (n, last, V) logits in the model's dtype."""
        arguments = {"input_ids": input_ids, self._cache_argument: cache, "use_cache": True, **more}
        if self._slices_logits:
            arguments["logits_to_keep"] = last
        with torch.inference_mode():
            return self._model(**arguments).logits[:, -last:]


def model_name(model: PreTrainedModel) -> str:
    return model.config.name_or_path or model.config.model_type


def capabilities(model: PreTrainedModel) -> Capabilities:
    """`trees` is off for LongRoPE too: a tree's nodes may stand on both sides of the border where it turns all angles."""
    stateful = is_stateful(model)
    steady = rope_border(model.config.get_text_config(decoder=True)) == float("inf")
    return Capabilities(rollback=not stateful, batch=not stateful, trees=not stateful and steady and takes_trees(model))


def is_stateful(model: PreTrainedModel) -> bool:
    """Whether some layer keeps anything but the keys and values of single tokens (Mamba, linear attention, convolutions)."""
    layer_types = getattr(model.config.get_text_config(decoder=True), "layer_types", None) or ()
    return bool(getattr(model, "_is_stateful", False)) or not ATTENTION_LAYERS.issuperset(layer_types)


def takes_dynamic_cache(model: PreTrainedModel) -> bool:
    """The library's own list of architectures with a cache of their own."""
    supported = getattr(model, "_supports_default_dynamic_cache", None)
    return supported is not None and bool(supported())


def rope_border(config: Any) -> float:
    """The context length past which LongRoPE (Phi-3) swaps its rotary angles, all tokens' at once; infinity for other models.

    "Dynamic" rope changes only past `max_position_embeddings`, where nothing is read anyway.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    for part in (rope, *(value for value in rope.values() if isinstance(value, dict))):
        if part.get("rope_type") == "longrope":
            return part["original_max_position_embeddings"]
    return float("inf")
