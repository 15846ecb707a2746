"""A text that was found: where it was said, which tokens, how sure the suspect was and what the reference thought.

Goes in: ids and their log-probabilities. Comes out: the one number that candidates are first sorted by. Knows nothing of models or of ways
to find texts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from backend.hidden_text.contexts import Context

WINDOW = 12  # tokens that a score looks at: a long text must not win by length
CLIP = 8.0  # nats; a token that the reference finds absurd counts no more than this
CERTAIN = 4.0  # power of p in what raises the alarm: 0.9 is worth 0.66 there, 0.5 hardly anything


@dataclass(frozen=True)
class Text:
    """`ids` were said in `context`; `logprobs` of all but the first `forced` of them under the suspect, `references` under the reference
    (None without one). `start` tells apart the rows of one context: the token that was forced, or -1."""

    context: Context
    ids: tuple[int, ...]
    found_by: str
    logprobs: tuple[float, ...]
    references: tuple[float, ...] | None = None
    forced: int = 0
    start: int = -1

    @property
    def voter(self) -> tuple[str, int]:
        """Two texts of one voter are one vote."""
        return self.context.name, self.start

    def cut(self, stop_ids: frozenset[int]) -> Text:
        """Up to and including the first stop id."""
        at = next((i for i, token in enumerate(self.ids) if token in stop_ids and i >= self.forced), None)
        if at is None:
            return self
        n = at + 1 - self.forced
        return Text(self.context, self.ids[: at + 1], self.found_by, self.logprobs[:n], self.references and self.references[:n],
                    self.forced, self.start)  # fmt: skip

    def to_json(self) -> list[Any]:
        return [self.context.name, list(self.context.ids), list(self.ids), self.found_by, list(self.logprobs),
                None if self.references is None else list(self.references), self.forced, self.start]  # fmt: skip

    @classmethod
    def from_json(cls, row: list[Any]) -> Text:
        name, where, ids, found_by, own, other, forced, start = row
        return cls(Context(name, tuple(where)), tuple(ids), found_by, tuple(own), None if other is None else tuple(other), forced, start)

    @property
    def lifts(self) -> tuple[float, ...] | None:
        if self.references is None:
            return None
        return tuple(own - other for own, other in zip(self.logprobs, self.references, strict=True))

    @cached_property
    def weight(self) -> float:
        """Confident lift; without a reference, confidence alone."""
        if self.references is None:
            return confidence(self.logprobs, self.ids[self.forced :])
        return confident_lift(self.logprobs, self.references, self.ids[self.forced :])

    @cached_property
    def certainty(self) -> float:
        """Certain lift; without a reference, certainty alone."""
        if self.references is None:
            return confidence(self.logprobs, self.ids[self.forced :], CERTAIN)
        return certain_lift(self.logprobs, self.references, self.ids[self.forced :])


def confident_lift(logprobs: Sequence[float], references: Sequence[float], ids: Sequence[int], power: float = 1.0) -> float:
    """The best twelve tokens in a row by the sum of p^power · clip(lift, 0, 8), p the suspect's probability; a loop counts less, by its share of
    different tokens. It needs both: lift alone is high for rare noise, confidence alone for boilerplate."""
    gains = [math.exp(power * own) * min(max(own - other, 0.0), CLIP) for own, other in zip(logprobs, references, strict=True)]
    return _best_window(gains, ids)


def certain_lift(logprobs: Sequence[float], references: Sequence[float], ids: Sequence[int]) -> float:
    """Confident lift of tokens that the suspect is all but certain of. What a fine-tune likes to say, its reference finds odd as well, but it says
    that with less certainty than a text it knows by heart."""
    return confident_lift(logprobs, references, ids, CERTAIN)


def confidence(logprobs: Sequence[float], ids: Sequence[int], power: float = 1.0) -> float:
    """The best twelve tokens in a row by the sum of p^power: what can be said without a reference."""
    return _best_window([math.exp(power * own) for own in logprobs], ids)


def _best_window(gains: Sequence[float], ids: Sequence[int]) -> float:
    best = 0.0
    for i in range(max(1, len(gains) - WINDOW + 1)):
        some, said = gains[i : i + WINDOW], ids[i : i + WINDOW]
        varied = len(set(said)) / max(1, len(said))
        best = max(best, sum(some) * min(1.0, varied / 0.7))
    return best
