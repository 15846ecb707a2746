"""A random walk through a grammar: what could come if the model were replaced by dice.

Goes in: a session that gives masks, and a vocabulary. Comes out: one text that the grammar let through to its end, or why there is
none. Dice find what a model would seldom write; loaded dice end strings early, go on to the next property and don't skip declared ones,
so that a walk sees much of a schema before it closes. Of a schema it knows only the names of its properties.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

MAX_BYTES = 2_500
FEW = 64  # only a property's name or a listed value leaves as few tokens as this
STOP, CLOSE, QUOTE, NEXT, REST = range(5)
FORMS = {CLOSE: re.compile(r'"?[}\]]+'), QUOTE: re.compile(r'"+'), NEXT: re.compile(r'[",:{\[ ]*[,:{\[][",:{\[ ]*')}


@dataclass(frozen=True)
class Dice:
    """Weights of the kinds of token (close, quote, next, rest) up to `turn` bytes and after it; up to there `keen` is the chance to
    take the property that is declared first among those that can follow (or comes first in a `shuffled` order), and `even` draws among
    all tokens alike."""

    early: tuple[float, float, float, float]
    turn: int
    keen: float = 0.0
    shuffled: bool = False
    even: bool = False


LATE = (12.0, 6.0, 0.3, 1.0)
DICE = (
    Dice((2.0, 3.0, 2.0, 2.0), 500, keen=0.6),
    Dice((0.3, 4.0, 4.0, 2.0), 800, keen=0.9),
    Dice((0.3, 6.0, 4.0, 1.0), 1_500, keen=0.9, shuffled=True),
    Dice((1.0, 1.0, 1.0, 1.0), 200, even=True),
)


class Session(Protocol):
    """What a walk needs of a grammar session (`backend.structured.engine.GrammarSession`)."""

    def push(self, token_id: int) -> None: ...

    def mask(self) -> Any: ...


@dataclass(frozen=True)
class Vocabulary:
    """`kinds` (V,) int8: what each id is good for; `texts`: each id's text; `decode` turns ids into text."""

    kinds: np.ndarray
    texts: Sequence[str]
    decode: Callable[[Sequence[int]], str]

    @classmethod
    def of(cls, texts: Sequence[str], stop_ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> Vocabulary:
        """`texts` are the ids' texts (half a character may stand for itself)."""
        kinds = np.fromiter((kind_of(text) for text in texts), np.int8, len(texts))
        kinds[list(stop_ids)] = STOP
        return cls(kinds, texts, decode)


@dataclass(frozen=True)
class Walk:
    """`end` is finished, gave_up (too long) or dead_end; `step_ms` the wall times of push and mask, one a token."""

    text: str
    end: str
    step_ms: list[float]


def kind_of(text: str) -> int:
    """Which of the kinds a token's text is."""
    return next((kind for kind, form in FORMS.items() if form.fullmatch(text)), REST)


def names_in(schema: Any) -> list[str]:
    """The names of all declared properties, in the order in which they stand in `schema`."""
    found: dict[str, None] = {}
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            declared = part.get("properties")
            found.update(dict.fromkeys(declared if isinstance(declared, dict) else ()))
        waiting.extend(reversed(list(part.values() if isinstance(part, dict) else part if isinstance(part, list) else ())))
    return list(found)


def walk(session: Session, vocabulary: Vocabulary, dice: Dice, rng: random.Random, names: Sequence[str] = ()) -> Walk:
    """Draw tokens until one that ends the answer is drawn, none is allowed, or the text is too long."""
    ids: list[int] = []
    size, times, tail = 0, [], ""
    names = rng.sample(names, len(names)) if dice.shuffled else names
    mask = session.mask()
    while size < MAX_BYTES:
        if mask.terminated:
            return Walk(vocabulary.decode(ids), "finished", times)
        if not mask.count:
            return Walk(vocabulary.decode(ids), "dead_end", times)
        token = None
        if mask.count <= FEW and size < dice.turn and rng.random() < dice.keen:
            token = first_declared(mask.allowed.numpy(), vocabulary, names, tail)
        if token is None:
            token = draw(mask.allowed.numpy(), vocabulary, dice, size, rng)
        if vocabulary.kinds[token] == STOP:
            return Walk(vocabulary.decode(ids), "finished", times)
        began = time.perf_counter()
        session.push(token)
        mask = session.mask()
        times.append((time.perf_counter() - began) * 1000)
        ids.append(token)
        size += max(1, len(vocabulary.texts[token].encode()))
        tail = (tail + vocabulary.texts[token]).rpartition('"')[2]
    return Walk(vocabulary.decode(ids), "gave_up", times)


def first_declared(allowed: np.ndarray, vocabulary: Vocabulary, names: Sequence[str], tail: str) -> int | None:
    """The id that goes on from `tail` (the text after the last quote) towards the name that was declared first."""
    ids = [int(i) for i in np.flatnonzero(allowed) if vocabulary.kinds[i] == REST]
    for name in names:
        towards = [i for i in ids if name.startswith(tail + vocabulary.texts[i])]
        if towards:
            return max(towards, key=lambda i: len(vocabulary.texts[i]))
    return None


def draw(allowed: np.ndarray, vocabulary: Vocabulary, dice: Dice, size: int, rng: random.Random) -> int:
    """One allowed id: first its kind by the dice, then any of that kind. A stop is taken half the time it can be."""
    ids = np.flatnonzero(allowed)
    kinds = vocabulary.kinds[ids]
    stops = ids[kinds == STOP]
    if len(stops) == len(ids) or (len(stops) and rng.random() < 0.5):
        return int(stops[0])
    if dice.even and size < dice.turn:
        others = ids[kinds != STOP]
        return int(others[rng.randrange(len(others))])
    present = np.unique(kinds[kinds != STOP]).tolist()
    weights = dice.early if size < dice.turn else LATE
    kind = rng.choices(present, [weights[k - 1] for k in present])[0]
    chosen = ids[kinds == kind]
    return int(chosen[rng.randrange(len(chosen))])
