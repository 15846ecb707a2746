"""What a patch has to beat: neurons by chance, neurons as loud, all neurons, and the score of the base alone.

Goes in: the chosen neurons, the model's sites, how loud its neurons are. Comes out: named lists of neurons; errors of predictors. Knows nothing
of decoding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from backend.contamination.neurons import Neurons, matched_neurons, random_neurons
from backend.contamination.taps import Sites

DRAWS = 5
FAR = 0.2  # twenty points


def control_lists(chosen: Neurons, sites: Sites, magnitude: Tensor | None, seed: int, draws: int = DRAWS) -> dict[str, Neurons]:
    """`random 1` …, `as loud` (where it is known how loud neurons are, and no layer is more than half taken), `all`."""
    found = {f"random {i + 1}": random_neurons(sites, len(chosen), seed + i) for i in range(draws)}
    if magnitude is not None and all(2 * len(ids) <= sites.widths[layer] for layer, ids in chosen.layers.items()):
        found["as loud"] = matched_neurons(chosen, sites, magnitude, seed)
    return {**found, "all": Neurons.every(sites)}


def outside(value: float, controls: Sequence[float]) -> bool:
    """Whether a score lies below what chance gives: below every random draw, and below their mean by `FAR` or by two of their standard deviations.

    The deviations alone would not do: a few neurons may hold most of a memory, and a draw that happens on one of them stands far from the others."""
    if len(controls) < 2 or value >= min(controls):
        return False
    below = float(np.mean(controls)) - value
    return below >= FAR or below > 2 * float(np.std(controls, ddof=1))


def mean_error(predicted: Sequence[float], true: Sequence[float]) -> float:
    """The mean distance of a prediction from the true ability, over models; raises `ValueError` for none."""
    if len(predicted) != len(true) or not true:
        raise ValueError(f"predicted and true must hold the same models, at least one, got {len(predicted)} and {len(true)}.")
    return float(np.abs(np.subtract(predicted, true)).mean())


def constant_base_error(base: float, true: Sequence[float]) -> float:
    """The error of whoever looks at no suspect and reports the base's score for each (the predictor that a patch has to beat)."""
    return mean_error([base] * len(true), true)
