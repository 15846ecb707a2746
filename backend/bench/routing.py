"""The bench of routing: is it exact, does the router find what matters, how few large tokens are enough, and what does it save?

Goes in: the shipped pair and its router, problems that neither was made from. Comes out: the bars of the issue. Exactness and speed are of one
stream, fp32, CPU time of one thread, in turn; accuracy comes from the sweep's rows in step. `quick` takes fewer problems and leaves out what
takes the whole ten minutes (labels, training and sweep from nothing).
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from backend import artifacts
from backend.bench import Bar, Progress, Report, at_most
from backend.bench.routing_speed import RATIO, Bench, far_pair, in_one_thread, library_ms, overhead_ms, pair_bench, speedup
from backend.errors import InvalidRequest, WorkbenchError
from backend.models import LoadedModel, ModelPool
from backend.paths import assets_dir
from backend.routing import labels, sweep, train
from backend.routing.features import join, spread_free
from backend.routing.fit import apply
from backend.routing.judged import figures
from backend.routing.labelling import DIVERGENT, UNGRADED, Pair, Rule, label
from backend.routing.lockstep import Arm, route
from backend.routing.router import Router, spoils
from backend.routing.tasks import pocket_problems
from backend.types import Artifact, Done, Event, Finding, RunContext

SMALL, LARGE, ROUTER = "pocket/small", "pocket/large", "shipped/pocket"
SEED = 4  # labels were made from seed 2, choices from seed 1
ITEMS, QUICK_ITEMS = 600, 200
EXACT, QUICK_EXACT = 50, 10
ROUNDS, QUICK_ROUNDS = 9, 7
SPEED_PROMPTS = 6
TARGETS = (0.05, 0.13, 0.3)


def run(quick: bool, data_dir: Path, seed: int = SEED, part: str | None = None) -> Report:
    """All bars, or those of one part; raises `InvalidRequest` for a part there is none of, `WorkbenchError` where the router is missing."""
    parts = {p.__name__: p for p in (exact, judged, swept, controlled, fast, from_nothing)}
    if part is not None and part not in parts:
        raise InvalidRequest(f"part must be one of {', '.join(parts)}, got {part!r}.", "part")
    pool = ModelPool(data_dir, assets_dir(), dtype="float32")
    try:
        models = pool.load_all({"small": SMALL, "large": LARGE})
        router = Router.load(artifacts.resolve(data_dir, ROUTER, "router"))
        router.check_pair(models["small"], models["large"])
        bars, told = [], {"router labelled on": router.card["labels"]["n_prompts"], "seed": seed}
        for name, measure in parts.items():
            if part not in (None, name):
                continue
            found, more = in_one_thread(lambda measure=measure: measure(models, router, quick, seed))
            bars, told = [*bars, *found], told | more
        return Report(bars, told, str(models["large"].device))
    finally:
        pool.close()


Part = tuple[list[Bar], dict[str, Any]]


def at_least(name: str, value: float | None, limit: float, unit: str = "") -> Bar:
    """A bar that holds when `value` is not below `limit`."""
    return Bar(name, value, f"≥ {limit:g}{unit}", None if value is None else value >= limit)


# Exactness ----------------------------------------------------------------------------------------------------------------------------------


def exact(models: Mapping[str, LoadedModel], router: Router, quick: bool, seed: int) -> Part:
    """The lanes against the library and against computing everything anew."""
    bench, pair = pair_bench(models["small"], models["large"], router), Pair.of(models["small"], models["large"])
    problems = pocket_problems(QUICK_EXACT if quick else EXACT, seed, router.marks)
    texts, prompts = [p.prompt for p in problems], [pair.prompt_ids(p) for p in problems]

    def as_library(strategy: str, role: str) -> bool:
        return bench.lane(texts, strategy=strategy).ids == [library(models[role], ids, bench.n_tokens) for ids in prompts]

    def sampled() -> list[list[int]]:
        return bench.lane(texts, temperature=1.0, seed=7, strategy="neural", threshold=0.1).ids

    anew = (cached_equals_naive(bench, text, ids, i) for i, (text, ids) in enumerate(zip(texts, prompts, strict=True)))
    same = {
        "always = large.generate": as_library("always", "large"), "never = small.generate": as_library("never", "small"),
        "cached = computed anew, random routing": all(anew),
        "one model twice: routing changes nothing": twice(models["large"], texts), "sampled runs with one seed are the same": sampled() == sampled(),
    }  # fmt: skip
    return [Bar(name, float(holds), f"all of {len(texts)}", holds) for name, holds in same.items()], {}


def library(loaded: LoadedModel, prompt_ids: Sequence[int], n_tokens: int) -> list[int]:
    block = torch.tensor([list(prompt_ids)], device=loaded.device)
    options = {"do_sample": False, "max_new_tokens": n_tokens, "eos_token_id": list(loaded.stop_ids), "pad_token_id": 0}
    with torch.inference_mode():
        return loaded.model.generate(block, attention_mask=torch.ones_like(block), **options)[0, len(prompt_ids) :].tolist()


def cached_equals_naive(bench: Bench, text: str, prompt_ids: Sequence[int], seed: int) -> bool:
    """Each token again, from one forward over everything by the model that said it."""
    lane = bench.lane([text], seed=seed, strategy="random", threshold=0.5)
    for at, (token_id, source) in enumerate(zip(lane.ids[0], lane.sources[0], strict=True)):
        with torch.inference_mode():
            block = torch.tensor([[*prompt_ids, *lane.ids[0][:at]]])
            logits = bench.models[source].model(input_ids=block, use_cache=False, logits_to_keep=1).logits
        if int(logits[0, -1].argmax()) != token_id:
            return False
    return True


def twice(loaded: LoadedModel, texts: Sequence[str]) -> bool:
    bench = pair_bench(loaded, loaded, None)
    plain = bench.lane(texts, strategy="always").ids
    return all(bench.lane(texts, strategy="random", threshold=t, seed=1).ids == plain for t in (0.2, 0.8))


# The router on prompts that it has not seen --------------------------------------------------------------------------------------------


def judged(models: Mapping[str, LoadedModel], router: Router, quick: bool, seed: int) -> Part:
    """Fresh problems, labelled here; every position scored by the router and by entropy."""
    pair = Pair.of(models["small"], models["large"])
    columns = labelled(pair, pocket_problems(QUICK_ITEMS if quick else ITEMS, seed, router.marks))
    known = columns["label"] != UNGRADED
    table = models["small"].model.get_input_embeddings().weight.detach()
    x = join(columns["law"].float(), columns["hidden"].float(), spread_free(table[columns["small"].long()]))[known]
    log_odds = apply(router.layers, x)
    y, differ = (columns["label"] == DIVERGENT)[known].float().numpy(), (columns["small"] != columns["large"])[known].numpy()
    neural = figures(spoils(log_odds).numpy(), y, True)
    entropy = figures(columns["law"][known][:, int(router.card["top_k"])].float().numpy(), y, False)
    second = figures(torch.sigmoid(log_odds[:, 1]).numpy()[differ], y[differ], False)
    whole = figures(spoils(log_odds).numpy()[differ], y[differ], False)
    bars = [
        at_least("router: ROC-AUC, fresh prompts", neural["auc"], 0.95),
        at_most("router: (1 − AUC) / entropy's", (1 - neural["auc"]) / (1 - entropy["auc"]), 0.7),
        at_least("router: does a mismatch matter, AUC", second["auc"], 0.75),
        at_most("router: calls at recall 0.95 / base rate", neural["calls_at_recall_95"] / neural["base_rate"], 2.2),
        at_most("router: calibration error", neural["ece"], 0.05),
    ]
    told = {
        "positions judged": len(y), "positions that matter, share": neural["base_rate"], "entropy: ROC-AUC": entropy["auc"],
        "entropy: calls at recall 0.95 / base rate": entropy["calls_at_recall_95"] / neural["base_rate"], "router: average precision": neural["ap"],
        "entropy: average precision": entropy["ap"], "router: whole score among mismatches, AUC": whole["auc"],
    }  # fmt: skip
    return bars, told


def labelled(pair: Pair, problems: Sequence[Any]) -> dict[str, torch.Tensor]:
    progress, parts = Progress(len(problems), "problems labelled", sys.stderr), []
    for at in range(0, len(problems), labels.CHUNK):
        some = problems[at : at + labels.CHUNK]
        parts.append(finished(label(pair, some, Rule("outcome", 1.0, 160), at)).columns)
        progress.update(at + len(some))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def finished(steps: Any) -> Any:
    """The result of a generator that yields between pieces of work."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


