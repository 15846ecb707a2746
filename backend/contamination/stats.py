"""What a number of items can show, and how a patch changed them one by one.

Goes in: numbers of items; outcomes before and after. Comes out: the smallest change that can be seen, in words too; counts of what went too
far and not far enough. Knows nothing of models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from backend.intervals import Z_95, mcnemar, mean_of, share, sign_test

LEVEL, POWER = 0.05, 0.8
Z_POWER = 0.841621  # the normal quantile of POWER


def detectable_drop(n: int) -> float | None:
    """The smallest share of `n` items that a change must turn wrong to be seen (McNemar at 5 %, power 80 %) when it turns none right.

    It is the best case: items that change the other way need more. None where even losing all `n` would prove nothing.
    """
    needed = next((k for k in range(1, n + 1) if sign_test(k, 0) <= LEVEL), None)
    if needed is None:
        return None
    low, high = 0.0, 1.0
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (low, middle) if _at_least(needed, n, middle) >= POWER else (middle, high)
    return high


def _at_least(k: int, n: int, p: float) -> float:
    """P(X >= k) for X ~ Binomial(n, p)."""
    return 1 - sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k))


def detectable_gap(n: int, m: int) -> float | None:
    """The smallest gap between two groups of different items that is seen (5 %, 80 %), near one half, where shares vary most."""
    return min(1.0, (Z_95 + Z_POWER) * math.sqrt(0.25 / n + 0.25 / m)) if n and m else None


def power_sentence(n_leaked: int, n_fresh: int) -> str:
    """What stands beside the run button; `n_leaked` items are reported (the other half searches)."""
    drop, gap = detectable_drop(n_leaked), detectable_gap(n_leaked, n_fresh)
    if drop is None:
        return f"With {n_leaked} items to report no drop can be told from chance: at least 6 must change."
    said = f"With {n_leaked} items to report only drops of {_points(drop)} points or more can be seen"
    return said + (f", and only gaps of {_points(gap)} points between leaked and fresh." if gap is not None else "; without fresh items no gap can.")


def _points(value: float) -> str:
    return f"{math.ceil(1000 * value) / 10:g}"


@dataclass(frozen=True)
class Change:
    """The same items before and after: shares, their difference with its paired interval, and McNemar's p."""

    n: int
    before: dict[str, float]
    after: dict[str, float]
    delta: dict[str, float]
    p: float

    @classmethod
    def of(cls, before: Sequence[bool], after: Sequence[bool], seed: int = 0) -> Change:
        """`delta` is after less before. Raises `ValueError` for no items or groups that are not the same ones."""
        difference = np.asarray(after, float) - np.asarray(before, float)
        shares = share(before).rounded(), share(after).rounded()
        return cls(len(before), *shares, mean_of(difference, seed).rounded(), round(mcnemar(before, after), 6))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Suppression:
    """Where a patch did too much or too little. `under`: still right though only the leak can know it; `over`: wrong now though able."""

    under: int
    unsolvable: int
    over: int
    solvable: int
    known: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def suppression(able: Sequence[bool], after: Sequence[bool], known: str) -> Suppression:
    """Count both errors. `able` says of each item whether it is right without the leak; `known` says who told: truth, or the clean twin."""
    truth, right = np.asarray(able, bool), np.asarray(after, bool)
    return Suppression(int((~truth & right).sum()), int((~truth).sum()), int((truth & ~right).sum()), int(truth.sum()), known)
