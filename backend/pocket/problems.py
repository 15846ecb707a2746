"""Word problems: a family and a number of steps become a question, a worked answer and its number.

Goes in: a `random.Random`. Comes out: an `Item` of skill "problem". Each step stands in the answer as `a op b = c`, the last sentence is
`The answer is N.` A family writes a `Draft`; what all families share (distractor, ending, drawing again) is here.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from backend.pocket import chain, rates, relations, shop
from backend.pocket.arithmetic import OutOfRange
from backend.pocket.draft import Draft
from backend.pocket.items import Item
from backend.pocket.names import DAYS, PEOPLE, THINGS

# binding is what small models get wrong, and chain and rates ask little of it: the other three have the larger part
FAMILIES: dict[str, tuple[Callable[[Random, int], Draft], int]] = {
    "chain": (chain.draw, 15),
    "rates": (rates.draw, 17),
    "shop": (shop.draw, 24),
    "compare": (relations.draw_compare, 22),
    "ages": (relations.draw_ages, 22),
}
STEPS = {1: 8, 2: 30, 3: 32, 4: 25, 5: 5}  # percent
DISTRACTED = 0.15


def problem(rng: Random) -> Item:
    """One problem of the mix."""
    return problem_of(rng, rng.choices(tuple(STEPS), tuple(STEPS.values()))[0])


def problem_of(rng: Random, steps: int, family: str | None = None) -> Item:
    """One problem with `steps` calculations, of `family` or of one drawn by the families' weights."""
    if steps not in STEPS:
        raise ValueError(f"steps must be within 1-{max(STEPS)}, got {steps!r}.")
    family = family or rng.choices(tuple(FAMILIES), [weight for _, weight in FAMILIES.values()])[0]
    draft = _within_range(rng, FAMILIES[family][0], steps)
    facts = list(draft.facts)
    if rng.random() < DISTRACTED:
        facts.insert(rng.randint(0, len(facts)), _distractor(rng, " ".join(facts)))
    answer = " ".join((*draft.work, f"The answer is {draft.value}."))
    return Item("problem", " ".join((*facts, draft.question)), answer, draft.value, steps, family)


def _within_range(rng: Random, draw: Callable[[Random, int], Draft], steps: int) -> Draft:
    """Draw until every number is in range; that happens within a few tries for every family and step count."""
    while True:
        try:
            return draw(rng, steps)
        except OutOfRange:
            continue


def _distractor(rng: Random, told: str) -> str:
    """A true sentence that changes nothing: about a person and a thing the story doesn't have."""
    name = rng.choice([p for p in PEOPLE if p not in told])
    thing = rng.choice([plural for _, plural in THINGS if plural not in told])
    counted = f"{name} sees {rng.randint(2, 99)} {thing}."
    return rng.choice((f"{name} likes {thing}.", f"Today is {rng.choice(DAYS)}.", counted, f"{name} is not here."))
