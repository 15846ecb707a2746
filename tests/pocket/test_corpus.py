"""The corpus: every truth is found again by readers of the finished text, seeds reproduce, what is held out stays out."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import islice
from random import Random

import pytest

from backend.pocket.arithmetic import OutOfRange, calculate
from backend.pocket.corpus import MIX, content, held_out, is_held_out, item_at, stream
from backend.pocket.drills import copy, sums
from backend.pocket.items import Item
from backend.pocket.problems import FAMILIES, STEPS, problem_of
from backend.pocket.records import SCHEMAS, record

N_ITEMS = 20_000
STEP = re.compile(r"(\d+) ([+*/-]) (\d+) = (\d+)")
ACROSS = [(family, steps) for family in FAMILIES for steps in STEPS]


@pytest.fixture(scope="module")
def items():
    return list(islice(stream(5), N_ITEMS))


def problems(family: str, steps: int, n: int = 60) -> list[Item]:
    rng = Random(f"{family} {steps}")
    return [problem_of(rng, steps, family) for _ in range(n)]


# problems ---------------------------------------------------------------------------------------------------------------------------


def holds(a: int, sign: str, b: int, c: int) -> bool:
    """Without division, so that nothing is rounded away."""
    return {"+": a + b == c, "-": a == b + c, "*": a * b == c, "/": a == b * c}[sign]


@pytest.mark.parametrize(("family", "steps"), ACROSS)
def test_every_step_is_right_and_takes_only_known_numbers(family, steps):
    for item in problems(family, steps):
        known = {int(n) for n in re.findall(r"\d+", item.prompt)} | ({2} if "half" in item.prompt else set())
        found = [(int(a), sign, int(b), int(c)) for a, sign, b, c in STEP.findall(item.answer)]
        assert len(found) == steps == item.steps
        for a, sign, b, c in found:
            assert holds(a, sign, b, c) and {a, b} <= known and 1 <= c <= 125, item
            known.add(c)
        assert found[-1][3] == item.truth and item.answer.endswith(f". The answer is {item.truth}.")
        assert all(int(n) <= 125 for n in re.findall(r"\d+", item.prompt))


def solve_shop(prompt: str) -> int:
    """From the prompt alone: prices by "a X costs N" and "a X N", the purchase, the money given."""
    prices = {thing: int(n) for thing, n in re.findall(r"[Aa] (\w+)(?: costs)? (\d+)", prompt)}
    bought = re.search(r"buys ([^.]*)\.", prompt)[1]
    total = 0
    for count, thing in re.findall(r"(a|\d+) (\w+)", bought):
        single = thing if thing in prices else thing.removesuffix("s") if thing.removesuffix("s") in prices else thing.removesuffix("es")
        total += prices[single] * (1 if count == "a" else int(count))
    given = re.search(r"gives (\d+)", prompt)
    return int(given[1]) - total if given else total


def solve_relations(prompt: str) -> int:
    """From the prompt alone: goes through the sentences until every person has a number, then reads the question."""
    *facts, question = re.split(r"(?<=[.?]) ", prompt)
    values: dict[str, int] = {}
    facts = [fact for fact in facts if not re.search(r"likes|Today|sees|not here", fact)]
    facts = [re.sub(r"^Compared with (\w+), (.*)\.$", r"\2 than \1.", fact) for fact in facts]
    for _ in facts:
        for fact in facts:
            told = re.match(r"(\w+) (?:is|has) (\d+)(?: \w+)?\.$", fact)
            tied = re.match(r"(\w+) (?:is|has) (?:(\d+) |half )(.*?) ?(?:than|as) (\w+)\.$", fact)
            if told:
                values[told[1]] = int(told[2])
            elif tied and tied[4] in values:
                values[tied[1]] = tie(values[tied[4]], tied[2], tied[3])
    assert len(values) == len(facts), prompt
    return ask(question, values)


def tie(value: int, number: str | None, words: str) -> int:
    if number is None:
        return value // 2
    if "times" in words:
        return value * int(number)
    return value - int(number) if "fewer" in words or "younger" in words else value + int(number)


def ask(question: str, values: dict[str, int]) -> int:
    named = [name for name in values if re.search(rf"\b{name}\b", question)]
    years = re.search(r"(\d+) years", question)
    if years:
        return values[named[0]] + int(years[1]) * (-1 if "ago" in question else 1)
    return sum(values[name] for name in named or values)


SOLVERS = {"shop": solve_shop, "compare": solve_relations, "ages": solve_relations}


@pytest.mark.parametrize(("family", "steps"), [(f, s) for f, s in ACROSS if f in SOLVERS])
def test_reading_the_question_alone_gives_the_truth(family, steps):
    for item in problems(family, steps):
        assert SOLVERS[family](item.prompt) == item.truth, item


def test_the_order_of_mention_is_turned_in_most_relation_and_shop_problems():
    """Binding is what fails: the facts must not simply be told in the order of the work."""
    turned = 0
    for family in ("compare", "ages", "shop"):
        for item in problems(family, 3, 200):
            heads = re.findall(r"(?:^|\. )(\w+) (?:has|is) \d", item.answer) or re.findall(r"(?:^|\. )(?:A|\d+) (\w+):", item.answer)
            places = [re.search(rf"\b{h[:-1]}\w* (?:is|has|costs|\d)", item.prompt) for h in heads]
            found = [p.start() for p in places if p]
            turned += found != sorted(found)
    assert turned > 250


def test_a_result_outside_the_range_is_refused():
    for a, sign, b in ((99, "+", 30), (5, "-", 5), (20, "*", 7), (9, "/", 2)):
        with pytest.raises(OutOfRange):
            calculate(a, sign, b)


def test_a_step_count_that_no_family_has_is_refused():
    with pytest.raises(ValueError, match="1-5, got 6"):
        problem_of(Random(0), 6)


# records, drills ----------------------------------------------------------------------------------------------------------------------


def test_every_value_of_a_record_stands_in_its_sentence():
    rng, families = Random(0), Counter()
    for _ in range(3000):
        item = record(rng)
        sentence, request = item.prompt.split("\n")
        assert json.loads(item.answer) == item.truth and list(json.loads(item.answer)) == list(item.truth)
        assert all(re.search(rf"(?<!\w){re.escape(str(value))}(?!\w)", sentence) for value in item.truth.values()), item
        families[item.family] += 1
        if not re.search(r"Write it|Give this|Extract the", request):
            assert re.findall(r"\w+", re.sub(r"Give|Extract|as JSON|JSON with|\band\b", "", request)) == list(item.truth)
    assert set(families) == set(SCHEMAS)


def test_half_the_requests_name_keys_and_a_third_ask_for_others():
    """4,000 draws: five standard deviations are 0.04."""
    rng = Random(1)
    drawn = [record(rng) for _ in range(4000)]
    named = [i for i in drawn if not re.search(r"Write it|Give this|Extract the", i.prompt)]
    whole = {i.family: tuple(i.truth) for i in drawn if i not in named}
    others = [i for i in named if tuple(i.truth) != whole[i.family]]
    assert abs(len(named) / len(drawn) - 1 / 2) < 0.04 and abs(len(others) / len(drawn) - 1 / 3) < 0.04


def test_every_sum_of_a_drill_is_right():
    rng = Random(2)
    for _ in range(300):
        item = sums(rng)
        rows = STEP.findall(item.answer)
        assert 6 <= len(rows) <= 16 and " ".join(f"{a} {s} {b} = {c}." for a, s, b, c in rows) == item.answer
        assert all(holds(int(a), s, int(b), int(c)) for a, s, b, c in rows)


def test_what_follows_the_given_part_of_a_copy_drill_can_be_known_from_it():
    rng, families = Random(3), Counter()
    for _ in range(500):
        item = copy(rng)
        first, *rest = item.answer.split("\n")
        assert first == item.truth and rest
        families[item.family] += 1
        if item.family == "lookup":
            assert len(rest) == 1 and sorted(rest[0].split(", ")) == sorted(first.split(", "))
        else:
            assert all(line == first for line in rest)
    assert set(families) == {"lookup", "repeat"}


# stream and held-out sets ---------------------------------------------------------------------------------------------------------------


def test_a_seed_reproduces_its_stream_from_any_place(items):
    assert list(islice(stream(5, start=700), 300)) == items[700:1000]
    assert item_at(5, 1234) == items[1234]
    assert list(islice(stream(6), 50)) != items[:50]


def test_the_shares_are_the_mixs(items):
    """Binomial with 20,000 draws: five standard deviations of the largest share are 0.018."""
    counts = Counter(item.skill for item in items)
    total = sum(weight for _, weight in MIX.values())
    assert total == 1000
    for skill, (_, weight) in MIX.items():
        assert abs(counts[skill] / N_ITEMS - weight / total) < 0.018
    steps = Counter(item.steps for item in items if item.skill == "problem")
    families = Counter(item.family for item in items if item.skill == "problem")
    for number, percent in STEPS.items():
        assert abs(steps[number] / counts["problem"] - percent / 100) < 0.025
    for family, (_, percent) in FAMILIES.items():
        assert abs(families[family] / counts["problem"] - percent / 100) < 0.025


def test_nothing_held_out_is_in_the_stream(items):
    seen = {content(item) for item in items}
    assert not any(is_held_out(item) for item in items)
    for skill in MIX:
        chosen = held_out(skill, 100, seed=0)
        assert all(is_held_out(item) and item.skill == skill for item in chosen)
        assert not seen & {content(item) for item in chosen}


def test_a_held_out_set_has_different_questions_and_its_seed_reproduces_it():
    first, second = held_out("problem", 200, seed=1), held_out("problem", 200, seed=2)
    assert len({item.prompt for item in first}) == 200 and first == held_out("problem", 200, seed=1)
    assert len({item.prompt for item in first} & {item.prompt for item in second}) < 10


def test_a_held_out_set_can_be_of_one_step_count():
    for steps in STEPS:
        assert {item.steps for item in held_out("problem", 20, seed=3, steps=steps)} == {steps}


def test_a_skill_that_is_none_is_refused():
    with pytest.raises(ValueError, match="problem, record"):
        held_out("cooking", 1, seed=0)
    with pytest.raises(ValueError, match="steps must be None"):
        held_out("record", 1, seed=0, steps=2)
    with pytest.raises(ValueError, match="cooking"):
        Item("cooking", "", "soup")
    with pytest.raises(ValueError, match="empty"):
        Item("text", "", "")
