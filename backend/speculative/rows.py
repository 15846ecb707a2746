"""Facts about many rows of logits at once: the best ids, how far ahead the first is, how likely some ids are.

Goes in: logits `(n, V)` float32 on any device, one row for each node of a verified draft. Comes out: tensors, or frozen host-side facts that
crossed from the device in one copy. Knows nothing of laws, models or texts. Where values are equal the lowest id comes first, always.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from backend.speculative.draft import Draft

CHUNK, SMALL_CHUNK = 128, 32  # amax over chunks is the cheapest pass: 5 µs over 49,152 ids, where argmax takes 42 and topk 82
SMALL = 8192  # ids; up to here the smaller chunks
TOGETHER = 100_000  # numbers, see `apart`
TINY = 512  # up to here one pass of keys is cheaper than two


@dataclass(frozen=True)
class Facts:
    """What the host knows of a verified draft of k nodes after one copy. Of each node: `ids`, the drafter's `confidence`, `logprob` under
    the raw law after its parent. Of each of the k + 1 rows: `best` id, its `best_logprob`, `value` of its logit and `margin`, the distance
    to the second. Logprobs in nats at temperature 1. `more`: the numbers that were asked for along with them."""

    ids: tuple[int, ...]
    confidence: tuple[float | None, ...]
    logprob: tuple[float, ...]
    best: tuple[int, ...]
    best_logprob: tuple[float, ...]
    value: tuple[float, ...]
    margin: tuple[float, ...]
    more: tuple[tuple[float, ...], ...]


def read(rows: torch.Tensor, draft: Draft, *more: torch.Tensor) -> Facts:
    """All facts in one device-to-host copy. `rows` `(k + 1, V)` raw logits, row i + 1 after node i; `more` are 1-dim tensors that travel along.

    Raises `ValueError` if there is not one row for each node and one more, or if a logit is not a number.
    """
    k, n = len(draft), len(rows)
    if n != k + 1:
        raise ValueError(f"rows must be one more than the draft's nodes ({k + 1}), got {n}.")
    best, first, second = leaders(rows)
    parts = [best[:, 0], log_of_best(rows, best), first, second]
    if k:
        parts += [draft.tokens, of_nodes(rows, draft)]
        parts += [draft.confidence] if draft.confidence is not None else []
    host = iter(_fetch(parts + list(more)))
    best_ids, best_logprobs, firsts, seconds = (next(host) for _ in range(4))
    if any(logprob != logprob for logprob in best_logprobs):
        raise ValueError("logits must be numbers with at least one finite one a row, got NaN or nothing.")
    ids, values = (next(host), next(host)) if k else ((), ())
    confidence = next(host) if k and draft.confidence is not None else (None,) * k
    above = [parent + 1 for parent in draft.parents]
    logprob = tuple(value - firsts[row] + best_logprobs[row] for value, row in zip(values, above, strict=True))
    margin = tuple(a - b for a, b in zip(firsts, seconds, strict=True))
    return Facts(_whole(ids), confidence, logprob, _whole(best_ids), best_logprobs, firsts, margin, tuple(host))


def apart(rows: torch.Tensor) -> bool:
    """Whether a pass that writes as much as it reads should take these rows one by one: a fresh block of many megabytes costs the CPU more
    than the calls do (33 rows of 49,152: 3.6 ms together, 1.0 apart)."""
    return rows.device.type == "cpu" and rows.numel() > TOGETHER


def log_of_best(rows: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
    """`(n,)`: the logprob of each row's best id, `best` `(n, 1)`; log_softmax takes half of logsumexp's time."""
    if apart(rows):
        return torch.cat([row.log_softmax(0).gather(0, its) for row, its in zip(rows, best, strict=True)])
    return rows.log_softmax(1).gather(1, best)[:, 0]


def of_nodes(rows: torch.Tensor, draft: Draft) -> torch.Tensor:
    """`(k,)`: of each node the entry of its own id in its parent's row; `rows` `(k + 1, V)`."""
    if draft.is_chain:
        return rows[:-1].gather(1, draft.tokens[:, None])[:, 0]
    above = torch.tensor([parent + 1 for parent in draft.parents], device=rows.device)
    return rows[above, draft.tokens]


