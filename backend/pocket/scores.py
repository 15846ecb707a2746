"""What is right and how sure that is: answers read out of texts, shares with their intervals.

Goes in: a model's text and what is true, or counts. Comes out: a number, a record, right or wrong, a share with its 95 % interval.
Knows nothing of models, tokens or items.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Z_95 = 1.959964
ANSWER = re.compile(r"The answer is (-?\d+)\.")


@dataclass(frozen=True)
class Share:
    """`right` of `n`. `low` and `high` are its 95 % interval; a share of nothing has none."""

    right: int
    n: int
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, outcomes: Sequence[bool]) -> Share:
        """Independent outcomes, with Wilson's interval."""
        right, n = sum(outcomes), len(outcomes)
        return cls(right, n, *wilson(right, n)) if n else cls(0, 0)

    @classmethod
    def of_groups(cls, groups: Sequence[tuple[int, int]]) -> Share:
        """`(right, n)` of each group (tokens of a text), whose members share their fate: the interval is that of a ratio of sums."""
        right, n = sum(r for r, _ in groups), sum(m for _, m in groups)
        if not n:
            return cls(0, 0)
        share, k = right / n, len(groups)
        spread = sum((r - share * m) ** 2 for r, m in groups) * k / max(k - 1, 1)
        half = Z_95 * math.sqrt(spread) / n
        return cls(right, n, max(0.0, share - half), min(1.0, share + half))

    @property
    def value(self) -> float | None:
        return self.right / self.n if self.n else None


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927); raises `ValueError` unless `0 <= right <= n` and `n >= 1`."""
    if n < 1 or not 0 <= right <= n:
        raise ValueError(f"right must be between 0 and n, and n at least 1, got right={right}, n={n}.")
    share, squared = right / n, Z_95**2
    middle = (share + squared / (2 * n)) / (1 + squared / n)
    half = Z_95 / (1 + squared / n) * math.sqrt(share * (1 - share) / n + squared / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def final_answer(text: str) -> int | None:
    """The number of the last `The answer is N.`, or None if there is no such sentence."""
    found = ANSWER.findall(text)
    return int(found[-1]) if found else None


def same_record(text: str, truth: Any) -> bool:
    """Whether `text` is JSON that means `truth`: the same keys in any order, the same values of the same types (1 is not 1.0, nor true)."""
    try:
        said = json.loads(text, object_pairs_hook=_once)
    except ValueError:
        return False
    return _canonical(said) == _canonical(truth)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
