"""The bench of the pocket pair: what it knows, how far it agrees, what a step costs, how much room it takes.

Goes in: the shipped models `pocket/large` and `pocket/small`. Comes out: the bars of their making, on items that nothing was tuned on.
Everything in fp32; the step costs are CPU times of one thread, measured in turn, so that the ratio is of one run.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from backend.bench import Bar, Report, at_most, reporter
from backend.decoder import Decoder, ForwardCall
from backend.model_files import folder_bytes, read_json
from backend.models import LoadedModel, ModelPool
from backend.paths import assets_dir
from backend.pocket.card import rows
from backend.pocket.corpus import held_out
from backend.pocket.evaluate import MAX_NEW_TOKENS, N_ITEMS, Evaluation, ask, evaluate
from backend.pocket.train import TRAINING

LARGE, SMALL = "pocket/large", "pocket/small"
SEED = 2  # not evaluate.SEED, which mix and rates were tuned on
QUICK_ITEMS = 100
IDENTICAL, QUICK_IDENTICAL = 50, 10
CONTEXT, STEPS, ROUNDS = 150, 20, 9
MEGABYTES, MINUTES = 12, 75


def run(quick: bool, data_dir: Path, seed: int = SEED) -> Report:
    """Evaluate both, then texts three ways, step costs and sizes."""
    n = QUICK_ITEMS if quick else N_ITEMS
    pool = ModelPool(data_dir, assets_dir(), dtype="float32")
    try:
        loaded = pool.load_all({"large": LARGE, "small": SMALL})
        large = evaluate(pool, LARGE, n, seed, SMALL, reporter("items", sys.stderr))
        small = evaluate(pool, SMALL, n, seed, None, reporter("items", sys.stderr))
        texts = three_ways(loaded["large"], QUICK_IDENTICAL if quick else IDENTICAL, seed)
        costs = step_costs(loaded["large"], loaded["small"])
        step = at_most("step of small / step of large", costs.ratio, 0.3)
        bars = [*ability_bars(large, small), identity_bar(texts), step, *_making_bars()]
        return Report(bars, figures(large, small, costs), str(loaded["large"].device), _rows(large, small))
    finally:
        pool.close()


def ability_bars(large: Evaluation, small: Evaluation) -> list[Bar]:
    """Right answers, exact records, agreement, in per cent."""
    return [
        within("large: problems of 1–4 steps right", large.problems.value, 92, 100),
        within("large: records exact", large.records.value, 95, 100),
        within("small: problems of 1–4 steps right", small.problems.value, 20, 45),
        within("the pair agrees on large's tokens", large.agreement.value if large.agreement else None, 85, 93),
    ]


def within(name: str, share: float | None, low: float, high: float) -> Bar:
    """A bar that holds when a share lies between two percentages."""
    words = f"≥ {low:g} %" if high == 100 else f"{low:g}–{high:g} %"
    percent = None if share is None else 100 * share
    return Bar(name, percent, words, None if percent is None else low <= percent <= high)


def _making_bars() -> list[Bar]:
    """Room on disk, and the minutes that training noted down (this bench does not train)."""
    root = assets_dir() / "models" / "pocket"
    minutes = [read_json(root / name / TRAINING).get("minutes") for name in ("large", "small")]
    longest = None if None in minutes else max(minutes)
    size = at_most("assets/models/pocket", folder_bytes(root) / 1e6, MEGABYTES, " MB")
    return [size, at_most("made in, as noted", longest, MINUTES, " min")]


# The same text three ways --------------------------------------------------------------------------------------------------------------


def three_ways(loaded: LoadedModel, n: int, seed: int) -> list[tuple[list[int], list[int], list[int]]]:
    """The greedy ids of the first problems through `batch`, `Decoder` and the library's `generate`."""
    answers = ask(loaded, held_out("problem", n, seed))
    return [(a.ids, through_decoder(loaded, a.prompt_ids), through_library(loaded, a.prompt_ids)) for a in answers]


def through_decoder(loaded: LoadedModel, prompt_ids: Sequence[int]) -> list[int]:
    decoder, ids, said = Decoder(loaded.model, loaded.id), list(prompt_ids), []
    while len(said) < MAX_NEW_TOKENS and not (said and said[-1] in loaded.stop_ids):
        said.append(int(decoder.logits(ids + said)[-1].argmax()))
    return said


def through_library(loaded: LoadedModel, prompt_ids: Sequence[int]) -> list[int]:
    block = torch.tensor([list(prompt_ids)], device=loaded.device)
    options = {"do_sample": False, "max_new_tokens": MAX_NEW_TOKENS, "eos_token_id": list(loaded.stop_ids), "pad_token_id": 0}
    with torch.inference_mode():
        return loaded.model.generate(block, attention_mask=torch.ones_like(block), **options)[0, len(prompt_ids) :].tolist()


def identity_bar(texts: Sequence[tuple[list[int], list[int], list[int]]]) -> Bar:
    same = sum(batched == decoded == library for batched, decoded, library in texts)
    return Bar("same text by batch, Decoder, generate", same, f"{len(texts)} of {len(texts)}", same == len(texts))


# What a step costs -----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Costs:
    """CPU milliseconds of one step, and the median of the ratios of neighbouring rounds."""

    large_ms: float
    small_ms: float
    ratio: float


def step_costs(large: LoadedModel, small: LoadedModel, rounds: int = ROUNDS, steps: int = STEPS) -> Costs:
    """One-token steps behind a context of 150 tokens, in turn; the first round only warms up."""
    pairs = []
    with one_thread():
        for number in range(rounds + 1):
            order = (large, small) if number % 2 else (small, large)
            times = {id(model): step_ms(model, steps) for model in order}
            pairs.append((times[id(large)], times[id(small)]))
    pairs = pairs[1:]
    large_ms, small_ms = (statistics.median(column) for column in zip(*pairs, strict=True))
    return Costs(large_ms, small_ms, statistics.median(b / a for a, b in pairs))


def step_ms(loaded: LoadedModel, steps: int) -> float:
    """CPU time of one forward over one token, the library's own forward with its own cache."""
    call = ForwardCall(loaded.model, loaded.id)
    cache, ids = call.new_cache(), torch.arange(CONTEXT, device=loaded.device)[None] % loaded.vocab_size
    call.rows(ids, cache, 1)
    start = time.process_time()
    for _ in range(steps):
        call.rows(ids[:, :1], cache, 1)
    return (time.process_time() - start) * 1000 / steps


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# Telling --------------------------------------------------------------------------------------------------------------------------------


def figures(large: Evaluation, small: Evaluation, costs: Costs) -> dict[str, float | int | str | None]:
    """The counts behind the bars."""
    found: dict[str, float | int | str | None] = {"items a skill": large.n_items, "seed": large.seed}
    for name, result in (("large", large), ("small", small)):
        found |= {f"{name}: problems, steps {steps}, share right": share.value for steps, share in result.by_steps.items()}
        found[f"{name}: records, share exact"] = result.records.value
        found |= {f"{name}: perplexity, {skill}": p.value for skill, p in result.perplexity.items()}
        found[f"{name}: weights"] = result.hash[:12]
    return {**found, "large: step, CPU ms": costs.large_ms, "small: step, CPU ms": costs.small_ms}


def _rows(large: Evaluation, small: Evaluation) -> list[str]:
    """Each share with its interval."""
    return [
        f"{result.model:<14} {row['figure']:<34} {row['value']:>8}  {row['95 %']:>12}  of {row['of']}"
        for result in (large, small)
        for row in rows(result)
    ]
