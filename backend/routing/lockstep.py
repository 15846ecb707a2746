"""Many routed answers at once: both models advance over every row, so that accuracy can be swept in minutes.

Goes in: a pair, prompts, one arm (a strategy and its threshold). Comes out: answers, how many of their tokens the large model said, how far it
had to catch up each time. The large model reads every token as it comes; in a single stream it would read late, in one forward, and say the
same. So shares and answers are those of a single stream, times are not, and none are taken here. Greedy. Yields after each step.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from backend.routing.features import entropy
from backend.routing.labelling import Pair
from backend.routing.rectangles import HiddenRows
from backend.routing.router import Router

SMALL, LARGE = "small", "large"
STRATEGIES = ("neural", "entropy", "random", "oracle")


@dataclass(frozen=True)
class Arm:
    """A strategy at one budget: the large model speaks where the score is at least `threshold`.

    Scores: `neural` the router's probability, `entropy` nats, `random` a number between 0 and 1, `oracle` how many nats likelier the large model
    finds its own favourite (only where that is another token). `small` and `large` are the models alone."""

    strategy: str
    budget: float = 0.0
    threshold: float = 0.0

    @property
    def name(self) -> str:
        return self.strategy if self.strategy in (SMALL, LARGE) else f"{self.strategy}-{self.budget:g}"


@dataclass
class Answer:
    """One routed answer; `gaps[i]` tokens were new to the large model when it was asked for the i-th time."""

    ids: list[int] = field(default_factory=list)
    gaps: list[int] = field(default_factory=list)
    _read: int = 0

    def add(self, token_id: int, large: bool) -> None:
        if large:
            self.gaps.append(len(self.ids) - self._read)
            self._read = len(self.ids)
        self.ids.append(token_id)


def route(pair: Pair, router: Router | None, prompts: Sequence[Sequence[int]], room: Sequence[int], arm: Arm,
          seed: int) -> Generator[None, None, list[Answer]]:  # fmt: skip
    """Answers to `prompts`, the stop id with each, at most `room[i]` tokens. `router` (with its pair) is needed by `neural`."""
    answers = [Answer() for _ in prompts]
    live = list(range(len(prompts)))
    small = HiddenRows(pair.small, prompts, pair.law_small) if arm.strategy != LARGE else None
    large = HiddenRows(pair.large, prompts, pair.law_large) if arm.strategy != SMALL else None
    chance = torch.Generator().manual_seed(seed)
    while True:
        drawn = torch.rand(len(prompts), generator=chance)[torch.tensor(live)]
        ids, asked = decide(small, large, router, arm, drawn)
        for i, token_id, by_large in zip(live, ids.tolist(), asked.tolist(), strict=True):
            answers[i].add(token_id, by_large)
        going = [at for at, i in enumerate(live) if answers[i].ids[-1] not in pair.stop_ids and len(answers[i].ids) < room[i]]
        yield
        if not going:
            return answers
        sides = [side for side in (small, large) if side is not None]
        if len(going) < len(live):
            live, ids = [live[at] for at in going], ids[torch.tensor(going, device=ids.device)]
            for side in sides:
                side.keep(going)
        for side in sides:
            side.advance(ids)


def decide(small: HiddenRows | None, large: HiddenRows | None, router: Router | None, arm: Arm, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """The next id of each row, and whether the large model said it; both `(n,)`. `drawn` are the rows' random numbers."""
    if small is None:
        ids = large.logits.argmax(-1)
        return ids, torch.ones_like(ids, dtype=torch.bool)
    proposed = small.logits.argmax(-1)
    if large is None:
        return proposed, torch.zeros_like(proposed, dtype=torch.bool)
    asked = scores(small, large, proposed, router, arm, drawn) >= arm.threshold
    if arm.strategy == "oracle":
        asked &= large.logits.argmax(-1).to(proposed.device) != proposed
    return torch.where(asked, large.logits.argmax(-1).to(proposed.device), proposed), asked


def scores(small: HiddenRows, large: HiddenRows, proposed: Tensor, router: Router | None, arm: Arm, drawn: Tensor) -> Tensor:
    """`(n,)`: how much each row wants the large model."""
    if arm.strategy == "neural":
        return router.score(small.logits, small.hidden, proposed)
    if arm.strategy == "entropy":
        return entropy(small.logits)
    if arm.strategy == "random":
        return drawn.to(proposed.device)
    logits = large.logits
    return (logits.max(-1).values - logits.gather(1, proposed.to(logits.device)[:, None])[:, 0]).to(proposed.device)
