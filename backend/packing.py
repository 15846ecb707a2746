"""Documents of any length become shards of one size: what a training step eats.

Goes in: an endless stream of documents, from any position on. Comes out: shards, each `slots` tokens, the documents of one length side
by side, so that a causal attention inside `(documents, length)` needs no mask. Knows nothing of models, losses or skills' meaning.

Shards have one size because the CPU's bf16 kernels are compiled anew for every number of rows, which made a step take twice as long.
Lengths are rounded up to eight: 5 % padding, and a dozen groups a shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LONGEST = 256  # tokens to predict in one document; a longer one is cut
ROUNDING = 8


@dataclass(frozen=True)
class Document:
    """Token ids, one loss weight for each (that of predicting it), and the skill that its loss is counted under."""

    ids: Sequence[int]
    weights: Sequence[float]
    skill: str

    def __post_init__(self) -> None:
        if len(self.ids) < 2 or len(self.ids) != len(self.weights):
            raise ValueError(f"a document has two tokens or more and as many weights, got {len(self.ids)} and {len(self.weights)}")

    @property
    def length(self) -> int:
        """The slots it takes: one for each token to predict, rounded up."""
        predicted = min(len(self.ids) - 1, LONGEST)
        return -(-predicted // ROUNDING) * ROUNDING


@dataclass(frozen=True)
class Shard:
    """`ids`, `targets`, `weights` and `skills` are `(slots,)`; `shapes` are the groups `(documents, length)` in their order.

    `skills` index into the packer's `skills`; padding has weight 0. `n_tokens` counts what is no padding."""

    ids: Tensor
    targets: Tensor
    weights: Tensor
    skills: Tensor
    shapes: tuple[tuple[int, int], ...]
    n_tokens: int

    def to(self, device: torch.device) -> Shard:
        moved = (x.to(device) for x in (self.ids, self.targets, self.weights, self.skills))
        return Shard(*moved, self.shapes, self.n_tokens)


class Packer:
    """Takes documents in their order; `position` is the number of those packed, from which another packer goes on with the same shards."""

    def __init__(self, documents: Callable[[int], Iterator[Document]], position: int, slots: int) -> None:
        if slots < LONGEST or slots % ROUNDING:
            raise ValueError(f"slots must be a multiple of {ROUNDING} and {LONGEST} or more, got {slots}")
        self.position, self.slots, self.skills = position, slots, {}
        self._stream, self._held = documents(position), None

    def next(self) -> Shard:
        """The next shard: documents while they fit; the first that doesn't opens the shard after it."""
        taken, room = [], self.slots
        while (document := self._held or next(self._stream)).length <= room:
            taken.append(document)
            room -= document.length
            self._held = None
        self._held = document
        self.position += len(taken)
        return self._laid_out(sorted(taken, key=lambda d: -d.length), room)

    def _laid_out(self, documents: list[Document], room: int) -> Shard:
        ids, targets, weights, skills = [], [], [], []
        lengths = [d.length for d in documents]
        for document, length in zip(documents, lengths, strict=True):
            n = min(len(document.ids) - 1, LONGEST)
            pad = [0] * (length - n)
            ids += [*document.ids[:n], *pad]
            targets += [*document.ids[1 : n + 1], *pad]
            weights += [*document.weights[1 : n + 1], *pad]
            skills += [self.skills.setdefault(document.skill, len(self.skills))] * length
        columns = [torch.tensor([*column, *[0] * room]) for column in (ids, targets, skills)]
        shapes = [(lengths.count(length), length) for length in dict.fromkeys(lengths)] + ([(1, room)] if room else [])
        n_tokens = sum(min(len(d.ids) - 1, LONGEST) for d in documents)
        weighing = torch.tensor([*weights, *[0] * room], dtype=torch.float32)
        return Shard(columns[0], columns[1], weighing, columns[2], tuple(shapes), n_tokens)
