"""Perturbed items: arithmetic that holds, or a reason why none was made."""

from __future__ import annotations

import random

import pytest

from backend.contamination.items import FRESH, Item
from backend.contamination.perturb import EQUATION, NUMBERS, NotSafe, evaluate, perturb, perturb_all, read_plan
from backend.graders import read_number

QUESTION = "Ada has 30 pears. She sells 12 of them. Then she buys 5 boxes of 4 pears. How many pears has she now?"
ANSWER = "Left: 30 - 12 = 18. Bought: 5 * 4 = 20. Together: 18 + 20 = 38. The answer is 38."


def leaked(question=QUESTION, answer=ANSWER, grader="number"):
    return Item(question, answer, "leaked", grader, rephrased="another wording", solvable=True)


def no_numbers(text):
    return NUMBERS.sub("#", text)


@pytest.mark.parametrize("seed", range(30))
def test_a_perturbed_item_is_the_same_story_with_other_numbers_and_sums_that_hold(seed):
    item, fresh = leaked(), perturb(leaked(), random.Random(seed))
    assert no_numbers(fresh.question) == no_numbers(item.question) and no_numbers(fresh.answer) == no_numbers(item.answer)
    assert fresh.question != item.question and fresh.set == FRESH and fresh.rephrased == "" and fresh.solvable is None
    for match in EQUATION.finditer(fresh.answer):
        assert eval(match[1]) == int(match[2])  # Python's own arithmetic
    a, b, c, d = map(int, NUMBERS.findall(fresh.question))
    assert read_number(fresh.answer) == a - b + c * d


def test_calculator_marks_and_thousands_are_understood():
    fresh = perturb(leaked("Tom had 1,200 euros and spent 300.", "He has 1,200 - 300 = <<1200-300=900>>900 euros.\n#### 900"), random.Random(1))
    a, b = map(int, NUMBERS.findall(fresh.question))
    assert fresh.answer == f"He has {a} - {b} = {a - b} euros.\n#### {a - b}"


@pytest.mark.parametrize(
    ("question", "answer", "why"),
    [
        ("No figures here.", "1 + 1 = 2", "has no numbers"),
        ("3 and 3.", "3 + 3 = 6", "twice in the question"),
        ("3 and 4.", "It is 7.", "works nothing out"),
        ("3 and 4.", "3 + 4 = 8", "does not hold"),
        ("3 and 4.", "3 + 4 = 7. 7 * 9 = 63", "from nowhere"),
        ("3 and 4.", "3 + 4 = 7. The answer is 3.", "last number"),
        ("3 and 4.", "3 + 4 = 7. In 1999: 7", "neither the question nor an equation"),
        ("3 and 2.5.", "3 + 2.5 = 5.5", "not whole"),
        ("3, 4 and 7.", "3 + 4 = 7. 7 + 4 = 11", "two values are equal"),
        ("(3 and 4) twice 2.", "2 * (3 + 4) = 14", "works nothing out"),
    ],
)
def test_what_is_not_certain_is_refused_with_the_reason(question, answer, why):
    with pytest.raises(NotSafe, match=why):
        perturb(leaked(question, answer), random.Random(0))


def test_answers_that_are_no_numbers_are_left_alone():
    with pytest.raises(NotSafe, match="only answers that are numbers"):
        perturb(leaked(grader="exact"), random.Random(0))


def test_an_exact_division_stays_exact():
    for seed in range(20):
        fresh = perturb(leaked("12 pears for 4 children.", "Each gets 12 / 4 = 3. The answer is 3."), random.Random(seed))
        a, b = map(int, NUMBERS.findall(fresh.question))
        assert a % b == 0 and read_number(fresh.answer) == a // b


def test_a_set_gives_its_fresh_items_and_counts_what_stood_in_the_way():
    items = [leaked(), leaked("3 and 3.", "3 + 3 = 6"), leaked("5 and 5.", "5 + 5 = 10")]
    found = perturb_all(items, 3)
    assert len(found.items) == 1 and sum(found.refused.values()) == 2 and len(found.refused) == 1
    assert perturb_all(items, 3) == found != perturb_all(items, 4)


def test_products_come_before_sums():
    for expression in ("2 + 3 * 4", "20 - 8 / 4 - 3", "2 * 3 * 4 - 5"):
        plan = expression.split()
        assert evaluate([int(t) for t in plan[::2]], plan[1::2]) == eval(expression)
    assert evaluate([3, 0], ["/"]) is None


def test_every_equation_of_a_plan_knows_its_numbers():
    plan = read_plan(QUESTION, ANSWER)
    assert plan.given == (30, 12, 5, 4) and [places for places, _ in plan.steps] == [(0, 1), (2, 3), (4, 5)]
    assert plan.uses[-1] == 6 and len(plan.uses) == len(NUMBERS.findall(ANSWER))
