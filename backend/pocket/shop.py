"""Family "shop": prices in one order, a purchase in another, sometimes the change.

Goes in: a `random.Random` and a number of steps. Comes out: a `Draft`. Each line of the work begins with what is looked up ("3 cups:").
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from backend.pocket.arithmetic import LARGEST, OutOfRange, written
from backend.pocket.draft import Draft
from backend.pocket.names import PEOPLE, THINGS, listing

MONEY = ("coins", "dollars", "euros")
# by steps: which lines are several of one thing (k) or one thing (1), and whether change is asked for
PLANS = {
    1: (("k", False), ("11", False)),
    2: (("k1", False), ("k", True), ("11", True), ("111", False)),
    3: (("kk", False), ("kk", False), ("k1", True), ("k11", False)),
    4: (("kk", True), ("kk", True), ("kk1", False)),
    5: (("kkk", False), ("kk1", True)),
}
ANOTHER_PRICE = 0.3  # how often something is priced that nobody buys


@dataclass(frozen=True)
class Line:
    """`count` of one good at `price`."""

    single: str
    plural: str
    price: int
    count: int

    @property
    def label(self) -> str:
        return f"a {self.single}" if self.count == 1 else f"{self.count} {self.plural}"


def draw(rng: Random, steps: int) -> Draft:
    """Raises `OutOfRange` where the drawn numbers don't fit."""
    plan, change = rng.choice(PLANS[steps])
    counts = [rng.randint(2, 9) if kind == "k" else 1 for kind in rng.sample(plan, len(plan))]
    things = rng.sample(THINGS, len(counts) + 1)
    goods = [Line(*thing, rng.randint(2, 25), count) for thing, count in zip(things, [*counts, 1], strict=True)]
    bought, (name, money) = goods[:-1], (rng.choice(PEOPLE), rng.choice(MONEY))
    priced = goods if len(bought) == 1 or rng.random() < ANOTHER_PRICE else bought
    work, total = _sum(bought)
    buys = f"{name} buys {listing([line.label for line in bought])}."
    facts = [*_prices(rng, priced, money), buys]
    if rng.random() < 0.2:
        facts = [buys, *facts[:-1]]
    if not change:
        return Draft(tuple(facts), f"How many {money} does {name} pay?", tuple(work), total)
    return _with_change(rng, facts, work, total, name, money)


def _prices(rng: Random, priced: list[Line], money: str) -> list[str]:
    """In an order of their own."""
    order = rng.sample(priced, len(priced))
    if rng.random() < 0.5:
        return [f"A {line.single} costs {line.price} {money}." for line in order]
    rest = [f"a {line.single} {line.price}" for line in order[1:]]
    return [f"{listing([f'A {order[0].single} costs {order[0].price} {money}', *rest])}."]


def _sum(bought: list[Line]) -> tuple[list[str], int]:
    """Every line's price, then the sums, in the order of the purchase."""
    work, amounts = [], []
    for line in bought:
        text, amount = written(line.count, "*", line.price) if line.count > 1 else (str(line.price), line.price)
        work.append(f"{line.label.capitalize()}: {text}.")
        amounts.append(amount)
    total = amounts[0]
    for amount in amounts[1:]:
        text, total = written(total, "+", amount)
        work.append(f"Sum: {text}.")
    return work, total


def _with_change(rng: Random, facts: list[str], work: list[str], total: int, name: str, money: str) -> Draft:
    if total + 2 > LARGEST:
        raise OutOfRange(f"a payment must be within {total + 2}-{LARGEST}, got a total of {total}.")
    paid = rng.randint(total + 2, LARGEST)
    text, back = written(paid, "-", total)
    facts = [*facts, f"{name} gives {paid} {money}."]
    return Draft(tuple(facts), f"How many {money} does {name} get back?", (*work, f"Change: {text}."), back)
