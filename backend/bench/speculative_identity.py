"""Is it still the target's text? Counts of identical texts, p-values of the law, value reads a token.

Goes in: models, seeds. Comes out: bars, figures, rows for whatever diverged. No clock anywhere.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from backend.bench import Bar, reporter
from backend.models import LoadedModel, ModelPool
from backend.paths import assets_dir
from backend.pocket.corpus import held_out
from backend.speculative import law_check
from backend.speculative.generate import generate
from backend.speculative.trace import rounds_of, summarize
from backend.speculative.verdict import lane_figures
from backend.types import Done, Prompt, RunContext, RunRecord, RunRequest, SamplingParams

Parts = tuple[list[Bar], dict[str, Any], list[str]]
DRAWS, QUICK_DRAWS = 20_000, 4_000
P_LAW, P_CANARY = 1e-3, 1e-6
GREEDY_PROMPTS, COUPLED_PROMPTS, TEMPERATURES = 200, 50, (0.7, 1.0)
REPRODUCIBLE_PROMPTS, QUICK_SHARE = 100, 10
FAST_EVERY = 4  # fast mode is only looked at: what would have diverged, and what a token costs there
DRAFTERS: dict[str, dict[str, Any]] = {
    "draft model": {"drafter": "model"}, "draft model, gamma 4": {"drafter": "model", "gamma": 4}, "lookup": {"drafter": "lookup", "gamma": 5},
    "recycling": {"drafter": "recycling", "nodes": 16}, "LLMCad tree": {"drafter": "tree"}, "auto": {"drafter": "auto"},
}  # fmt: skip
WITHOUT_MODEL = ("lookup", "recycling", "auto")
SUBJECTS = ("a lighthouse", "bread", "the moon", "an old bridge", "bees", "a railway station", "glass", "a market town", "snow", "a violin",
            "salt", "a library", "rivers", "a clock", "apples", "a desert", "paper", "a harbour", "chess", "a volcano")  # fmt: skip
TASKS = ("Write three sentences about {}.", "List five facts about {}.", "Write a short poem about {}.",
         "Write a JSON object with the keys name, kind and use that describes {}.", "Explain {} to a child.")  # fmt: skip


def law(quick: bool, seed: int) -> Parts:
    """p-values of the exact joint law, our laws and drafts, then the bugs that it must find, then the library's own."""
    n = QUICK_DRAWS if quick else DRAWS
    found = law_check.run(n, seed)
    ours = {name: p for name, p, canary in found if not canary}
    canaries = {name: p for name, p, canary in found if canary}
    library = law_check.assisted(n // 10, seed)
    bars = [
        Bar(f"law, {n} draws: smallest p of {len(ours)} variants", min(ours.values()), f"> {P_LAW:g}", min(ours.values()) > P_LAW),
        Bar(
            f"law: largest p of {len(canaries)} canaries",
            max(canaries.values()),
            f"< {P_CANARY:g}",
            None if quick else max(canaries.values()) < P_CANARY,
        ),
        Bar("law: the library's assisted sampling, p", library, f"> {P_LAW:g}", library > P_LAW),
    ]
    return bars, {f"law: {name}, p": float(f"{p:.3g}") for name, p, _ in found}, []


def same_texts(pool: ModelPool, quick: bool, seed: int) -> Parts:
    """fp32, the pocket pair: greedy and seed-coupled texts against plain's, the replayed counts, value reads a token."""
    share = QUICK_SHARE if quick else 1
    models = {"target": pool.load("pocket/large"), "draft": pool.load("pocket/small")}
    texts = [item.prompt for item in held_out("problem", GREEDY_PROMPTS // share, seed)]
    greedy = Counted(models, DRAFTERS, texts, SamplingParams(max_new_tokens=128))
    coupled = [Counted(models, DRAFTERS, texts[: COUPLED_PROMPTS // share], SamplingParams(t, max_new_tokens=128, seed=seed)) for t in TEMPERATURES]
    reads = reads_per_token(models, texts[:5])
    pool.close()
    n_greedy, n_coupled = len(texts) * len(DRAFTERS), sum(len(c.texts) for c in coupled) * len(DRAFTERS)
    same = sum(c.same for c in coupled)
    bars = [
        Bar("pocket, fp32 greedy: texts that are plain's", greedy.same, f"{n_greedy} of {n_greedy}", greedy.same == n_greedy),
        Bar("pocket, fp32 seed-coupled: texts that are plain's", same, f"{n_coupled} of {n_coupled}", same == n_coupled),
        Bar("runs whose counts the replay gives again", greedy.replayed, f"{n_greedy} of {n_greedy}", greedy.replayed == n_greedy),
        Bar("most value reads a token (draft model, gamma 4)", reads["draft model, gamma 4"], "≤ 1.2", reads["draft model, gamma 4"] <= 1.2),
    ]
    figures = {f"value reads a token, {name}": round(n, 3) for name, n in reads.items()}
    return bars, figures, [*greedy.rows, *(row for c in coupled for row in c.rows)]


def reproducible(data_dir: Path, quick: bool, seed: int) -> Parts:
    """bf16: every drafter on smollm2 and, with a draft model, on the pocket pair; in reproducible mode nothing may diverge."""
    n = REPRODUCIBLE_PROMPTS // (QUICK_SHARE if quick else 1)
    bars, figures, rows = [], {}, []
    for name, models_, texts, drafters in (
        ("smollm2", {"target": "smollm2"}, [task.format(s) for s in SUBJECTS for task in TASKS], WITHOUT_MODEL),
        ("pocket", {"target": "pocket/large", "draft": "pocket/small"}, [i.prompt for i in held_out("problem", n, seed)], tuple(DRAFTERS)),
    ):
        pool = ModelPool(data_dir, assets_dir(), dtype="bfloat16")
        models = pool.load_all(models_)
        chosen = texts[:: max(1, len(texts) // n)][:n]
        for mode, some in (("reproducible", chosen), ("fast", chosen[::FAST_EVERY])):
            ways = {d: {**DRAFTERS[d], "mode": mode} for d in drafters}
            found = Counted(models, ways, some, SamplingParams(max_new_tokens=96))
            total = len(found.texts) * len(ways)
            if mode == "reproducible":
                bars.append(Bar(f"{name}, bf16 reproducible: divergences", total - found.same, "0", found.same == total))
            else:
                figures[f"{name}, bf16 fast: divergences of {total}"] = total - found.same
                figures[f"{name}, bf16 fast: of these near ties"] = found.near_ties
            figures[f"{name}, bf16 {mode}: ms a token, plain"] = round(found.plain_ms, 2)
            rows += found.rows
        pool.close()
    return bars, figures, rows


class Counted:
    """Every text by plain decoding and by each way; how many are the same, and a row for each that is not."""

    def __init__(
        self, models: Mapping[str, LoadedModel], ways: Mapping[str, Mapping[str, Any]], texts: Sequence[str], sampling: SamplingParams
    ) -> None:
        self.texts, self.same, self.replayed, self.near_ties, self.rows = texts, 0, 0, 0, []
        tell = reporter("prompts", sys.stderr)
        mode = next(iter(ways.values())).get("mode", "fast")
        plain_ms = []
        for i, text in enumerate(texts):
            plain = record(models, text, sampling, {"drafter": "none", "mode": mode})
            plain_ms.append(plain.stats["ms_per_token"] or 0.0)
            for name, options in ways.items():
                self._count(record(models, text, sampling, options), plain, f"prompt {i}, {name}, {mode}, T {sampling.temperature:g}")
            tell(i + 1, len(texts), mode)
        self.plain_ms = sum(plain_ms) / len(plain_ms)

    def _count(self, own: RunRecord, plain: RunRecord, where: str) -> None:
        figures = lane_figures(own, plain)
        self.same += figures["identical"] is True
        counts = summarize(rounds_of(own.events()))
        self.replayed += all(own.stats[name] == value for name, value in counts.items())
        if figures["identical"] is not True:
            first = figures["first_divergence"]
            self.near_ties += first["cause"] == "near tie"
            margins = [first[side].get("margin") for side in ("here", "plain")]
            self.rows.append(f"{where}: leaves plain at token {first['position']}, margins {margins}, noise {first['noise']}: {first['cause']}")


def record(models: Mapping[str, LoadedModel], text: str, sampling: SamplingParams, options: Mapping[str, Any]) -> RunRecord:
    """One run as it would be stored."""
    request = RunRequest("speculative", Prompt.user(text), {}, sampling, options)
    lines = tuple(event.to_line() for event in generate(request, RunContext(), models))
    return RunRecord("", request, "completed", stats=json.loads(lines[-1])["stats"], lines=lines)


class Reads(TorchDispatchMode):
    """Counts the host's reads of single values; whole tensors are counted by `Tensor.tolist`."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def reads_per_token(models: Mapping[str, LoadedModel], texts: Sequence[str]) -> dict[str, float]:
    """Of each drafter: copies from device to host a token, single values and whole tensors alike."""
    found = {}
    for name, options in {"plain": {"drafter": "none"}, **DRAFTERS}.items():
        reads, n_tokens = 0, 0
        for text in texts:
            with Reads() as single, counted_lists() as lists:
                done = next(e for e in _events(models, text, options) if isinstance(e, Done))
            reads, n_tokens = reads + single.n + lists[0], n_tokens + done.stats["n_tokens"]
        found[name] = reads / n_tokens
    return found


def _events(models: Mapping[str, LoadedModel], text: str, options: Mapping[str, Any]) -> Iterator[Any]:
    return generate(RunRequest("speculative", Prompt.user(text), {}, SamplingParams(max_new_tokens=96), options), RunContext(), models)


class counted_lists:
    """Counts `Tensor.tolist` and `Tensor.cpu` while inside."""

    def __enter__(self) -> list[int]:
        self._before, count = (torch.Tensor.tolist, torch.Tensor.cpu), [0]

        def counting(method: Any) -> Any:
            def call(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
                count[0] += 1
                return method(tensor, *args, **kwargs)

            return call

        torch.Tensor.tolist, torch.Tensor.cpu = map(counting, self._before)
        return count

    def __exit__(self, *error: object) -> None:
        torch.Tensor.tolist, torch.Tensor.cpu = self._before
