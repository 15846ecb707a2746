"""Intervals and tests, held against sums over every case."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest

from backend.intervals import auc, gap_of, mcnemar, mean_of, ranks, share, sign_test, spearman


def test_a_share_lies_in_its_interval_and_the_interval_shrinks():
    widths = []
    for n in (10, 100, 1000):
        found = share([True] * (n // 2) + [False] * (n - n // 2))
        assert found.low < found.value < found.high
        widths.append(found.high - found.low)
    assert widths[0] > widths[1] > widths[2]


def test_wilsons_ends_are_where_the_score_test_is_just_passed():
    found, n = share([True] * 7 + [False] * 13), 20
    for end in (found.low, found.high):
        assert abs(found.value - end) / math.sqrt(end * (1 - end) / n) == pytest.approx(1.959964, abs=1e-6)


def test_all_right_reaches_one_and_none_at_all_is_refused():
    assert share([True] * 5).high == 1.0 and share([False] * 5).low == 0.0
    with pytest.raises(ValueError, match="outcomes"):
        share([])


@pytest.mark.parametrize(("one", "other"), [(0, 0), (3, 1), (5, 5), (0, 6), (9, 2)])
def test_the_sign_test_counts_every_throw_of_the_coins(one, other):
    n = one + other
    as_far = sum(abs(sum(coins) - n / 2) >= abs(one - n / 2) for coins in itertools.product((0, 1), repeat=n))
    assert sign_test(one, other) == pytest.approx(as_far / 2**n)


def test_mcnemar_looks_only_at_items_that_changed():
    before = [True] * 8 + [False] * 2 + [True] * 50
    after = [False] * 8 + [True] * 2 + [True] * 50
    assert mcnemar(before, after) == sign_test(8, 2) == mcnemar(before[:10], after[:10])
    with pytest.raises(ValueError, match="same items"):
        mcnemar([True], [True, False])


def test_equal_values_share_their_mean_rank():
    assert ranks([5, 1, 5, 2]).tolist() == [3.5, 1, 3.5, 2]


def test_spearman_without_ties_is_the_textbook_formula():
    rng = random.Random(3)
    a, b = rng.sample(range(100), 9), rng.sample(range(100), 9)
    squares = sum((x - y) ** 2 for x, y in zip(ranks(a), ranks(b), strict=True))
    assert spearman(a, b) == pytest.approx(1 - 6 * squares / (9 * (81 - 1)))
    assert spearman(a, [7] * 9) is None and spearman([1, 2], [2, 1]) is None


def test_auc_counts_all_pairs_ties_half():
    rng = random.Random(5)
    positives, negatives = [rng.randrange(6) for _ in range(14)], [rng.randrange(5) for _ in range(11)]
    pairs = [(p > n) + 0.5 * (p == n) for p in positives for n in negatives]
    found = auc(positives, negatives)
    assert found.value == pytest.approx(sum(pairs) / len(pairs)) and found.low < found.value < found.high
    assert auc([1.0], negatives) is None


def test_delongs_interval_holds_what_it_promises():
    """600 draws with a true AUC of 0.76: the share of intervals that hold it is within 0.92–0.98 (outside by chance: below 1 in 400)."""
    rng, true, held = np.random.default_rng(1), 0.5 * (1 + math.erf(1 / math.sqrt(2) / math.sqrt(2))), 0
    for _ in range(600):
        found = auc(rng.normal(1, 1, 40), rng.normal(0, 1, 60))
        held += found.low <= true <= found.high
    assert true == pytest.approx(0.7602, abs=1e-3) and 0.92 <= held / 600 <= 0.98


def test_a_bootstrap_is_the_same_for_the_same_seed_and_close_to_the_normal_interval():
    values = [1.0] * 30 + [0.0] * 70
    found = mean_of(values, seed=4)
    assert found == mean_of(values, seed=4) and found.value == pytest.approx(0.3)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 100)
    assert found.low == pytest.approx(0.3 - half, abs=0.02) and found.high == pytest.approx(0.3 + half, abs=0.02)


def test_a_gap_between_equal_groups_holds_zero_and_one_between_far_ones_does_not():
    rng = np.random.default_rng(2)
    a, b = rng.random(200) < 0.5, rng.random(200) < 0.5
    near, far = gap_of(a, b, 0), gap_of([1.0] * 95 + [0.0] * 5, [1.0] * 40 + [0.0] * 60, 0)
    assert near.low < 0 < near.high and far.low > 0 and far.value == pytest.approx(0.55)
