"""How sure a figure is: intervals and tests over outcomes, scores and ranks.

Goes in: outcomes (right or wrong, item by item), scores, counts. Comes out: plain numbers, or a figure with its 95 % interval. Knows nothing
of models, items or what the numbers mean. Chance only through seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z_95 = 1.959964
DRAWS = 2000


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float

    def rounded(self, digits: int = 4) -> dict[str, float]:
        return {"value": round(self.value, digits), "low": round(self.low, digits), "high": round(self.high, digits)}


def share(outcomes: Sequence[bool] | np.ndarray) -> Estimate:
    """The share of true outcomes with Wilson's score interval (1927); raises `ValueError` for none."""
    n, right = len(outcomes), int(np.sum(outcomes))
    if n < 1:
        raise ValueError("outcomes must hold at least one, got none.")
    value, squared = right / n, Z_95**2
    middle = (value + squared / (2 * n)) / (1 + squared / n)
    half = Z_95 / (1 + squared / n) * math.sqrt(value * (1 - value) / n + squared / (4 * n * n))
    return Estimate(value, max(0.0, min(value, middle - half)), min(1.0, max(value, middle + half)))  # rounding must not cut off 0 or 1


def mcnemar(before: Sequence[bool] | np.ndarray, after: Sequence[bool] | np.ndarray) -> float:
    """The exact two-sided p of McNemar's test (1947): could as many items change one way more than the other by a coin's throw?"""
    first, second = np.asarray(before, bool), np.asarray(after, bool)
    if first.shape != second.shape:
        raise ValueError(f"before and after must hold the same items, got {first.shape} and {second.shape}.")
    lost, won = int((first & ~second).sum()), int((~first & second).sum())
    return sign_test(lost, won)


def sign_test(one: int, other: int) -> float:
    """Two-sided exact p of `one` against `other` under a fair coin; 1 where nothing was thrown."""
    n, few = one + other, min(one, other)
    tail = sum(math.comb(n, i) for i in range(few + 1))
    return min(1.0, float(2 * tail / 2**n)) if n else 1.0


def ranks(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Ranks from 1 up, `(n,)`; equal values share their mean rank."""
    _, inverse, counts = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """The correlation of ranks, ties at their mean rank; None where one side is constant or there are fewer than three."""
    if len(a) != len(b):
        raise ValueError(f"a and b must be equally long, got {len(a)} and {len(b)}.")
    x, y = ranks(a), ranks(b)
    if len(a) < 3 or x.std() == 0 or y.std() == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def auc(positives: Sequence[float] | np.ndarray, negatives: Sequence[float] | np.ndarray) -> Estimate | None:
    """The odds that a positive scores above a negative, ties half, with DeLong's interval (1988); None where a side has fewer than two."""
    m, n = len(positives), len(negatives)
    if m < 2 or n < 2:
        return None
    both = ranks(np.concatenate([positives, negatives]))
    above = (both[:m] - ranks(positives)) / n  # (m,) the share of negatives below each positive
    below = 1 - (both[m:] - ranks(negatives)) / m  # (n,) the share of positives above each negative
    value = float(above.mean())
    half = Z_95 * math.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n)
    return Estimate(value, max(0.0, value - half), min(1.0, value + half))


def mean_of(values: Sequence[float] | np.ndarray, seed: int = 0, draws: int = DRAWS) -> Estimate:
    """The mean with its bootstrap interval (percentiles, Efron 1979). Paired figures go in as differences item by item."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError("values must hold at least one, got none.")
    low, high = np.percentile(_resampled(array, seed, draws), [2.5, 97.5])
    return Estimate(float(array.mean()), float(low), float(high))


def gap_of(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, seed: int = 0, draws: int = DRAWS) -> Estimate:
    """The mean of `a` less the mean of `b`, two groups of different items, each drawn again by itself."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.size == 0 or second.size == 0:
        raise ValueError(f"both groups must hold at least one, got {first.size} and {second.size}.")
    low, high = np.percentile(_resampled(first, seed, draws) - _resampled(second, seed + 1, draws), [2.5, 97.5])
    return Estimate(float(first.mean() - second.mean()), float(low), float(high))


def _resampled(values: np.ndarray, seed: int, draws: int) -> np.ndarray:
    """Means of `draws` resamples, `(draws,)`; few different values are drawn by their counts."""
    levels, counts = np.unique(values, return_counts=True)
    taken = np.random.default_rng(seed).multinomial(len(values), counts / len(values), size=draws)
    return taken @ levels / len(values)
