"""What adds up over a routed run, and the figures that are said of it at the end.

Goes in: milliseconds and decisions as they come. Comes out: `stats` of the run. Knows nothing of models but their number of parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backend.routing.costs import Costs, predicted_speedup


@dataclass
class Tally:
    """`spans` in ms; `gaps` one entry a catch-up; `step_ms` what each new token took by itself."""

    spans: dict[str, float] = field(default_factory=lambda: dict.fromkeys(
        ("prefill_small", "prefill_large", "small", "router", "catch_up", "opinions"), 0.0))  # fmt: skip
    gaps: list[int] = field(default_factory=list)
    step_ms: list[float] = field(default_factory=list)
    ttft_ms: float | None = None
    n_proposed: int = 0
    large_tokens: int = 0
    agreed: int = 0
    n_opinions: int = 0

    @property
    def n_tokens(self) -> int:
        return len(self.step_ms)

    @property
    def share(self) -> float:
        return self.large_tokens / self.n_tokens if self.n_tokens else 0.0

    def note(self, parts: Mapping[str, float], proposed: bool, large: bool) -> None:
        """One new token: ms of its parts {small, router, large}, and whether the small model proposed and the large one said it."""
        for name, ms in parts.items():
            self.spans["catch_up" if name == "large" else name] += ms
        self.n_proposed += proposed
        self.large_tokens += large

    def stats(self) -> dict[str, Any]:
        """All but what needs the models' sizes or costs. The first token is left out of the time a token: its forward was the prefill."""
        later = self.step_ms[1:]
        mean = sum(later) / len(later) if later else 0.0
        return {
            "n_tokens": self.n_tokens, "large_tokens": self.large_tokens, "share": round(self.share, 4),
            "gaps": {"mean": round(sum(self.gaps) / len(self.gaps), 2) if self.gaps else None, "max": max(self.gaps, default=None)},
            "ttft_ms": None if self.ttft_ms is None else round(self.ttft_ms, 2),
            "tokens_per_s": round(1000 / mean, 2) if mean else None, "ms_per_token": round(mean, 3) if mean else None,
            "spans": {name: round(ms, 2) for name, ms in self.spans.items()},
            "agreement": round(self.agreed / self.n_opinions, 4) if self.n_opinions else None, "n_opinions": self.n_opinions,
        }  # fmt: skip


def prediction(tally: Tally, costs: Costs, lazy: bool) -> dict[str, Any]:
    """The speed-up that the parts of this run promise over the large model alone, and the parts (ms a step). No promise is made of a run
    that is not `lazy`: one in which the large model was at work in every step by rule."""
    steps = max(tally.n_proposed - 1, 1)  # the first proposal comes out of the prefill
    small, router = tally.spans["small"] / steps, tally.spans["router"] / max(tally.n_proposed, 1)
    large, catch_up = costs.forward_ms(1), costs.forward_ms(1 / tally.share) if tally.share else None
    speedup = predicted_speedup(small, router, tally.share, costs) if lazy and tally.n_tokens else None
    parts = {"small_ms": small, "router_ms": router, "large_ms": large, "catch_up": catch_up / large if catch_up and large else None}
    told = {name: None if value is None else round(value, 4) for name, value in parts.items()}
    return {"predicted_speedup": None if speedup is None else round(speedup, 3), "predicted_from": told}


def activated(share: float, params: Mapping[str, int]) -> dict[str, float]:
    """Parameters that a token passes through on average. `paper`: small and router at every token, large at its share; `recorder`: the
    lower figure of the reference's own recorder, which leaves out the router and the small model's refused proposals."""
    small, router, large = params["small"], params["router"], params["large"]
    return {"paper": round(small + router + share * large, 1), "recorder": round((1 - share) * small + share * large, 1)}
