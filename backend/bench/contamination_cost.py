"""What search and patched decoding cost: seconds, tokens, and ratios of one run in turn.

Goes in: loaded models, items. Comes out: plain figures. One thread, CPU time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from backend.bench.peers import untouched
from backend.bench.pocket import one_thread
from backend.contamination.identity import Identity, check_identity
from backend.contamination.items import Encoded
from backend.contamination.lockstep import lockstep
from backend.contamination.neurons import Neurons, random_neurons
from backend.contamination.search import Ranked, SearchOptions, search
from backend.contamination.taps import sites_of
from backend.models import LoadedModel
from backend.prompt import render
from backend.resources import Resources
from backend.types import Prompt

TEXTS = ("Write one sentence about rivers.", "List three fruits.", "What is a lighthouse for?", "Say something about snow in the mountains.")
NEW_TOKENS, ROUNDS, QUICK_ROUNDS = 48, 7, 3
K = 4608  # a tenth of smollm2's neurons


def drained(steps: Generator[Any, None, Any]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def searched(models: dict[str, LoadedModel], leaked: Sequence[Encoded], clean: Sequence[Encoded], options: SearchOptions) -> tuple[Ranked, float]:
    """A search and the CPU seconds it took, on one thread."""
    with one_thread():
        start = time.process_time()
        steps = search(models["suspect"], models["base"], models.get("twin"), leaked, options, clean, models["suspect"].stop_ids)
        ranked = drained(steps)
        return ranked, time.process_time() - start


def same_neurons(models: dict[str, LoadedModel], leaked: Sequence[Encoded], clean: Sequence[Encoded], k: int) -> bool:
    """Whether two searches with the same options give the same list, by its hash."""
    hashes = {searched(models, leaked, clean, SearchOptions(steps=4))[0].top(k).hash for _ in range(2)}
    return len(hashes) == 1


def lockstep_ratio(loaded: LoadedModel, rounds: int) -> float:
    """Time a token of patched decoding over that of plain decoding, the median of rounds in turn. The source is the model itself, whose values
    cost as much to read and to write as another's."""
    prompts = [render(Prompt.user(text), loaded.tokenizer).ids for text in TEXTS]
    some, nobody = random_neurons(sites_of(loaded), min(K, sites_of(loaded).n_neurons), 0), Neurons({})
    ways: list[Callable[[], Any]] = [
        lambda: lockstep(loaded, None, prompts, nobody, NEW_TOKENS, ()),
        lambda: lockstep(loaded, loaded, prompts, some, NEW_TOKENS, ()),
    ]
    ratios = []
    with one_thread():
        for number in range(rounds + 1):
            times = {i: _timed(ways[i]) for i in ((0, 1) if number % 2 else (1, 0))}
            ratios.append(times[1] / times[0])
    return statistics.median(ratios[1:])  # the first round warms up


def _timed(way: Callable[[], Any]) -> float:
    start = time.process_time()
    way()
    return time.process_time() - start


def identity_of(suspect: LoadedModel, source: LoadedModel, prompts: Sequence[Sequence[int]]) -> Identity:
    """All neurons and a random half of them, prefill and 32 cached steps."""
    sites = sites_of(suspect)
    return drained(check_identity(suspect, source, prompts, random_neurons(sites, sites.n_neurons // 2, 0)))


def shaken(loaded: LoadedModel, data_dir: Path) -> LoadedModel:
    """The same model, loaded again, with every weight of its neurons moved a little: a foreign source of the same shape."""
    model, generator = untouched(loaded, data_dir), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in model.model.layers:
            weight = layer.mlp.gate_proj.weight
            weight.mul_(1 + 0.05 * torch.randn(weight.shape, generator=generator).to(weight))
    return replace(loaded, id=f"{loaded.id}, shaken", hash=f"{loaded.hash}-shaken", model=model, resources=Resources())


def told(identity: Identity, name: str) -> str:
    facts = asdict(identity)
    return f"{name:<40} own equal {facts['own_equal']}, foreign moves logits by {facts['foreign_difference']:.3g}, {facts['dtype']}"


def hooks_left(loaded: LoadedModel) -> int:
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in loaded.model.modules())
