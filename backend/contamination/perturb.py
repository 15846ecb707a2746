"""Fresh items out of leaked ones: other numbers in the same story, the worked answer calculated anew.

Goes in: an item whose answer works its result out in equations (`a + b = c`). Comes out: the same item with other numbers, or the reason why
that would not be safe. Nothing is guessed: each number of the question must be told from the others, each equation must hold before and after,
and every number of the answer must come from the question or from an earlier equation. Knows nothing of models.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from backend.contamination.items import FRESH, Item

NUMBER = r"\d[\d,]*(?:\.\d+)?"
NUMBERS = re.compile(NUMBER)
EQUATION = re.compile(rf"({NUMBER}(?:\s*[-+*/×÷x−]\s*{NUMBER})+)\s*=\s*({NUMBER})")
OPERATOR = re.compile(r"[-+*/×÷x−]")
MARKED = re.compile(r"<<[^<>]*>>")  # calculator marks repeat an equation without its spaces
TRIES = 200
LARGEST = 100_000
SIGNS = {"×": "*", "x": "*", "÷": "/", "−": "-"}


class NotSafe(Exception):
    """Why an item can't be given other numbers; the text is shown."""


@dataclass(frozen=True)
class Perturbed:
    """What came of a set: the fresh items, and for the others how often each reason stood in the way."""

    items: list[Item]
    refused: dict[str, int]


@dataclass(frozen=True)
class Plan:
    """How an answer's numbers hang together. `given`: the question's numbers that may change; `steps`: for each equation its operands (indices
    of known values), operators and, for writing, where its numbers stand in the answer; `uses`: which known value each number of the answer is."""

    question: str
    answer: str
    given: tuple[int, ...]
    steps: tuple[tuple[tuple[int | Fraction, ...], tuple[str, ...]], ...]
    uses: tuple[int | None, ...]


def perturb_all(items: Sequence[Item], seed: int) -> Perturbed:
    """One fresh item for each that is safe; the same seed gives the same ones."""
    made, refused = [], {}
    for index, item in enumerate(items):
        try:
            made.append(perturb(item, random.Random(f"{seed}/{index}")))
        except NotSafe as reason:
            refused[str(reason)] = refused.get(str(reason), 0) + 1
    return Perturbed(made, refused)


def perturb(item: Item, rng: random.Random) -> Item:
    """The item with other numbers, in the set `fresh`; raises `NotSafe`."""
    if item.grader != "number":
        raise NotSafe("only answers that are numbers can be calculated anew")
    plan = read_plan(item.question, MARKED.sub("", item.answer))
    for _ in range(TRIES):
        values = _values(plan, [_another(rng, number) for number in plan.given])
        if values is not None and values[: len(plan.given)] != list(plan.given):
            return replace(item, question=_written(plan.question, values[: len(plan.given)]), answer=_answer(plan, values), set=FRESH,
                           rephrased="", solvable=None)  # fmt: skip
    raise NotSafe("no other numbers give whole results")


def read_plan(question: str, answer: str) -> Plan:
    """How the answer follows from the question's numbers; raises `NotSafe` where that is not certain."""
    given = [_whole(text) for text in NUMBERS.findall(question)]
    if not given:
        raise NotSafe("the question has no numbers")
    if len(set(given)) < len(given):
        raise NotSafe("a number stands twice in the question, so which one the answer uses is open")
    if not EQUATION.search(answer):
        raise NotSafe("the answer works nothing out in an equation")
    known, steps, spans = list(given), [], {}
    for match in EQUATION.finditer(answer):
        terms = [_whole(text) for text in NUMBERS.findall(match[1])]
        operators = [SIGNS.get(sign, sign) for sign in OPERATOR.findall(match[1])]
        if evaluate(terms, operators) != _whole(match[2]):
            raise NotSafe("an equation of the answer does not hold")
        steps.append((tuple(_place(known, term) for term in terms), tuple(operators)))
        spans[match.start(2)] = len(known)
        known.append(_whole(match[2]))
    uses = tuple(_uses(answer, known, spans))
    if uses[-1] != len(known) - 1:
        raise NotSafe("the last number of the answer is not what its last equation gives")
    return Plan(question, answer, tuple(given), tuple(steps), uses)


def _whole(text: str) -> int:
    value = Fraction(text.rstrip(",").replace(",", ""))
    if value.denominator != 1:
        raise NotSafe("it has numbers that are not whole")
    return int(value)


def _place(known: Sequence[int], term: int) -> int:
    """Which known value this operand is; raises `NotSafe` for a number from nowhere, or one that two values share."""
    places = [i for i, value in enumerate(known) if value == term]
    if len(places) != 1:
        raise NotSafe("an equation uses a number from nowhere" if not places else "two values are equal, so which one an equation uses is open")
    return places[0]


def _uses(answer: str, known: Sequence[int], results: dict[int, int]) -> Iterator[int]:
    """For each number of the answer, the known value that it is."""
    for match in NUMBERS.finditer(answer):
        if match.start() in results:
            yield results[match.start()]
        else:
            value = _whole(match[0])
            places = [i for i, number in enumerate(known) if number == value]
            if not places:
                raise NotSafe("the answer has a number that neither the question nor an equation gives")
            yield places[-1]


def evaluate(terms: Sequence[int], operators: Sequence[str]) -> Fraction | None:
    """The value of `t0 op t1 op …` with × and ÷ before + and −; None where something is divided by zero."""
    sums, signs = [Fraction(terms[0])], [1]
    for operator, term in zip(operators, terms[1:], strict=True):
        if operator in "*/":
            if operator == "/" and term == 0:
                return None
            sums[-1] = sums[-1] * term if operator == "*" else sums[-1] / term
        else:
            sums.append(Fraction(term))
            signs.append(1 if operator == "+" else -1)
    return sum((sign * value for sign, value in zip(signs, sums, strict=True)), Fraction(0))


def _another(rng: random.Random, number: int) -> int:
    """A number of about the same size, never the same one; 0 and 1 stay, they are often no quantity."""
    if number < 2:
        return number
    low, high = max(2, number // 2), max(4, number * 3 // 2)
    return rng.choice([n for n in range(low, high + 1) if n != number] if high - low < 1000 else [rng.randint(low, high), rng.randint(low, high)])


def _values(plan: Plan, given: list[int]) -> list[int] | None:
    """All known values from new given ones; None unless every result is whole, not negative and of a size that a question has, and the given
    ones differ (so that the new item could be perturbed again, and is as clear as the old)."""
    if len(set(given)) < len(given):
        return None
    values = list(given)
    for places, operators in plan.steps:
        result = evaluate([values[p] for p in places], operators)
        if result is None or result.denominator != 1 or not 0 <= result <= LARGEST:
            return None
        values.append(int(result))
    return values


def _answer(plan: Plan, values: Sequence[int]) -> str:
    return _written(plan.answer, [values[use] for use in plan.uses])


def _written(text: str, numbers: Sequence[int]) -> str:
    """`text` with its numbers replaced in order."""
    following = iter(numbers)
    return NUMBERS.sub(lambda match: f"{next(following)}{',' if match[0].endswith(',') else ''}", text)
