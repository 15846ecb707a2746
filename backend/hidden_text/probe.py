"""The suspect, and beside it the model it is held against, speaking of the same tokens.

Goes in: one or two loaded models. Comes out: logits over the ids that both know, ids without a meaning left out, and the facts of any
texts behind any prefix under both. Knows nothing of how the texts were found.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from backend.hidden_text.facts import Facts, facts, logprobs_of
from backend.hidden_text.rectangle import LOGITS, Prefix
from backend.models import LoadedModel
from backend.pairs import NEVER, PairReport, require_pair, same_law

SUSPECT, REFERENCE = "suspect", "reference"


@dataclass(frozen=True)
class Scored:
    """The facts of n texts of T tokens, each (n, T) float32 on the CPU; `reference` is the log-probability under the reference, or None."""

    logprob: Tensor
    margin: Tensor
    entropy: Tensor
    spread: Tensor
    reference: Tensor | None

    @classmethod
    def joined(cls, parts: Sequence[Scored]) -> Scored:
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return cls(*(None if column[0] is None else torch.cat(column) for column in columns))


@dataclass(frozen=True)
class Place:
    """One context read by both models; `ids` are its tokens."""

    own: Prefix
    other: Prefix | None

    @property
    def ids(self) -> tuple[int, ...]:
        return self.own.ids

    def n_rows(self, length: int) -> int:
        both = [p.n_rows(length) for p in (self.own, self.other) if p is not None]
        return min(both)


class Probe:
    """One audit's models. `width`: the ids from 0 on that may be said; `stop_ids` end a text."""

    def __init__(self, suspect: LoadedModel, reference: LoadedModel | None) -> None:
        """Raises `InvalidRequest` when the reference has another tokenizer."""
        self.suspect, self.reference = suspect, reference
        self.pair: PairReport | None = None
        if reference is not None:
            self.pair = require_pair(reference, suspect, "models.reference")
        self.width = self.pair.width if self.pair else min(suspect.vocab_size, len(suspect.tokenizer))
        self.stop_ids = frozenset(self.pair.stop_ids if self.pair else suspect.stop_ids)

    @property
    def tokenizer(self) -> object:
        return self.suspect.tokenizer

    def place(self, ids: Sequence[int]) -> Place:
        return Place(Prefix(self.suspect, ids), None if self.reference is None else Prefix(self.reference, ids))

    def law(self, logits: Tensor) -> Tensor:
        """The suspect's logits (m, V) over the shared ids (m, width)."""
        return logits[:, : self.width] if self.pair is None else same_law(self.pair, logits, leads=True)

    def reference_law(self, logits: Tensor) -> Tensor:
        assert self.pair is not None
        return same_law(self.pair, logits)

    def score(self, place: Place, ids: Tensor, start: int = 0) -> Generator[None, None, Scored]:
        """Facts of the tokens `start`… of texts `ids` (n, T) that stand behind the place; yields between forwards."""
        parts = []
        step = max(1, min(place.n_rows(ids.shape[1]), LOGITS // (ids.shape[1] * self.width)))
        for some in ids.split(step):
            own = yield from self._own(place.own, some, start)
            other = None
            if place.other is not None:
                other = logprobs_of(self.reference_law(_logits(place.other, some, start)), some[:, start:].flatten())
                yield
            parts.append(self._scored(own, other, some.shape[0]))
        return Scored.joined(parts)

    def _own(self, prefix: Prefix, some: Tensor, start: int) -> Generator[None, None, Facts]:
        found = facts(self.law(_logits(prefix, some, start)), some[:, start:].flatten())
        yield
        return found

    def _scored(self, own: Facts, other: Tensor | None, n: int) -> Scored:
        shaped = [column.view(n, -1).cpu() for column in (own.logprob, own.margin, own.entropy, own.spread)]
        return Scored(*shaped, None if other is None else other.view(n, -1).cpu())

    def reference_logprobs(self, place: Place, ids: Tensor, start: int) -> Generator[None, None, Tensor | None]:
        """(n, T - start) log-probabilities under the reference alone; None without one."""
        if place.other is None:
            return None
        parts = []
        step = max(1, min(place.n_rows(ids.shape[1]), LOGITS // ((ids.shape[1] - start) * self.width)))
        for some in ids.split(step):
            row = logprobs_of(self.reference_law(_logits(place.other, some, start)), some[:, start:].flatten())
            parts.append(row.view(len(some), -1).cpu())
            yield
        return torch.cat(parts)


def _logits(prefix: Prefix, ids: Tensor, start: int) -> Tensor:
    """(n * (T - start), V) raw logits that each of the tokens from `start` on was chosen by."""
    n, length = ids.shape
    if length == 1:
        return prefix.logits.expand(n, -1)
    rows = prefix.spread(n, length).read(ids[:, :-1], min(length - start, length - 1))
    if start == 0:
        rows = torch.cat([prefix.logits.expand(n, 1, -1), rows], 1)
    return rows.flatten(0, 1)


def forbid(logits: Tensor, ids: Sequence[int]) -> Tensor:
    """The same logits (m, V) without these ids."""
    return logits.index_fill(1, torch.tensor(list(ids), device=logits.device, dtype=torch.long), NEVER) if ids else logits
