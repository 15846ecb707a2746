"""Greedy continuations of many rows, and of one row under a contrast.

Goes in: a probe, a place, equally long blocks of ids to force there. Comes out: what follows, with its facts. Yields between forwards, so that
others may go first. Knows nothing of which rows are worth it, of files or of scores.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from backend.hidden_text.facts import facts
from backend.hidden_text.probe import Place, Probe


@dataclass(frozen=True)
class Decoded:
    """What followed n rows: `ids` (n, T) int64, and their `logprob`, `margin`, `entropy` (n, T) float32 under the suspect; `reference` (n, T)
    is the log-probability of the same ids under the reference, or None. All on the CPU."""

    ids: Tensor
    logprob: Tensor
    margin: Tensor
    entropy: Tensor
    reference: Tensor | None

    @classmethod
    def joined(cls, parts: list[Decoded], dim: int = 0) -> Decoded:
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return cls(*(None if column[0] is None else torch.cat(column, dim) for column in columns))

    def rows(self, index: Tensor) -> Decoded:
        return Decoded(*(None if column is None else column[index] for column in vars(self).values()))


def greedy(probe: Probe, place: Place, blocks: Tensor, n_new: int) -> Generator[None, None, Decoded]:
    """`n_new` greedy ids behind each of `blocks` (n, T), and what the reference thinks of them."""
    n, length = blocks.shape
    rows = place.own.spread(n, length + n_new)
    logits = rows.read(blocks)
    steps = []
    for step in range(n_new):
        found = facts(probe.law(logits[:, -1]))
        steps.append([c[:, None].cpu() for c in (found.best, found.logprob, found.margin, found.entropy)])
        yield
        if step < n_new - 1:
            logits = rows.read(found.best[:, None])
    ids, logprob, margin, entropy = (torch.cat(column, 1) for column in zip(*steps, strict=True))
    del rows, logits
    reference = yield from probe.reference_logprobs(place, torch.cat([blocks, ids], 1), length)
    return Decoded(ids, logprob, margin, entropy, reference)
