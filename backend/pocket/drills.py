"""Drills: rows of sums, strings to copy, lists to look up.

Goes in: a `random.Random`. Comes out: items of skill "sums" and "copy", without a prompt. A copy drill's `truth` is the given part, with
which its text begins; all that follows can be known from it. Copying is what a small model learns last, and these bring it.
"""

from __future__ import annotations

from random import Random

from backend.pocket.arithmetic import LARGEST, MOST, OutOfRange, operand, written
from backend.pocket.items import Item
from backend.pocket.names import CITIES, DAYS, JOBS, PEOPLE, PETS, THINGS, invented

WORDS = (*PEOPLE, *CITIES, *DAYS, *JOBS, *PETS, *(word for pair in THINGS for word in pair))
LOOKUP_SHARE = 0.4


def sums(rng: Random) -> Item:
    """6–16 sums in a row, in the number ranges of the problems."""
    rows = [_sum(rng) for _ in range(rng.randint(6, 16))]
    return Item("sums", "", " ".join(f"{row}." for row in rows))


def _sum(rng: Random) -> str:
    while True:
        sign = rng.choices("+-*/", (38, 32, 20, 10))[0]
        a = rng.randint(2, {"+": LARGEST, "-": MOST, "*": 25, "/": MOST}[sign])
        try:
            return written(a, sign, operand(rng, a, sign))[0]
        except OutOfRange:
            continue


def copy(rng: Random) -> Item:
    """Either a string of 4–20 words, numbers and signs, two or three times, or a list of pairs told again in another order."""
    if rng.random() < LOOKUP_SHARE:
        return _lookup(rng)
    given = " ".join(_piece(rng) for _ in range(rng.randint(4, 20)))
    return Item("copy", "", "\n".join([given] * rng.randint(2, 3)), given, family="repeat")


def _piece(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.5:
        return rng.choice(WORDS)
    return invented(rng) if kind < 0.65 else str(rng.randint(2, MOST)) if kind < 0.95 else rng.choice("+-*/=")


def _lookup(rng: Random) -> Item:
    """Pairs of a word and a number; the second telling names each word and must find its number."""
    words = rng.sample(WORDS, rng.randint(2, 7))
    numbers = {word: rng.randint(2, LARGEST) for word in words}
    given, again = (", ".join(f"{word} {numbers[word]}" for word in order) for order in (words, rng.sample(words, len(words))))
    return Item("copy", "", f"{given}\n{again}", given, family="lookup")
