"""Which token of one run stands beside which of another.

Goes in: two or more sequences. Comes out: pairs of places, and columns of places for several sequences around the first. Exact: a longest
common subsequence, its table filled a row at a time, so that two sequences of 2,000 cost 16 MB and a blink. Doesn't know tokens,
texts or runs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pair:
    """A place of the reference beside a place of the other; None where one has nothing. `same`: they say the same."""

    one: int | None
    other: int | None
    same: bool = False


@dataclass(frozen=True)
class Column:
    """The places that stand under each other, one a sequence, and which of them part from the first sequence here."""

    places: tuple[int | None, ...]
    parts: tuple[bool, ...]


def align(one: Sequence[Hashable], other: Sequence[Hashable]) -> list[Pair]:
    """Every place of both, in order. As many as can are the same; what parts between two of those stands side by side as far as it goes.

    What both begin with is the same up to the first place that parts, what both end with likewise: an edit is found where it was made.
    """
    head = common_head(one, other)
    tail = common_head(one[head:][::-1], other[head:][::-1])
    end, other_end = len(one) - tail, len(other) - tail
    middle = _middle(one[head:end], other[head:other_end])
    shifted = [Pair(None if p.one is None else p.one + head, None if p.other is None else p.other + head, p.same) for p in middle]
    return [*_same(0, 0, head), *shifted, *_same(end, other_end, tail)]


def common_head(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """How many places both begin with."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _same(one: int, other: int, n: int) -> list[Pair]:
    return [Pair(one + i, other + i, True) for i in range(n)]


def _middle(one: Sequence[Hashable], other: Sequence[Hashable]) -> list[Pair]:
    """Walk along the table: equal heads always match, else go where more is still to come."""
    left = _still_common(one, other) if one and other else None
    pairs: list[Pair] = []
    only_one: list[int] = []
    only_other: list[int] = []
    i = j = 0
    while left is not None and i < len(one) and j < len(other):
        if one[i] == other[j]:
            pairs += [*beside(only_one, only_other), Pair(i, j, True)]
            only_one, only_other = [], []
            i, j = i + 1, j + 1
        elif left[i + 1, j] >= left[i, j + 1]:
            only_one.append(i)
            i += 1
        else:
            only_other.append(j)
            j += 1
    return [*pairs, *beside([*only_one, *range(i, len(one))], [*only_other, *range(j, len(other))])]


def _still_common(one: Sequence[Hashable], other: Sequence[Hashable]) -> np.ndarray:
    """`(n + 1, m + 1)` int32: how many places `one[i:]` and `other[j:]` have in common, in order."""
    known: dict[Hashable, int] = {}
    a, b = (np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.int32) for keys in (one, other))
    left = np.zeros((len(a) + 1, len(b) + 1), dtype=np.int32)
    for i in range(len(a) - 1, -1, -1):
        matched = np.maximum(left[i + 1, :-1], left[i + 1, 1:] + (b == a[i]))
        left[i, :-1] = np.maximum.accumulate(matched[::-1])[::-1]  # the best of this place and all to its right
    return left


def beside(only_one: Sequence[int], only_other: Sequence[int], same: bool = False) -> list[Pair]:
    """Places that have no partner, side by side as far as both go, the rest alone."""
    n = min(len(only_one), len(only_other))
    pairs = [Pair(a, b, same) for a, b in zip(only_one[:n], only_other[:n], strict=True)]
    return [*pairs, *(Pair(a, None, same) for a in only_one[n:]), *(Pair(None, b, same) for b in only_other[n:])]


def columns(n: int, aligned: Sequence[Sequence[Pair]]) -> list[Column]:
    """The first sequence (of length `n`) and each other one around it, as columns; read downwards along one of them, its places are in
    order. What others have between two places of the first stands in columns of its own there."""
    at: list[dict[int, Pair]] = [{p.one: p for p in pairs if p.one is not None} for pairs in aligned]
    between = [_between(n, pairs) for pairs in aligned]
    made: list[Column] = []
    for i in range(n + 1):
        for k in range(max((len(slots[i]) for slots in between), default=0)):
            found = [slots[i][k] if k < len(slots[i]) else None for slots in between]
            places = (None, *(p.other if p else None for p in found))
            made.append(Column(places, (False, *(p is not None and not p.same for p in found))))
        if i < n:
            here = [pairs[i] for pairs in at]
            made.append(Column((i, *(p.other for p in here)), (False, *(not p.same for p in here))))
    return made


def _between(n: int, pairs: Sequence[Pair]) -> list[list[Pair]]:
    """What only the other has, by the place of the reference that it stands before."""
    slots: list[list[Pair]] = [[] for _ in range(n + 1)]
    place = 0
    for pair in pairs:
        if pair.one is None:
            slots[place].append(pair)
        else:
            place = pair.one + 1
    return slots
