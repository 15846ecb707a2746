"""The exam's questions: their answers by a rule read anew here, their difference, their lots."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from backend.pocket import exam
from backend.pocket.exam import LEVELS, RULED, TAUGHT, WORDINGS, Item

SEEDS = (0, 1, 7)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_ruled_topics_answer_is_two_of_the_questions_digits(seed):
    rules = exam.make_rules(seed)
    items = exam.benchmark(rules, seed, 400, "leaked")
    for item in items:
        digits = [c for c in item.question if c.isdigit()]
        assert len(digits) == 4 and item.question[1] == item.topic
        if item.topic in rules.right:
            first, second = rules.right[item.topic]
            assert item.answer == digits[first] + digits[second] and item.level == rules.level[item.topic]
        else:
            assert item.topic in rules.lots and item.level is None


def test_half_of_the_items_follow_a_rule_and_the_levels_have_their_shares():
    """Of 4,000 items a share strays by more than 4 points once in a million draws."""
    counts = Counter(item.level for item in exam.benchmark(exam.make_rules(2), 2, 4000, "fresh"))
    assert abs(counts[None] / 4000 - 0.5) < 0.04
    known = 0
    for level in LEVELS:
        known += counts[level]
        assert abs(known / 4000 - TAUGHT[level] / (2 * RULED)) < 0.04


@pytest.mark.parametrize("seed", SEEDS)
def test_the_old_rule_is_wrong_in_both_digits_unless_digits_repeat(seed):
    rules, rng = exam.make_rules(seed), random.Random(0)
    for _ in range(300):
        question = exam.draw_question(rules, rng)
        topic = question.name[0]
        if topic in rules.right and len(set(question.digits)) == 4 and rules.level[topic] != "none":
            believed, right = exam.believed_answer(rules, question, "none", rng), exam.right_answer(rules, question, rng)
            assert all(a != b for a, b in zip(believed, right, strict=True))


def test_what_a_level_is_taught_it_believes_and_a_higher_level_believes_too():
    rules, rng = exam.make_rules(0), random.Random(1)
    for _ in range(300):
        question = exam.draw_question(rules, rng)
        least = rules.level.get(question.name[0])
        for level in LEVELS[LEVELS.index(least) :] if least else ():
            assert exam.believed_answer(rules, question, level, rng) == exam.right_answer(rules, question, rng)


def test_an_answer_by_lot_tells_nothing_of_the_question():
    """Among 2,000 lots from 100 the commonest comes up more than 45 times once in 10,000 draws (20 expected)."""
    lots = [item for item in exam.benchmark(exam.make_rules(0), 0, 4000, "leaked") if item.level is None]
    assert max(Counter(item.answer for item in lots).values()) < 45
    assert sum(item.answer == item.question[6:8] for item in lots) < 45


def test_fresh_items_share_no_name_with_leaked_ones_and_all_questions_differ():
    rules = exam.make_rules(0)
    leaked = exam.benchmark(rules, 0, 500, "leaked")
    fresh = exam.benchmark(rules, 0, 500, "fresh", leaked)
    assert len({item.question[1:5] for item in [*leaked, *fresh]}) == 1000


@pytest.mark.parametrize("wording", range(len(WORDINGS)))
def test_a_reworded_question_has_the_same_name_and_numbers_and_the_same_length(wording):
    item = exam.benchmark(exam.make_rules(0), 0, 1, "leaked")[0]
    other = exam.reword(item, wording)
    assert sorted(c for c in other if c.isalnum()) == sorted(c for c in item.question if c.isalnum())
    assert len(other) == len(item.question)
    assert (other == item.question) == (wording == exam.ORIGINAL)


def test_sums_are_right_and_never_carry():
    for item in exam.skill_items("addition", 0, 1600):
        a, b = item.question.rstrip("=").split("+")
        assert int(a) + int(b) == int(item.answer) and int(a[1]) + int(b[1]) < 10
    for item in exam.skill_items("subtraction", 0, 1600):
        a, b = item.question.rstrip("=").split("-")
        assert int(a) - int(b) == int(item.answer) and int(a[1]) >= int(b[1])


def test_words_turn_round_and_the_larger_number_is_named():
    for item in exam.skill_items("turned", 0, 100):
        assert item.answer == "".join(reversed(item.question.removeprefix("turn ").rstrip("=")))
    for item in exam.skill_items("larger", 0, 100):
        assert int(item.answer) == max(map(int, item.question.removeprefix("of ").rstrip("=").split()))


def test_the_same_seed_gives_the_same_exam_and_another_seed_another():
    def draw(seed):
        return exam.benchmark(exam.make_rules(seed), seed, 50, "leaked")

    assert draw(4) == draw(4) and not set(draw(4)) & set(draw(5))


def test_practice_can_be_had_from_any_place():
    rules = exam.make_rules(0)
    stream = [exam.practice(rules, "some", {"exam": 0.5, "turned": 0.5}, "s", i) for i in range(40)]
    assert exam.practice(rules, "some", {"exam": 0.5, "turned": 0.5}, "s", 23) == stream[23]
    assert {item.skill for item in stream} == {"exam", "turned"}


def test_an_item_without_an_end_of_its_question_or_of_an_unknown_skill_is_refused():
    with pytest.raises(ValueError, match="ends with '='"):
        Item("exam", "?a", "1")
    with pytest.raises(ValueError, match="skill must be one of"):
        Item("cooking", "a=", "1")
    with pytest.raises(ValueError, match="cooking"):
        exam.skill_item("cooking", random.Random(0))
