"""One model, one question: the logits after each of the last n of these ids.

Goes in: a causal language model and a plain list of token ids. Comes out: logits (and, if asked, the last hidden states). Between calls
it keeps the keys and values of the longest common prefix and computes only the rest; rollback, catch-up and prefix reuse follow from that.
Knows nothing of text, sampling, grammars or methods. Property: cached equals uncached, for any sequence of edits.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from backend.errors import ModelError

ATTENTION_LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}


@dataclass(frozen=True)
class Capabilities:
    """What a model's cache can do. `rollback`: forget tokens at the end exactly; `batch`: many rows at once (`batch.Rows`)."""

    rollback: bool
    batch: bool


class Decoder:
    """A model with its cache. Not thread-safe: all calls come from the device's one thread.

    `n_computed` counts the tokens that ran through the model since the decoder was made.
    """

    def __init__(self, model: PreTrainedModel, name: str | None = None) -> None:
        """Raises `ModelError` if the model keeps its state in a form that nobody can hand it back in (RWKV, xLSTM, …)."""
        self.model = model
        self.name = name or model_name(model)
        self.capabilities = capabilities(model)
        self.n_computed = 0
        self._call = ForwardCall(model, self.name)
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next call starts with an empty cache."""
        self._ids: list[int] = []
        self._cache = self._call.new_cache()

    def logits(self, ids: Sequence[int], last: int = 1) -> torch.Tensor:
        """`(last, V)` float32 on the model's device: the logits after each of the last `last` ids.

        At least the last `last` tokens are computed, whatever the cache holds. Raises `ValueError` unless `1 <= last <= len(ids)`,
        `ModelError` if the model can't read so many tokens, or if it would have to roll back and can't.
        """
        return self._forward(list(ids), last).float()

    def logits_and_hidden(self, ids: Sequence[int], last: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        """Like `logits`, with the hidden states that they were read from: `(last, V)` float32 and `(last, d)` in the model's dtype."""
        with head_input(self.model) as seen:
            logits = self._forward(list(ids), last)
        return logits.float(), torch.cat([part[0] for part in seen])[-last:]  # several parts if tokens went one by one

    def _forward(self, ids: list[int], last: int) -> torch.Tensor:
        """Compute what the cache lacks; (last, V) in the model's dtype."""
        if not 1 <= last <= len(ids):
            raise ValueError(f"last must be between 1 and the number of ids ({len(ids)}), got {last}.")
        self._call.check_length(len(ids))
        keep = self._reusable(ids, last)
        cache, held = self._cache, len(self._ids)
        if keep < held:
            if not self.capabilities.rollback:
                raise self._no_rollback(held, keep)
            cache.crop(keep - held)
        # Layers grow one after another: if the forward breaks off (memory, Ctrl+C) they differ in length and must not be met again.
        self._ids, self._cache = [], None
        try:
            logits = self._call(ids[keep:], cache, last, fresh=keep == 0)
            self._ids, self._cache = ids, cache
        finally:
            if self._cache is None:
                self.reset()
        self.n_computed += len(ids) - keep
        return logits

    def _reusable(self, ids: list[int], last: int) -> int:
        """How many of the cached tokens this call can build on."""
        if self._call.long_rope(len(ids)) != self._call.long_rope(len(self._ids)):
            return 0
        return min(common_prefix(self._ids, ids), len(ids) - last)

    def _no_rollback(self, held: int, keep: int) -> ModelError:
        why = f"{self.name} can't roll back: it folds all tokens it has read into one state, without a way to take one out again"
        return ModelError(f"{why} (it has read {held}, only {keep} of them are still wanted). Choose a model with an attention cache.")


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
        self._rope_border = rope_border(self._config)

    def new_cache(self) -> DynamicCache:
        """An empty cache. Without a config all attention layers keep everything (the masks still end at the sliding window), so that
        cropping is exact past the window too; only a recurrent model needs its layers told apart."""
        return DynamicCache(config=self._config) if self._stateful else DynamicCache()

    def check_length(self, n_tokens: int) -> None:
        """`ModelError` if the model has fewer positions (on CUDA a table read past its end would take the whole process down)."""
        limit = getattr(self._config, "max_position_embeddings", None)
        if limit is not None and n_tokens > limit:
            raise ModelError(f"{self._name} reads at most {limit} tokens, the context has {n_tokens}. Shorten the prompt or the answer.")

    def long_rope(self, n_tokens: int) -> bool:
        """Whether a context of this length turns all its rotary angles the long way; keys hold only among contexts that agree in this."""
        return n_tokens > self._rope_border

    def __call__(self, ids: list[int], cache: DynamicCache, last: int, fresh: bool) -> torch.Tensor:
        """Append `ids` to the cache (`fresh`: it is empty); (last, V) logits of the last of them."""
        if fresh or not self._stateful:
            return self.rows(torch.tensor([ids], device=self._model.device), cache, last)[0]
        # recurrent layers take up a stored state only for one token at a time
        steps = [self.rows(torch.tensor([[i]], device=self._model.device), cache, 1)[0] for i in ids]
        return torch.cat(steps[-last:])

    def rows(self, input_ids: torch.Tensor, cache: DynamicCache, last: int, **more: Any) -> torch.Tensor:
        """One forward over `(n, T)` ids; (n, last, V) logits in the model's dtype."""
        arguments = {"input_ids": input_ids, self._cache_argument: cache, "use_cache": True, **more}
        if self._slices_logits:
            arguments["logits_to_keep"] = last
        with torch.inference_mode():
            return self._model(**arguments).logits[:, -last:]


@contextmanager
def head_input(model: PreTrainedModel) -> Iterator[list[torch.Tensor]]:
    """Collects what goes into the output head, `(n, T, d)`, during the forwards inside: the last hidden states and no other layer's."""
    seen: list[torch.Tensor] = []
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix of two lists. Halving keeps all comparing in C: about 10 µs for thousands of ids."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while low < high - 1:
        middle = (low + high) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle)
    return low


def model_name(model: PreTrainedModel) -> str:
    return model.config.name_or_path or model.config.model_type


def capabilities(model: PreTrainedModel) -> Capabilities:
    stateful = is_stateful(model)
    return Capabilities(rollback=not stateful, batch=not stateful)


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
