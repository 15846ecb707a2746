"""How sure the distance of two curves is: the same prompts drawn again and again, for all arms alike.

Goes in: for each arm, what came of each prompt. Comes out: areas under accuracy against the share of large tokens, and their differences, with
95 % intervals. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from backend.routing.metrics import area

DRAWS = 2000
UNTIL = 0.3


@dataclass(frozen=True)
class Outcome:
    """One arm over all prompts, `(n,)` each: right or not, tokens, tokens of the large model."""

    right: np.ndarray
    tokens: np.ndarray
    large: np.ndarray

    @property
    def share(self) -> float:
        return float(self.large.sum() / self.tokens.sum())

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


def draws(n: int, seed: int, times: int = DRAWS) -> np.ndarray:
    """`(times, n)`: how often each of n prompts was drawn in each resample of size n (Efron 1979)."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=times)


def areas(curves: Mapping[str, Sequence[Outcome]], small: Outcome, large: Outcome, counts: np.ndarray) -> dict[str, np.ndarray]:
    """For each curve its area (`metrics.area` up to `UNTIL`) under each row of `counts`; a row of ones gives the plain figure."""
    ends = [_means(outcome, counts)[1] for outcome in (small, large)]
    found = {}
    for name, arms in curves.items():
        points = [_means(arm, counts) for arm in arms]
        shares, accuracies = (np.stack(column, 1) for column in zip(*points, strict=True))  # (times, arms)
        rows = zip(shares, accuracies, *ends, strict=True)
        found[name] = np.array([area(x, y, low, high, UNTIL) for x, y, low, high in rows])
    return found


def _means(outcome: Outcome, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share and accuracy `(times,)`."""
    share = counts @ outcome.large / np.maximum(counts @ outcome.tokens, 1)
    return share, counts @ outcome.right / counts.sum(1)


def estimate(plain: float, resampled: np.ndarray) -> Estimate:
    """Percentile interval; resamples without a gap between the models say nothing and are left out."""
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return Estimate(plain, float(low), float(high))


def compare(curves: Mapping[str, Sequence[Outcome]], small: Outcome, large: Outcome,
            seed: int) -> tuple[dict[str, Estimate], dict[tuple[str, str], Estimate]]:  # fmt: skip
    """Each curve's area, and the difference of every two of them, earlier minus later, over the same draws. Empty where the models are level."""
    if small.accuracy == large.accuracy:
        return {}, {}
    plain = {name: float(a[0]) for name, a in areas(curves, small, large, np.ones((1, len(small.right)))).items()}
    again = areas(curves, small, large, draws(len(small.right), seed))
    names = list(curves)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    each = {name: estimate(plain[name], again[name]) for name in names}
    return each, {(a, b): estimate(plain[a] - plain[b], again[a] - again[b]) for a, b in pairs}
