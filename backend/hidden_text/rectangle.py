"""Many rows behind one prefix: the prefix computed once, every row equally long, no padding, no mask.

Goes in: one causal language model, a prefix of token ids, blocks `(n, T)` of ids. Comes out: raw logits after them. Rows can be reordered
(beams); only what stands behind the prefix is moved. Knows nothing of vocabularies, scores or references.
Property: a row of a rectangle equals that row alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from backend.batch import filled_layers
from backend.errors import ModelError
from backend.forward_call import ForwardCall, capabilities
from backend.models import LoadedModel

KV_BYTES = 1 << 28  # keys and values of one rectangle
LOGITS = 1 << 26  # logits of one forward; four bytes each
MOST_ROWS = 2048
FEWEST_ROWS = 16


class SpreadLayer(CacheLayerMixin):
    """Keys and values of `n` rows in buffers of `room` columns, the first of which are the prefix's."""

    is_sliding = False
    is_croppable = True

    def __init__(self, n: int, room: int, shared: CacheLayerMixin | None = None) -> None:
        super().__init__()
        self.n, self.room, self.length, self.n_shared = n, room, 0, 0
        if shared is not None:
            self._allocate(shared.keys, shared.values)
            self.length = self.n_shared = shared.keys.shape[-2]
            self._keys[:, :, : self.length] = shared.keys
            self._values[:, :, : self.length] = shared.values

    def _allocate(self, keys: Tensor, values: Tensor) -> None:
        self.device = keys.device
        self._keys = keys.new_empty(self.n, keys.shape[1], self.room, keys.shape[-1])
        self._values = values.new_empty(self.n, values.shape[1], self.room, values.shape[-1])
        self.keys, self.values = self._keys, self._values
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self._allocate(key_states, value_states)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **more: Any) -> tuple[Tensor, Tensor]:
        """Append the block's; what attention reads."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self.length = self.length, self.length + key_states.shape[-2]
        self._keys[:, :, start : self.length] = key_states
        self._values[:, :, start : self.length] = value_states
        return self._keys[:, :, : self.length], self._values[:, :, : self.length]

    def select(self, index: Tensor) -> None:
        """Row i becomes row `index[i]`; what all share stays where it is, unless there are more or fewer rows now."""
        if len(index) != self.n:
            self.n = len(index)
            if self.is_initialized:
                self._keys, self._values = self._keys[index], self._values[index]
                self.keys, self.values = self._keys, self._values
        elif self.is_initialized and self.length > self.n_shared:
            own = slice(self.n_shared, self.length)
            self._keys[:, :, own] = self._keys[index, :, own]
            self._values[:, :, own] = self._values[index, :, own]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return self.room


class Prefix:
    """A prefix read once by one model. Raises `ModelError` for a model that can't run many rows at once; `ValueError` without ids."""

    def __init__(self, handle: LoadedModel, ids: Sequence[int]) -> None:
        if not ids:
            raise ValueError("a prefix must hold at least one id, got none.")
        if not capabilities(handle.model).batch:
            raise ModelError(f"{handle.id} can't run many rows at once: its state can't be shared. Choose an attention model.")
        self.ids, self.handle = tuple(ids), handle
        self._call = ForwardCall(handle.model, handle.id)
        self._cache = self._call.new_cache()
        self._call.check_length(len(ids))
        self.logits = self._call.rows(torch.tensor([list(ids)], device=handle.model.device), self._cache, 1)[0]  # (1, V)

    @property
    def bytes_per_token(self) -> int:
        """Keys and values that one token of one row takes."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in filled_layers(self._cache)) // len(self.ids)

    def n_rows(self, length: int) -> int:
        """How many rows of `length` tokens behind this prefix one rectangle may have."""
        room = KV_BYTES // max(1, self.bytes_per_token * (len(self.ids) + length))
        return max(FEWEST_ROWS, min(MOST_ROWS, room, LOGITS // self.handle.vocab_size))

    def spread(self, n: int, length: int) -> Rectangle:
        """`n` rows with room for `length` more tokens each; raises `ModelError` if the model can't read so many."""
        total = len(self.ids) + length
        self._call.check_length(total)
        if self._call.long_rope(total):
            raise ModelError(f"{self.handle.id} turns its rotary angles with the context's length; rows of {total} tokens can't share a prefix.")
        layers = [SpreadLayer(n, total, layer if layer.is_initialized else None) for layer in self._cache.layers]
        return Rectangle(self._call, Cache(layers=layers), n, self.handle.model.device)


class Rectangle:
    """Rows that grow together."""

    def __init__(self, call: ForwardCall, cache: Cache, n: int, device: torch.device) -> None:
        self._call, self._cache, self._device, self.n = call, cache, device, n

    def read(self, block: Tensor, last: int = 1) -> Tensor:
        """Append `(n, T)` ids; (n, last, V) raw logits after the last of them, in the model's dtype."""
        return self._call.rows(block.to(self._device), self._cache, last)

    def select(self, index: Tensor) -> None:
        """Let row i go on from what row `index[i]` has read; there are as many rows then as `index` names."""
        self.n = len(index)
        with torch.inference_mode():
            for layer in self._cache.layers:
                layer.select(index.to(self._device))
