"""The bench of structured generation: is every finished output valid, or was its schema marked beforehand?

Goes in: schemas (ours, a folder or a file of others), how many walks each. Comes out: bars on unmarked failures, on false alarms of the
linter, and on the time that a mask takes. Walks are blind (`walk.py`), outputs are judged by parsing and validating them
(`validate.py`), never by the mask. A schema that the engine refuses, or can't compile within its limits, counts as refused.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend.bench import Bar, Progress, Report, at_most
from backend.bench.overhead import overhead
from backend.bench.walk import DICE, Vocabulary, Walk, names_in, walk
from backend.errors import InvalidRequest, ModelError, WorkbenchError
from backend.model_source import get
from backend.passport import load_config, load_tokenizer, logit_width, skeleton, stop_ids
from backend.paths import assets_dir
from backend.structured.engine import GrammarEngine
from backend.structured.grammar import Grammar
from backend.structured.lint import lint, marks
from backend.structured.validate import validate_json

SCHEMAS = Path(__file__).with_name("schemas.jsonl")
WALKS, QUICK_SCHEMAS, QUICK_WALKS = 4, 20, 2
FLAGGED_LIMIT, MASK_MS_LIMIT = 0.20, 0.4
MODEL = "smollm2"


@dataclass(frozen=True)
class Case:
    """One schema and what came of it. `refused` says why there are no outputs; `wrong` are (state, message, text) of finished ones."""

    name: str
    marked: bool
    refused: str = ""
    finished: int = 0
    ends: tuple[str, ...] = ()
    wrong: tuple[tuple[str, str, str], ...] = ()
    step_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """The engine and the words it is walked with."""

    engine: GrammarEngine
    vocabulary: Vocabulary
    walks: int
    seed: int


def run(quick: bool, data_dir: Path, schemas: Path | None = None, walks: int | None = None, seed: int = 0) -> Report:
    """`quick` takes every third of our schemas and half the walks. Raises `InvalidRequest` for a file that holds no schemas."""
    named = read_schemas(schemas or SCHEMAS)
    if quick:
        named = named[:: max(1, len(named) // QUICK_SCHEMAS)]
    tokenizer, width, stops = smollm2_words(data_dir)
    texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))]) + [""] * (width - len(tokenizer))
    engine = GrammarEngine(tokenizer, width, stops)
    vocabulary = Vocabulary.of(texts, stops, tokenizer.decode)
    try:
        bench = Bench(engine, vocabulary, walks or (QUICK_WALKS if quick else WALKS), seed)
        cases = list(walk_all(named, bench))
    finally:
        engine.close()
    bars, told = [*validity_bars(cases), mask_bar(cases, width)], figures(cases)
    if schemas is None:  # what a grammar adds to the time of a token does not depend on the schemas that were walked
        bar, more = overhead(quick, data_dir)
        bars, told = [*bars, bar], told | more
    return Report(bars, told, "cpu", [*rows(cases)])


def read_schemas(path: Path) -> list[tuple[str, Any]]:
    """(name, schema) pairs: a folder of .json files, each a schema or `{"schema": …}`, or a .jsonl file of the same."""
    if path.is_dir():
        found = [(file.stem, _parsed(file.name, file.read_text(encoding="utf-8"))) for file in sorted(path.glob("*.json"))]
    elif path.is_file():
        lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        found = [(f"{path.stem}:{number}", _parsed(f"{path.name}, line {number}", line)) for number, line in lines if line.strip()]
    else:
        raise InvalidRequest(f"There is no file or folder {path}.", "schemas")
    if not found:
        raise InvalidRequest(f"{path} holds no schemas.", "schemas")
    return [_unwrapped(name, data) for name, data in found]


def _parsed(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"{where} is not JSON: {error}.", "schemas") from error


def _unwrapped(name: str, data: Any) -> tuple[str, Any]:
    if isinstance(data, dict) and isinstance(data.get("schema"), (dict, bool)):
        return str(data.get("name", name)), data["schema"]
    return name, data


def smollm2_words(data_dir: Path) -> tuple[Any, int, tuple[int, ...]]:
    """The real model's tokenizer, the width of its logits and its stop ids; raises `ModelError` where it can't be had."""
    folder = get(MODEL, data_dir, assets_dir())
    config, tokenizer = load_config(MODEL, folder), load_tokenizer(MODEL, folder)
    width = logit_width(skeleton(MODEL, config))
    stops = stop_ids(folder, config, tokenizer, width)
    if not stops:
        raise ModelError(f"{MODEL} names no stop token.")
    return tokenizer, width, stops


def walk_all(named: Sequence[tuple[str, Any]], bench: Bench) -> Iterator[Case]:
    progress = Progress(len(named), "schemas", sys.stderr)
    for index, (name, schema) in enumerate(named, 1):
        yield walk_schema(name, schema, bench)
        progress.update(index, name)


def walk_schema(name: str, schema: Any, bench: Bench) -> Case:
    """Lint first, as a user would, then walk."""
    marked = marks(lint(schema))
    walks: list[Walk] = []
    refused = ""
    try:
        grammar, names = Grammar("json_schema", json.dumps(schema)), names_in(schema)
        bench.engine.compile(grammar)
        for number in range(bench.walks):
            with bench.engine.session(grammar) as session:
                rng = random.Random(f"{bench.seed}/{name}/{number}")
                walks.append(walk(session, bench.vocabulary, DICE[number % len(DICE)], rng, names))
    except WorkbenchError as error:
        refused = str(error)
    done = [w.text for w in walks if w.end == "finished"]
    wrong = tuple((v.state, v.message, text) for text in done if (v := validate_json(text, schema)).state != "valid")
    times = [ms for w in walks for ms in w.step_ms]
    return Case(name, marked, refused, len(done), tuple(w.end for w in walks), wrong, times)


def validity_bars(cases: Sequence[Case]) -> list[Bar]:
    unmarked = [case for case in cases if case.wrong and not case.marked]
    clean = [case for case in cases if case.finished and not case.wrong]
    share = sum(case.marked for case in clean) / len(clean) if clean else None
    return [
        at_most("schemas with an invalid output that lint had not marked", float(len(unmarked)), 0),
        at_most("schemas marked among those that never failed", share, FLAGGED_LIMIT),
    ]


def mask_bar(cases: Sequence[Case], width: int) -> Bar:
    """Accept, fill, the way between the processes, and the mask put over the logits."""
    times = [ms for case in cases for ms in case.step_ms]
    mean = float(np.mean(times)) + apply_ms(width) if times else None
    return at_most(f"mask path at {width:,} ids, mean", mean, MASK_MS_LIMIT, " ms")


def apply_ms(width: int, rounds: int = 300) -> float:
    """Milliseconds to put a mask over `(width,)` logits, as a run does."""
    logits, allowed = torch.randn(width), torch.rand(width) < 0.5
    start = time.perf_counter()
    for _ in range(rounds):
        logits.masked_fill(~allowed, -torch.inf)
    return (time.perf_counter() - start) / rounds * 1000


def figures(cases: Sequence[Case]) -> dict[str, Any]:
    ends = Counter(end for case in cases for end in case.ends)
    times = np.array([ms for case in cases for ms in case.step_ms] or [np.nan])
    return {
        "schemas": len(cases),
        "refused or over the limits": sum(bool(case.refused) for case in cases),
        "marked": sum(case.marked for case in cases),
        "outputs finished": ends["finished"],
        "walks given up": ends["gave_up"],
        "walks in a dead end": ends["dead_end"],
        "outputs that were invalid": sum(len(case.wrong) for case in cases),
        "schemas with an invalid output": sum(bool(case.wrong) for case in cases),
        "schemas that never failed": sum(bool(case.finished and not case.wrong) for case in cases),
        "mask ms, median": float(np.median(times)),
        "mask ms, 99th percentile": float(np.percentile(times, 99)),
    }


def rows(cases: Sequence[Case]) -> Iterator[str]:
    """A line for each schema that was refused, or failed without a mark."""
    for case in cases:
        if case.refused:
            yield f"refused   {case.name}: {case.refused[:160]}"
        if case.wrong and not case.marked:
            state, message, text = case.wrong[0]
            yield f"UNMARKED  {case.name}: {state}: {message[:160]} in {text[:120]!r}"
