"""How well scores find the positions that matter.

Goes in: scores `(n,)` (higher: more worth the large model), labels `(n,)` of 0 and 1. Comes out: plain numbers and points of curves.
Knows nothing of models, tokens or files. Equal scores are taken or left together, so no figure depends on the order of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BINS = 10


def roc_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """The odds that a positive scores above a negative, ties half (Mann-Whitney). Raises `ValueError` unless both classes are there."""
    positives, negatives = _both(labels)
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # the mean rank of equal scores
    total = float(ranks[labels == 1].sum()) - positives * (positives + 1) / 2
    return total / (positives * negatives)


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """The mean of precision over recall: sum of (R_n − R_{n−1}) P_n, from the highest score down."""
    taken, hits = curve(scores, labels)
    recall, precision = hits / hits[-1], hits / taken
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def curve(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each distinct score from the highest down: how many rows score at least that, and how many of them are positive."""
    _both(labels)
    values, inverse, counts = np.unique(-np.asarray(scores, dtype=np.float64), return_inverse=True, return_counts=True)
    hits = np.bincount(inverse, weights=labels, minlength=len(values))
    return np.cumsum(counts), np.cumsum(hits)


def recall_at(scores: np.ndarray, labels: np.ndarray, budgets: Sequence[float]) -> list[float]:
    """The share of positives among the best-scored `budget` of all rows; inside a group of equal scores as expected in random order."""
    taken, hits = curve(scores, labels)
    wanted = np.asarray(budgets) * len(labels)
    return np.interp(wanted, np.concatenate([[0], taken]), np.concatenate([[0], hits / hits[-1]])).tolist()


def calls_at_recall(scores: np.ndarray, labels: np.ndarray, recall: float = 0.95) -> float:
    """The smallest share of rows that one threshold takes and that holds at least `recall` of the positives."""
    taken, hits = curve(scores, labels)
    return float(taken[np.argmax(hits >= recall * hits[-1] - 1e-9)] / len(labels))


def calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> list[tuple[float, float, int]]:
    """(mean probability, share of positives, rows) of each bin of equal width that holds something."""
    index = np.minimum((np.asarray(probabilities) * bins).astype(int), bins - 1)
    found = []
    for b in range(bins):
        inside = index == b
        if inside.any():
            found.append((float(probabilities[inside].mean()), float(labels[inside].mean()), int(inside.sum())))
    return found


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: the distance of the two columns of `calibration`, weighted by rows (Naeini et al. 2015)."""
    return sum(n * abs(p - share) for p, share, n in calibration(probabilities, labels, bins)) / len(labels)


def roc_points(scores: np.ndarray, labels: np.ndarray, most: int = 100) -> list[list[float]]:
    """At most about `most` points (false positive rate, true positive rate) from (0, 0) to (1, 1)."""
    taken, hits = curve(scores, labels)
    false = (taken - hits) / (len(labels) - hits[-1])
    return _thinned(false, hits / hits[-1], most)


def recall_points(scores: np.ndarray, labels: np.ndarray, most: int = 100) -> list[list[float]]:
    """At most about `most` points (share of rows taken, recall)."""
    taken, hits = curve(scores, labels)
    return _thinned(taken / len(labels), hits / hits[-1], most)


def _thinned(x: np.ndarray, y: np.ndarray, most: int) -> list[list[float]]:
    """Points about equally far apart along both axes, the last one among them."""
    way = (x + y) / 2
    at = np.unique(np.searchsorted(way, np.linspace(0, 1, most)).clip(max=len(way) - 1))
    return [[0.0, 0.0], *([round(float(x[i]), 5), round(float(y[i]), 5)] for i in at)]


def area(shares: np.ndarray, accuracies: np.ndarray, small: float, large: float, until: float = 0.3) -> float:
    """The mean share of the gap between both models that is recovered while the share of large tokens goes from 0 to `until`.

    The points are joined by lines from (0, `small`) on and towards (1, `large`); the straight line between the models has `until` / 2.
    """
    if large == small:
        return float("nan")
    order = np.argsort(shares, kind="stable")
    x = np.concatenate([[0.0], np.asarray(shares)[order], [1.0]])
    y = (np.concatenate([[small], np.asarray(accuracies)[order], [large]]) - small) / (large - small)
    at = np.unique(np.concatenate([x[x < until], [until]]))
    return float(np.trapezoid(np.interp(at, x, y), at) / until)


def _both(labels: np.ndarray) -> tuple[int, int]:
    positives = int(np.sum(labels == 1))
    if not 0 < positives < len(labels):
        raise ValueError(f"labels must hold both classes, got {positives} positives of {len(labels)}.")
    return positives, len(labels) - positives