def leaders(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The best id `(n, 1)`, its value `(n,)` and the second best value `(n,)` (-inf where there is one id); equals by lowest id, no checks."""
    size = rows.shape[1]
    if size > SMALL:
        values, ids = ranked(rows, 2)
        return ids[:, :1], values[:, 0], values[:, 1]
    first, best = rows.max(1, keepdim=True)
    second = rows.topk(2).values[:, 1] if size > 1 else torch.full_like(first[:, 0], -torch.inf)
    return best, first[:, 0], second


def step_facts(row: torch.Tensor) -> tuple[int, float, float, float]:
    """Of one row `(V,)`: the best id (the lowest of equals), its logit, the second best logit, the logsumexp; one copy.

    Raises `ValueError` if a logit is not a number or none is finite.
    """
    best = row.argmax(0, keepdim=True)
    values = row.topk(min(2, len(row))).values
    token, first, second, total = torch.cat(
        [best.double(), values[:1].double(), values[-1:].double(), row.logsumexp(0, keepdim=True).double()]
    ).tolist()
    if total != total or total == -torch.inf:
        raise ValueError("logits must be numbers with at least one finite one a row, got NaN or nothing.")
    return int(token), first, second, total


def top_k(rows: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best of each row, `(n, k)` values and int64 ids, best first, equals by lowest id. Exact.

    Raises `ValueError` unless `1 <= k <= V`, or if a logit is not a number.
    """
    if not 1 <= k <= rows.shape[1]:
        raise ValueError(f"k must be between 1 and the number of ids ({rows.shape[1]}), got {k}.")
    values, ids = ranked(rows, k)
    # a NaN anywhere spoils the maximum of its row, so the copy is one number
    if bool(rows.amax(1).isnan().any()):
        raise ValueError("logits must be numbers, got NaN.")
    return values, ids


def ranked(rows: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`top_k` without checks, hence without a copy to the host: all ids where k exceeds them, anything where a logit is not a number."""
    n, size = rows.shape
    chunk = CHUNK if size > SMALL else SMALL_CHUNK
    if size <= TINY or k * chunk * 2 > size:
        return _by_key(rows, torch.arange(size, device=rows.device).expand(n, size), k)
    chunks = _best_chunks(rows, k, chunk)  # (n, k): the k chunks with the highest peaks hold the k best ids
    ids = (chunks[:, :, None] * chunk + torch.arange(chunk, device=rows.device)).flatten(1)  # (n, k * chunk)
    if size % chunk == 0:
        return _by_key(rows.gather(1, ids), ids, k)
    values = rows.gather(1, ids.clamp(max=size - 1))
    return _by_key(values.masked_fill(ids >= size, -torch.inf), ids, k)  # ids past the end come last, even among -inf


def _best_chunks(rows: torch.Tensor, k: int, chunk: int) -> torch.Tensor:
    """The numbers of the k chunks whose greatest value is greatest, `(n, k)`; of equal ones the first."""
    size = rows.shape[1]
    whole = size // chunk
    peaks = rows[:, : whole * chunk].unflatten(1, (whole, chunk)).amax(2)  # (n, whole)
    if size % chunk:
        peaks = torch.cat([peaks, rows[:, whole * chunk :].amax(1, keepdim=True)], dim=1)
    return _by_key(peaks, torch.arange(peaks.shape[1], device=rows.device).expand_as(peaks), k)[1]


def _by_key(values: torch.Tensor, ids: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best (value, lowest id) pairs of each row. `torch.topk` leaves the order of equals open, so it ranks one whole number made
    of both: the float's bits, turned to the order of its values, above; the id, counted downwards, below."""
    bits = (values + 0.0).view(torch.int32).long()  # + 0.0: of the two zeros one
    keys = ((bits ^ ((bits >> 31) & 0x7FFFFFFF)) << 32) - ids
    index = keys.topk(min(k, keys.shape[1])).indices
    return values.gather(1, index), ids.gather(1, index)


def _fetch(parts: list[torch.Tensor]) -> list[tuple[float, ...]]:
    """Several 1-dim tensors in one copy; they meet as float32, which holds every id below 16 million exactly."""
    flat = torch.cat(parts).tolist()
    found, end = [], 0
    for part in parts:
        found.append(tuple(flat[end : end + len(part)]))
        end += len(part)
    return found


def _whole(numbers: tuple[float, ...]) -> tuple[int, ...]:
    return tuple(map(int, numbers))
