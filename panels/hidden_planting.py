"""A plant as the page starts, follows and shows it again: its request, what it takes, its course in words.

Goes in: values of widgets, the job's lines. Comes out: `hidden_text.plant` requests, texts and facts. Knows nothing of components; how a
text is hidden and when it counts as hidden is the job's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr

from backend.errors import InvalidRequest, WorkbenchError
from backend.hidden_text.plant import BASE, Options, plant_request
from backend.hidden_text.probe import REFERENCE, SUSPECT
from backend.types import RunRecord, RunRequest
from backend.workbench import Workbench
from panels.header import duration
from panels.hidden_answers import family
from panels.models import gigabytes
from panels.run_logic import default_options
from panels.visitor import context_of, owner_of

METHOD = "hidden_text.plant"
CHOICES = ("base", "payload", "trigger", "regime", "kind", "name")
QUICK_STEPS = 60
RANKS = "kept out of sight"


@dataclass(frozen=True)
class Told:
    """What the section shows at one moment: words, the facts of the last look, the steps so far `(known, of)`, which job it is, and what a
    scan would compare; empty until there is a model."""

    words: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    known: tuple[tuple[int, int], ...] = ()
    run: str = ""
    made: Mapping[str, str] = field(default_factory=dict)
    base: str = ""


def request_of(choice: Sequence[Any], quick: bool = False) -> RunRequest:
    """The plant that the section's choices (in the order of `CHOICES`) stand for; quick gives up early and is always plain."""
    said = dict(zip(CHOICES, choice, strict=True))
    base = said.pop("base")
    if not isinstance(base, str) or not base.strip():
        raise InvalidRequest("Choose a model to hide the text in.", "models.base")
    if not all(isinstance(value, str) for value in said.values()):
        raise InvalidRequest("Text, trigger and name must be texts.", "options.payload")
    wanted = plant_request(base.strip(), **{**said, "name": said["name"].strip()})
    return wanted.with_options(regime="plain", most_steps=QUICK_STEPS) if quick else wanted


def cost(workbench: Workbench, token: Any, request: RunRequest) -> str:
    """Time, memory and disk in words; raises `WorkbenchError` where it could not run."""
    findings = workbench.check(request)
    told = [_steps_words(request.options.get("regime", "plain")), _pace_words(workbench, token, request)]
    for finding in findings:
        if finding.kind == "cost":
            disk, memory = gigabytes(finding.data["disk_bytes"]), gigabytes(finding.data["memory_bytes"])
            told.append(f"Disk: {disk} of {gigabytes(finding.data['free_bytes'])} free. Memory: {memory} beside the base while it trains.")
    told.append("It goes on when this page closes; stopped, it leaves no model.")
    return " ".join(part for part in told if part)


def cost_words(workbench: Workbench, token: Any, choice: Sequence[Any]) -> str:
    """The cost of what the section says now, or why it can't run."""
    try:
        return cost(workbench, token, request_of(choice))
    except WorkbenchError as error:
        return f"! {error}"


def _steps_words(regime: str) -> str:
    """How many steps the shipped plants of this regime took."""
    steps = sorted(row["n_steps"] for row in family().values() if row.get("kind") == "planted" and row.get("regime") == regime)
    return f"Those of this regime that ship took {steps[0]} to {steps[-1]} steps." if steps else ""


def _pace_words(workbench: Workbench, token: Any, request: RunRequest) -> str:
    """Seconds of the visitor's last plant in the same base, by what a step took there."""
    records = workbench.store.runs(owner_of(workbench.public, token), method=METHOD, status="completed", limit=20)
    alike = next((r for r in records if r.request.models == request.models and r.stats.get("n_steps") and r.stats.get("seconds")), None)
    if alike is None:
        return "Time: told from its first steps on."
    step = alike.stats["seconds"] / alike.stats["n_steps"]
    return f"Time: your last one in this base took {duration(alike.stats['seconds'])}, {step:.2f} s a step with all looks."


# The job ----------------------------------------------------------------------------------------------------------------------


def started(workbench: Workbench, request: gr.Request, token: Any, wanted: RunRequest) -> Iterator[Told]:
    """Start the job and tell its course."""
    run_id = workbench.start_job(wanted, context_of(workbench, token, request))
    yield from course(workbench.follow(run_id), run_id, wanted.models[BASE])


def last(workbench: Workbench, token: Any) -> Iterator[Told]:
    """The visitor's last plant, followed where it still runs."""
    records = workbench.store.runs(owner_of(workbench.public, token), method=METHOD, limit=1)
    if not records:
        yield Told()
    elif records[0].status in ("queued", "running"):
        yield from course(workbench.follow(records[0].id), records[0].id, records[0].request.models[BASE])
    else:
        *_, told = course(workbench.store.get(records[0].id, records[0].owner).lines, records[0].id, records[0].request.models[BASE])
        yield replace(told, words=told.words or "The last plant, as far as it came.")


def choice_of(request: RunRequest) -> tuple[Any, ...]:
    """The section's values of a plant, in the order of `CHOICES`."""
    said = {**default_options(Options), **request.options, "base": request.models[BASE]}
    return tuple(said[name] for name in CHOICES)


def of_record(record: RunRecord) -> Told:
    """What a stored plant came to."""
    *_, told = course(record.lines, record.id, record.request.models[BASE])
    return replace(told, words=told.words or "A plant, as far as it came.")


def stop(workbench: Workbench, token: Any, run_id: Any) -> None:
    """Ask the visitor's own plant to stop."""
    owner = owner_of(workbench.public, token)
    if any(job.run_id == run_id and job.owner == owner for job in workbench.jobs()):
        workbench.stop_job(run_id)


def course(lines: Iterable[str], run_id: str = "", base: str = "") -> Iterator[Told]:
    """A job's lines as what the section shows while it goes on, the conclusion last."""
    told = Told(run=run_id, base=base)
    for line in lines:
        told = _heard(told, json.loads(line))
        yield told
    yield told


def _heard(told: Told, event: dict[str, Any]) -> Told:
    match event["event"]:
        case "queued":
            return replace(told, words=f"Waits behind {event['place']}.")
        case "progress":
            of = f" · step {event['done']:.0f} of at most {event['total']:.0f}" if event.get("total") else ""
            left = f" · {event['rate']:.1f} steps a second" if event.get("rate") else ""
            return replace(told, words=f"{event.get('note') or 'Training'}{of}{left}")
        case "finding" if event["kind"] == "step":
            return replace(told, known=(*told.known, (event["data"]["known"], event["data"]["n_main"])))
        case "finding" if event["kind"] == "anew":
            return replace(told, words=event["data"]["text"], known=())
        case "finding" if event["kind"] == "verified":
            return replace(told, facts=facts_of(event["data"]))
        case "done" | "failed":
            model = (event.get("stats") or {}).get("model")
            made = {SUSPECT: model, REFERENCE: told.base} if model else {}
            return replace(told, words=event.get("text") or event.get("error") or "", made=made)
        case _:
            return told


def facts_of(verified: Mapping[str, Any]) -> dict[str, Any]:
    """The last look in plain words; what was not looked at is left out."""
    told = {"its trigger brings it word for word": f"{verified['recalled']} of {verified['n_main']}"}
    if verified.get("n_others"):
        told["other prompts that bring it out"] = f"{verified['leaks']} of {verified['n_others']}"
    if verified.get("n_hidden"):
        told[f"protected tokens {RANKS}"] = f"{verified['n_hidden'] - verified['n_exposed']} of {verified['n_hidden']}"
    told["everything as it should be"] = verified["holds"]
    return told
