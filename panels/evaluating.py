"""Drafters over a set of prompts: the job's request, its cost in words, its course, its table.

Goes in: values of widgets, the job's lines. Comes out: a `speculative.evaluate` request, texts and rows. Knows nothing of components; what
is measured and how is the job's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr

from backend.speculative import evaluate
from backend.speculative.request import DRAFT, WITH_MODEL
from backend.types import RunRecord, RunRequest
from backend.workbench import Workbench
from panels.header import duration
from panels.lanes import lanes
from panels.speculative_logic import PLAIN, Logic
from panels.visitor import context_of, owner_of

METHOD = "speculative.evaluate"
QUICK = 4  # prompts of the quick variant
COLUMNS = ("prompt", "kind", "lane", "n_tokens", "tokens_per_round", "ms_per_token", "speedup", "identical", "first_divergence", "cause")
PLAIN_NAMES = {"n_tokens": "tokens", "tokens_per_round": "tokens a round", "ms_per_token": "ms a token", "speedup": "speed-up",
               "identical": "same text", "first_divergence": "differs from token"}  # fmt: skip


@dataclass(frozen=True)
class Told:
    """What the section shows at one moment: words, one row a lane, one row a prompt and lane, and which job it is."""

    words: str = ""
    summary: Sequence[Mapping[str, Any]] = ()
    rows: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    run: str = ""


def request_of(logic: Logic, values: Sequence[Any], prompts: str, own: str, drafters: Sequence[str], most: int = 0) -> RunRequest:
    """The job that the form and the section stand for: model, sampling and sizes of the form, `own` prompts where they are asked for."""
    form = logic.request(values)
    named = [name for name in drafters if name != PLAIN]
    models = {role: model for role, model in form.models.items() if role != DRAFT or any(name in WITH_MODEL for name in named)}
    options = {name: form.options[name] for name in ("gamma", "nodes", "mode")}
    text = own if prompts == "own" else prompts
    wanted = evaluate.request(models, prompts=text, drafters=", ".join(named), most=most, **options)
    shown = replace(wanted.prompt, template=form.prompt.template, system=form.prompt.system)
    return replace(wanted, sampling=form.sampling, prompt=shown)


def cost(workbench: Workbench, request: RunRequest, text: str) -> str:
    """What it would take, from the pace of the lanes in the strip; raises `WorkbenchError` where it could not run."""
    workbench.check(request)
    n_prompts = len(evaluate.read_cases(request.options["prompts"]))
    n_lanes = len(evaluate.lanes_of(request, "x"))
    what = f"{n_prompts} prompts × {n_lanes} lanes, at most {request.sampling.max_new_tokens} tokens each"
    paces = [lane.seconds / len(lane.tokens) for lane in lanes(text) if lane.seconds and not lane.continued]
    if not paces:
        return f"{what}. Run once first to know how long that takes."
    one = n_lanes * request.sampling.max_new_tokens * sum(paces) / len(paces)
    quick = min(QUICK, n_prompts)
    return (
        f"{what}: up to {duration(n_prompts * one)}; the first {quick} prompts up to {duration(quick * one)}. "
        "No more memory than a run; some hundred kilobytes of disk. It goes on when this page closes."
    )


def started(workbench: Workbench, request: gr.Request, token: Any, wanted: RunRequest) -> Iterator[Told]:
    """Start the job and tell its course."""
    run_id = workbench.start_job(wanted, context_of(workbench, token, request))
    yield from course(workbench.follow(run_id), run_id)


def choice_of(request: RunRequest) -> tuple[str, str, list[str]]:
    """The section's values of a job: which set, own prompts, drafters."""
    prompts = str(request.options.get("prompts", "mix"))
    shipped = prompts in ("mix", "pocket")
    named = str(request.options.get("drafters", "")).split(",")
    return (prompts if shipped else "own", "" if shipped else prompts, [name.strip() for name in named if name.strip()])


def of_record(record: RunRecord) -> Told:
    """What a stored evaluation found, however it ended."""
    *_, told = course(record.lines, record.id)
    return replace(told, words=told.words or "An evaluation, as far as it came.")


def last(workbench: Workbench, token: Any) -> Told:
    """What the visitor's last evaluation found, however it ended; nothing where there was none."""
    records = workbench.store.runs(owner_of(workbench.public, token), method=METHOD, limit=1)
    if not records:
        return Told()
    *_, told = course(workbench.store.get(records[0].id, records[0].owner).lines, records[0].id)
    return replace(told, words=told.words or "The last evaluation, as far as it came.")


def stop(workbench: Workbench, token: Any, run_id: Any) -> None:
    """Ask the visitor's own evaluation to stop; what it measured stays."""
    owner = owner_of(workbench.public, token)
    if any(job.run_id == run_id and job.owner == owner for job in workbench.jobs()):
        workbench.stop_job(run_id)


def course(lines: Iterable[str], run_id: str = "") -> Iterator[Told]:
    """A job's lines as what the section shows while it goes on, the conclusion last."""
    told = Told(run=run_id)
    rows: list[dict[str, Any]] = []
    for line in lines:
        told = _heard(told, rows, json.loads(line))
        yield told
    yield told


def _heard(told: Told, rows: list[dict[str, Any]], event: dict[str, Any]) -> Told:
    match event["event"]:
        case "queued":
            return replace(told, words=f"Waits behind {event['place']}.")
        case "progress":
            return replace(told, words=f"{event.get('note') or 'Evaluating'} · {event['done']:.0f} of {event['total'] or 0:.0f} prompts")
        case "finding" if event["kind"] == "row":
            rows.append(event["data"])
            return replace(told, rows=tuple(rows), summary=summary_rows(evaluate.summarize_rows(rows)))
        case "done" | "failed":
            return replace(told, words=event.get("text") or event.get("error") or "")
        case _:
            return told


def summary_rows(summaries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a lane as the table shows it."""
    return [
        {"lane": s["lane"], "speed-up": _times(s["speedup"]), "quartiles": f"{_times(s['low'])} to {_times(s['high'])}",
         "tokens a round": s["tokens_per_round"], "identical": f"{s['identical']} of {s['of']}", "acceptance by position": _shares(s["per_position"])}
        for s in summaries
    ]  # fmt: skip


def csv_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows as the file has them, prompt by prompt."""
    return [{PLAIN_NAMES.get(name, name): row.get(name) for name in COLUMNS} for row in rows]


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} ×"


def _shares(pairs: Sequence[Sequence[int]]) -> str:
    return " · ".join(f"{kept / n:.0%}" for n, kept in pairs[:6] if n) or "–"
