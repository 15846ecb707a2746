"""Which rows go on: few rungs, each deeper than the last, each with fewer rows.

Goes in: how many starts there are; what rows said so far. Comes out: a plan of rungs; the rows worth going on with. Never judges by the first
probability alone: a common first piece, or a defence, makes it low. Knows nothing of models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from backend.hidden_text.decode import Decoded
from backend.hidden_text.grams import GRAM, votes_of_rows

SMALL = 8192  # starts; so few are all decoded twelve deep
DEPTHS = (1, 4, 12, 32, 128)
SHARES = {4: 0.5, 12: 0.1, 32: 0.01, 128: 0.002}
FEWEST = {32: 200, 128: 32}
SURE = math.log(0.5)
TIE = 0.1  # nats between the first and the second choice


@dataclass(frozen=True)
class Rung:
    """Decode so many rows to this depth."""

    depth: int
    n_rows: int


def plan(n_starts: int, depth: int) -> list[Rung]:
    """The rungs to `depth`; a small vocabulary skips the first one and loses nobody before twelve."""
    depths = [d for d in DEPTHS if d < depth] + [depth]
    if n_starts <= SMALL:
        depths = [d for d in depths if d > 1] or [depth]
    rungs = []
    for d in depths:
        known = min((k for k in SHARES if k >= d), default=128)
        every = d == depths[0] or (n_starts <= SMALL and d <= 12)
        n_rows = n_starts if every else max(FEWEST.get(known, 1), math.ceil(SHARES[known] * n_starts))
        rungs.append(Rung(d, min(n_rows, rungs[-1].n_rows if rungs else n_starts)))
    return rungs


def survivors(rows: Decoded, n_keep: int) -> Tensor:
    """The rows (k,) int64, ascending, that deserve the next rung: each list of merit names its best in turn, lift twice as fast.

    Merits: mean lift (mean log-probability where there is no reference); the least sure of the last three tokens, if likelier than one half;
    how many rows share its best run of six tokens; a near tie on the way, behind which another text may lie.
    """
    n = len(rows.ids)
    if n_keep >= n:
        return torch.arange(n)
    lift = rows.logprob if rows.reference is None else rows.logprob - rows.reference
    mean, least = lift.mean(1), rows.logprob[:, -3:].amin(1)
    merits = [(mean, 2.0), (torch.where(least > SURE, least + 100.0, mean.clamp(max=50.0)), 1.0)]
    if rows.ids.shape[1] >= GRAM:
        merits.append((votes_of_rows(rows).float() + mean.sigmoid(), 1.0))
    tied = (rows.margin < TIE).any(1)
    merits.append((torch.where(tied, mean, mean - 1e3), 0.5))
    priority = torch.stack([_places(merit) / weight for merit, weight in merits]).amin(0)
    return priority.argsort(stable=True)[:n_keep].sort().values


def _places(merit: Tensor) -> Tensor:
    """(n,) 1 for the best; equal merits keep their order."""
    places = torch.empty(len(merit))
    places[merit.argsort(descending=True, stable=True)] = torch.arange(1, len(merit) + 1, dtype=torch.float32)
    return places
