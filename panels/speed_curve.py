"""The speed-up that a chain of drafts should bring: E / (γ·c + v), from what a lane accepted and what forwards cost on this machine.

Goes in: a lane whose `done` line has `stats` with `costs`. Comes out: a curve by γ, and what was measured against plain. Pure arithmetic.
A lookup drafts in some rounds only: the others cost one step and give one token, so they stand in numerator and denominator alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from backend.speculative import trace
from panels.lanes import Lane

CHAINS = ("model", "lookup")
MOST = 16
WHAT_IF_TOKENS = 8  # the slider's v is the cost of checking so many drafted tokens
ENOUGH = 5  # a position that was reached less often takes the mean rate


@dataclass(frozen=True)
class Curve:
    """`rates[i]`: chance that drafted token i + 1 is accepted once it is reached; `v[i]`: cost of checking i + 1 drafted tokens, in
    single steps; `c`: cost of one draft step; `coverage`: share of rounds that draft."""

    rates: tuple[float, ...]
    v: tuple[float, ...]
    c: float
    coverage: float = 1.0

    def tokens_a_round(self, gamma: int) -> float:
        """E of a round that drafts γ tokens."""
        expected, reached = 1.0, 1.0
        for rate in self.rates[:gamma]:
            reached *= rate
            expected += reached
        return expected

    def speed(self, gamma: int) -> float:
        """Tokens of the average round by its cost in single steps."""
        tokens = self.coverage * self.tokens_a_round(gamma) + (1 - self.coverage)
        return tokens / (self.coverage * (gamma * self.c + self.v[gamma - 1]) + (1 - self.coverage))

    def speeds(self) -> list[float]:
        return [self.speed(gamma) for gamma in range(1, len(self.v) + 1)]

    def what_if(self, c: float | None, v: float | None) -> Curve:
        """The same acceptance at other costs: `v` of eight drafted tokens, the other widths between it and one step as they were."""
        costs = self.v
        if v is not None:
            at = min(WHAT_IF_TOKENS, len(self.v)) - 1
            span = self.v[at] - 1
            share = [(cost - 1) / span if span > 1e-6 else (i + 1) / WHAT_IF_TOKENS for i, cost in enumerate(self.v)]
            costs = tuple(1 + (v - 1) * part for part in share)
        return replace(self, c=self.c if c is None else c, v=costs)


def stats_of(lane: Lane) -> dict[str, Any]:
    stats = (lane.end or {}).get("stats")
    return stats if isinstance(stats, dict) else {}


def curve_of(lane: Lane) -> Curve | None:
    """The curve of a lane that drafted chains and whose costs are known; else None."""
    stats, lines = stats_of(lane), trace.rounds_of(lane.events)
    costs, tried = stats.get("costs"), trace.per_position(lines)
    if stats.get("drafter") not in CHAINS or not isinstance(costs, dict) or not tried or len(costs.get("widths", ())) < 2:
        return None
    mean = sum(kept for _, kept in tried) / sum(n for n, _ in tried)
    rates = [kept / n if n >= ENOUGH else mean for n, kept in tried][:MOST]
    v = tuple(between(costs["widths"], costs["v"], gamma + 1) for gamma in range(1, MOST + 1))
    c = costs["c"] if stats["drafter"] == "model" else 0.0
    return Curve((*rates, *(mean for _ in range(MOST - len(rates)))), v, c, trace.summarize(lines)["coverage"])


def between(widths: Sequence[float], values: Sequence[float], x: float) -> float:
    """The value at `x` on the straight lines between the measured widths; the last line goes on."""
    at = next((i for i, width in enumerate(widths) if width >= x), len(widths) - 1)
    low, high = max(at - 1, 0), max(at, 1)
    slope = (values[high] - values[low]) / (widths[high] - widths[low])
    return values[low] + slope * (x - widths[low])


def measured_points(found: Sequence[Lane]) -> list[tuple[int, float, float]]:
    """`(place of the lane, drafted tokens a round that drafted, plain's time a token / the lane's)` of the lanes beside plain."""
    plain = next((stats_of(lane) for lane in found if stats_of(lane).get("drafter") == "none"), {}).get("ms_per_token")
    points = []
    for i, lane in enumerate(found):
        stats = stats_of(lane)
        with_draft = sum(bool(line["drafted"]) for line in trace.rounds_of(lane.events))
        if plain and stats.get("ms_per_token") and stats.get("drafter") != "none" and with_draft:
            points.append((i, stats["drafted"] / with_draft, plain / stats["ms_per_token"]))
    return points
