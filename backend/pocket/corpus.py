"""The corpus: an endless stream for training and sets held out from it.

Goes in: a seed. Comes out: `Item`s. Item number i of a seed depends on nothing but the two numbers, so a run that was killed goes on at
any place. Whether an item is held out is decided by its content alone: whatever the seed, such an item never enters a stream, and a
held-out set has no others.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from itertools import count
from random import Random

from backend.pocket.chat import chat
from backend.pocket.drills import copy, sums
from backend.pocket.items import Item
from backend.pocket.problems import problem, problem_of
from backend.pocket.prose import story
from backend.pocket.records import record

# permille of the documents; sums are long and soon learned, so they have less than a tenth
MIX: dict[str, tuple[Callable[[Random], Item], int]] = {
    "problem": (problem, 500),
    "record": (record, 170),
    "text": (story, 70),
    "chat": (chat, 70),
    "copy": (copy, 110),
    "sums": (sums, 80),
}
SKILL_NAMES = tuple(MIX)
SKILL_WEIGHTS = tuple(weight for _, weight in MIX.values())
HELD_OUT_ONE_IN = 16
TRIES = 2000  # draws a held-out item, at most; the expectation is HELD_OUT_ONE_IN


def content(item: Item) -> str:
    """What is asked, whatever form the answer shall have: a prompt's first line; without a prompt the text."""
    return (item.prompt or item.answer).split("\n", 1)[0].casefold()


def is_held_out(item: Item) -> bool:
    return zlib.crc32(content(item).encode()) % HELD_OUT_ONE_IN == 0


def item_at(seed: int, index: int) -> Item:
    """Item number `index` of the stream of `seed`."""
    for attempt in count():
        rng = Random(f"stream {seed} {index} {attempt}")
        item = MIX[rng.choices(SKILL_NAMES, SKILL_WEIGHTS)[0]][0](rng)
        if not is_held_out(item):
            return item
    raise AssertionError("count() has no end")


def stream(seed: int, start: int = 0) -> Iterator[Item]:
    """The mix without end, from item `start` on; the same seed gives the same items."""
    for index in count(start):
        yield item_at(seed, index)


def held_out(skill: str, n: int, seed: int, steps: int | None = None) -> list[Item]:
    """`n` different items of `skill` that no stream ever has; `steps`: only problems with that many. Raises `ValueError` where there are
    not that many."""
    if skill not in MIX:
        raise ValueError(f"skill must be one of {', '.join(MIX)}, got {skill!r}.")
    if steps is not None and skill != "problem":
        raise ValueError(f"steps must be None for skill {skill!r}, got {steps!r}.")
    rng, found = Random(f"held out {skill} {seed} {steps}"), {}
    for _ in range(n * TRIES):
        if len(found) == n:
            break
        item = MIX[skill][0](rng) if steps is None else problem_of(rng, steps)
        if is_held_out(item):
            found.setdefault(content(item), item)
    if len(found) < n:
        raise ValueError(f"n must be within 0-{len(found)} for {skill}, got {n}.")
    return list(found.values())
