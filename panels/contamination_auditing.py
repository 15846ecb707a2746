"""An audit as the page asks for it: the request of its widgets, a preview of its items, its course, going on after a stop.

Goes in: values of widgets (client input), the visitor's token. Comes out: `contamination.audit` requests, words, lines of a job. Knows nothing of
components; what is measured and how is the job's.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from backend import recordings
from backend.artifacts import resolve
from backend.contamination.audit_request import BASE, EXAM, METHOD, SUSPECT, TWIN, Options, audit_request, makes_fresh, parse, read
from backend.contamination.items import FIELDS, FRESH, LEAKED, Item, preview
from backend.contamination.report import KIND, load
from backend.contamination.search import SearchOptions
from backend.contamination.stats import power_sentence
from backend.errors import InvalidRequest, WorkbenchError
from backend.types import Artifact, RunRecord, RunRequest
from backend.workbench import Workbench
from panels import controls
from panels.lanes import row
from panels.run_logic import default_options, recorded_text
from panels.visitor import context_of, owner_of

QUICK = 60  # items of each set in the quick variant
OWN = "own"
TEXTS = ("grader", "template", "curve", "corpus")
PLAIN = ("source", "most", "k", "draws", "make_fresh", "max_new_tokens", "min_k", "ngram", "seed")
SEARCH = tuple(controls.specs(SearchOptions))


@dataclass(frozen=True)
class Preview:
    """What the items are: words, the first rows as the grader takes them, and what so many can show; `words` begin with ! where they can't be."""

    words: str
    rows: Sequence[Mapping[str, Any]] = ()
    power: str = ""


# Widgets and requests ---------------------------------------------------------------------------------------------------------------------


def options_of(values: Sequence[Any]) -> dict[str, Any]:
    """The job's options; `values` are: exam or own, own items, a column for each of `FIELDS`, `TEXTS`, `PLAIN`, `SEARCH`."""
    where, own, *rest = values
    n, m = len(FIELDS), len(FIELDS) + len(TEXTS)
    columns = {field: name.strip() for field, name in zip(FIELDS, rest[:n], strict=True) if isinstance(name, str) and name.strip()}
    texts = dict(zip(TEXTS, rest[n:m], strict=True))
    plain = dict(zip(PLAIN, rest[m : m + len(PLAIN)], strict=True))
    search = dict(zip(SEARCH, rest[m + len(PLAIN) :], strict=True))
    own_only = {"columns": columns, "grader": texts["grader"], "template": texts["template"]} if where == OWN else {}
    return {"data": own if where == OWN else EXAM, **own_only, "curve": numbers(texts["curve"]), "corpus": texts["corpus"] or "", **plain,
            "search": {name: value for name, value in search.items() if value != default_options(SearchOptions)[name]}}  # fmt: skip


def values_of(options: Mapping[str, Any]) -> list[Any]:
    """The widgets' values of a job's options; one that they leave out has its default."""
    said = {**default_options(Options), **options}
    exam = said["data"].strip() == EXAM
    texts = {**said, "curve": ", ".join(map(str, said["curve"]))}
    search = {**default_options(SearchOptions), **said["search"]}
    columns = [said["columns"].get(field, "") for field in FIELDS]
    return [EXAM if exam else OWN, "" if exam else said["data"], *columns, *(texts[name] for name in TEXTS), *(said[name] for name in PLAIN),
            *(search[name] for name in SEARCH)]  # fmt: skip


def numbers(text: Any) -> list[int]:
    """Whole numbers out of "4, 8 16"; raises `InvalidRequest` for anything else."""
    words = str(text or "").replace(",", " ").split()
    wrong = next((word for word in words if not word.isdecimal()), None)
    if wrong is not None:
        raise InvalidRequest(f"options.curve must be whole numbers with commas between, got {wrong!r}.", "options.curve")
    return [int(word) for word in words]


def request_of(models: Mapping[str, str], values: Sequence[Any], quick: bool = False) -> RunRequest:
    """The job that the form stands for; the quick one takes a few items of each set."""
    options = options_of(values)
    if quick:
        options["most"] = min(QUICK, options["most"] or QUICK)
    return audit_request(models[SUSPECT], models.get(BASE), models.get(TWIN), **options)


# Before it starts -------------------------------------------------------------------------------------------------------------------------


