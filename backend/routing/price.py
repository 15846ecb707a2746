"""What an answer costs in one stream: seconds from measured forwards, parameters by two formulas.

Goes in: a pair, its router, a context, a clock. Comes out: a `Price`. Shares and gaps come from a sweep whose own time says nothing, because it
computes both models at every step. Knows nothing of accuracy.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from backend.routing.costs import Costs, costs_of
from backend.routing.labelling import Pair
from backend.routing.lockstep import LARGE, SMALL, Arm
from backend.routing.router import Router

LOOKS = 50


@dataclass(frozen=True)
class Price:
    """Milliseconds of a forward of each model by its width, of one look of the router; parameters."""

    small: Costs
    large: Costs
    router_ms: float
    n_small: int
    n_large: int
    n_router: int

    @classmethod
    def of(cls, pair: Pair, router: Router, ids: Sequence[int], clock: Callable[[], float]) -> Price:
        """Measures what is not known yet; `router` has met the pair."""
        costs = [costs_of(model, ids, clock) for model in (pair.small, pair.large)]
        parameters = [model.passport.n_parameters for model in (pair.small, pair.large)]
        return cls(*costs, router_ms(router, pair, clock), *parameters, router.n_parameters)

    def params(self, arm: Arm, share: float) -> dict[str, float]:
        """Parameters a token. The paper's formula counts the small model and the router at every token and the large one at its share; the
        paper's recorder counts one model a token and no router."""
        if arm.strategy in (SMALL, LARGE):
            alone = float(self.n_small if arm.strategy == SMALL else self.n_large)
            return {"params_paper": alone, "params_recorder": alone}
        router = self.n_router if arm.strategy == "neural" else 0
        return {
            "params_paper": self.n_small + router + share * self.n_large,
            "params_recorder": (1 - share) * self.n_small + share * self.n_large,
        }

    def seconds(self, arm: Arm, tokens: int, gaps: Sequence[int]) -> float:
        """Of `tokens` tokens in one stream; `gaps[k]` of the large ones came after k unread tokens. A gap of 0 is the prompt's own forward."""
        if arm.strategy == SMALL:
            return tokens * self.small.forward_ms(1) / 1000
        if arm.strategy == LARGE:
            return tokens * self.large.forward_ms(1) / 1000
        router = self.router_ms if arm.strategy == "neural" else 0.0
        catching_up = sum(count * self.large.forward_ms(gap) for gap, count in enumerate(gaps) if gap)
        return (tokens * (self.small.forward_ms(1) + router) + catching_up) / 1000


def router_ms(router: Router, pair: Pair, clock: Callable[[], float]) -> float:
    """Median milliseconds of scoring one step."""
    model = pair.small
    width = model.model.get_input_embeddings().weight.shape[1]
    logits, hidden = torch.randn(1, pair.report.width, device=model.device), torch.randn(1, width, device=model.device)
    token, times = torch.zeros(1, dtype=torch.long, device=model.device), []
    for _ in range(LOOKS):
        start = clock()
        router.score(logits, hidden, token).item()
        times.append((clock() - start) * 1000)
    return statistics.median(times)
