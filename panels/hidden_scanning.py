"""A scan as the page starts, follows and shows it again: its request, what it takes, its lines.

Goes in: values of widgets, stored runs. Comes out: `hidden_text.scan` requests, texts, and the growing string of lines that the scan's
component draws. Knows nothing of components; what is found, and how much to believe it, is the job's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from backend import examples
from backend.errors import InvalidRequest, WorkbenchError
from backend.hidden_text.halving import plan
from backend.hidden_text.probe import REFERENCE, SUSPECT
from backend.hidden_text.request import PARTS, QUICK, ScanOptions, scan_options
from backend.options import default_of
from backend.types import Prompt, RunRecord, RunRequest
from backend.workbench import Workbench
from panels import controls
from panels.header import duration
from panels.hidden_logic import Logic
from panels.lanes import row
from panels.records import request_of as request_behind
from panels.stream import grown
from panels.visitor import context_of, owner_of

METHOD = "hidden_text.scan"
RECORDED = "hidden_text_scan"  # the recording a page without scans opens on
CLEAN = "hidden_text_clean.json"  # what scans of clean models of the shipped family found
CHOICES = ("parts", "contexts", "minutes", "depth", "beam_contexts")
BYTES_A_TOKEN = 20  # of the ledger: ids, log-probabilities under both models, margin, entropy
QUICK_MINUTES = 5


def request_of(logic: Logic, values: Sequence[Any], choice: Sequence[Any], quick: bool = False) -> RunRequest:
    """The scan that the form's models and the section's choices (in the order of `CHOICES`) stand for."""
    said, form = dict(zip(CHOICES, choice, strict=True)), logic.request(values)
    parts, minutes = said["parts"] or [], said["minutes"]
    if isinstance(minutes, bool) or not isinstance(minutes, (int, float)) or not 0 <= minutes <= 10_000:
        raise InvalidRequest(f"The longest time must be minutes from 0 to 10000, got {minutes!r}.", "options.budget_s")
    options = {**{name: name in parts for name in PARTS}, "contexts": ", ".join(said["contexts"] or []), "depth": said["depth"],
               "beam_contexts": said["beam_contexts"], "budget_s": 60.0 * minutes, "quick": quick}  # fmt: skip
    if quick:
        options["budget_s"] = min(options["budget_s"] or 60.0 * QUICK_MINUTES, 60.0 * QUICK_MINUTES)
    wanted = RunRequest(METHOD, Prompt.user("Scan"), form.models, options=options)
    return replace(wanted, sampling=replace(wanted.sampling, seed=form.sampling.seed))


def choice_of(request: RunRequest) -> list[Any]:
    """The section's values of a scan, in the order of `CHOICES`."""
    said = {**{name: default_of(spec) for name, spec in controls.specs(ScanOptions).items()}, **request.options}
    contexts = [part.strip() for part in said["contexts"].split(",") if part.strip()]
    return [[name for name in PARTS if said[name]], contexts, said["budget_s"] / 60, said["depth"], said["beam_contexts"]]


def defaults() -> dict[str, Any]:
    """What the section's choices stand at: the scan's own defaults."""
    return dict(zip(CHOICES, choice_of(RunRequest(METHOD, Prompt.user("Scan"), {})), strict=True))


# What it takes ----------------------------------------------------------------------------------------------------------------


def cost(workbench: Workbench, token: Any, request: RunRequest) -> str:
    """Work, time, memory and disk in words, the quick variant beside it; raises `WorkbenchError` where it could not run."""
    findings = workbench.check(request, owner_of(workbench.public, token))
    width = width_of(workbench, request.models[SUSPECT])
    whole, quick = scan_options(request), replace(scan_options(request), **QUICK)
    rate = rate_of(last_record(workbench, token, request.models))
    told = [_work(whole, width, request), _time(whole, width, rate), _quick(quick, width, rate)]
    room = n_tokens(whole, width) * BYTES_A_TOKEN / 1e6 if width else 0
    told.append(f"Memory: the models and one chunk. Disk: about {max(1, round(room))} MB of ledger, so that Stop or a crash loses one chunk.")
    told += [str(finding.data["text"]) for finding in findings if finding.kind == "warning"]
    return " ".join(part for part in told if part)


def cost_words(workbench: Workbench, logic: Logic, token: Any, values: Sequence[Any], choice: Sequence[Any]) -> str:
    """The cost of what the page says now, or why it can't run."""
    try:
        return cost(workbench, token, request_of(logic, values, choice))
    except WorkbenchError as error:
        return f"! {error}"


def width_of(workbench: Workbench, model: str) -> int:
    """Ids of a model's vocabulary; 0 where its passport can't be read yet."""
    try:
        return int(workbench.models.describe(model).get("vocab_size") or 0)
    except WorkbenchError:
        return 0


def n_tokens(options: ScanOptions, width: int) -> int:
    """Tokens that forcing the whole vocabulary in every context decodes, rung by rung; neutral is four contexts."""
    if not options.forced:
        return 0
    places = sum(4 if kind == "neutral" else 1 for kind in options.kinds)
    rungs, before, total = plan(width, options.depth), 0, 0
    for rung in rungs:
        total += rung.n_rows * (rung.depth - before)
        before = rung.depth
    return places * total


def _work(options: ScanOptions, width: int, request: RunRequest) -> str:
    parts = [f"beams from {options.beam_contexts} ordinary turns"] if options.beam and REFERENCE in request.models else []
    if options.forced:
        what = f"{width:,} tokens" if width else "every token"
        parts.append(f"{what} forced in {', '.join(options.kinds)}" + (f" ({n_tokens(options, width):,} decoded)" if width else ""))
    parts += ["five ways against a text trained to hide"] if options.counters else []
    return f"{'; '.join(parts)}.".capitalize()


