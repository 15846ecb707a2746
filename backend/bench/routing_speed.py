"""How fast routed decoding is in one stream: bookkeeping, measured against predicted speed-up, and a pair as far apart as 1.5B and 32B.

Goes in: loaded pairs. Comes out: figures in CPU milliseconds of one thread, taken in turn, so that every ratio is of one run. Knows nothing of
accuracy.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from backend.decoder import Decoder
from backend.fast_forward import group_query_heads, pack_weights
from backend.models import LoadedModel
from backend.pairs import PairReport, check_pair
from backend.resources import Resources
from backend.routing.costs import measure
from backend.routing.generate import generate
from backend.routing.router import Router, typical_scores
from backend.types import Done, Prompt, RunContext, RunRequest, SamplingParams, Token

CONTEXT = RunContext(clock=time.process_time)
FORCED, RATIO = 0.13, (0.045, 0.07)
FIRST_LAYERS, TRIES = 8, 5


@dataclass(frozen=True)
class Lane:
    """What came of some answers: ids, who said them, and the stats of each."""

    ids: list[list[int]]
    sources: list[list[str]]
    stats: list[Mapping[str, Any]]

    @property
    def ms_per_token(self) -> float:
        """Over all tokens but the first of each answer."""
        steps = [(s["ms_per_token"], s["n_tokens"] - 1) for s in self.stats if s["ms_per_token"]]
        return sum(ms * n for ms, n in steps) / sum(n for _, n in steps)

    @property
    def share(self) -> float:
        return sum(s["large_tokens"] for s in self.stats) / sum(s["n_tokens"] for s in self.stats)


@dataclass(frozen=True)
class Bench:
    """A pair ready to be run: its handles, what they have in common, a router if there is one, what the large model's forwards cost."""

    models: Mapping[str, LoadedModel]
    report: PairReport
    router: Router | None
    n_tokens: int = 160

    def lane(self, prompts: Sequence[str], temperature: float = 0.0, seed: int = 0, **options: Any) -> Lane:
        """One answer a prompt, one after another. Opinions are left out: nobody waits for them."""
        sampling = SamplingParams(temperature=temperature, max_new_tokens=self.n_tokens, seed=seed)
        found = Lane([], [], [])
        for text in prompts:
            request = RunRequest("routing", Prompt.user(text), {}, sampling, {"opinions": False, **options})
            typical = typical_scores(self.router.card, options["strategy"]) if self.router is not None and options.get("target_fraction") else ()
            events = list(generate(request, CONTEXT, self.models, self.report, self.router, self.costs, typical))
            done = events[-1]
            assert isinstance(done, Done)
            tokens = [e for e in events if isinstance(e, Token)]
            found.ids.append([t.id for t in tokens])
            found.sources.append([t.source for t in tokens])
            found.stats.append(done.stats)
        return found

    @property
    def costs(self) -> Any:
        """Of the large model's forwards, in CPU time, measured once a bench (not the ones that runs keep, which are wall time)."""
        large = self.models["large"]
        ids = list(range(100, 200))
        return large.resources.get("bench: CPU cost of forwards", lambda: measure(large, ids, time.process_time))


def pair_bench(small: LoadedModel, large: LoadedModel, router: Router | None, n_tokens: int = 160) -> Bench:
    return Bench({"small": small, "large": large}, check_pair(small, large), router, n_tokens)


def speedup(bench: Bench, prompts: Sequence[str], rounds: int, **options: Any) -> dict[str, float]:
    """Routed against the large model alone, in turn: median speed-up, the formula's median, their median ratio, share, its spread."""
    measured, kept, shares = [], [], []
    for number in range(rounds + 1):  # the first round warms up
        lanes = {}
        for name in ("routed", "always") if number % 2 else ("always", "routed"):
            lanes[name] = bench.lane(prompts, **({"strategy": "always"} if name == "always" else options))
        if number:
            ratio = lanes["always"].ms_per_token / lanes["routed"].ms_per_token
            predicted = statistics.fmean(s["predicted_speedup"] for s in lanes["routed"].stats if s["predicted_speedup"])
            measured.append(ratio)
            kept.append((predicted, ratio / predicted))
            shares.append(lanes["routed"].share)
    return {
        "measured": statistics.median(measured), "low": min(measured), "high": max(measured), "share": statistics.fmean(shares),
        "predicted": statistics.median(p for p, _ in kept), "measured / predicted": statistics.median(r for _, r in kept),
    }  # fmt: skip