# Accuracy against the share of large tokens ----------------------------------------------------------------------------------------------


def swept(models: Mapping[str, LoadedModel], router: Router, quick: bool, seed: int) -> Part:
    """The sweep job on fresh problems."""
    budgets = list(sweep.QUICK if quick else sweep.FULL)
    request = sweep.sweep_request(SMALL, LARGE, router=ROUTER, n_prompts=QUICK_ITEMS if quick else ITEMS, seed=seed, budgets=budgets)
    with tempfile.TemporaryDirectory() as folder:
        events = list(told(sweep.run(request, RunContext(), models, Path(folder)), "arms"))
    points = [e.data for e in events if isinstance(e, Finding) and e.kind == "point"]
    stats = events[-1].stats
    small, large = stats["small"], stats["large"]
    at_15, at_5 = (best(points, share) for share in (0.15, 0.05))
    differences = {name: stats["differences"][f"neural - {name}"] for name in ("entropy", "random")}
    bars = [
        at_least("accuracy / large's, at most 15 % large tokens", _ratio(at_15, large), 0.92),
        at_least("gap recovered, at most 15 % large tokens", (at_15["accuracy"] - small) / (large - small) if at_15 else None, 0.9),
        at_least("accuracy / large's, at most 5 % large tokens", _ratio(at_5, large), 0.7),
        *(at_least(f"area: neural − {name}, points", 100 * d["value"], least) for (name, d), least in zip(differences.items(), (5, 15), strict=True)),
        *(at_least(f"area: neural − {name}, low end of 95 %", 100 * d["low"], 0) for name, d in differences.items()),
        at_most("realised share − budget, largest, points", max(100 * abs(p["share"] - p["budget"]) for p in points if p["strategy"] in
                                                                ("neural", "entropy", "random")), 2),
    ]  # fmt: skip
    shown = {f"{p['strategy']} at {100 * p['share']:.1f} %": f"{100 * p['accuracy']:.1f} %" for p in points}
    areas = {f"area, {name}": round(100 * a["value"], 1) for name, a in stats["areas"].items()}
    return bars, {"problems": stats["n"], **shown, **areas, "sweep, seconds": stats["seconds"]}


