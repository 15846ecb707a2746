"""Whether a fast scan says what a slow one says, and how much faster it is.

Goes in: a probe. Comes out: yes or no for each fast way; tokens a second side by side; what a token costs as the vocabulary grows. The slow
way here is written anew: one row at a time, no cache, nothing shared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from typing import Any

import torch
from torch import Tensor

from backend.bench.hidden_text_peers import finished, notebook_loop, start_place
from backend.hidden_text.contexts import Frame
from backend.hidden_text.decode import greedy
from backend.hidden_text.ledger import Ledger
from backend.hidden_text.pace import Pace
from backend.hidden_text.probe import Probe
from backend.hidden_text.scan import Level, forced, scan
from backend.hidden_text.vocabulary import read_vocabulary
from backend.models import LoadedModel
from backend.types import RunContext

DEPTH = 12
CLOSE = 1e-3  # nats; what lies closer than this may change places


def same_ranking(probe: Probe, folder: Path, n: int) -> dict[str, bool]:
    """The naive loop's ranking by lift of the first `n` tokens at depth twelve, against the scan's, whole and resumed."""
    ids = torch.tensor(read_vocabulary(probe.tokenizer, probe.width).ids)[:n]
    slow = [naive(probe, int(token)) for token in ids]
    rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    whole = _scanned(probe, ids, folder)
    for chunk in sorted(folder.glob("*.safetensors"))[::2]:
        chunk.unlink()
    return {"cached and batched": agrees(whole, slow), "resumed": agrees(_scanned(probe, ids, folder), slow)}


def _scanned(probe: Probe, ids: Tensor, folder: Path) -> Level:
    context, ledger = RunContext(), Ledger(folder, {"bench": "equal"})
    steps = scan(probe, forced(Frame(probe.tokenizer).start()), ids, DEPTH, ledger, Pace(context, "", len(ids)))
    return finished(steps)[-1]


def naive(probe: Probe, token: int) -> tuple[list[int], float]:
    """One token forced, twelve greedy ones, each from a forward over everything; the text and its mean lift."""
    row = [*Frame(probe.tokenizer).start().ids, token]
    start = len(row)
    with torch.inference_mode():
        for _ in range(DEPTH):
            row.append(int(probe.law(_plain(probe.suspect, row)[-1:])[0].argmax()))
        own, other = probe.law(_plain(probe.suspect, row)), probe.reference_law(_plain(probe.reference, row))
    places = torch.arange(start - 1, len(row) - 1)
    wanted = torch.tensor(row[start:])
    lift = own.float().log_softmax(-1)[places, wanted] - other.float().log_softmax(-1)[places, wanted]
    return row[start:], float(lift.mean())


def _plain(loaded: LoadedModel | None, row: list[int]) -> Tensor:
    assert loaded is not None
    return loaded.model(input_ids=torch.tensor([row]), use_cache=False).logits[0]


def agrees(level: Level, slow: list[tuple[list[int], float]]) -> bool:
    """Same texts, and the same order by lift wherever two lifts can be told apart."""
    assert level.rows.reference is not None
    lifts = (level.rows.logprob - level.rows.reference).mean(1)
    texts = level.rows.ids.tolist() == [text for text, _ in slow]
    true = torch.tensor([lift for _, lift in slow])
    return texts and bool((true[lifts.argsort(descending=True)].diff() <= CLOSE).all())


def speed(probe: Probe, n: int) -> tuple[float, float, float]:
    """The middle of three ratios, each of neighbouring rounds: tokens a second of the batched scan over the published loop's, the same three
    greedy tokens each; then both speeds."""
    ids = torch.tensor(read_vocabulary(probe.tokenizer, probe.width).ids)
    start = Frame(probe.tokenizer).start().ids[0]
    rounds = []
    for number in range(4):
        loop = n / _seconds(lambda: notebook_loop(probe.suspect.model, start, ids[:n].tolist()))
        fast = len(ids) / _seconds(lambda: batched(probe, ids))
        if number:
            rounds.append((fast / loop, loop, fast))
    return sorted(rounds)[len(rounds) // 2]


def batched(probe: Probe, ids: Tensor, depth: int = 3) -> None:
    """Every token forced at the start of a text, `depth` greedy ones behind it."""
    place = start_place(probe)
    for some in ids.split(place.n_rows(1 + depth)):
        finished(greedy(probe, place, some[:, None], depth))


def cost_by_vocabulary(loaded: LoadedModel, rounds: int) -> dict[int, float]:
    """CPU milliseconds a forced token, when a quarter, half and all of the vocabulary is scanned."""
    probe = Probe(loaded, None)
    ids = torch.tensor(read_vocabulary(probe.tokenizer, probe.width).ids)
    sizes = [len(ids) // 4, len(ids) // 2, len(ids)]
    taken: dict[int, list[float]] = {n: [] for n in sizes}
    for _ in range(rounds + 1):
        for n in sizes:
            taken[n].append(1000 * _seconds(lambda: batched(probe, ids[:n]), time.process_time) / n)  # noqa: B023
    return {n: statistics.median(values[1:]) for n, values in taken.items()}


def _seconds(work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    work()
    return clock() - start
