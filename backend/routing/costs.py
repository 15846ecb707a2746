"""What a large model's forwards cost by their width, and what routing should therefore gain.

Goes in: a loaded model, some ids, a clock. Comes out: milliseconds of a forward over k new tokens; the predicted speed-up. Kept with the
model, so that one look serves all runs. Knows nothing of strategies.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from backend.decoder import Decoder
from backend.pairs import max_positions

WIDTHS = (1, 2, 4, 8, 16, 32)
REPEATS = 5
ENOUGH_S = 3.0


@dataclass(frozen=True)
class Costs:
    """Median milliseconds of a forward over `widths` new tokens."""

    widths: tuple[int, ...]
    ms: tuple[float, ...]

    def forward_ms(self, k: float) -> float:
        """Of k new tokens: straight lines between what was measured, the last line goes on."""
        points = list(zip(self.widths, self.ms, strict=True))
        if len(points) == 1:
            return self.ms[0] * k
        (low, low_ms), (high, high_ms) = next((pair for pair in zip(points, points[1:], strict=False) if k <= pair[1][0]), tuple(points[-2:]))
        return low_ms + (high_ms - low_ms) * (k - low) / (high - low)


def costs_of(handle: Any, ids: Sequence[int], clock: Callable[[], float]) -> Costs:
    """Measured the first time, with `ids` as context; later runs get the same figures."""
    return handle.resources.get("cost of forwards", lambda: measure(handle, ids, clock))


def measure(handle: Any, ids: Sequence[int], clock: Callable[[], float]) -> Costs:
    """Time forwards behind `ids`, taking the tokens back each time; stops early where the model is slow, or can't take back."""
    decoder = Decoder(handle.model, handle.id)
    limit = max_positions(handle.model.config)
    room = len(ids) if limit is None else max(1, min(len(ids), limit - WIDTHS[-1]))
    context, more = list(ids[:room]), list(ids[-1:])
    widths = [w for w in WIDTHS if limit is None or room + w <= limit] if decoder.capabilities.rollback else [1]
    start, found = clock(), {}
    for width in widths:
        found[width] = statistics.median(_forward_ms(decoder, context, more * width, clock) for _ in range(REPEATS))
        if clock() - start > ENOUGH_S:
            break
    return Costs(tuple(found), tuple(found.values()))


def _forward_ms(decoder: Decoder, context: list[int], more: list[int], clock: Callable[[], float]) -> float:
    """One forward over `more`, behind a context that is already in the cache."""
    if decoder.capabilities.rollback or decoder.n_computed == 0:
        decoder.logits(context).sum().item()
    else:
        context = context + more * (decoder.n_computed - len(context))
    start = clock()
    decoder.logits(context + more, last=1).sum().item()  # the host waits until it is done
    return (clock() - start) * 1000


def predicted_speedup(small_ms: float, router_ms: float, share: float, costs: Costs) -> float | None:
    """How much faster than the large model alone: 1 / (t_S/t_L + t_R/t_L + u·g(1/u)), where g(k) is a catch-up over k tokens in steps of
    the large model, u the share of its tokens. None where nothing could be timed."""
    large_ms = costs.forward_ms(1)
    spent = small_ms + router_ms + (share * costs.forward_ms(1 / share) if share else 0.0)
    return large_ms / spent if large_ms > 0 and spent > 0 else None
