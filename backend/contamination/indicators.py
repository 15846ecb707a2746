"""What speaks for a leak without touching a neuron: how likely the answers are, and how the model behaves on them.

Goes in: per item, the scores under suspect and base, the outcomes, entropies, overlaps. Comes out: `Reading`s: for each indicator how well it
tells leaked items from fresh ones (AUC), on all items and on those that the base gets wrong. Pure arithmetic: no model.

Two families: *likelihood* (`loss`, `reference`, `min_k`, `min_k_pp`, `zlib`, `rephrased`) and *behaviour* (`accuracy`, `entropy`,
`reworded`). A corpus that somebody uploads is evidence of a third kind (`overlap`) and has no vote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from backend.contamination.likelihood import Scores
from backend.intervals import Estimate, auc, gap_of, mean_of

LIKELIHOOD, BEHAVIOUR, INTERVENTION, CORPUS = "likelihood", "behaviour", "intervention", "corpus"
ALL, FAILED = "all", "base fails"
FEWEST = 20  # items a side below which an AUC says nothing


@dataclass(frozen=True)
class Facts:
    """What was measured of one set, `(n,)` each; empty where it was not. `base_right` tells which items the base gets without the suspect's
    training; `reworded_right` are outcomes on the rephrased questions of the items that have one, in the order of `rephrased`."""

    suspect: Sequence[Scores]
    right: Sequence[bool]
    entropy: Sequence[float]
    base: Sequence[Scores] = ()
    base_right: Sequence[bool] = ()
    rephrased: Sequence[int] = ()
    suspect_rephrased: Sequence[Scores] = ()
    base_rephrased: Sequence[Scores] = ()
    reworded_right: Sequence[bool] = ()
    overlap: Sequence[float] = ()


@dataclass(frozen=True)
class Reading:
    """One indicator. `auc`: the odds that a leaked item scores above a fresh one (value, low, high), None where a side is too small;
    `leaked` and `fresh` are the means of the score. `shipped` is what the same indicator reads on the heavily leaked and on the clean exam
    model, where the truth is known."""

    name: str
    family: str
    subset: str
    auc: Mapping[str, float] | None
    leaked: float | None
    fresh: float | None
    n_leaked: int
    n_fresh: int
    shipped: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


Score = Callable[[Facts], Sequence[float] | np.ndarray]


def _of(name: str, which: str = "suspect") -> Score:
    return lambda facts: [getattr(scores, name) for scores in getattr(facts, which)]


def _reference(facts: Facts) -> np.ndarray:
    return np.subtract(_of("ll")(facts), _of("ll", "base")(facts)) if facts.base else np.empty(0)


# larger means more likely seen
SCORES: dict[str, tuple[str, Score]] = {
    "loss": (LIKELIHOOD, _of("ll")),
    "reference": (LIKELIHOOD, _reference),
    "min_k": (LIKELIHOOD, _of("min_k")),
    "min_k_pp": (LIKELIHOOD, _of("min_k_pp")),
    "zlib": (LIKELIHOOD, _of("zlib")),
    "entropy": (BEHAVIOUR, lambda facts: [-value for value in facts.entropy]),
    "overlap": (CORPUS, lambda facts: facts.overlap),
}


def readings(leaked: Facts, fresh: Facts | None) -> list[Reading]:
    """Every indicator that these facts allow; without fresh items only means, and what leaked items say by themselves."""
    found = [_reading(name, leaked, fresh, subset) for name in SCORES for subset in (ALL, FAILED)]
    found += [_rephrased(leaked, fresh)]
    return [reading for reading in found if reading is not None]


def _reading(name: str, leaked: Facts, fresh: Facts | None, subset: str) -> Reading | None:
    family, score = SCORES[name]
    ours = _within(score(leaked), leaked, subset)
    others = _within(score(fresh), fresh, subset) if fresh else None
    if ours is None or not len(ours):
        return None
    return _compared(name, family, subset, ours, np.empty(0) if others is None else others)


def _within(values: Sequence[float] | np.ndarray, facts: Facts, subset: str) -> np.ndarray | None:
    """The scores of the subset's items; None where it can't be told who belongs to it, or nothing was measured."""
    array = np.asarray(values, float)
    if not len(array) or (subset == FAILED and not len(facts.base_right)):
        return None
    return array if subset == ALL else array[~np.asarray(facts.base_right, bool)]


def _compared(name: str, family: str, subset: str, ours: np.ndarray, others: np.ndarray) -> Reading:
    enough = min(len(ours), len(others)) >= FEWEST
    found = auc(ours, others) if enough else None
    means = [round(float(side.mean()), 5) if len(side) else None for side in (ours, others)]
    return Reading(name, family, subset, found.rounded() if found else None, *means, len(ours), len(others))


def _rephrased(leaked: Facts, fresh: Facts | None) -> Reading | None:
    """Likelier in the original wording than in another, beyond what the base finds so; read off the items that have a rephrase."""
    if not len(leaked.rephrased):
        return None
    others = _wording(fresh) if fresh and len(fresh.rephrased) else np.empty(0)
    return _compared("rephrased", LIKELIHOOD, ALL, _wording(leaked), others)


def _wording(facts: Facts) -> np.ndarray:
    at = list(facts.rephrased)
    own = np.array([facts.suspect[i].ll for i in at]) - [s.ll for s in facts.suspect_rephrased]
    if not facts.base:
        return own
    return own - (np.array([facts.base[i].ll for i in at]) - [s.ll for s in facts.base_rephrased])


# How it behaves ---------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gap:
    """How much more of the leaked items than of the fresh ones is right. `own` of the suspect, `base` of the base, `net` what is left when the
    base's own gap is taken off (leaked items may just be easier); `reworded`: right in the original wording less right in the other."""

    own: Mapping[str, float] | None = None
    base: Mapping[str, float] | None = None
    net: Mapping[str, float] | None = None
    reworded: Mapping[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def accuracy_gap(leaked: Facts, fresh: Facts | None, seed: int = 0) -> Gap:
    """Raises nothing: what can't be compared is None."""
    own = base = net = None
    if fresh and len(fresh.right):
        own = _gap(leaked.right, fresh.right, seed)
        if len(leaked.base_right):
            base = _gap(leaked.base_right, fresh.base_right, seed)
            beyond = [np.subtract(np.asarray(f.right, float), np.asarray(f.base_right, float)) for f in (leaked, fresh)]
            net = gap_of(*beyond, seed)
    reworded = None
    if len(leaked.reworded_right):
        original = np.asarray(leaked.right, float)[list(leaked.rephrased)]
        reworded = mean_of(original - np.asarray(leaked.reworded_right, float), seed)
    return Gap(*(found.rounded() if found else None for found in (own, base, net, reworded)))


def _gap(a: Sequence[bool], b: Sequence[bool], seed: int) -> Estimate:
    return gap_of(np.asarray(a, float), np.asarray(b, float), seed)
