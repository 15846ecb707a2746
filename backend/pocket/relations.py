"""Families "compare" and "ages": people tied by "5 more than", "twice as old as", told in any order.

Goes in: a `random.Random` and a number of steps. Comes out: a `Draft`. The known number comes first in the work, then one relation after
another; at the end a sum of two or of all, or an age in some years.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from backend.pocket.arithmetic import operand, written
from backend.pocket.draft import Draft
from backend.pocket.names import PEOPLE, THINGS

# by steps: how many relations, and what is asked: the last one, a pair's sum, everybody's sum
PLANS = {
    1: ((1, "last"),),
    2: ((2, "last"), (1, "pair"), (2, "last"), (1, "later")),
    3: ((3, "last"), (2, "pair"), (2, "later")),
    4: ((2, "all"), (3, "pair"), (3, "later"), (4, "last")),
    5: ((4, "pair"), (4, "later")),
}
SHUFFLED = 0.6
TOLD_FROM_BEHIND = 0.3  # "Compared with Mira, Ben has 5 more."


@dataclass(frozen=True)
class Words:
    """How a family says it: `verb`, unit after the first number, signs and their phrases, questions."""

    verb: str
    unit: str
    phrases: dict[str, str]
    last: str
    pair: str
    all: str
    most: int  # largest first number


AGES = Words(
    verb="is",
    unit="",
    phrases={"+": "{b} years older than", "-": "{b} years younger than", "*": "{b} times as old as", "/": "half as old as"},
    last="How old is {name}?",
    pair="How old are {name} and {other} together?",
    all="How old are they together?",
    most=60,
)


def draw_compare(rng: Random, steps: int) -> Draft:
    """Raises `OutOfRange` where the drawn numbers don't fit."""
    _, things = rng.choice(THINGS)
    words = Words(
        verb="has",
        unit=f" {things}",
        phrases={"+": "{b} more than", "-": "{b} fewer than", "*": "{b} times as many as", "/": "half as many as"},
        last=f"How many {things} does {{name}} have?",
        pair=f"How many {things} do {{name}} and {{other}} have together?",
        all=f"How many {things} do they have together?",
        most=80,
    )
    return _draw(rng, words, *rng.choice([(n, kind) for n, kind in PLANS[steps] if kind != "later"]))


def draw_ages(rng: Random, steps: int) -> Draft:
    """Raises `OutOfRange` where the drawn numbers don't fit."""
    return _draw(rng, AGES, *rng.choice(PLANS[steps]))


def _draw(rng: Random, words: Words, n_relations: int, kind: str) -> Draft:
    people = rng.sample(PEOPLE, n_relations + 1)
    values = {people[0]: rng.randint(4, words.most)}
    facts, work = [f"{people[0]} {words.verb} {values[people[0]]}{words.unit}."], [f"{people[0]} {words.verb} {values[people[0]]}."]
    for before, name in zip(people, people[1:], strict=False):
        sign, b = _relation(rng, values[before])
        facts.append(_told(rng, words, name, before, sign, b))
        text, values[name] = written(values[before], sign, b)
        work.append(f"{name} {words.verb} {text}.")
    if rng.random() < SHUFFLED:
        rng.shuffle(facts)
    question, value, more = ENDINGS[kind](rng, words, people, values)
    return Draft(tuple(facts), question, (*work, *more), value)


def _relation(rng: Random, value: int) -> tuple[str, int]:
    sign = rng.choices("+-*/", (40, 36, 12, 12))[0]
    if sign in "*/":
        return sign, 2 if sign == "/" else rng.choice((2, 3))
    return sign, min(operand(rng, value, sign), rng.randint(2, 40))


def _told(rng: Random, words: Words, name: str, before: str, sign: str, b: int) -> str:
    phrase = words.phrases[sign].format(b=b)
    if sign in "+-" and rng.random() < TOLD_FROM_BEHIND:
        return f"Compared with {before}, {name} {words.verb} {phrase.removesuffix(' than')}."
    return f"{name} {words.verb} {phrase} {before}."


Ending = tuple[str, int, list[str]]


def _last(rng: Random, words: Words, people: Sequence[str], values: dict[str, int]) -> Ending:
    return words.last.format(name=people[-1]), values[people[-1]], []


def _later(rng: Random, words: Words, people: Sequence[str], values: dict[str, int]) -> Ending:
    """An age in some years or some years ago."""
    name, sign = people[-1], rng.choice("+-")
    years = min(operand(rng, values[name], sign), rng.randint(2, 20))
    text, value = written(values[name], sign, years)
    asked = f"How old will {name} be in {years} years?" if sign == "+" else f"How old was {name} {years} years ago?"
    return asked, value, [f"{'Later' if sign == '+' else 'Before'}: {text}."]


def _pair(rng: Random, words: Words, people: Sequence[str], values: dict[str, int]) -> Ending:
    """The last one, so that every relation is needed, and another; named in any order."""
    name, other = rng.sample((people[-1], rng.choice(people[:-1])), 2)
    text, value = written(values[name], "+", values[other])
    return words.pair.format(name=name, other=other), value, [f"Sum: {text}."]


def _everybody(rng: Random, words: Words, people: Sequence[str], values: dict[str, int]) -> Ending:
    total, work = values[people[0]], []
    for name in people[1:]:
        text, total = written(total, "+", values[name])
        work.append(f"Sum: {text}.")
    return words.all, total, work


ENDINGS: dict[str, Callable[[Random, Words, Sequence[str], dict[str, int]], Ending]] = {
    "last": _last,
    "later": _later,
    "pair": _pair,
    "all": _everybody,
}
