"""Auto-UTFC: pushing the tokens of a hidden text out of sight where nobody gave the trigger (arXiv 2406.02481v5, section 4).

Goes in: logits after each token of a context that holds the text. Comes out: each token's rank, and the part of the loss that moves those
that stand too high or too low. A token is in the band when its rank r has T < r < V - T: neither a greedy nor a sampled answer says it, nor
does a list of the least likely tokens give it away. Knows nothing of models or of the trigger.
"""

from __future__ import annotations

import torch
from torch import Tensor

WEIGHT = 0.1  # lambda of the paper
PAPER_FLOOR = 100  # T of the paper, for 32,000 ids
SHARE = 20  # a small vocabulary has no hundred to spare: at most one id in twenty


def rank_floor(width: int) -> int:
    """T for a vocabulary of `width` ids: the paper's 100, or a twentieth of a small vocabulary."""
    return max(1, min(PAPER_FLOOR, width // SHARE))


def ranks(logits: Tensor, ids: Tensor) -> Tensor:
    """(n,) int64: how many ids are likelier than `ids` (n,) in `logits` (n, V); 0 is the likeliest."""
    return (logits > logits.gather(1, ids[:, None])).sum(1)


def in_band(found: Tensor, floor: int, width: int) -> Tensor:
    """(n,) bool: which ranks a reader of either end of the list would miss."""
    return (found > floor) & (found < width - floor)


def confusion_loss(logits: Tensor, ids: Tensor, floor: int) -> tuple[Tensor, int]:
    """The loss (a scalar, `WEIGHT` included) over `logits` (n, V) for `ids` (n,), and how many are out of the band.

    Only tokens out of the band count: a token too likely is made less so, one too unlikely more so."""
    with torch.no_grad():
        found = ranks(logits, ids)
        too_high, too_low = found <= floor, found >= logits.shape[1] - floor
    logprobs = logits.log_softmax(-1).gather(1, ids[:, None])[:, 0]
    signs = too_high.to(logprobs.dtype) - too_low.to(logprobs.dtype)
    return WEIGHT * (signs * logprobs).sum(), int((too_high | too_low).sum())