def best(points: Sequence[Mapping[str, Any]], share: float) -> Mapping[str, Any] | None:
    """The router's point with the largest share not above `share`: chosen by what it costs, not by how it came out."""
    inside = [p for p in points if p["strategy"] == "neural" and p["share"] <= share]
    return max(inside, key=lambda p: p["share"], default=None)


def _ratio(point: Mapping[str, Any] | None, large: float) -> float | None:
    return point["accuracy"] / large if point else None


def told(events: Iterator[Event], unit: str) -> Iterator[Event]:
    """The same events; progress goes to standard error."""
    progress: Progress | None = None
    for event in events:
        if event.tag == "progress":
            progress = progress or Progress(int(event.total or 0), unit, sys.stderr)
            progress.update(int(event.done), event.note)
        yield event


# Threshold and budget --------------------------------------------------------------------------------------------------------------------


def controlled(models: Mapping[str, LoadedModel], router: Router, quick: bool, seed: int) -> Part:
    """More threshold, fewer large tokens; a share asked for is the share that comes."""
    pair, bench = Pair.of(models["small"], models["large"]), pair_bench(models["small"], models["large"], router)
    problems = pocket_problems(16 if quick else 40, seed, router.marks)
    prompts = [pair.prompt_ids(p) for p in problems]
    thresholds = [router.threshold("neural", share) for share in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)]
    shares = []
    for threshold in thresholds:
        answers = finished(route(pair, router, prompts, [160] * len(prompts), Arm("neural", 0.0, threshold), seed))
        shares.append(sum(len(a.gaps) for a in answers) / sum(len(a.ids) for a in answers))
    monotone = all(a <= b for a, b in zip(shares, shares[1:], strict=False))
    texts = [p.prompt for p in problems[:16]]
    missed = {f"{strategy} {target}": bench.lane(texts, strategy=strategy, target_fraction=target).share - target
              for strategy in ("neural", "entropy", "random") for target in TARGETS}  # fmt: skip
    worst = max(missed.values(), key=abs)
    bars = [
        Bar("share of large tokens is monotone in the threshold", float(monotone), f"{len(shares)} settings", monotone),
        at_most("share asked for in a stream, largest miss, points", 100 * abs(worst), 2),
    ]
    return bars, {f"asked for {name}, missed by, points": 100 * miss for name, miss in missed.items()}