def look(workbench: Workbench, models: Mapping[str, str], values: Sequence[Any]) -> Preview:
    """What stands in the data, or which line can't be read and why."""
    try:
        options = parse(request_of(models, values))
        items = read(options, models[SUSPECT], workbench.data_dir)
    except WorkbenchError as error:
        return Preview(f"! {error}")
    counts = Counter(item.skill or item.set for item in items)
    words = ", ".join(f"{n:,} {name}" for name, n in counts.items()) + " items; one half of each searches, the other reports."
    if makes_fresh(options) and counts.get(FRESH):
        words += f" The {counts[FRESH]:,} fresh ones were made from leaked ones with other numbers, their answers calculated anew."
    if not counts.get(FRESH):
        words += " Without fresh items nobody can tell what a patch removes from what it damages; the verdict will say so."
    return Preview(words, rows_of(items), power(items))


def rows_of(items: Sequence[Item]) -> list[dict[str, Any]]:
    """Five rows, graded: the answer itself must pass, an empty one must not."""
    return [{name: value for name, value in row.items() if value != ""} for row in preview(items)]


def power(items: Sequence[Item]) -> str:
    """What so many items can show; of each set the larger half is reported."""
    n = Counter(item.set for item in items)
    return power_sentence(n[LEAKED] - n[LEAKED] // 2, n[FRESH] - n[FRESH] // 2)


# Its course -------------------------------------------------------------------------------------------------------------------------------


def start(workbench: Workbench, request: gr.Request, token: Any, wanted: RunRequest) -> str:
    """Start the job; returns its run id."""
    return workbench.start_job(wanted, context_of(workbench, token, request))


def go_on(workbench: Workbench, request: gr.Request, token: Any, run_id: Any) -> str:
    """Start a job that takes over the finished stages of a stopped one; returns its run id."""
    record = workbench.store.get(run_id, owner_of(workbench.public, token)) if isinstance(run_id, str) and run_id else None
    if record is None or record.request.method != METHOD or record.status in ("running", "queued"):
        raise WorkbenchError("There is no stopped audit to go on with; start one.")
    if record.status == "completed":
        raise WorkbenchError("This audit is complete. Start another one.")
    begun = report_of(record)
    earlier = (Artifact(begun, KIND, {"state": "begun"}).to_line(),) if begun else ()
    return workbench.start_job(record.request, replace(context_of(workbench, token, request), parent_run_id=record.id, earlier=earlier))


def report_of(record: RunRecord) -> str | None:
    """The report's artifact of an audit, of one that did not end the one it began; None before it began."""
    artifacts = [event["id"] for event in record.events() if event["event"] == "artifact" and event["kind"] == KIND]
    return record.stats.get("report") or next(iter(artifacts), None)


def follow(workbench: Workbench, run_id: str) -> Iterator[str]:
    """All lines of an audit, those of an earlier process first; ends with the job. Closing it leaves the job alone."""
    stored = list(workbench.store.find(run_id).lines)
    known = set(stored)
    yield from stored
    yield from (line for line in workbench.follow(run_id) if line not in known)


def stop(workbench: Workbench, token: Any, run_id: Any) -> None:
    """Ask the visitor's own audit to stop; what is done stays."""
    owner = owner_of(workbench.public, token)
    if any(job.run_id == run_id and job.owner == owner for job in workbench.jobs()):
        workbench.stop_job(run_id)


def latest(workbench: Workbench, token: Any) -> str:
    """The run id of the visitor's last audit, running or ended; empty where there was none."""
    records = workbench.store.runs(owner_of(workbench.public, token), method=METHOD, limit=1)
    return records[0].id if records else ""


def report_text(workbench: Workbench, token: Any, run_id: str) -> str:
    """The report of an audit of one's own as JSON text; empty where it did not end, or is somebody else's."""
    try:
        record = workbench.store.get(run_id, owner_of(workbench.public, token))
        found = load(resolve(workbench.data_dir, record.stats.get("report", ""), KIND))
    except WorkbenchError:
        return ""  # a recording, deleted meanwhile, or stopped: the findings stay on the page, there is no file to give
    return json.dumps(found, ensure_ascii=False, indent=1)


def text_of_file(path: Any) -> str:
    """What an uploaded file says; raises `WorkbenchError` for what is no text."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise WorkbenchError(f"This file is no UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8 and try again.") from error


def recorded() -> str:
    """The strip's text of the audit that ships; empty where none does."""
    return recorded_text(METHOD)


def recording_of(workbench: Workbench, wanted: RunRequest) -> str:
    """On a public instance the strip's text of the recording of this very audit; empty where none ships, and on one's own machine."""
    found = recordings.holding(recordings.shipped(METHOD), [wanted], Options) if workbench.public else None
    return "".join(map(row, found.lines())) if found else ""
