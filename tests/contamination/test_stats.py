"""What a number of items can show."""

from __future__ import annotations

import numpy as np
import pytest

from backend.contamination.stats import Change, detectable_drop, detectable_gap, power_sentence, suppression
from backend.intervals import mcnemar


@pytest.mark.parametrize("n", [20, 60, 200])
def test_a_drop_of_that_size_is_seen_four_times_out_of_five(n):
    """2,000 draws each: 80 % give or take 4 points (a false alarm is rarer than 1 in 10,000)."""
    drop, rng = detectable_drop(n), np.random.default_rng(n)
    before = np.ones(n, bool)
    seen = np.mean([mcnemar(before, rng.random(n) >= drop) <= 0.05 for _ in range(2000)])
    assert 0.76 <= seen <= 0.84


def test_more_items_show_smaller_drops_and_five_show_none():
    drops = [detectable_drop(n) for n in (10, 50, 400, 1600)]
    assert drops == sorted(drops, reverse=True) and detectable_drop(5) is None and detectable_drop(6) is not None


def test_the_gap_between_groups_is_seen_four_times_out_of_five():
    """4,000 draws, a two-sided z test: 80 % give or take 4 points."""
    n, m = 300, 200
    gap, rng = detectable_gap(n, m), np.random.default_rng(0)
    a, b = rng.binomial(n, 0.5 + gap / 2, 4000) / n, rng.binomial(m, 0.5 - gap / 2, 4000) / m
    z = (a - b) / np.sqrt(0.25 / n + 0.25 / m)
    assert 0.76 <= np.mean(np.abs(z) > 1.959964) <= 0.84
    assert detectable_gap(10, 0) is None


def test_the_sentence_beside_the_button_says_the_figures():
    assert "20 items" in power_sentence(20, 40) and "between leaked and fresh" in power_sentence(20, 40)
    assert "without fresh items" in power_sentence(20, 0) and "no drop can be told" in power_sentence(4, 40)


def test_a_change_is_paired_item_by_item():
    before, after = [True] * 30 + [False] * 10, [True] * 18 + [False] * 22
    change = Change.of(before, after, 1)
    assert change.delta["value"] == pytest.approx(-0.3) and change.delta["high"] < 0 and change.p == pytest.approx(mcnemar(before, after), abs=1e-6)
    same = Change.of(before, before, 1)
    assert same.delta == {"value": 0.0, "low": 0.0, "high": 0.0} and same.p == 1.0


def test_too_much_and_too_little_do_not_cancel():
    able = [True, True, True, False, False, False]
    found = suppression(able, [False, False, True, True, True, False], "truth")
    assert (found.under, found.unsolvable, found.over, found.solvable) == (2, 3, 2, 3)
