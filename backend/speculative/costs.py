"""What a forward costs on this machine: one row, many rows, one row of the draft model.

Goes in: loaded models. Comes out: `Costs`, measured once a loaded model (a second or two) and kept with it. Knows nothing of drafts.
"""

from __future__ import annotations

import statistics
import time
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import torch

from backend.decoder import Decoder

WIDTHS = (1, 2, 3, 5, 9, 13, 17, 25, 33, 65)
FEW_WIDTHS = (1, 3, 9, 17, 33)
CONTEXT = 128
REPEATS = 3
NOISE_ROWS = 18
SLOW_STEP_S = 0.1  # a slower model is measured at fewer widths: the probe should stay within seconds


@dataclass(frozen=True)
class Costs:
    """`step_ms` of one row behind 128 tokens; `v[i]` = time of `widths[i]` rows / time of one, rising; `noise`: how much the lead of the
    first choice changes between one row and several, at most (0 where bits agree); `draft_ms` of one row of the draft model, if any."""

    step_ms: float
    widths: tuple[int, ...]
    v: tuple[float, ...]
    noise: float
    draft_ms: float | None = None

    @property
    def c(self) -> float:
        """Draft step / target step; 0 without a draft model."""
        return 0.0 if self.draft_ms is None else self.draft_ms / self.step_ms

    def rows(self, n: int) -> float:
        """v of a forward over n rows, interpolated; beyond the last width the last slope goes on."""
        at = bisect_left(self.widths, n)
        if at < len(self.widths) and self.widths[at] == n:
            return self.v[at]
        low, high = max(0, min(at, len(self.widths) - 1) - 1), min(at, len(self.widths) - 1)
        if low == high:
            return self.v[high] * n / self.widths[high]
        slope = (self.v[high] - self.v[low]) / (self.widths[high] - self.widths[low])
        return self.v[low] + slope * (n - self.widths[low])

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"step_ms": round(self.step_ms, 4), "widths": list(self.widths), "v": [round(v, 4) for v in self.v]}
        return data | {"c": round(self.c, 4), "noise": float(f"{self.noise:.3g}")}


def costs_of(target: Any, draft: Any | None) -> Costs:
    """The measured costs of a pair of loaded models; measured the first time and kept as long as the model is loaded."""
    own: Costs = target.resources.get("speculative-costs", lambda: measure(target))
    if draft is None:
        return own
    draft_ms = draft.resources.get("speculative-step", lambda: step_ms(draft))
    return Costs(own.step_ms, own.widths, own.v, own.noise, draft_ms)


def measure(handle: Any) -> Costs:
    """Time forwards of several widths in turn, median of the repeats. The widths rotate, so that a slow moment hits all alike."""
    decoder, context = _warm(handle)
    widths = _affordable(decoder, context)
    times: dict[int, list[float]] = {width: [] for width in widths}
    for _ in range(REPEATS):
        for width in widths:
            times[width].append(_timed(decoder, context, width))
    medians = [statistics.median(times[width]) for width in widths]
    rising = [max(medians[: i + 1]) / medians[0] for i in range(len(medians))]
    return Costs(medians[0] * 1000, widths, tuple(rising), noise(decoder, context))


def step_ms(handle: Any) -> float:
    decoder, context = _warm(handle)
    return statistics.median(_timed(decoder, context, 1) for _ in range(2 * REPEATS)) * 1000


def noise(decoder: Decoder, context: list[int]) -> float:
    """By how much the distance of the two first choices differs, at most, between rows computed one by one and in blocks of nine."""
    block = context[:NOISE_ROWS]
    decoder.hold(context)
    together = torch.cat([decoder.append(block[i : i + 9]) for i in range(0, len(block), 9)])
    decoder.hold(context)
    alone = torch.cat([decoder.append([token]) for token in block])
    decoder.hold(context)
    first, second = alone.topk(2).indices.T[:, :, None]  # (18, 1) each
    return float(((alone - together).gather(1, first) - (alone - together).gather(1, second)).abs().max())


def _warm(handle: Any) -> tuple[Decoder, list[int]]:
    """A decoder that holds a context of plain ids and has run twice."""
    decoder = Decoder(handle.model, handle.id)
    context = [3 + i % max(1, min(handle.vocab_size, 500) - 3) for i in range(_context_length(handle))]
    decoder.hold(context)
    for _ in range(2):
        _timed(decoder, context, 1)
    return decoder, context


def _context_length(handle: Any) -> int:
    limit = getattr(handle.model.config.get_text_config(decoder=True), "max_position_embeddings", None) or 10**9
    return max(1, min(CONTEXT, limit - WIDTHS[-1] - 1))


def _affordable(decoder: Decoder, context: list[int]) -> tuple[int, ...]:
    """All widths, or fewer where a step is slow."""
    if not decoder.capabilities.rollback:
        return (1,)
    step = _timed(decoder, context, 1)
    return WIDTHS if step < SLOW_STEP_S else FEW_WIDTHS


def _timed(decoder: Decoder, context: list[int], width: int) -> float:
    """Seconds of one forward over `width` rows behind the context, until the host has its result."""
    start = time.perf_counter()
    rows = decoder.append(torch.full((width,), context[0], device=decoder.model.device))
    rows[-1, 0].item()  # waits for the device
    elapsed = time.perf_counter() - start
    decoder.hold(context)
    return elapsed
