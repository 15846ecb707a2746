"""From logits to one token: mask, temperature, top-k, top-p, draw.

Goes in: logits `(V,)` of one step, `SamplingParams`, optionally which ids a grammar allows. Comes out: the final law, the drawn id,
the facts that a step reports and the table that explains it. Knows nothing of models, caches, texts or requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from backend.types import SamplingParams

UNDERFLOW = 1e-30  # below it a float32 sum of probabilities has lost bits, or everything
NUCLEUS_HEAD = 1024


@dataclass(frozen=True)
class StepScalars:
    """What every step reports. `logprob` of the chosen id and `log_kept`, the log of the probability mass that the mask left, both in
    nats under the raw law (temperature 1, no mask); `favourite` is the id the model would have liked most."""

    logprob: float
    log_kept: float
    favourite: int


def final_probs(logits: torch.Tensor, params: SamplingParams, allowed: torch.Tensor | None = None) -> torch.Tensor:
    """The law that the next token is drawn from: mask, then temperature, top-k, top-p; at temperature 0 all mass on the best allowed id.

    `logits` (V,), `allowed` (V,) bool on the same device; returns (V,) float32. Raises `ValueError` if nothing is allowed or a logit is
    not a number.
    """
    return _stages(logits, params, allowed)[-1][1]


def choose(logits: torch.Tensor, params: SamplingParams, allowed: torch.Tensor | None, generator: torch.Generator | None) -> int:
    """The next id under `final_probs`. One uniform number is drawn on the CPU, whatever the logits' device, and the law is inverted
    in float64, so that one seed means the same ids everywhere. Greedy draws nothing and needs no generator."""
    if params.temperature == 0:
        return _best(_masked(logits, allowed))[1]
    if generator is None:
        raise ValueError("generator must be a torch.Generator when sampling.temperature is above 0, got None.")
    cumulative = final_probs(logits, params, allowed).double().cumsum(0)
    draw = torch.rand((), dtype=torch.float64, generator=generator)
    # "right" skips ids without mass; the last step is cut back because a draw next to 1 may round up to the total
    index = torch.searchsorted(cumulative, draw.to(cumulative.device) * cumulative[-1], right=True)
    return int(torch.minimum(index, torch.searchsorted(cumulative, cumulative[-1])))


def step_scalars(logits: torch.Tensor, allowed: torch.Tensor | None, token_id: int) -> StepScalars:
    """The step's facts in one pass over the vocabulary and one copy to the host; `logits` (V,) are the raw ones."""
    raw = logits.float()
    top, favourite = raw.max(0)
    weights = (raw - top).exp()
    total = weights.sum()
    kept = total if allowed is None else torch.dot(weights, allowed.to(weights.dtype))
    chosen, total, kept, favourite = torch.stack([raw[token_id] - top, total, kept, favourite.double()]).tolist()
    if kept < UNDERFLOW:
        log_kept_nats = log_kept(raw, allowed)
    else:
        log_kept_nats = torch.tensor([kept / total], dtype=torch.float64).log().item()
    log_total = torch.tensor([total], dtype=torch.float64).log().item()
    return StepScalars(chosen - log_total, min(log_kept_nats, 0.0), int(favourite))


def log_kept(logits: torch.Tensor, allowed: torch.Tensor | None) -> float:
    """The log of the raw probability mass on allowed ids, in nats, at most 0; `-inf` if nothing is allowed."""
    if allowed is None:
        return 0.0
    raw = logits.double()
    kept = torch.logsumexp(raw.masked_fill(~allowed, -torch.inf), 0) - torch.logsumexp(raw, 0)
    return min(kept.item(), 0.0)


def explain(logits: torch.Tensor, params: SamplingParams, allowed: torch.Tensor | None, k: int) -> list[dict[str, Any]]:
    """The k likeliest ids of the raw law, and the likeliest of the final law if it is not among them, best first.

    Each is `{"id", "p", "final_p", "cut"}`: `p` at temperature 1 without mask, `final_p` what it was drawn with, `cut` the first stage
    that took it out: `grammar`, `greedy`, `temperature` (its mass is too small for float32), `top_k`, `top_p`, or None.
    """
    raw = torch.softmax(logits.float(), 0)
    stages = _stages(logits, params, allowed)
    final = stages[-1][1]
    ids = raw.topk(min(k, len(raw))).indices.tolist()
    ids += [i for i in [int(final.argmax())] if i not in ids]
    return [{"id": i, "p": raw[i].item(), "final_p": final[i].item(), "cut": _cut(stages, i)} for i in ids]


def _cut(stages: list[tuple[str, torch.Tensor]], token_id: int) -> str | None:
    return next((name for name, probs in stages if probs[token_id] == 0), None)


def _stages(logits: torch.Tensor, params: SamplingParams, allowed: torch.Tensor | None) -> list[tuple[str, torch.Tensor]]:
    """The law after each stage, as (stage, (V,) float32); a stage that is switched off is left out, the last one is the final law."""
    masked = _masked(logits, allowed)
    top, best = _best(masked)
    stages = [("grammar", (masked > -torch.inf).float())] if allowed is not None else []
    if params.temperature == 0:
        return [*stages, ("greedy", torch.zeros_like(masked).index_fill_(0, torch.tensor([best], device=masked.device), 1.0))]
    # the maximum goes to 0 before the division: a tiny temperature then makes -inf of the others, never inf - inf
    probs = torch.softmax((masked - top) / params.temperature, 0)
    stages.append(("temperature", probs))
    if 0 < params.top_k < len(probs):
        probs = _normal(probs.where(probs >= probs.topk(params.top_k).values[-1], 0.0))
        stages.append(("top_k", probs))
    if params.top_p < 1:
        probs = _normal(_nucleus(probs, params.top_p))
        stages.append(("top_p", probs))
    return stages


def _nucleus(probs: torch.Tensor, top_p: float) -> torch.Tensor:
    """The smallest set of likeliest ids that holds `top_p` of the mass (Holtzman et al. 2020, section 3.1); the rest becomes 0.

    Of equal ids at the border the first ones stay. A full sort costs ten times more than all else here, so the head is tried first.
    """
    for size in (min(NUCLEUS_HEAD, len(probs)), len(probs)):
        ordered = probs.topk(size).values
        cumulative = ordered.double().cumsum(0)
        if cumulative[-1] >= top_p:
            break
    n_kept = int((cumulative - ordered < top_p).sum())
    border = ordered[n_kept - 1]
    above, equal = probs > border, probs == border
    return probs.where(above | (equal & (equal.cumsum(0) <= n_kept - above.sum())), 0.0)


def _normal(probs: torch.Tensor) -> torch.Tensor:
    return probs / probs.sum()


def _masked(logits: torch.Tensor, allowed: torch.Tensor | None) -> torch.Tensor:
    raw = logits.float()
    return raw if allowed is None else raw.masked_fill(~allowed, -torch.inf)


def _best(masked: torch.Tensor) -> tuple[float, int]:
    """Value and id of the best logit, the first of equals; `ValueError` where there is none."""
    value, index = masked.max(0)
    value = value.item()
    if value != value:
        raise ValueError("logits must be numbers, got NaN.")
    if value == -torch.inf:
        raise ValueError("allowed must hold at least one id with a finite logit, got none.")
    return value, int(index)
