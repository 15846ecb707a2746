"""The numbers of the toy world: which operations are allowed and what they give.

Goes in: a `random.Random` and a number. Comes out: an operation whose operands stay within 99 and whose result lies within 1–125.
"""

from __future__ import annotations

from random import Random

MOST = 125  # largest result
LARGEST = 99  # largest number in a question
SIGNS = ("+", "-", "*", "/")


class OutOfRange(ValueError):
    """A draw left the number range: the generator draws again."""


def calculate(a: int, sign: str, b: int) -> int:
    """`a sign b`; raises `OutOfRange` outside 1–125 or where a division leaves a rest."""
    if sign == "/" and a % b:
        raise OutOfRange(f"{a} / {b} must be whole.")
    value = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[sign]
    if not 1 <= value <= MOST:
        raise OutOfRange(f"result must be within 1-{MOST}, got {a} {sign} {b} = {value}.")
    return value


def written(a: int, sign: str, b: int) -> tuple[str, int]:
    """`a sign b = c` and c."""
    value = calculate(a, sign, b)
    return f"{a} {sign} {b} = {value}", value


def operand(rng: Random, a: int, sign: str) -> int:
    """A second operand for `a sign …`; raises `OutOfRange` where there is none."""
    if sign == "/":
        choices = [b for b in range(2, 13) if a % b == 0 and a > b]
        if not choices:
            raise OutOfRange(f"{a} has no divisor within 2-12.")
        return rng.choice(choices)
    low, high = {"+": (2, min(LARGEST, MOST - a)), "-": (2, min(LARGEST, a - 1)), "*": (2, min(12, MOST // a))}[sign]
    if low > high:
        raise OutOfRange(f"{a} {sign} … has no operand.")
    return rng.randint(low, high)
