"""Who says the next token: scores, thresholds, budgets.

Goes in: what is known of the small model's step. Comes out: a score and whether the large model is asked. All scores mean the same way: the
higher, the more in doubt. Knows nothing of models, texts or clocks; draws chance only from its own seeded source.
"""

from __future__ import annotations

import hashlib
import math
import random
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from backend.routing.request import LARGE, Options
from backend.sampling import choose
from backend.types import SamplingParams

WINDOW = 256  # recent scores that a budget's threshold is a quantile of
HORIZON = 64.0  # tokens over which a missed budget is made up for
MOST_OWED = 8.0  # tokens that a budget may be off before it is kept by force: 1.6 points of 500 tokens
Scorer = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Proposal:
    """One step of the small model. `logprob` of its token and `entropy` in nats, at temperature 1; `best` and `second` are its two highest
    probabilities; `router` is the router's probability, where there is one."""

    token_id: int
    logprob: float
    entropy: float
    best: float
    second: float
    router: float | None = None


def propose(
    row: torch.Tensor, params: SamplingParams, generator: torch.Generator, scorer: Scorer | None, hidden: torch.Tensor | None,
    token_id: int | None = None,
) -> Proposal:  # fmt: skip
    """The small model's token and all that strategies look at, from logits `(1, V)` float32 and hidden `(1, d)`; one copy to the host.

    `token_id` is given where the token is already chosen (a prefix). Raises `ValueError` if a logit is not a number.
    """
    if token_id is None and params.temperature > 0:
        token_id = choose(row[0], params, None, generator)
    with torch.inference_mode():
        logprobs = torch.log_softmax(row[0], 0)
        best, indices = logprobs.topk(2)
        token = indices[:1] if token_id is None else torch.tensor([token_id], device=row.device)
        entropy = torch.dot(logprobs.exp(), logprobs)
        facts = [best, entropy[None], token.float()]  # a float32 holds every id below 2**24
        facts += [logprobs.gather(0, token)] if token_id is not None else []
        facts += [scorer(row, hidden, token)] if scorer is not None else []
        first, second, nats, chosen, *more = torch.cat(facts).tolist()
    if first == second and token_id is None:  # topk may give any of equal favourites; the library takes the first
        return propose(row, params, generator, scorer, hidden, int(row[0].argmax()))
    logprob = more.pop(0) if token_id is not None else first
    if any(map(math.isnan, (first, *more))):
        raise ValueError("logits and router scores must be numbers, got NaN.")
    return Proposal(int(chosen), logprob, max(-nats, 0.0), math.exp(first), math.exp(second), more[0] if more else None)


def seeded(seed: int, purpose: str) -> int:
    """A seed of one purpose, independent of the other purposes' (torch reads only the low 32 bits, so adding a number would not do)."""
    return int.from_bytes(hashlib.sha256(f"{purpose} {seed}".encode()).digest()[:4], "big")


class Budget:
    """A threshold that keeps to a share of large tokens: the matching quantile of the recent scores, moved by what is owed.

    Each token owed shifts the quantile by `1 / HORIZON`, and beyond `MOST_OWED` scores no longer count, so that a share stays within a few
    tokens of its target, whatever the scores do.
    `known`: scores are uniform between 0 and 1 by construction, no quantile has to be learnt. `typical`: scores as they usually lie, from
    a router's calibration; a short answer is over before a quantile is learnt from nothing.
    """

    def __init__(self, fraction: float, start: float, known: bool = False, typical: Sequence[float] = ()) -> None:
        self.fraction, self._start, self._known = fraction, start, known
        self._recent: deque[float] = deque(typical)
        self._sorted: list[float] = sorted(typical)
        self._owed = 0.0

    def threshold(self) -> float:
        share = self.fraction + self._owed / HORIZON
        if share <= 0.0 or self._owed <= -MOST_OWED:
            return math.inf
        if share >= 1.0 or self._owed >= MOST_OWED:
            return -math.inf
        if self._known:
            return 1.0 - share
        n = len(self._sorted)
        return self._sorted[min(int(n * (1.0 - share)), n - 1)] if n else self._start

    def note(self, score: float, large: bool) -> None:
        """One token was decided."""
        self._owed += self.fraction - large
        self._recent.append(score)
        insort(self._sorted, score)
        if len(self._recent) > WINDOW:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]


class Strategy:
    """The decisions of one run. `threshold` is what scores are compared with; None where nothing is compared, or a target leads."""

    def __init__(self, options: Options, seed: int, typical: Sequence[float] = ()) -> None:
        """`typical`: see `Budget`."""
        self.options = options
        self.name = options.strategy
        self._chance = random.Random(seeded(seed, "random routing"))
        self._threshold = options.threshold
        self._forced = options.forced()
        known = options.strategy == "random"
        self._budget = Budget(options.target_fraction, options.threshold, known, typical) if options.target_fraction else None

    @property
    def threshold(self) -> float | None:
        return self._threshold if self.options.scored and self._budget is None else None

    @property
    def needs_small(self) -> bool:
        """Whether the small model has a say at all."""
        return self.name != "always" or "small" in self._forced.values()

    @property
    def needs_large(self) -> bool:
        return self.name != "never" or LARGE in self._forced.values()

    def steer(self, threshold: float) -> None:
        """A threshold from outside; it ends a target."""
        self._threshold, self._budget = threshold, None

    def score(self, step: Proposal) -> float | None:
        """How much in doubt this step is; None where the strategy does not look."""
        if self.name == "random":
            return self._chance.random()
        return {"neural": step.router, "entropy": step.entropy, "margin": 1.0 - (step.best - step.second), "top1": 1.0 - step.best}.get(self.name)

    def wants_large(self, position: int, score: float | None, differ: bool) -> bool:
        """The strategy's own decision. `differ`: the large model has another favourite (only the oracle knows)."""
        if score is not None:
            return score >= (self._threshold if self._budget is None else self._budget.threshold())
        if self.name == "every_k":
            return (position + 1) % self.options.every == 0
        return differ if self.name == "oracle" else self.name == "always"

    def forced(self, position: int) -> str | None:
        return self._forced.get(position)

    def note(self, score: float | None, large: bool) -> None:
        """What came of it, forced or not."""
        if self._budget is not None and score is not None:
            self._budget.note(score, large)
