"""What a step says, in a few numbers a row; the logits themselves are never kept.

Goes in: logits `(m, V)`, optionally which id was chosen. Comes out: columns `(m,)` float32. Works in tiles that fit the processor's cache.
Knows nothing of models, texts or scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CPU_TILE = 1 << 20  # logits at a time: four megabytes
GPU_TILE = 1 << 27


@dataclass(frozen=True)
class Facts:
    """`best` (m,) int64, the likeliest id; `logprob` (m,) of the chosen id (the likeliest without one), in nats; `margin` (m,) from the first
    to the second logit; `entropy` (m,) in nats; `spread` (m,) the standard deviation of the log-probability under the law itself."""

    best: Tensor
    logprob: Tensor
    margin: Tensor
    entropy: Tensor
    spread: Tensor

    @classmethod
    def joined(cls, parts: list[Facts]) -> Facts:
        return cls(*(torch.cat(column) for column in zip(*(vars(p).values() for p in parts), strict=True)))


def facts(logits: Tensor, chosen: Tensor | None = None) -> Facts:
    """All columns of `logits` (m, V), of any float type; sums are made in float32."""
    step = max(1, (CPU_TILE if logits.device.type == "cpu" else GPU_TILE) // logits.shape[1])
    starts = range(0, len(logits), step)
    with torch.inference_mode():
        return Facts.joined([_tile(logits[s : s + step], None if chosen is None else chosen[s : s + step]) for s in starts])


def _tile(logits: Tensor, chosen: Tensor | None) -> Facts:
    top, ids = logits.topk(2, -1)
    top = top.float()
    away = logits.float() - top[:, :1]  # (m, V), at most 0
    weights = away.exp()
    total = weights.sum(-1)
    # a masked id lies at -1e30: its weight is an exact 0, but the square of its distance would be infinite
    away = away.clamp_(min=-1e4)
    mean = torch.linalg.vecdot(weights, away) / total
    square = torch.linalg.vecdot(weights, away.square_()) / total
    picked = top[:, 0] if chosen is None else logits.gather(1, chosen[:, None].to(logits.device))[:, 0].float()
    return Facts(ids[:, 0], picked - top[:, 0] - total.log(), top[:, 0] - top[:, 1], total.log() - mean, (square - mean.square()).clamp(min=0).sqrt())


def logprobs_of(logits: Tensor, chosen: Tensor) -> Tensor:
    """(m,) float32: the log-probability of one id a row; cheaper than all facts."""
    step = max(1, (CPU_TILE if logits.device.type == "cpu" else GPU_TILE) // logits.shape[1])
    found = []
    with torch.inference_mode():
        for s in range(0, len(logits), step):
            tile = logits[s : s + step].float()
            found.append(tile.gather(1, chosen[s : s + step, None].to(tile.device))[:, 0] - tile.logsumexp(-1))
    return torch.cat(found)
