"""How much to draft: the acceptance seen so far against the measured cost of verifying.

Goes in: what was offered and accepted at each position, the costs of this machine. Comes out: how many tokens pay. Pure arithmetic.
"""

from __future__ import annotations

from backend.speculative.costs import Costs

PRIOR_ALPHA = 0.6
PRIOR_WEIGHT = 4.0
FORGET = 0.97  # a round's weight after each later one: what has paid in this text lately


class Positions:
    """Acceptance by position in the draft, smoothed towards the acceptance over all positions, and that towards a prior."""

    def __init__(self, most: int, alpha: float = PRIOR_ALPHA) -> None:
        self._alpha, self._offered, self._accepted = alpha, [0.0] * most, [0.0] * most

    def observe(self, offered: int, accepted: int) -> None:
        """One round: `offered` tokens were drafted in a chain, the first `accepted` of them taken."""
        self._offered = [x * FORGET for x in self._offered]
        self._accepted = [x * FORGET for x in self._accepted]
        for i in range(min(offered, accepted + 1)):
            self._offered[i] += 1
            self._accepted[i] += i < accepted

    def rates(self) -> list[float]:
        """P(position i accepted | offered and all before it accepted)."""
        total, taken = sum(self._offered), sum(self._accepted)
        overall = (taken + self._alpha * PRIOR_WEIGHT) / (total + PRIOR_WEIGHT)
        pairs = zip(self._accepted, self._offered, strict=True)
        return [(accepted + overall * PRIOR_WEIGHT) / (offered + PRIOR_WEIGHT) for accepted, offered in pairs]


def best_gamma(rates: list[float], costs: Costs, most: int, overhead: float = 0.0) -> int:
    """The gamma (0 to `most`) with the best (1 + expected accepted) / (gamma·c + v(gamma + 1) + overhead); 0 stands for a plain step.

    `overhead` is what a draft costs beside its forwards, in plain steps. Leviathan et al. 2023, section 3.3, with v measured.
    """
    best, best_rate, reach, expected = 0, 1.0, 1.0, 1.0
    for gamma in range(1, min(most, len(rates)) + 1):
        reach *= rates[gamma - 1]
        expected += reach
        rate = expected / (gamma * costs.c + costs.rows(gamma + 1) + overhead)
        if rate > best_rate:
            best, best_rate = gamma, rate
    return best


class Gamma:
    """The number of tokens to draft in the next round: given, or chosen from the rounds so far.

    Where nothing pays, one token is still tried every `PROBE` rounds: a text changes.
    """

    PROBE = 8

    def __init__(self, fixed: int, costs: Costs, most: int, alpha: float = PRIOR_ALPHA, overhead: float = 0.0) -> None:
        """`fixed` 0: choose; `alpha`: the acceptance to start from; `overhead`: see `best_gamma`."""
        self._fixed, self._costs, self._most, self._overhead = fixed, costs, most, overhead
        self._positions, self._idle = Positions(most, alpha), 0

    def next(self) -> int:
        if self._fixed:
            return self._fixed
        gamma = best_gamma(self._positions.rates(), self._costs, self._most, self._overhead)
        self._idle = 0 if gamma else self._idle + 1
        if self._idle >= self.PROBE:
            self._idle = 0
            return 1
        return gamma

    def observe(self, offered: int, accepted: int) -> None:
        if offered and not self._fixed:
            self._positions.observe(offered, accepted)