def library_ms(loaded: LoadedModel, prompt_ids: Sequence[Sequence[int]], n_tokens: int) -> float:
    """CPU milliseconds a token of the library's own `generate`, prompt included: the large model as everybody runs it."""
    start, n = time.process_time(), 0
    for ids in prompt_ids:
        block = torch.tensor([list(ids)], device=loaded.device)
        options = {"do_sample": False, "max_new_tokens": n_tokens, "eos_token_id": list(loaded.stop_ids) or None, "pad_token_id": 0}
        with torch.inference_mode():
            n += loaded.model.generate(block, attention_mask=torch.ones_like(block), **options).shape[1] - len(ids)
    return (time.process_time() - start) * 1000 / n


def overhead_ms(bench: Bench, prompts: Sequence[str], prompt_ids: Sequence[Sequence[int]], rounds: int) -> tuple[float, float, float]:
    """CPU milliseconds that a routed step takes beyond the small model's own forward, that forward, and how much of what is beyond the
    lane of the small model alone has too (telling tokens and text); medians over rounds.

    The routed lane never asks the large model (threshold 1): what is left beside the forward is scoring, choosing and telling."""
    beyond, bare, told = [], [], []
    for number in range(rounds + 1):
        lane = bench.lane(prompts, strategy="neural", threshold=1.0)
        forward = _bare_ms(bench.models["small"], list(zip(prompt_ids, lane.ids, strict=True)))
        alone = bench.lane(prompts, strategy="never")
        if number:
            told.append(alone.ms_per_token - forward)
            bare.append(forward)
            beyond.append(lane.ms_per_token - forward)
    return statistics.median(beyond), statistics.median(bare), statistics.median(told)


def _bare_ms(small: LoadedModel, texts: Sequence[tuple[Sequence[int], list[int]]]) -> float:
    """The same forwards through the decoder alone, hidden states with them."""
    total, n = 0.0, 0
    for prompt, answer in texts:
        decoder, seq = Decoder(small.model, small.id), list(prompt)
        decoder.logits_and_hidden(seq)
        start = time.process_time()
        for token_id in answer[:-1]:
            seq.append(token_id)
            decoder.logits_and_hidden(seq)[0].argmax().item()
        total, n = total + time.process_time() - start, n + len(answer) - 1
    return total * 1000 / max(n, 1)


# A pair as far apart as 1.5B and 32B ------------------------------------------------------------------------------------------------------


def far_pair(like: LoadedModel, dtype: torch.dtype, seed: int = 0) -> tuple[Bench, float]:
    """Random weights, the large model as deep as it takes for the step-time ratio to lie within `RATIO`; the pair and its ratio.

    The tokenizer is `like`'s; nothing stops an answer, so all have the same length."""
    small, n_layers, wanted = handle(like, config(128, 2), dtype, seed, "random/small"), FIRST_LAYERS, math.sqrt(RATIO[0] * RATIO[1])
    for _ in range(TRIES):
        large = handle(like, config(768, n_layers), dtype, seed + 1, f"random/{n_layers} layers")
        bench = pair_bench(small, large, None, n_tokens=128)
        ratio = measure(small, list(range(100, 200)), time.process_time).forward_ms(1) / bench.costs.forward_ms(1)
        if RATIO[0] <= ratio <= RATIO[1]:
            break
        n_layers = max(1, round(n_layers * ratio / wanted))
    return bench, ratio


def config(width: int, n_layers: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=1024, hidden_size=width, intermediate_size=width * 8 // 3, num_hidden_layers=n_layers, num_attention_heads=width // 64,
        num_key_value_heads=width // 64, max_position_embeddings=512, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip


def handle(like: LoadedModel, shape: LlamaConfig, dtype: torch.dtype, seed: int, name: str) -> LoadedModel:
    """A model with chance weights in the place of `like`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(shape).to(dtype).eval()
    if dtype == torch.bfloat16 and pack_weights(model):
        group_query_heads(model)
    return replace(like, id=name, hash=f"{name} {seed}", model=model, dtype=dtype, stop_ids=(), resources=Resources())


def in_one_thread(work: Callable[[], Any]) -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return work()
    finally:
        torch.set_num_threads(threads)
