"""How many neurons: accuracy against k on the half that searches, and the k that this half alone chooses.

Goes in: accuracies at each k on the search halves of the sets. Comes out: the chosen k and why. The reported half plays no part. Knows nothing of
models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from backend.contamination.items import FRESH, LEAKED

POINTS = 10
AROUND = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1, 5 / 4)
NEAR = 0.01  # two k within a point are equally good, and the smaller is taken
KNEE = 0.9  # of the whole fall


@dataclass(frozen=True)
class Point:
    """Accuracy of each set's search half when the best `k` neurons are patched; k 0 is the suspect as it is."""

    k: int
    accuracy: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Choice:
    """The k, and in plain words by which rule."""

    k: int
    why: str
    distance: float | None = None


def grid(available: int, n_open: int = 0) -> list[int]:
    """The values of k that are tried. Where a search learnt how many (`n_open`): from an eighth of that to a quarter more, and all. Else from
    one neuron to all that can be taken, each about as many times the one before: a leak may sit in a single neuron."""
    if n_open:
        return sorted({1, *(max(1, min(available, round(share * n_open))) for share in AROUND), available})
    return sorted({round(available ** (i / (POINTS - 1))) for i in range(POINTS)})


def noise(share: float, n: int, m: int) -> float:
    """Two standard errors of the difference of two shares near `share`, of `n` and of `m` items."""
    return 2 * math.sqrt(share * (1 - share) * (1 / max(n, 1) + 1 / max(m, 1)))


def choose(points: Sequence[Point], n_open: int = 0, slack: float = 0.0) -> Choice:
    """With fresh items: where the patched accuracies lie nearest to what they should be: leaked and fresh items at the model's own unpatched fresh
    accuracy, other skills unmoved. Where a search learnt a set (`n_open`): the k nearest to its size that does as well but for `slack`, since the
    half that was searched flatters a part of the set. Without fresh items: the smallest k that brings nine tenths of the whole fall. Raises
    `ValueError` without patched points."""
    start = next((p for p in points if p.k == 0), None)
    patched = sorted((p for p in points if p.k > 0), key=lambda p: p.k)
    if start is None or not patched:
        raise ValueError(f"points must hold k = 0 and at least one other, got {[p.k for p in points]}.")
    if FRESH in start.accuracy:
        distances = [distance(p, start) for p in patched]
        near = [i for i, d in enumerate(distances) if d <= min(distances) + max(NEAR, slack if n_open else 0.0)]
        at = min(near, key=lambda i: abs(patched[i].k - n_open))
        which = "as near as noise allows to the number of gates that the search opened, of those" if n_open else "the fewest neurons"
        why = f"{which} that bring leaked items nearest to the model's own fresh accuracy and move fresh items and other skills least"
        return Choice(patched[at].k, why, round(distances[at], 4))
    fall = [start.accuracy[LEAKED] - p.accuracy[LEAKED] for p in patched]
    at = next(i for i, f in enumerate(fall) if f >= KNEE * max(fall))
    return Choice(patched[at].k, "without fresh items: the fewest neurons that bring nine tenths of the whole fall on leaked items")


def distance(point: Point, start: Point) -> float:
    """How far leaked and fresh items are from what they should be, and of the other skills the one that moved most."""
    should = {**start.accuracy, LEAKED: start.accuracy[FRESH]}
    off = {name: abs(point.accuracy[name] - should[name]) for name in should}
    others = [value for name, value in off.items() if name not in (LEAKED, FRESH)]
    return off[LEAKED] + off[FRESH] + max(others, default=0.0)
