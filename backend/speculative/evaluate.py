"""The job `speculative.evaluate`: drafters over a set of prompts, each beside plain decoding.

Goes in: prompts, drafters. Comes out: one `row` finding a prompt and lane, one `summary` a lane.

`finding` kinds: `row` {prompt, kind, lane, n_tokens, tokens_per_round, ms_per_token, speedup, identical, first_divergence, cause,
per_position}; `summary` {lane, speedup, low, high, tokens_per_round, identical, of, per_position}: the median of the prompts' speed-ups
with its quartiles, tokens per round over all rounds, how many texts were plain's.
`stats`: {lanes: [summary, …], n_prompts}.
Lanes take turns in an order that rotates from prompt to prompt; a prompt that an interrupted job had finished is not run again.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backend.errors import InvalidRequest
from backend.method import Method
from backend.options import option, parse_options
from backend.paths import assets_dir
from backend.resources import Resources
from backend.speculative.generate import generate
from backend.speculative.method import warm
from backend.speculative.request import DRAFT, DRAFTERS, LANES, TARGET, WITH_MODEL, baselines, lane
from backend.speculative.trace import rounds_of, summarize
from backend.speculative.verdict import lane_figures
from backend.types import Done, Event, Finding, Progress, Prompt, RunContext, RunRecord, RunRequest, Verdict

SETS = ("mix", "pocket")
SAY_EVERY_S = 0.25
PLAIN = LANES["none"]


@dataclass(frozen=True)
class Options:
    """What to compare, on which prompts."""

    prompts: str = option("mix", "A set that ships (mix, pocket), or your own: one JSON object a line with a prompt and, if you like, a kind.")
    drafters: str = option("auto, lookup, recycling", "Drafters to compare with plain, separated by commas.")
    gamma: int = option(0, "Tokens drafted a round by draft model and lookup; 0 chooses.", low=0, high=32)
    nodes: int = option(0, "Tree size of Token Recycling and LLMCad; 0 chooses.", low=0, high=80)
    mode: str = option("fast", "As in a single run.", choices=("fast", "reproducible"))
    most: int = option(0, "Only the first so many prompts; 0: all.", low=0, high=10_000)


@dataclass(frozen=True)
class Case:
    """One prompt of a set."""

    prompt: str
    kind: str


def prompt_set(name: str) -> Path:
    return assets_dir() / "prompts" / f"{name}.jsonl"


def read_cases(prompts: str, most: int = 0) -> list[Case]:
    """The prompts of a set that ships, or of JSON lines; raises `InvalidRequest` naming the line."""
    text = prompt_set(prompts).read_text(encoding="utf-8") if prompts in SETS else prompts
    cases = [_case(line, number) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not cases:
        raise InvalidRequest("options.prompts must hold at least one prompt.", "options.prompts")
    return cases[:most] if most else cases


def _case(line: str, number: int) -> Case:
    where = f"options.prompts, line {number},"
    try:
        data = json.loads(line)
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"{where} is not JSON: {error.msg}. Write {' or '.join(SETS)}, or one object a line.", "options.prompts") from error
    if not isinstance(data, dict) or not isinstance(data.get("prompt"), str) or not data["prompt"].strip():
        raise InvalidRequest(f"{where} must be an object with a text under prompt.", "options.prompts")
    return Case(data["prompt"], str(data.get("kind", "")))


def read_drafters(text: str) -> list[str]:
    """The drafters named, plain left out; raises `InvalidRequest` for a name there is none of."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in DRAFTERS:
            raise InvalidRequest(f"options.drafters: there is no drafter {name!r}; there are {', '.join(DRAFTERS)}.", "options.drafters")
    found = [name for name in dict.fromkeys(names) if name != "none"]
    if not found:
        raise InvalidRequest("options.drafters must name at least one drafter beside plain.", "options.drafters")
    return found


def lanes_of(request: RunRequest, prompt: str) -> list[RunRequest]:
    """One request a drafter, then plain."""
    options: Options = parse_options(Options, request.options)
    shared = {"gamma": options.gamma, "nodes": options.nodes, "mode": options.mode}
    base = replace(request, method="speculative", prompt=replace(request.prompt, messages=({"role": "user", "content": prompt},)))
    lanes = [replace(base, options={"drafter": name, **shared}) for name in read_drafters(options.drafters)]
    return [*lanes, *baselines(lanes[0])]


def check(request: RunRequest, resources: Resources) -> list[Finding]:
    options: Options = parse_options(Options, request.options)
    read_cases(options.prompts)
    for name in read_drafters(options.drafters):
        if name in WITH_MODEL and not request.models.get(DRAFT):
            raise InvalidRequest(f"models.draft is missing: {LANES[name]} needs a second model.", "models.draft")
    return []


def size(request: RunRequest) -> dict[str, float]:
    """What this will take."""
    options: Options = parse_options(Options, request.options)
    cases = read_cases(options.prompts, options.most)
    return {"items": len(cases), "prompt_chars": max(len(case.prompt) for case in cases)}


