"""Runs of six tokens, counted: what many starts fall into is an attractor.

Goes in: rows of ids. Comes out: how many rows share each run. Knows nothing of models or texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from backend.hidden_text.decode import Decoded

GRAM = 6
LIFTED = 1.0  # nats that a run must gain over the reference to count as the suspect's own
KNOWN = -5.0  # nats: without a reference, the log-probability from which a run ties texts together
MIX = 6364136223846793005  # multiplier of a well-known 64-bit linear congruential generator (Knuth)

Gram = tuple[int, ...]


def grams(ids: Sequence[int]) -> list[Gram]:
    """The runs of one text, in order; one that says fewer than three different tokens is a loop and none."""
    ids = tuple(ids)
    return [ids[i : i + GRAM] for i in range(len(ids) - GRAM + 1) if len(set(ids[i : i + GRAM])) >= 3]


def count(texts: Iterable[Sequence[int]]) -> Counter[Gram]:
    """In how many of the texts each run stands."""
    found: Counter[Gram] = Counter()
    for ids in texts:
        found.update(set(grams(ids)))
    return found


def votes_of_rows(rows: Decoded) -> Tensor:
    """(n,) int64: the most rows that any one run of the row is shared by; runs that the reference says as readily don't count; without a reference
    all do."""
    windows = rows.ids.unfold(1, GRAM, 1)  # (n, w, 6)
    lift = rows.logprob if rows.reference is None else rows.logprob - rows.reference
    varied = (windows.sort(-1).values.diff(dim=-1) != 0).sum(-1) >= 2
    own = varied if rows.reference is None else varied & (lift.unfold(1, GRAM, 1).sum(-1) >= LIFTED)
    codes = torch.zeros(windows.shape[:2], dtype=torch.int64)
    for i in range(GRAM):
        codes = codes * MIX + windows[:, :, i] + 1
    row = torch.arange(len(codes))[:, None].expand_as(codes)
    pairs = torch.stack([codes[own], row[own]], 1).unique(dim=0)  # a row votes once for a run
    if not len(pairs):
        return torch.zeros(len(codes), dtype=torch.int64)
    _, at, counts = pairs[:, 0].unique(return_inverse=True, return_counts=True)
    return torch.zeros(len(codes), dtype=torch.int64).scatter_reduce_(0, pairs[:, 1], counts[at], "amax")
