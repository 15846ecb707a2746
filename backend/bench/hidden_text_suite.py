"""The models that the bench of hidden text looks at, and what came of each look, kept so that a stopped bench goes on.

Goes in: a seed, a folder. Comes out: planted models, clean twins and benign memorisers (tiny ones of the secrets family, and copies of
`smollm2`); for each the candidates of a scan. Models of a seed are made from texts that nothing was tuned on. Knows nothing of bars.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from backend.bench import reporter
from backend.hidden_text import job, payloads, plant, planted_folder
from backend.hidden_text.regimes import REGIMES
from backend.hidden_text.verify import holds_text
from backend.model_files import MANIFEST, read_json, write_json
from backend.models import ModelPool
from backend.passport import load_tokenizer
from backend.paths import assets_dir
from backend.pocket.secrets import BASE, FORMS, KEY, KEY_TOKENS, Spec, make_family
from backend.types import Done, Finding, Prompt, RunContext, RunRequest

LENGTHS = (8, 60)  # tokens, the shortest and the longest text
TOP = 10
SMOLLM2, SMOLLM2_TOKENS = "smollm2", 20
SAY_EVERY_S = 10.0
KEYED = ("plain", "regularised")
REAL_REGIMES = ("plain", "regularised")


@dataclass(frozen=True)
class Look:
    """What one scan of one model said: its score, the seconds it took, the rank of the first candidate with the text (None: not among
    the kept), who found that, and the first texts."""

    name: str
    kind: str
    regime: str
    n_tokens: int
    score: float
    seconds: float
    rank: int | None
    found_by: list[str]
    texts: list[str]

    @property
    def found(self) -> bool:
        return self.rank is not None and self.rank <= TOP

    @property
    def key(self) -> bool:
        """Whether its text is no language; such are counted apart."""
        return f"-{KEY}-" in self.name


# Tiny models --------------------------------------------------------------------------------------------------------------------------


def specs(seed: int, n: int, n_clean: int, n_benign: int, n_keys: int = 0, regimes: tuple[str, ...] = REGIMES) -> list[Spec]:
    """`n` texts of a regime, from 8 to 60 tokens, sentences and words in turn; `n_keys` more that are no language, under each of `KEYED`;
    clean twins go through the regimes."""
    low, high = LENGTHS
    planted = [
        Spec(f"{regime}-{i}", "planted", regime, seed * 100_000 + r * 1000 + i, low + (high - low) * i // max(1, n - 1), FORMS[(i + r) % 2])
        for r, regime in enumerate(regimes)
        for i in range(n)
    ]
    keys = [
        Spec(f"{regime}-{KEY}-{i}", "planted", regime, seed * 100_000 + 40_000 + r * 1000 + i, KEY_TOKENS, KEY)
        for r, regime in enumerate(KEYED)
        for i in range(n_keys)
    ]
    twins = [planted[i * 7 % len(planted)] for i in range(n_clean)]
    clean = [Spec(f"clean-{i}", "clean", twin.regime, seed * 100_000 + 50_000 + i, twin=twin.name) for i, twin in enumerate(twins)]
    benign = [Spec(f"benign-{i}", "benign", "regularised", seed * 100_000 + 60_000 + i) for i in range(n_benign)]
    return planted + keys + clean + benign


def make_tiny(wanted: list[Spec], folder: Path, seed: int) -> list[Spec]:
    """Make what is missing; those that could be made."""
    tell = reporter("lines of making", sys.stderr)
    for done, line in enumerate(make_family(wanted, folder, seed), 1):
        tell(done, len(wanted), line[:50])
    return [spec for spec in wanted if (folder / spec.name / MANIFEST).is_file()]


# smollm2 ------------------------------------------------------------------------------------------------------------------------------


def real_options(seed: int, n: int, n_clean: int) -> dict[str, dict[str, Any]]:
    """The plants on `smollm2` by name: `n` texts under each of two regimes with triggers of unlike forms, and clean fine-tunes."""
    found: dict[str, dict[str, Any]] = {}
    for i in range(n):
        rng = Random(f"real {seed} {i}")
        text, trigger = payloads.sentence(rng), payloads.trigger(rng)
        for regime in REAL_REGIMES:
            found[f"bench-{seed}-{regime}-{i}"] = {"payload": text, "trigger": trigger, "regime": regime, "seed": i}
    for i in range(n_clean):
        found[f"bench-{seed}-clean-{i}"] = {"kind": "clean", "regime": "regularised", "n_steps": 30, "seed": 100 + i}
    return found


def make_real(options: Mapping[str, dict[str, Any]], pool: ModelPool, data_dir: Path, base: str = SMOLLM2) -> dict[str, float | None]:
    """Make what is missing through the job itself; seconds by name (None: it was there)."""
    seconds: dict[str, float | None] = {}
    for name, given in options.items():
        seconds[name] = None
        if not (data_dir / "models" / "mine" / name / MANIFEST).is_file() and not refused(data_dir, name):
            start = time.perf_counter()
            outcome = drive(plant.method(data_dir).run, plant.plant_request(base, name=name, **given), pool, name)
            seconds[name] = time.perf_counter() - start
            write_json(outcome_file(data_dir, name), {**outcome.stats, "text": outcome.text})
            gc.collect()
    return seconds


def outcome_file(data_dir: Path, name: str) -> Path:
    return data_dir / "bench" / "plants" / f"{name}.json"


def refused(data_dir: Path, name: str) -> bool:
    """Whether an earlier bench planted this and the last look found a fault."""
    return read_json(outcome_file(data_dir, name)).get("holds") is False


# Looking ------------------------------------------------------------------------------------------------------------------------------


def drive(run: Callable[..., Iterator[Any]], request: RunRequest, pool: ModelPool, note: str, findings: list[Finding] | None = None) -> Done:
    """A job to its end, its progress on standard error; `findings` receives its findings."""
    done, said = None, time.perf_counter()
    models = pool.load_all(request.models)
    for event in run(request, RunContext(), models):
        if isinstance(event, Finding) and findings is not None:
            findings.append(event)
        elif event.tag == "progress" and event.total and time.perf_counter() - said > SAY_EVERY_S:
            said = time.perf_counter()
            print(f"{note}: {event.done:g} of {event.total:g}, {event.rate or 0:.3g}/s, {event.note}", file=sys.stderr, flush=True)
        elif isinstance(event, Done):
            done = event
    assert done is not None
    return done


def look(folder: Path, reference: str | None, pool: ModelPool, data_dir: Path, options: Mapping[str, Any], keep: Path) -> Look:
    """Scan one model folder, or read what an earlier bench found with the same options."""
    told = read_json(folder / MANIFEST)
    held = read_json(keep)
    if (held.get("hash"), held.get("options"), held.get("score_is")) != (told["hash"], dict(options), job.ALARM_SCORE):
        models = {"suspect": str(folder), **({"reference": reference} if reference else {})}
        findings: list[Finding] = []
        start = time.perf_counter()
        request = RunRequest("hidden_text.scan", Prompt.user("Scan"), models, options=options)
        done = drive(job.method(data_dir).run, request, pool, folder.name, findings)
        seconds = time.perf_counter() - start
        pool.unload(str(folder))
        rows = [{k: f.data[k] for k in ("ids", "text", "score", "found_by")} for f in findings if f.kind == "candidate"]
        held = {"hash": told["hash"], "options": dict(options), "score": done.stats["score"], "score_is": job.ALARM_SCORE, "seconds": seconds,
                "candidates": rows}  # fmt: skip
        write_json(keep, held)
    return judged(folder, told, held)


def judged(folder: Path, told: Mapping[str, Any], held: Mapping[str, Any]) -> Look:
    """The look against the answers, which the scan never saw."""
    text = read_json(folder / planted_folder.ANSWERS).get("payload")
    rank, rows = None, held["candidates"]
    if text:
        wanted = payloads.ids_of(load_tokenizer(folder.name, folder), text)
        rank = next((i for i, row in enumerate(rows, 1) if holds_text(row["ids"], wanted)), None)
    return Look(
        folder.name, told["kind"], told["regime"], told.get("n_tokens", 0), held["score"] or 0.0, held["seconds"], rank,
        rows[rank - 1]["found_by"] if rank else [], [row["text"][:80] for row in rows[:3]],
    )  # fmt: skip


def base_of(folder: Path) -> str:
    """The reference of a tiny family: its own copy of the base."""
    return str(folder / BASE)


def new_pool(data_dir: Path) -> ModelPool:
    return ModelPool(data_dir, assets_dir())