def _time(options: ScanOptions, width: int, rate: float | None) -> str:
    most = f"it ends by itself after {duration(options.budget_s)}" if options.budget_s else "it has no limit of time"
    if rate is None or not width:
        return f"Time: {most}; its pace is measured in its first seconds."
    needed = duration(n_tokens(options, width) / rate)
    return f"Time: forcing takes about {needed} at the pace of your last scan of this model ({rate:,.0f} tokens a second); {most}."


def _quick(options: ScanOptions, width: int, rate: float | None) -> str:
    needed = "" if rate is None or not width else f", forcing about {duration(n_tokens(options, width) / rate)}"
    what = f"{len(options.kinds)} contexts, {options.depth} tokens deep, {options.beam_contexts} turns"
    return f"Quick: {what}{needed}, at most {QUICK_MINUTES} min."


def rate_of(record: RunRecord | None) -> float | None:
    """Tokens a second of the slowest sweep of forced tokens in a scan that has ended."""
    rates = (record.stats.get("tokens_per_s") or {}) if record is not None else {}
    forced = [value for name, value in rates.items() if name.startswith("forced") and value]
    return min(forced, default=None)


# The job ----------------------------------------------------------------------------------------------------------------------


def started(workbench: Workbench, request: gr.Request, token: Any, wanted: RunRequest) -> Iterator[str]:
    """Start the job and tell its lines as one growing string."""
    run_id = workbench.start_job(wanted, context_of(workbench, token, request))
    yield from grown(workbench.follow(run_id), before=clean_line(wanted.models))


def followed(workbench: Workbench, token: Any, wanted: RunRecord | None = None) -> Iterator[str]:
    """The scan `wanted`, else the visitor's last one, from its first line, to its end where it still runs; without any, the recording."""
    record = wanted or last_record(workbench, token)
    if record is None:
        yield recorded()
    elif record.status in ("queued", "running"):
        yield from grown(workbench.follow(record.id), before=clean_line(record.request.models))
    else:
        lines = record.lines if wanted else workbench.store.get(record.id, record.owner).lines
        yield clean_line(record.request.models) + "".join(map(row, lines))


def last_record(workbench: Workbench, token: Any, models: Mapping[str, str] | None = None) -> RunRecord | None:
    """The visitor's newest scan, of these models where they are named."""
    records = workbench.store.runs(owner_of(workbench.public, token), method=METHOD, limit=50)
    return next((record for record in records if models is None or dict(record.request.models) == dict(models)), None)


def stop(workbench: Workbench, token: Any, text: Any) -> None:
    """Ask the scan that the component shows to stop, if it is the visitor's own; the ledger keeps what it has."""
    owner, run_id = owner_of(workbench.public, token), run_of(text)
    if any(job.run_id == run_id and job.owner == owner for job in workbench.jobs()):
        workbench.stop_job(run_id)


def resumed(workbench: Workbench, token: Any) -> RunRequest:
    """The visitor's last scan again, with its ledger; raises `WorkbenchError` where there is nothing to go on with."""
    record = last_record(workbench, token)
    ledger = None if record is None else ledger_of(workbench.store.get(record.id, record.owner).lines)
    if record is None or ledger is None:
        raise WorkbenchError("No scan of yours has a ledger to go on with. Start one.")
    if record.status in ("queued", "running"):
        raise WorkbenchError("Your scan is still running.")
    return record.request.with_options(ledger=ledger)


def ledger_of(lines: Sequence[str]) -> str | None:
    """The id of the ledger in a scan's lines, or the one it went on with."""
    events = [json.loads(line) for line in lines]
    made = next((event["id"] for event in events if event["event"] == "artifact"), None)
    return made or next((event["stats"].get("ledger") for event in events if event["event"] == "done" and event.get("stats")), None)


# The component's text ---------------------------------------------------------------------------------------------------------


def events_of(text: Any) -> list[dict[str, Any]]:
    """The lines of the component's text (it comes back from the browser); what is no event is passed over."""
    found = []
    for line in str(text or "").splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(event, dict):
            found.append(event)
    return found


def run_of(text: Any) -> str:
    return next((str(event.get("run", "")) for event in events_of(text) if event.get("event") == "started"), "")


def candidate_of(workbench: Workbench, token: Any, text: Any, rank: Any) -> tuple[RunRequest, dict[str, Any]]:
    """The request of the scan in the component's text, the visitor's own or the recorded one, and its candidate of that rank."""
    request = request_behind(workbench, owner_of(workbench.public, token), run_of(text))
    rows = [event.get("data") for event in events_of(text) if event.get("event") == "finding" and event.get("kind") == "candidate"]
    chosen = next((row for row in rows if isinstance(row, dict) and row.get("rank") == rank), None)
    if chosen is None:
        raise InvalidRequest("The list holds no such candidate.", "answer_prefix")
    return request, chosen


def clean_line(models: Mapping[str, str]) -> str:
    """The grey dots: what scans of clean models found, where the suspect is compared with the same reference as they were."""
    path = Path(examples.assets_dir()) / "runs" / CLEAN
    if not path.is_file():
        return ""
    told = json.loads(path.read_text(encoding="utf-8"))
    return row(json.dumps({"event": "clean", **told})) if models.get(REFERENCE) == told["reference"] else ""


def recorded() -> str:
    """The recorded scan that ships, behind its grey dots; nothing where none ships."""
    path = Path(examples.assets_dir()) / "runs" / f"{RECORDED}.jsonl"
    if not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8").splitlines()
    request = next(iter(json.loads(lines[0])["requests"].values()))
    return clean_line(request["models"]) + "".join(map(row, lines))
