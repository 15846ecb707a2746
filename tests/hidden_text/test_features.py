"""Every column of the table, on texts whose value is known by hand."""

from __future__ import annotations

import math

import pytest

from backend.hidden_text.features import Facts, columns, entropy_profile, longest_run, min_k, period, rarity, reference_mean


def facts(own, other=None, entropies=None, spreads=None, ids=None, forced=0):
    n = len(own)
    return Facts(tuple(ids or range(n)), tuple(own), tuple(entropies or [1.0] * n), tuple(spreads or [1.0] * n), other and tuple(other), forced)


def test_the_published_score_counts_the_forced_token_as_certain():
    probs = [0.976, 1.0, 1.0]
    assert reference_mean([math.log(p) for p in probs] + [-9.0]) == pytest.approx((1 + sum(probs)) / 4)
    three = math.log(0.94)
    assert columns(facts([-7.0, three, three, three], forced=1), "x", 1)["reference_rule"] is True
    assert columns(facts([-0.0, -0.5, three, three], forced=1), "x", 1)["reference_rule"] is False


def test_lift_is_the_mean_gain_over_the_reference_of_chosen_tokens():
    found = columns(facts([-9.0, -1.0, -2.0], [-9.0, -4.0, -4.0], forced=1), "ab", 2)
    assert found["lift"] == 2.5 and found["mean_logprob"] == -1.5 and found["min_logprob"] == -2.0 and found["reference_logprob"] == -4.0
    assert found["confident_lift"] == pytest.approx(3 * math.exp(-1) + 2 * math.exp(-2), abs=0.01) and found["lift_run"] == 2


def test_without_a_reference_its_columns_are_empty():
    found = columns(facts([-1.0, -2.0]), "ab", 2)
    assert all(found[name] is None for name in ("lift", "confident_lift", "lift_run", "reference_logprob"))


def test_a_run_of_lift_ignores_one_surprising_word():
    assert longest_run([9.0, 0.0, 2.5, 3.0, 2.0, 1.9]) == 3 and longest_run([]) == 0


@pytest.mark.parametrize(
    ("ids", "expected"),
    [([1, 2, 3, 4], (0, 0.0)), ([7, 1, 2, 1, 2, 1, 2], (2, 6 / 7)), ([5, 5, 5, 5], (1, 1.0)), ([1, 2, 3, 1, 2, 3], (3, 1.0)), ([], (0, 0.0))],
)
def test_the_periodic_tail_is_found_with_its_period(ids, expected):
    assert period(ids) == pytest.approx(expected)


def test_entropy_that_falls_and_stays_down_is_a_drop():
    assert entropy_profile([4.0, 2.0, 0.5, 0.5, 3.0]) == {"entropy": 2.0, "entropy_drop": 2.5}
    assert entropy_profile([]) == {"entropy": None, "entropy_drop": None}


def test_min_k_is_the_mean_of_the_lowest_fifth_of_standardised_logprobs():
    own, entropies, spreads = [-1.0, -6.0, -2.0, -0.1, -8.0], [1.0, 2.0, 1.0, 0.5, 2.0], [1.0, 2.0, 1.0, 1.0, 2.0]
    assert min_k(facts(own, entropies=entropies, spreads=spreads)) == pytest.approx((-8.0 + 2.0) / 2.0)
    assert min_k(facts([0.0], entropies=[0.0], spreads=[0.0])) is None


def test_what_repeats_itself_is_less_rare():
    assert rarity("ha" * 60) < rarity("The lantern key is hidden beneath the third oak, facing the harbour, before nine.")
