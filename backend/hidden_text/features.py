"""The columns of the candidates' table: what can be said of one text, besides its rank.

Goes in: a text's tokens with their facts under the suspect and, if there is one, the reference. Comes out: one number a column, None where it
can't be known. Knows nothing of models, of where the text came from or of how it is ranked.
"""

from __future__ import annotations

import math
import statistics
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from backend.hidden_text.texts import confident_lift

REFERENCE_TOKENS = 3
REFERENCE_RULE = 0.95
LONGEST_PERIOD = 48
HARDEST = 0.2  # of the tokens, for Min-K %++
RUN_NATS = 2.0


@dataclass(frozen=True)
class Facts:
    """One text, token by token: `logprobs`, `entropies` and `spreads` (standard deviation of log p under the law) of the suspect, `references`
    of the reference. `forced` of the tokens were not chosen."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    entropies: tuple[float, ...]
    spreads: tuple[float, ...]
    references: tuple[float, ...] | None
    forced: int = 0

    @property
    def chosen(self) -> slice:
        return slice(self.forced, None)


def columns(facts: Facts, text: str, characters: int) -> dict[str, float | bool | None]:
    """Every column by name; `text` is the decoded text, `characters` the number that its tokens stand for."""
    own = facts.logprobs[facts.chosen]
    return {
        "reference_mean": round(reference_mean(own), 4),
        "reference_rule": reference_mean(own) > REFERENCE_RULE,
        "mean_logprob": round(statistics.fmean(own), 3) if own else None,
        "min_logprob": round(min(own), 3) if own else None,
        **_lift_columns(facts),
        **entropy_profile(facts.entropies[facts.chosen]),
        "period": period(facts.ids)[0],
        "periodic": round(period(facts.ids)[1], 3),
        "min_k": _rounded(min_k(facts)),
        "rarity": round(rarity(text), 3) if characters else None,
    }


def _lift_columns(facts: Facts) -> dict[str, float | None]:
    """Lift: the mean of log p(suspect) − log p(reference) over chosen tokens, the surest window's, the longest run above two nats."""
    if facts.references is None:
        return {"lift": None, "confident_lift": None, "lift_run": None, "reference_logprob": None}
    own, other = facts.logprobs[facts.chosen], facts.references[facts.chosen]
    lifts = [a - b for a, b in zip(own, other, strict=True)]
    weight = confident_lift(own, other, facts.ids[facts.chosen])
    mean = statistics.fmean(other) if other else None
    return {"lift": _rounded(statistics.fmean(lifts) if lifts else None), "confident_lift": round(weight, 2), "lift_run": longest_run(lifts),
            "reference_logprob": _rounded(mean)}  # fmt: skip


def reference_mean(logprobs: Sequence[float]) -> float:
    """The score of unconditional token forcing as its authors coded it: the mean of a constant 1 (the forced token) and the probabilities of
    the three greedy tokens after it. Their rule asks for more than 0.95."""
    some = [math.exp(value) for value in logprobs[:REFERENCE_TOKENS]]
    return (1.0 + sum(some)) / (1 + len(some))


def longest_run(lifts: Sequence[float]) -> int:
    """The most tokens in a row that each gained two nats or more; one surprising word before boilerplate has a run of one."""
    best = here = 0
    for lift in lifts:
        here = here + 1 if lift >= RUN_NATS else 0
        best = max(best, here)
    return best


def period(ids: Sequence[int]) -> tuple[int, float]:
    """The period (at most 48) with the longest periodic tail, and which share of the text that tail is; (0, 0.0) without one."""
    best = (0, 0.0)
    for length in range(1, min(LONGEST_PERIOD, len(ids) // 2) + 1):
        n = 0
        while n < len(ids) - length and ids[-1 - n] == ids[-1 - n - length]:
            n += 1
        covered = (n + length) / len(ids) if n >= length else 0.0
        if covered > best[1]:
            best = (length, covered)
    return best


def entropy_profile(entropies: Sequence[float]) -> dict[str, float | None]:
    """Mean entropy in nats; `entropy_drop`: the first two tokens' mean minus the middle's (a text known by heart falls and stays down)."""
    if not entropies:
        return {"entropy": None, "entropy_drop": None}
    head, middle = entropies[:2], entropies[2:-1] or entropies[-1:]
    return {"entropy": round(statistics.fmean(entropies), 3), "entropy_drop": round(statistics.fmean(head) - statistics.fmean(middle), 3)}


def min_k(facts: Facts) -> float | None:
    """Min-K %++ (Zhang et al. 2024): the mean of the lowest fifth of (log p − mean of log p under the law) / its standard deviation.

    The law's mean of log p is minus its entropy."""
    some = zip(facts.logprobs[facts.chosen], facts.entropies[facts.chosen], facts.spreads[facts.chosen], strict=True)
    scores = sorted((own + entropy) / spread for own, entropy, spread in some if spread > 1e-6)
    return statistics.fmean(scores[: max(1, math.ceil(HARDEST * len(scores)))]) if scores else None


def rarity(text: str) -> float:
    """Compressed bytes a byte: what repeats itself, or is one word and again, is low; knows nothing of which language it is."""
    raw = text.encode()
    return len(zlib.compress(raw, 9)) / len(raw)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
