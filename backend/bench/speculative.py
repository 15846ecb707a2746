"""The bench of speculative decoding: the same text, the right law, and the clock against the library's own.

Goes in: a data directory with `smollm2`, prompts. Comes out: bars, by part: `law`, `identity`, `reproducible`, `pocket`, `smollm2`.
Identity and law are counts; speeds are ratios of one run, in turn, one thread, CPU time (`speculative_speed`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.bench import Bar, Report, reporter
from backend.bench import speculative_identity as identity
from backend.bench.peers import assistant, library_ids, untouched
from backend.bench.pocket import one_thread
from backend.bench.speculative_speed import Sample, Way, ms_per_token, prompt_ratios, ratio, take_turns
from backend.errors import InvalidRequest
from backend.models import LoadedModel, ModelPool
from backend.paths import assets_dir
from backend.prompt import render
from backend.speculative.costs import Costs, costs_of
from backend.speculative.evaluate import Case, read_cases
from backend.speculative.generate import generate
from backend.speculative.trace import speed_up
from backend.types import Done, Prompt, RunContext, RunRequest, SamplingParams

LARGE, SMALL, REAL = "pocket/large", "pocket/small", "smollm2"
N_TOKENS = 96
TURNS, QUICK_TURNS, QUICK_EVERY = 7, 2, 3
LOOKUP_KS = (3, 5, 8, 10)
LOOKUP_K = 8
GAMMAS = (1, 2, 4, 8)


@dataclass
class Found:
    """What a part adds to the report."""

    bars: list[Bar] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    rows: list[str] = field(default_factory=list)


def run(quick: bool, data_dir: Path, seed: int = 2, part: str | None = None, prompts: Path | None = None, turns: int | None = None) -> Report:
    """All parts, or one. `prompts`: another mix, as JSON lines; `turns`: how often each way decodes each prompt."""
    if part is not None and part not in PARTS:
        raise InvalidRequest(f"part must be one of {', '.join(PARTS)}, got {part!r}.", "part")
    bench = Bench(quick, data_dir, seed, prompts, turns or (QUICK_TURNS if quick else TURNS))
    found = [PARTS[name](bench) for name in PARTS if part in (None, name)]
    figures = {key: value for one in found for key, value in one.figures.items()}
    return Report([bar for one in found for bar in one.bars], figures, "cpu", [row for one in found for row in one.rows])


@dataclass(frozen=True)
class Bench:
    """What was asked for."""

    quick: bool
    data_dir: Path
    seed: int
    prompts: Path | None
    turns: int

    def cases(self, name: str) -> list[Case]:
        text = self.prompts.read_text(encoding="utf-8") if self.prompts and name == "mix" else name
        return read_cases(text)[:: QUICK_EVERY if self.quick else 1]

    def pool(self, dtype: str | None = None) -> ModelPool:
        return ModelPool(self.data_dir, assets_dir(), dtype=dtype)


def above(name: str, value: float | None, limit: float, unit: str = "") -> Bar:
    return Bar(name, value, f"≥ {limit:g}{unit}", None if value is None else value >= limit)


# Ways ---------------------------------------------------------------------------------------------------------------------------------


def own_way(models: dict[str, LoadedModel], cases: Sequence[Case], n: int = N_TOKENS, last: dict[Any, Any] | None = None, **options: Any) -> Way:
    """Loupe's loop, lines and texts included; `last` receives each prompt's stats."""

    def way(at: int) -> int:
        request = RunRequest("speculative", Prompt.user(cases[at].prompt), {}, SamplingParams(max_new_tokens=n), options)
        for event in generate(request, RunContext(), models):
            if isinstance(event, Done) and last is not None:
                last[at] = event.stats
        return event.stats["n_tokens"]

    return way


def library_way(model: Any, loaded: LoadedModel, cases: Sequence[Case], n: int = N_TOKENS, **more: Any) -> Way:
    ids = [render(Prompt.user(case.prompt), loaded.tokenizer).ids for case in cases]
    return lambda at: len(library_ids(model, ids[at], n, loaded.stop_ids, **more))


# smollm2 ------------------------------------------------------------------------------------------------------------------------------


def smollm2_part(bench: Bench) -> Found:
    """bf16, one thread: our loop and drafters against `generate` plain and with its own lookup."""
    pool, cases = bench.pool(), bench.cases("mix")
    with one_thread():
        loaded = pool.load(REAL)
        models, plain = {"target": loaded}, untouched(loaded, bench.data_dir)
        ways = {"library plain": library_way(plain, loaded, cases), "plain": own_way(models, cases, drafter="none")}
        for k in LOOKUP_KS:
            more = {"prompt_lookup_num_tokens": k, "max_matching_ngram_size": 3}
            ways[f"library lookup {k}"] = library_way(plain, loaded, cases, **more)
        ways[f"lookup {LOOKUP_K}"] = own_way(models, cases, drafter="lookup", gamma=LOOKUP_K, ngram=3)
        stats: dict[str, dict[int, Any]] = {name: {} for name in ("lookup", "recycling", "recycling 16", "auto")}
        for name in ("lookup", "recycling", "auto"):
            ways[name] = own_way(models, cases, last=stats[name], drafter=name)
        ways["recycling 16"] = own_way(models, cases, last=stats["recycling 16"], drafter="recycling", nodes=16)
        samples = take_turns(ways, len(cases), bench.turns, reporter("prompts", sys.stderr))
        costs = costs_of(loaded, None)
    pool.close()
    return _smollm2_found(samples, cases, stats, costs)


def _smollm2_found(samples: Sequence[Sample], cases: Sequence[Case], stats: dict[str, dict[int, Any]], costs: Costs) -> Found:
    ours = [name for name in ("plain", f"lookup {LOOKUP_K}", "lookup", "recycling", "recycling 16", "auto")]
    theirs = [f"library lookup {k}" for k in LOOKUP_KS]
    speeds = {name: ratio(samples, name, "library plain") for name in [*ours, *theirs]}
    best, peer = (max((speeds[n] for n in names), key=lambda r: r.middle) for names in (ours[1:], theirs))
    per_prompt = prompt_ratios(samples, "auto", "plain")
    bars = [
        Bar("smollm2: own plain / library plain, time", 1 / speeds["plain"].middle, "≤ 1", speeds["plain"].middle >= 1),
        above("smollm2: own lookup / library's, n 3, k 8, speed", ratio(samples, f"lookup {LOOKUP_K}", f"library lookup {LOOKUP_K}").middle, 1),
        above("smollm2: auto / own plain, worst prompt", min(per_prompt.values()), 0.97),
        above(f"smollm2: best drafter ({best.way}) / library plain", best.middle, 1.7),
        above(f"smollm2: best drafter / library's best ({peer.way.removeprefix('library ')})", ratio(samples, best.way, peer.way).middle, 1.25),
    ]
    figures = {f"smollm2: {name}, × library plain": str(value) for name, value in speeds.items()}
    figures |= {f"smollm2: {name}, × library plain, wall": str(ratio(samples, name, "library plain", "wall_ms")) for name in (best.way, peer.way)}
    figures |= {f"smollm2: {name}, × own plain": str(ratio(samples, name, "plain")) for name in ours[1:]}
    figures |= {f"smollm2: {name}, tokens a round": _per_round(found) for name, found in stats.items()}
    figures |= {f"smollm2: ms a token, {name}": round(ms_per_token(samples, name), 2) for name in ("library plain", "plain", best.way)}
    figures["smollm2: v of 1, 5, 9, 17, 33 rows"] = " ".join(f"{costs.rows(n):.2f}" for n in (1, 5, 9, 17, 33))
    return Found(bars, figures, _prompt_rows(samples, cases, ["plain", "lookup", "recycling", "auto", peer.way]))


def _prompt_rows(samples: Sequence[Sample], cases: Sequence[Case], names: Sequence[str]) -> list[str]:
    """Each prompt's speeds against the library's plain decoding."""
    columns = {name: prompt_ratios(samples, name, "library plain") for name in names}
    head = f"{'× library plain':<16} " + " ".join(f"{name:>18}" for name in names)
    return [head, *(f"{case.kind:<12} {i:>3} " + " ".join(f"{columns[n][i]:>18.2f}" for n in names) for i, case in enumerate(cases))]


def _per_round(stats: dict[int, Any]) -> float:
    rounds, accepted = (sum(s[name] for s in stats.values()) for name in ("rounds", "accepted"))
    return round((rounds + accepted) / rounds, 3)


# The pocket pair ------------------------------------------------------------------------------------------------------------------------


def pocket_part(bench: Bench) -> Found:
    """fp32, one thread: the draft model at several gammas against `generate`, plain and assisted, and the predicted curve."""
    pool, cases = bench.pool("float32"), bench.cases("pocket")
    with one_thread():
        large, small = pool.load(LARGE), pool.load(SMALL)
        models, costs = {"target": large, "draft": small}, costs_of(large, small)
        plain, helper = untouched(large, bench.data_dir), untouched(small, bench.data_dir)
        stats: dict[str, dict[int, Any]] = {"plain": {}}
        ways = {"library plain": library_way(plain, large, cases), "plain": own_way(models, cases, last=stats["plain"], drafter="none")}
        ways["library assisted"] = _assisted(plain, helper, large, cases, None)
        for gamma in GAMMAS:
            stats[f"model {gamma}"] = {}
            ways[f"model {gamma}"] = own_way(models, cases, last=stats[f"model {gamma}"], drafter="model", gamma=gamma)
            ways[f"library assisted {gamma}"] = _assisted(plain, helper, large, cases, gamma)
        for name, options in POCKET_WAYS.items():
            stats[name] = {}
            ways[name] = own_way(models, cases, last=stats[name], **options)
        samples = take_turns(ways, len(cases), bench.turns, reporter("prompts", sys.stderr))
    pool.close()
    return _pocket_found(samples, stats, costs)


POCKET_WAYS: dict[str, dict[str, Any]] = {
    "model": {"drafter": "model"}, "lookup": {"drafter": "lookup"}, "recycling": {"drafter": "recycling"},
    "recycling 16": {"drafter": "recycling", "nodes": 16}, "auto": {"drafter": "auto"}, "tree": {"drafter": "tree"},
    "chain with fallback": {"drafter": "tree", "branch": 1.0}, "tree without fallback": {"drafter": "tree", "fallback": 0.0, "nodes": 8},
    "chain of 8": {"drafter": "tree", "branch": 1.0, "fallback": 0.0, "nodes": 8},
}  # fmt: skip


def _assisted(plain: Any, helper: Any, large: LoadedModel, cases: Sequence[Case], gamma: int | None) -> Way:
    ids = [render(Prompt.user(case.prompt), large.tokenizer).ids for case in cases]
    return lambda at: len(library_ids(plain, ids[at], N_TOKENS, large.stop_ids, assistant_model=assistant(helper, gamma)))


def _pocket_found(samples: Sequence[Sample], stats: dict[str, dict[int, Any]], costs: Costs) -> Found:
    gammas = {gamma: ratio(samples, f"model {gamma}", "library plain") for gamma in GAMMAS}
    best = max(gammas, key=lambda gamma: gammas[gamma].middle)
    same, default = (ratio(samples, f"model {best}", name) for name in (f"library assisted {best}", "library assisted"))
    off = {gamma: _prediction_off(stats, costs, gamma) for gamma in GAMMAS}
    bars = [
        above(f"pocket: draft model, gamma {best} / library plain", gammas[best].middle, 1.3),
        above(f"pocket: draft model / library assisted, gamma {best}", same.middle, 1.3),
        above("pocket: draft model / library assisted, its defaults", default.middle, 1.3),
        Bar("pocket: own plain / library plain, time", 1 / ratio(samples, "plain", "library plain").middle, "≤ 1",
            ratio(samples, "plain", "library plain").middle >= 1),
        Bar("pocket: predicted / measured speed, worst gamma of 1, 2, 4, 8", max(off.values(), key=lambda x: abs(x - 1)), "1 ± 0.15",
            all(abs(x - 1) <= 0.15 for x in off.values())),
        above("pocket: recycling, 16 nodes / library plain", ratio(samples, "recycling 16", "library plain").middle, 1.5),
    ]  # fmt: skip
    names = [f"model {gamma}" for gamma in GAMMAS] + list(POCKET_WAYS)
    figures = {f"pocket: {name}, × library plain": str(ratio(samples, name, "library plain")) for name in ["plain", *names, "library assisted"]}
    figures |= {f"pocket: library assisted {g}, × library plain": str(ratio(samples, f"library assisted {g}", "library plain")) for g in GAMMAS}
    figures |= {f"pocket: {name}, tokens a round": _per_round(stats[name]) for name in names}
    figures |= {f"pocket: predicted / measured, gamma {gamma}": round(x, 3) for gamma, x in off.items()}
    figures |= {"pocket: c": round(costs.c, 3), "pocket: v of 2, 3, 5, 9 rows": " ".join(f"{costs.rows(n):.2f}" for n in (2, 3, 5, 9))}
    return Found(bars, figures)


def _prediction_off(stats: dict[str, dict[int, Any]], costs: Costs, gamma: int) -> float:
    """Predicted speed over plain, E/(γc + v) with the E that came out, over the measured one; both count decoding alone."""
    found = stats[f"model {gamma}"]
    rounds, drafted = (sum(s[name] for s in found.values()) for name in ("rounds", "drafted"))
    e, mean_gamma = _per_round(found), drafted / rounds
    measured = e * _round_ms(stats["plain"]) / _round_ms(found)
    return speed_up(e, mean_gamma, costs.c, costs.rows(gamma + 1)) / measured


def _round_ms(stats: dict[int, Any]) -> float:
    """Mean milliseconds of a round, the prefill left out."""
    return sum(s["spans"][name] for s in stats.values() for name in ("draft", "verify", "host")) / sum(s["rounds"] for s in stats.values())


# Parts --------------------------------------------------------------------------------------------------------------------------------


def law_part(bench: Bench) -> Found:
    return Found(*identity.law(bench.quick, bench.seed))


def identity_part(bench: Bench) -> Found:
    return Found(*identity.same_texts(bench.pool("float32"), bench.quick, bench.seed))


def reproducible_part(bench: Bench) -> Found:
    return Found(*identity.reproducible(bench.data_dir, bench.quick, bench.seed))


PARTS: dict[str, Callable[[Bench], Found]] = {
    "law": law_part, "identity": identity_part, "reproducible": reproducible_part, "pocket": pocket_part, "smollm2": smollm2_part,
}  # fmt: skip
