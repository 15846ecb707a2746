"""Family "chain": one person, one quantity, one event after another.

Goes in: a `random.Random` and a number of events. Comes out: a `Draft`.
"""

from __future__ import annotations

from random import Random

from backend.pocket.arithmetic import calculate, operand, written
from backend.pocket.draft import Draft
from backend.pocket.names import PEOPLE, THINGS

# what happens (b: how many, other: another person), and the word that heads the step
EVENTS = {
    "+": (("finds {b} more", "finds"), ("buys {b} more", "buys"), ("gets {b} more from {other}", "gets")),
    "-": (("loses {b}", "loses"), ("gives {b} to {other}", "gives"), ("sells {b} of them", "sells")),
    "*": (("has {b} times as many", "times"),),
    "/": (("keeps half of them", "half"),),
}
SIGN_WEIGHTS = {"+": 38, "-": 38, "*": 12, "/": 12}
OPENERS = ("Then ", "Then ", "Later ", "")
QUESTIONS = ("How many {things} does {name} have now?", "How many {things} does {name} have at the end?")


def draw(rng: Random, steps: int) -> Draft:
    """Raises `OutOfRange` where the drawn numbers don't fit."""
    (_, things), (name, *others) = rng.choice(THINGS), rng.sample(PEOPLE, steps + 1)
    value = rng.randint(4, 99)
    facts, work = [f"{name} has {value} {things}."], []
    for other in others:
        sign, b = _event(rng, value)
        happens, head = rng.choice(EVENTS[sign])
        facts.append(f"{rng.choice(OPENERS)}{name} {happens.format(b=b, other=other)}.")
        text, value = written(value, sign, b)
        work.append(f"{head.capitalize()}: {text}.")
    return Draft(tuple(facts), rng.choice(QUESTIONS).format(things=things, name=name), tuple(work), value)


def _event(rng: Random, value: int) -> tuple[str, int]:
    sign = rng.choices(tuple(SIGN_WEIGHTS), tuple(SIGN_WEIGHTS.values()))[0]
    b = {"*": rng.choice((2, 3, 4)), "/": 2}.get(sign) or operand(rng, value, sign)
    calculate(value, sign, b)
    return sign, b
