"""What a drafter proposes and what came of it: the small interface between drafters, law and loop.

Goes in: token ids with their parents. Comes out: frozen records. Knows no model, no law, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

ROOT = -1


@dataclass(frozen=True)
class Draft:
    """A tree of proposed tokens behind the last committed one; a chain is the tree whose parents are -1, 0, 1, ….

    `tokens` (k,) int64 on the target's device (the host may not have read them yet). `parents`: index of each node's parent, -1 for the
    last committed token; parents stand before children, a node's likeliest child before its others. `confidence`: the drafter's own
    probability of a node given its parent, on the same device as `tokens`, or None where it has none. `by`: who proposed each node.
    `q` `(k, V)`: the law that each token of a chain was *drawn* from; None when the draft is a function of the text (one-hot q).
    """

    tokens: torch.Tensor
    parents: tuple[int, ...]
    by: tuple[str, ...]
    confidence: torch.Tensor | None = None
    q: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if not len(self.tokens) == len(self.parents) == len(self.by):
            raise ValueError(f"tokens, parents and by must be of one length, got {len(self.tokens)}, {len(self.parents)}, {len(self.by)}.")
        if any(not ROOT <= parent < i for i, parent in enumerate(self.parents)):
            raise ValueError("parents must name an earlier node or -1 for the last committed token.")
        if self.q is not None and not self.is_chain:
            raise ValueError("only a chain can have tokens drawn from a law.")

    def __len__(self) -> int:
        return len(self.parents)

    @property
    def is_chain(self) -> bool:
        return is_chain(self.parents)


def is_chain(parents: Sequence[int]) -> bool:
    return all(parent == i - 1 for i, parent in enumerate(parents))


def chain(tokens: Sequence[int] | torch.Tensor, by: str, device: torch.device | str = "cpu", confidence: torch.Tensor | None = None,
          q: torch.Tensor | None = None) -> Draft:  # fmt: skip
    """A draft without branches."""
    block = torch.as_tensor(tokens, dtype=torch.long, device=device)
    return Draft(block, tuple(range(-1, len(block) - 1)), (by,) * len(block), confidence, q)


def nothing(device: torch.device | str = "cpu") -> Draft:
    """The empty draft: the round is a plain step."""
    return chain([], "", device)


@dataclass(frozen=True)
class Outcome:
    """One verified round, as its drafter hears of it. `draft_ids` are the draft's tokens, read; `rows` `(k + 1, V)` float32 the target's
    raw logits after the last committed token and after each node; `path` the accepted nodes; `emitted` the ids that the round gave."""

    draft: Draft
    draft_ids: tuple[int, ...]
    rows: torch.Tensor
    path: tuple[int, ...]
    emitted: tuple[int, ...]


class Drafter(Protocol):
    """Proposes; never decides. A drafter lives for one run and starts without memory."""

    name: str
    reads_prompt_rows: bool  # wants the target's logits after every prompt token

    def begin(self, prompt_ids: Sequence[int], rows: torch.Tensor | None) -> None:
        """The prompt was read. `rows` `(m, V)` float32: the target's logits after each of its last m tokens, if asked for."""

    def propose(self, ids: Sequence[int], position: int, limit: int) -> Draft:
        """A draft behind `ids` (prompt and answer so far, at least one token) of at most `limit` nodes (≥ 1), none deeper than `limit`;
        `position` is the answer position of its first token."""

    def observe(self, outcome: Outcome) -> None:
        """What the target made of the last proposal."""


@dataclass(frozen=True)
class Silent:
    """Plain decoding: never proposes."""

    name: str = "none"
    reads_prompt_rows: bool = field(default=False)

    def begin(self, prompt_ids: Sequence[int], rows: torch.Tensor | None) -> None: ...

    def propose(self, ids: Sequence[int], position: int, limit: int) -> Draft:
        return nothing()

    def observe(self, outcome: Outcome) -> None: ...
