"""How likely a model finds known answers, token by token: what the likelihood indicators are made of.

Goes in: one model, encoded items. Comes out: one `Scores` an item, in the order given. Teacher-forced, many items in one forward, padded on the
right where no answer looks. Yields between forwards, never inside one. Knows nothing of sets, leaks or verdicts.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass

import torch

from backend.contamination.items import Encoded
from backend.models import LoadedModel

MOST_LOGITS = 25_000_000  # floats of one forward's logits: 100 MB, and well under two seconds
MOST_TOKENS = 4096  # of one forward
SMALLEST_VARIANCE = 1e-10


@dataclass(frozen=True)
class Scores:
    """Of one answer under one model. `ll` mean log-probability in nats a token; `min_k` the mean of the least likely share of tokens; `min_k_pp`
    the same of log-probabilities standardized by the law they were drawn from (Zhang et al. 2024); `zlib` nats a compressed byte."""

    ll: float
    min_k: float
    min_k_pp: float
    zlib: float


def forced(loaded: LoadedModel, items: Sequence[Encoded], k: float) -> Generator[int, None, list[Scores]]:
    """Scores of each answer behind its question; yields how many items each forward took. `k` is the share that Min-K keeps."""
    found: dict[int, Scores] = {}
    for chunk in chunks([len(e.prompt_ids) + len(e.answer_ids) for e in items], loaded.vocab_size):
        found |= dict(zip(chunk, _scores(loaded, [items[i] for i in chunk], k), strict=True))
        yield len(chunk)
    return [found[i] for i in range(len(items))]


def chunks(lengths: Sequence[int], vocab_size: int) -> Iterator[list[int]]:
    """Indices of rows of like length that fit one forward together."""
    order, chunk = sorted(range(len(lengths)), key=lengths.__getitem__), []
    for i in order:
        tokens = (len(chunk) + 1) * lengths[i]  # rows come in order of length, so this one is the longest
        if chunk and (tokens > MOST_TOKENS or tokens * vocab_size > MOST_LOGITS):
            yield chunk
            chunk = []
        chunk.append(i)
    if chunk:
        yield chunk


def _scores(loaded: LoadedModel, items: Sequence[Encoded], k: float) -> list[Scores]:
    rows = [[*item.prompt_ids, *item.answer_ids] for item in items]
    width = max(map(len, rows))
    block = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=loaded.device)
    with torch.inference_mode():
        logits = loaded.model(input_ids=block, use_cache=False).logits  # (n, width, V)
        found = []
        for item, row in zip(items, logits, strict=True):
            start = len(item.prompt_ids) - 1
            said = torch.tensor(item.answer_ids, device=loaded.device)
            found.append(score(row[start : start + len(said)].float(), said, item.item.answer, k))
    return found


def score(logits: torch.Tensor, said: torch.Tensor, text: str, k: float) -> Scores:
    """Of one answer: `logits` (T, V) float32 before each token, `said` (T,) ids, the answer's text, the share that Min-K keeps."""
    law = logits.log_softmax(-1)
    logprobs = law.gather(-1, said[:, None])[:, 0]  # (T,)
    mean = (law.exp() * law.clamp(min=-1e4)).sum(-1)  # a law may hold -inf, whose share is nothing
    variance = (law.exp() * law.clamp(min=-1e4).square()).sum(-1) - mean.square()
    standard = (logprobs - mean) / variance.clamp(min=SMALLEST_VARIANCE).sqrt()
    kept = max(1, math.ceil(k * len(said)))
    ll = logprobs.mean().item()
    return Scores(ll, lowest(logprobs, kept), lowest(standard, kept), ll / len(zlib.compress(text.encode())))


def lowest(values: torch.Tensor, n: int) -> float:
    return values.topk(n, largest=False).values.mean().item()


def to_json(scores: Sequence[Scores]) -> list[dict[str, float]]:
    return [asdict(score) for score in scores]


def from_json(data: Sequence[dict[str, float]]) -> list[Scores]:
    return [Scores(**row) for row in data]
