"""Answers read out of texts, and the intervals of shares, held against slow truths."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from backend.pocket.scores import Z_95, Share, final_answer, same_record, wilson


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("3 + 4 = 7. The answer is 7.", 7),
        ("The answer is 3. No: 3 + 1 = 4. The answer is 4.", 4),
        ("The answer is -12.", -12),
        ("The answer is 12", None),
        ("The answer is 1 2.", None),
        ("the answer is 7.", None),
        ("", None),
    ],
)
def test_the_answer_is_the_last_sentence_that_says_so(text: str, answer: int | None):
    assert final_answer(text) == answer


def test_a_record_may_order_its_keys_and_space_its_text_as_it_likes_but_nothing_else():
    truth = {"name": "Ann", "age": 36, "tags": ["a", "b"]}
    assert same_record('{"age":36, "tags" : ["a", "b"], "name": "Ann"}', truth)
    for wrong in ('{"name": "Ann", "age": 36}', '{"name": "Ann", "age": "36", "tags": ["a", "b"]}',
                  '{"name": "Ann", "age": 36.0, "tags": ["a", "b"]}', '{"name": "Ann", "age": 36, "tags": ["b", "a"]}',
                  '{"name": "Ann", "age": 36, "tags": ["a", "b"], "x": 1}', '{"name": "Ann"', "Ann, 36", "",
                  '{"name": "Bob", "name": "Ann", "age": 36, "tags": ["a", "b"]}'):  # fmt: skip
        assert not same_record(wrong, truth), wrong
    assert not same_record('{"ok": true}', {"ok": 1}) and same_record('{"ok": true}', {"ok": True})


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_wilsons_limits_are_where_the_score_test_tips(n: int):
    """The oracle is the definition: the limits p solve |share - p| = z sqrt(p (1 - p) / n)."""
    for right in range(n + 1):
        low, high = wilson(right, n)
        assert 0 <= low <= right / n <= high <= 1
        for limit in (low, high):
            assert abs(right / n - limit) == pytest.approx(Z_95 * math.sqrt(limit * (1 - limit) / n), abs=1e-9)


@pytest.mark.parametrize(("right", "n"), [(1, 0), (-1, 3), (4, 3)])
def test_impossible_counts_are_refused(right: int, n: int):
    with pytest.raises(ValueError, match=f"right={right}, n={n}"):
        wilson(right, n)


def test_wilson_covers_the_true_share_about_95_times_in_100():
    """2,000 draws of 60; coverage below 0.92 or above 0.98 by chance: less than one in a million."""
    rng = random.Random(5)
    hits = 0
    for _ in range(2_000):
        low, high = wilson(sum(rng.random() < 0.9 for _ in range(60)), 60)
        hits += low <= 0.9 <= high
    assert 0.92 < hits / 2_000 < 0.98


def test_tokens_of_one_text_count_as_one_witness():
    """The same tokens, once all right or all wrong by text, once scattered: the share is the same, the interval is not."""
    together = Share.of_groups([(20, 20), (0, 20)] * 20)
    scattered = Share.of_groups([(10, 20)] * 20 + [(9, 20), (11, 20)] * 10)
    assert together.value == scattered.value == 0.5 and (together.n, scattered.n) == (800, 800)
    assert together.high - together.low > 5 * (scattered.high - scattered.low)


def test_groups_of_one_token_have_the_plain_interval():
    outcomes = list(itertools.chain([True] * 300, [False] * 100))
    grouped = Share.of_groups([(int(right), 1) for right in outcomes])
    half = Z_95 * math.sqrt(0.75 * 0.25 / 399)  # n - 1, as it is estimated from the sample
    assert (grouped.low, grouped.high) == pytest.approx((0.75 - half, 0.75 + half))


def test_a_share_of_nothing_is_none_and_not_zero():
    assert Share.of([]).value is None and Share.of_groups([]).value is None
    assert Share.of([False]).value == 0.0
