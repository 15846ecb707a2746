"""Figures of scorers against counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from backend.routing import metrics
from backend.routing.bootstrap import Outcome, compare


def rows(seed: int, n: int = 120, ties: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties and labels that lean on them."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 12, n) / 12 if ties else rng.random(n)
    return scores, (rng.random(n) < 0.1 + 0.5 * scores).astype(float)


@pytest.mark.parametrize("seed", range(4))
def test_auc_counts_pairs_with_ties_half(seed):
    scores, labels = rows(seed)
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[labels == 1] for n in scores[labels == 0]]
    assert metrics.roc_auc(scores, labels) == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_sums_precision_over_each_threshold(seed):
    scores, labels = rows(seed)
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = scores >= threshold
        recall, precision = labels[taken].sum() / labels.sum(), labels[taken].mean()
        total, before = total + (recall - before) * precision, recall
    assert metrics.average_precision(scores, labels) == pytest.approx(total)


@pytest.mark.parametrize("recall", [0.5, 0.95, 1.0])
def test_calls_at_recall_is_the_smallest_share_that_a_threshold_takes(recall):
    scores, labels = rows(5)
    enough = [float((scores >= t).mean()) for t in set(scores) if labels[scores >= t].sum() >= recall * labels.sum()]
    assert metrics.calls_at_recall(scores, labels, recall) == pytest.approx(min(enough))


def test_recall_at_a_budget_counts_the_best_rows():
    scores, labels = rows(6, n=100, ties=False)
    best = labels[np.argsort(-scores)]
    assert metrics.recall_at(scores, labels, [0.1, 0.37, 1.0]) == pytest.approx([best[:10].sum() / labels.sum(), best[:37].sum() / labels.sum(), 1.0])


def test_recall_of_equal_scores_is_the_budget():
    assert metrics.recall_at(np.zeros(10), np.array([1.0] * 3 + [0.0] * 7), [0.2, 0.5]) == pytest.approx([0.2, 0.5])


def test_calibration_error_is_the_weighted_distance_of_ten_bins():
    probabilities, labels = np.array([0.05, 0.07, 0.95, 1.0, 0.5]), np.array([0.0, 1.0, 1.0, 1.0, 0.0])
    by_hand = (2 * abs(0.06 - 0.5) + 2 * abs(0.975 - 1.0) + 1 * abs(0.5 - 0.0)) / 5
    assert metrics.calibration_error(probabilities, labels) == pytest.approx(by_hand)
    assert sum(n for _, _, n in metrics.calibration(probabilities, labels)) == 5


def test_curves_go_from_nothing_to_everything_and_never_back():
    scores, labels = rows(7)
    for points in (metrics.roc_points(scores, labels, 20), metrics.recall_points(scores, labels, 20)):
        x, y = np.array(points).T
        assert points[0] == [0, 0] and points[-1] == [1, 1] and len(points) <= 21
        assert (np.diff(x) >= 0).all() and (np.diff(y) >= 0).all()


def test_figures_need_both_classes():
    for figure in (metrics.roc_auc, metrics.average_precision, metrics.calls_at_recall):
        with pytest.raises(ValueError, match="both classes, got 0 positives of 3"):
            figure(np.array([1.0, 2.0, 3.0]), np.zeros(3))


def test_the_area_of_the_straight_line_is_half_its_end():
    assert metrics.area(np.array([0.1, 0.2]), np.array([0.36, 0.42]), 0.3, 0.9) == pytest.approx(0.15)


def test_the_area_is_that_of_a_fine_sum():
    shares, accuracies = np.array([0.2, 0.05, 0.5]), np.array([0.8, 0.6, 0.9])
    x = np.linspace(0, 0.3, 300_001)
    y = np.interp(x, [0, 0.05, 0.2, 0.5, 1], [0.3, 0.6, 0.8, 0.9, 0.9])
    assert metrics.area(shares, accuracies, 0.3, 0.9) == pytest.approx(float(np.mean((y - 0.3) / 0.6)), abs=1e-5)


def test_models_that_are_level_have_no_area():
    assert math.isnan(metrics.area(np.array([0.1]), np.array([0.5]), 0.5, 0.5))


def outcome(right: np.ndarray, share: float) -> Outcome:
    tokens = np.full(len(right), 40)
    return Outcome(right.astype(float), tokens, np.round(tokens * share))


def test_a_paired_interval_excludes_zero_where_one_curve_is_better_on_the_same_prompts():
    """Each prompt that the worse arm solves the better one solves too; with 60 more of 300 right zero lies more than five spreads away."""
    rng = np.random.default_rng(0)
    worse = rng.random(300) < 0.5
    better = worse | (rng.random(300) < 0.4)
    curves = {"a": [outcome(better, 0.1)], "b": [outcome(worse, 0.1)], "c": [outcome(worse, 0.1)]}
    each, differences = compare(curves, outcome(np.zeros(300), 0), outcome(np.ones(300), 1), seed=1)
    assert differences["a", "b"].low > 0 and differences["a", "b"].low < differences["a", "b"].value < differences["a", "b"].high
    assert differences["b", "c"].low == differences["b", "c"].high == 0  # the same outcomes, draw by draw
    assert each["a"].value - each["b"].value == pytest.approx(differences["a", "b"].value)


def test_models_that_are_level_are_not_compared():
    level = outcome(np.ones(20), 0.1)
    assert compare({"a": [level]}, level, level, seed=0) == ({}, {})
