"""Family "rates": so much an hour for so many hours, by one person or two, then what is added, lost or packed.

Goes in: a `random.Random` and a number of steps. Comes out: a `Draft`. With two people the times are told in another order than the rates.
"""

from __future__ import annotations

from random import Random

from backend.pocket.arithmetic import operand, written
from backend.pocket.draft import Draft
from backend.pocket.names import PEOPLE

# verb with one person, with several, what is made, per what
WORK = (
    ("bakes", "bake", "rolls", "hour"),
    ("makes", "make", "cups", "day"),
    ("paints", "paint", "cards", "hour"),
    ("picks", "pick", "pears", "hour"),
    ("reads", "read", "pages", "day"),
    ("packs", "pack", "boxes", "day"),
    ("plants", "plant", "roses", "week"),
)
# by steps: how many people, how many events after the work
PLANS = {1: ((1, 0),), 2: ((1, 1),), 3: ((2, 0), (2, 0), (1, 2)), 4: ((2, 1), (2, 1), (1, 3)), 5: ((2, 2),)}
TAILS = {"+": "{b} more come from {other}.", "-": "Then {b} are lost.", "/": "They go into bags of {b}."}
HEADS = {"+": "More", "-": "Lost", "/": "Bags"}


def draw(rng: Random, steps: int) -> Draft:
    """Raises `OutOfRange` where the drawn numbers don't fit."""
    n_people, n_events = rng.choice(PLANS[steps])
    (verb, verbs, things, unit), (*people, other) = rng.choice(WORK), rng.sample(PEOPLE, n_people + 1)
    if steps == 1 and rng.random() < 0.4:
        return _how_long(rng, people[0], verb, things, unit)
    rates, times = ({name: rng.randint(2, 12) for name in people} for _ in range(2))
    facts = [f"{name} {verb} {rates[name]} {things} per {unit}." for name in people]
    later = people[::-1] if rng.random() < 0.65 else people
    facts += [f"{name} {verb} for {times[name]} {unit}s." for name in later]
    work, value = _made(later, rates, times)
    asked = f"How many {things} does {people[0]} {verbs}?" if n_people == 1 else f"How many {things} do they {verbs}?"
    for sign in _signs(rng, n_events):
        b = operand(rng, value, sign)
        facts.append(TAILS[sign].format(b=b, other=other))
        text, value = written(value, sign, b)
        work.append(f"{HEADS[sign]}: {text}.")
        asked = "How many bags are there?" if sign == "/" else f"How many {things} are there now?"
    return Draft(tuple(facts), asked, tuple(work), value)


def _made(order: list[str], rates: dict[str, int], times: dict[str, int]) -> tuple[list[str], int]:
    """Each one's work in the order of the times, then the sum."""
    texts, values = zip(*(written(rates[name], "*", times[name]) for name in order), strict=True)
    work = [f"{name}: {text}." for name, text in zip(order, texts, strict=True)]
    if len(order) == 1:
        return work, values[0]
    text, total = written(values[0], "+", values[1])
    return [*work, f"Sum: {text}."], total


def _signs(rng: Random, count: int) -> list[str]:
    """Packing can only be the last event: afterwards bags are counted."""
    signs = [rng.choice("+-") for _ in range(count)]
    if signs and rng.random() < 0.25:
        signs[-1] = "/"
    return signs


def _how_long(rng: Random, name: str, verb: str, things: str, unit: str) -> Draft:
    rate, time = rng.randint(2, 12), rng.randint(2, 12)
    _, whole = written(rate, "*", time)
    text, value = written(whole, "/", rate)
    facts = (f"{name} {verb} {rate} {things} per {unit}.",)
    return Draft(facts, f"How many {unit}s does {name} need for {whole} {things}?", (f"{name}: {text}.",), value)