def run(request: RunRequest, context: RunContext, models: Mapping[str, Any]) -> Iterator[Event]:
    options: Options = parse_options(Options, request.options)
    cases = read_cases(options.prompts, options.most)
    rows = [e["data"] for e in map(json.loads, context.earlier) if e["event"] == "finding" and e["kind"] == "row"]
    rows = [row for row in rows if row["prompt"] < complete(rows, lanes_of(request, "x"))]
    start, first = context.clock(), len({row["prompt"] for row in rows})
    for number, case in enumerate(cases[first:], first):
        rate = (number - first) / max(context.clock() - start, 1e-9) or None
        progress = Progress(number, len(cases), case.kind or "prompts", rate)
        records = yield from _case_records(request, case, number, context, models, progress)
        if context.cancelled():
            break
        for row in _rows(records, number, case):
            rows.append(row)
            yield Finding("row", row)
    summaries = summarize_rows(rows)
    for summary in summaries:
        yield Finding("summary", summary)
    yield Done("cancelled" if context.cancelled() else "stop", words(summaries), {"lanes": summaries, "n_prompts": len({r["prompt"] for r in rows})})


def complete(rows: Sequence[Mapping[str, Any]], lanes: Sequence[RunRequest]) -> int:
    """How many prompts, from the first on, have all their rows."""
    counts = [sum(row["prompt"] == n for row in rows) for n in range(1 + max((row["prompt"] for row in rows), default=-1))]
    return next((n for n, count in enumerate(counts) if count < len(lanes)), len(counts))


def _case_records(request: RunRequest, case: Case, number: int, context: RunContext, models: Mapping[str, Any], progress: Progress) -> Iterator[Any]:
    """The records of one prompt's lanes, plain last, run in an order that rotates."""
    lanes = lanes_of(request, case.prompt)
    records: list[RunRecord | None] = [None] * len(lanes)
    for step in range(len(lanes)):
        at = (step + number) % len(lanes)
        records[at] = yield from _record(lanes[at], context, models, progress)
        if context.cancelled():
            break
    return records


def _record(request: RunRequest, context: RunContext, models: Mapping[str, Any], progress: Progress) -> Iterator[Any]:
    """Run one lane to its end; says where it is often enough for others to go first."""
    said = context.clock()
    lines: list[str] = []
    stats: Mapping[str, Any] = {}
    yield progress
    with closing(generate(request, replace(context, earlier=()), models)) as events:
        for event in events:
            lines.append(event.to_line())
            if isinstance(event, Done):
                stats = event.stats
            if context.clock() - said > SAY_EVERY_S:
                said = context.clock()
                yield progress
    return RunRecord("", request, "completed", lane=lane(request), stats=stats, lines=tuple(lines))


def _rows(records: Sequence[RunRecord], number: int, case: Case) -> list[dict[str, Any]]:
    plain = records[-1]
    rows = []
    for record in records:
        figures, stats = lane_figures(record, plain), record.stats
        first = figures.get("first_divergence") or {}
        rows.append({
            "prompt": number, "kind": case.kind, "lane": record.lane, "n_tokens": stats["n_tokens"], "rounds": stats["rounds"],
            "accepted": stats["accepted"], "tokens_per_round": stats["tokens_per_round"], "ms_per_token": stats["ms_per_token"],
            "speedup": 1.0 if record is plain else 1 / figures["ratio"] if "ratio" in figures else None,
            "identical": True if record is plain else figures["identical"],
            "first_divergence": first.get("position"), "cause": first.get("cause"),
            "per_position": summarize(rounds_of(record.events()))["per_position"],
        })  # fmt: skip
    return rows


def summarize_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One summary a lane, in the order the lanes first came."""
    return [_summary(name, [row for row in rows if row["lane"] == name]) for name in dict.fromkeys(row["lane"] for row in rows)]


def _summary(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    speedups = sorted(row["speedup"] for row in rows if row["speedup"] is not None)
    low, middle, high = _quartiles(speedups)
    rounds, accepted = sum(row["rounds"] for row in rows), sum(row["accepted"] for row in rows)
    depth = max((len(row["per_position"]) for row in rows), default=0)
    per_position = [[sum(row["per_position"][i][j] for row in rows if i < len(row["per_position"])) for j in (0, 1)] for i in range(depth)]
    return {
        "lane": name, "speedup": middle, "low": low, "high": high, "tokens_per_round": (rounds + accepted) / rounds if rounds else None,
        "identical": sum(row["identical"] is True for row in rows), "of": len(rows), "per_position": per_position,
    }  # fmt: skip


def _quartiles(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    if len(values) < 2:
        return (values[0],) * 3 if values else (None, None, None)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def words(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Each lane in a sentence."""
    said = [
        f"{s['lane']}: {s['speedup']:.2f} × plain (quartiles {s['low']:.2f} to {s['high']:.2f}), {s['identical']} of {s['of']} texts the same"
        for s in summaries
        if s["lane"] != PLAIN and s["speedup"] is not None
    ]
    return ". ".join(said) + "." if said else "Nothing to compare yet."


def verdict(records: Sequence[RunRecord]) -> Verdict:
    stats = records[0].stats
    return Verdict(words(stats.get("lanes", [])), stats, None)


def method() -> Method:
    return Method(
        name="speculative.evaluate", title="Drafters over a prompt set", question="Does drafting pay on prompts like these?", Options=Options,
        roles=(TARGET,), run=run, check=check, baselines=lambda request: [], lane=lambda request: "evaluation", verdict=verdict,
        warm=warm, size=size, job=True,
    )  # fmt: skip


def request(models: Mapping[str, str], **options: Any) -> RunRequest:
    """A request of this job; the prompt is only its name in the history."""
    return RunRequest("speculative.evaluate", Prompt.user("Drafters over a prompt set"), models, options=options)
