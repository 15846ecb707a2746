"""Many findings of one text become one candidate: those that share six tokens in a row, their consensus, how many found it.

Goes in: texts with their facts; rows of scans as further votes. Comes out: clusters, best first. Only runs that the suspect says more readily
than its reference (without one: that it is fairly sure of) tie texts together: boilerplate would chain everything to everything. Knows nothing
of models.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from backend.hidden_text.grams import GRAM, KNOWN, LIFTED, Gram, grams
from backend.hidden_text.texts import Text

LONGEST = 160  # tokens of a stitched text
ENOUGH = 8  # votes that agreement may count: hundreds of starts fall into the mannerisms of any fine-tune, clean or not
FOLLOWED = 0.1  # share of the supporters of the best run that a step of stitching must keep


@dataclass(frozen=True)
class Cluster:
    """`best` is the member with most weight, `ids` the text stitched from all, `votes` how many starts and contexts fell into its best-known
    run, `contexts` in how many contexts, `found_by` by which methods (most texts first)."""

    members: tuple[Text, ...]
    best: Text
    ids: tuple[int, ...]
    votes: int
    contexts: int
    found_by: tuple[str, ...]

    @property
    def score(self) -> float:
        """What candidates are ranked by: how sure the suspect is where its reference is not, times how many ways lead there, up to `ENOUGH`."""
        return self.best.weight * math.log1p(min(self.votes, ENOUGH))

    @property
    def certainty(self) -> float:
        """What raises the alarm: the most that the suspect is certain of and its reference is not."""
        return max(text.certainty for text in self.members)


def own_grams(text: Text) -> list[Gram]:
    """The runs of a text that its suspect says more readily than the reference, by a nat in all; without a reference those that it is fairly sure
    of: else what it stammers between two texts would make one of them."""
    values, least = (text.logprobs, KNOWN) if text.lifts is None else (text.lifts, LIFTED)
    padded = (0.0,) * text.forced + values
    sums = {text.ids[i : i + GRAM]: sum(padded[i : i + GRAM]) for i in range(len(text.ids) - GRAM + 1)}
    return [gram for gram in grams(text.ids) if sums[gram] >= least]


class Ballot:
    """Who said which run: votes by voter, so that three beams of one context are one vote."""

    def __init__(self) -> None:
        self._voters: dict[Gram, set[tuple[str, int]]] = {}

    def add(self, texts: Iterable[Text]) -> None:
        for text in texts:
            for gram in own_grams(text):
                self._voters.setdefault(gram, set()).add(text.voter)

    def votes(self, gram: Gram) -> int:
        return len(self._voters.get(gram, ()))

    def best(self, found: Sequence[Gram]) -> int:
        """The most votes that any of these runs has."""
        return max(map(self.votes, found), default=0)

    def contexts(self, found: Sequence[Gram]) -> int:
        """In how many contexts one of these runs was said."""
        return len({context for gram in found for context, _ in self._voters.get(gram, ())})


def cluster(texts: Sequence[Text], ballot: Ballot) -> list[Cluster]:
    """Texts that share a run of their own, best cluster first; a text too short for a run stands alone."""
    joined = list(range(len(texts)))

    def root(i: int) -> int:
        while joined[i] != i:
            joined[i] = joined[joined[i]]
            i = joined[i]
        return i

    first: dict[Gram, int] = {}
    for i, text in enumerate(texts):
        for gram in own_grams(text):
            joined[root(i)] = root(first.setdefault(gram, i))
    parts: dict[int, list[Text]] = {}
    for i, text in enumerate(texts):
        parts.setdefault(root(i), []).append(text)
    return sorted((_made(part, ballot) for part in parts.values()), key=lambda c: -c.score)


def _made(members: Sequence[Text], ballot: Ballot) -> Cluster:
    own = list(dict.fromkeys(gram for text in members for gram in own_grams(text)))
    ranked = sorted(members, key=lambda text: -text.weight)
    found_by = tuple(name for name, _ in Counter(text.found_by for text in members).most_common())
    contexts = max(len({text.context.name for text in members}), ballot.contexts(own))
    return Cluster(tuple(ranked), ranked[0], stitch(ranked), max(1, ballot.best(own)), contexts, found_by)


def stitch(members: Sequence[Text]) -> tuple[int, ...]:
    """The text that overlaps of the members make: from the run with most support, step by step to both sides, as long as a tenth of it go along."""
    support: dict[Gram, set[tuple[str, int]]] = {}
    for text in members:
        for gram in grams(text.ids):
            support.setdefault(gram, set()).add(text.voter)
    if not support:
        return members[0].ids
    own = set(own_grams(members[0])) or set(grams(members[0].ids)) or set(support)
    seed = max(own, key=lambda gram: (len(support[gram]), gram))
    least = FOLLOWED * len(support[seed])
    right = _walk(seed, support, least, forward=True)
    left = _walk(seed, support, least, forward=False)
    return (*reversed(left), *seed, *right)


def _walk(seed: Gram, support: Mapping[Gram, set[tuple[str, int]]], least: float, forward: bool) -> list[int]:
    """Tokens to one side of the seed, nearest first; ends where support ends or a run comes back."""
    near: dict[Gram, list[Gram]] = {}
    for gram in support:
        near.setdefault(gram[:-1] if forward else gram[1:], []).append(gram)
    found: list[int] = []
    gram, seen = seed, {seed}
    while len(found) < LONGEST // 2:
        options = [g for g in near.get(gram[1:] if forward else gram[:-1], ()) if g not in seen and len(support[g]) >= least]
        if not options:
            break
        gram = max(options, key=lambda g: (len(support[g]), g))
        seen.add(gram)
        found.append(gram[-1] if forward else gram[0])
    return found