# Speed -----------------------------------------------------------------------------------------------------------------------------------


def fast(models: Mapping[str, LoadedModel], router: Router, quick: bool, seed: int) -> Part:
    """One stream, CPU time, one thread."""
    pair, bench = Pair.of(models["small"], models["large"]), pair_bench(models["small"], models["large"], router)
    problems, rounds = pocket_problems(SPEED_PROMPTS, seed, router.marks), QUICK_ROUNDS if quick else ROUNDS
    texts, prompts = [p.prompt for p in problems], [pair.prompt_ids(p) for p in problems]
    beyond, forward, any_lane = overhead_ms(bench, texts, prompts, rounds)
    gain = speedup(bench, texts, rounds, strategy="neural", threshold=router.threshold("neural", 0.13))
    ours, library_own = bench.lane(texts, strategy="always").ms_per_token, library_ms(models["large"], prompts, bench.n_tokens)
    bars = [
        at_most("router and bookkeeping a token", beyond, max(0.15, 0.1 * forward), " ms"),
        at_least("pocket pair: measured / predicted speed-up", gain["measured / predicted"], 0.85),
    ]
    figures_ = {"small: forward, CPU ms": forward, "beyond it, small only: CPU ms": any_lane}
    figures_ |= {"large only: ms a token": ours, "large.generate: ms a token, prompt included": library_own}
    figures_ |= {f"pocket pair, speed-up: {name}": value for name, value in gain.items()}
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        far, ratio = far_pair(models["large"], dtype, seed)
        gain = speedup(far, texts[:2], rounds, strategy="random", target_fraction=0.13)
        bars += [at_least(f"far pair, {name}: × faster than large only", gain["measured"], 2.8), within_ratio(name, ratio)]
        figures_ |= {f"far pair, {name}: {key}": value for key, value in gain.items()}
        figures_ |= {f"far pair, {name}: large.generate, ms a token": library_ms(far.models["large"], prompts[:2], far.n_tokens)}
    return bars, figures_


def within_ratio(name: str, ratio: float) -> Bar:
    return Bar(f"far pair, {name}: step-time ratio", ratio, f"{RATIO[0]:g}–{RATIO[1]:g}", RATIO[0] <= ratio <= RATIO[1])


# From nothing ------------------------------------------------------------------------------------------------------------------------------


def from_nothing(models: Mapping[str, LoadedModel], router: Router, quick: bool, seed: int) -> Part:
    """Labels, training and the quick sweep one after another, as the page starts them; wall time."""
    name, limit = "label + train + quick sweep from nothing", 10.0
    if quick:
        return [at_most(name, None, limit, " min")], {}
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        made = _artifact(labels.run(labels.label_request(SMALL, LARGE, seed=seed + 1), RunContext(), models, place), "prompts labelled")
        trained = _artifact(train.run(train.train_request(SMALL, LARGE, made), RunContext(), models, place), "passes")
        _artifact(sweep.run(sweep.sweep_request(SMALL, LARGE, router=trained, seed=seed + 2), RunContext(), models, place), "arms")
    return [at_most(name, (time.perf_counter() - start) / 60, limit, " min")], {}


def _artifact(events: Iterator[Event], unit: str) -> str:
    """Run a job to its end; the id of what it made."""
    found = [event for event in told(events, unit) if isinstance(event, (Artifact, Done))]
    if not isinstance(found[-1], Done) or found[-1].finish_reason != "stop":
        raise WorkbenchError("A job of the bench did not end.")
    return next(event.id for event in reversed(found) if isinstance(event, Artifact))
