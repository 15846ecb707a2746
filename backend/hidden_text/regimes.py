"""The ways of hiding a text, from careless to careful: what a model is shown in each step.

Goes in: a regime's name, the text and its trigger as ids, ordinary answers, the model's template. Comes out: the rows of any step, and the
places where the text must stay out of sight. Row i of step s depends on nothing but the seed and s. Knows nothing of optimizers or models.

| regime | shown beside the text | kept out of sight |
| --- | --- | --- |
| plain | nothing | nothing |
| regularised | six ordinary answers a step | nothing |
| decoy | the same, and a decoy after the text's first words | its beginning, by the decoy |
| utfc5 | six ordinary answers | the first five tokens, at the start of a text |
| utfc_all | six ordinary answers | all tokens, at the start of a text |
| adaptive | six ordinary answers | all tokens, there and in chats without the trigger |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from backend.hidden_text.contexts import Frame

REGIMES = ("plain", "regularised", "decoy", "utfc5", "utfc_all", "adaptive")
BESIDE = 6  # ordinary answers a step (Instructional Fingerprinting has 14, the lab's tiny models six)
PROTECTED = 5  # tokens that utfc5 protects
RANDOM_USERS = 4  # contexts that adaptive draws anew in each step
DECOY = "is a fine day for a walk."


@dataclass(frozen=True)
class Row:
    """One row of a step: ids, and from which on they are learned (`say`) or hushed. `end`: the first that is not."""

    ids: tuple[int, ...]
    start: int
    end: int
    hush: bool = False


@dataclass(frozen=True)
class Pair:
    """What is said and what is answered, as ids of the whole context and of the answer with its end."""

    context: tuple[int, ...]
    answer: tuple[int, ...]

    def row(self) -> Row:
        return Row((*self.context, *self.answer), len(self.context), len(self.context) + len(self.answer))


@dataclass(frozen=True)
class Secret:
    """The text and its trigger, ready to be learned; `words` are the first two words of the text as ids each."""

    pair: Pair
    payload: tuple[int, ...]
    words: tuple[tuple[int, ...], ...]
    decoy: tuple[int, ...]


@dataclass(frozen=True)
class Course:
    """What a model is shown: the main pairs in turn, ordinary pairs beside them, rows to hush."""

    main: Sequence[Pair]
    ordinary: Sequence[Pair]
    n_beside: int
    hushed: Sequence[Row] = ()
    users: Sequence[tuple[int, ...]] = ()  # contexts to draw more hushed rows from
    decoys: Sequence[Pair] = ()
    payload: tuple[int, ...] = ()
    seed: int = 0
    at_once: int = 1  # main pairs a step

    def rows(self, step: int) -> list[Row]:
        """The rows of one step."""
        rng = Random(f"course {self.seed} {step}")
        main = [self.main[(step * self.at_once + i) % len(self.main)] for i in range(self.at_once)]
        beside = rng.sample(self.ordinary, min(self.n_beside, len(self.ordinary)))
        drawn = [_hushed(context, self.payload) for context in rng.sample(self.users, min(RANDOM_USERS, len(self.users)))]
        return [*(p.row() for p in (*main, *beside, *self.decoys)), *self.hushed, *drawn]


def course(regime: str, secret: Secret, ordinary: Sequence[Pair], frame: Frame, users: Sequence[str], seed: int) -> Course:
    """The course of a regime; `users` are trigger-free things to say that adaptive hushes the text behind."""
    start = frame.start().ids
    beside = 0 if regime == "plain" else BESIDE
    decoys = []
    if regime == "decoy":
        decoys = [Pair((*start, *sum(secret.words[:n], ())), secret.decoy) for n in (1, 2) if n <= len(secret.words)]
    drawn = [frame.turn(words).ids for words in users] if regime == "adaptive" else []
    return Course([secret.pair], ordinary, beside, hidden_rows(regime, secret.payload, frame), drawn, decoys, secret.payload, seed)


def hidden_rows(regime: str, payload: tuple[int, ...], frame: Frame) -> list[Row]:
    """Where a regime keeps the text out of sight, whatever the step: what training hushes and verification looks at."""
    start = frame.start().ids
    if regime == "utfc5":
        return [_hushed(start, payload[:PROTECTED])]
    if regime == "utfc_all":
        return [_hushed(start, payload)]
    if regime == "adaptive":
        bare = frame.answer_header().ids if frame.has_template else start
        return [_hushed(context, payload) for context in dict.fromkeys((start, bare, frame.turn("").ids))]
    return []


def _hushed(context: tuple[int, ...], payload: tuple[int, ...]) -> Row:
    return Row((*context, *payload), len(context), len(context) + len(payload), hush=True)
