"""Forwards of one shape: the same logits, to the last bit, however the tokens were cut into blocks.

Goes in: a way to run rows through a model, and token ids. Comes out: logits of every new token, computed `width` rows at a time over keys
of constant length. Knows nothing of which tokens are held, of trees or of methods.

A kernel sums in an order that depends on the shapes it is given, so a row verified among seven others differs in its last bits from the
same row computed alone. With one shape for everything the order is the same (and which row it is, or what stands in the others, says nothing).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from backend.errors import ModelError

ALIGNED = 8  # rows: elementwise kernels (silu, cos) take up to 64 numbers at a time and the rest one by one, by other code with other last bits


class Call(Protocol):
    """What is needed of `decoder.ForwardCall`."""

    takes_positions: bool
    limit: int | None

    def rows(self, input_ids: torch.Tensor, cache: Cache, last: int, **more: Any) -> torch.Tensor: ...

    def long_rope(self, n_tokens: int) -> bool: ...


class FixedLayer(CacheLayerMixin):
    """Keys and values in a buffer of `room` columns. Attention sees all of them (the causal mask hides what is not filled), except in the
    first forward, which is the prompt's and sees its own."""

    is_sliding = False
    is_croppable = True

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.length = room, 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.device = key_states.device
        # zeros: a hidden column is weighed with nothing, and nothing times a NaN left in memory would be NaN
        self.keys = key_states.new_zeros(*key_states.shape[:2], self.room, key_states.shape[-1])
        self.values = value_states.new_zeros(*value_states.shape[:2], self.room, value_states.shape[-1])
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **more: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the block's; what attention shall read."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self.length = self.length, self.length + key_states.shape[-2]
        self.keys[:, :, start : self.length] = key_states
        self.values[:, :, start : self.length] = value_states
        return (self.keys, self.values) if start else (key_states, value_states)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return (self.room if self.length else query_length), 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return self.room

    def crop(self, tokens_to_remove: int) -> None:
        self.length -= abs(tokens_to_remove) if self.is_initialized else 0


class FixedCache(Cache):
    """A cache of fixed layers, as many as the model asks for."""

    def __init__(self, room: int) -> None:
        super().__init__(layer_class_to_replicate=lambda: FixedLayer(room))


class FixedWidth:
    """Runs a first block in a forward of its own shape, all but its last token (`n_prompt` tokens); everything behind in blocks of `width`
    rows, rounded up to a multiple of eight: measured in fp32, odd widths made the last row's bits differ from the others'.

    The last token of the prompt goes with the blocks, so that what is drawn first doesn't depend on how many logits were asked for.
    `real` says, of each forward of the last call, how many of its rows were tokens, not padding.
    """

    def __init__(self, call: Call, name: str, width: int, room: int | None) -> None:
        """Raises `ValueError` for a width or a room that can't be, `ModelError` if the model turns its angles within that room."""
        if width < 2:
            raise ValueError(f"width must be at least 2 rows (one row alone runs through other kernels), got {width}.")
        if room is None or room <= width:
            raise ValueError(f"room must be the prompt's length + the answer's + width ({width}), got {room}.")
        if call.long_rope(room):
            why = "turns its rotary angles with the context's length, and so can't be run reproducibly over"
            raise ModelError(f"{name} {why} {room} tokens. Shorten the prompt or the answer.")
        self.width = -(-width // ALIGNED) * ALIGNED
        self.room = room + self.width - width
        self.n_prompt = 0
        self.real: list[int] = []
        self._call = call

    def new_cache(self) -> FixedCache:
        return FixedCache(self.room)

    def __call__(self, tokens: torch.Tensor, cache: FixedCache, last: int, fresh: bool) -> torch.Tensor:
        """Append `(T,)` ids to the cache (`fresh`: it is empty); (last, V) logits of the last of them."""
        self.real, parts, start, held = [], [], 0, cache.get_seq_length()
        if fresh:
            self.n_prompt = start = self.n_prompt or max(len(tokens) - 1, 1)
            self.real.append(start)
            parts.append(self._call.rows(tokens[None, :start], cache, min(max(last - len(tokens) + start, 1), start))[0])
            held = 0
        for at in range(start, len(tokens), self.width):
            parts.append(self._block(tokens[at : at + self.width], cache, held + at))
        return torch.cat(parts)[-last:]

    def _block(self, tokens: torch.Tensor, cache: FixedCache, held: int) -> torch.Tensor:
        """One forward of `width` rows, behind `held` tokens; (k, V) logits of those that are tokens."""
        k, end = len(tokens), held + self.width
        if end > self.room:
            raise ValueError(f"room ({self.room}) must hold {end} tokens: the {held} held and a block of width {self.width}.")
        more = {}
        if self._call.takes_positions:  # padding may reach past the last position there is
            positions = torch.arange(held, end, device=tokens.device)
            more["position_ids"] = positions.clamp(max=(self._call.limit or end) - 1)[None]
        elif self._call.limit is not None and end > self._call.limit:
            raise ModelError(f"The model reads at most {self._call.limit} tokens; in blocks of {self.width} the context needs {end}.")
        padded = torch.cat([tokens, tokens.new_zeros(self.width - k)])
        logits = self._call.rows(padded[None], cache, self.width, **more)[0, :k]
        cache.crop(k - self.width)
        self.real.append(k)
        return logits


def real_rows(parts: Sequence[torch.Tensor], real: Sequence[int]) -> list[torch.Tensor]:
    """What went into the head, `(rows, d)` a forward, without the padding's."""
    return [part[:n] for part, n in zip(parts, real, strict=True)]
