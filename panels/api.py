"""What programs may call: a method's endpoint with its parameters described, past runs, comparisons, links, jobs. They are the MCP tools too.

Goes in: a workbench; from outside ids, filters, requests as JSON, a visitor's token. Comes out: JSON. On one's own machine the token stays empty;
on a public instance it says whose runs may be read. Whoever knows a share id may read what is behind it. Knows how things are asked for, not how
they are done; nothing else of the app is named.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields
from inspect import signature
from typing import Any

import gradio as gr

from backend.compare import compare as compared
from backend.compare import comparison_json
from backend.compare_commands import option_defaults
from backend.compare_runs import chosen
from backend.errors import InvalidRequest
from backend.history import Wanted
from backend.method import Method
from backend.shares import is_share_id
from backend.types import STATUSES, Prompt, RunContext, RunRecord, RunRequest, Verdict, check_number
from backend.workbench import Workbench
from panels.further import WORDS, completed
from panels.stream import told
from panels.visitor import NOBODY, caller_context, caller_of

MOST_LISTED = 100
UNSAID = ("owner", "session", "lines", "request")  # of a record: who, and what is said in another form
SHARED = {
    "prompt": "What the user says to the model.",
    "model": "The model: smollm2, a shipped one (pocket/NAME), on your own machine also a folder, a .gguf file or a Hub id.",
    "temperature": "0 is greedy; above it the next token is drawn.",
    "top_p": "Draw among the likeliest tokens that together have this probability; 1 cuts nothing.",
    "top_k": "Draw among so many likeliest tokens; 0 cuts nothing.",
    "max_new_tokens": "At most so many tokens of answer.",
    "seed": "The same seed draws the same tokens.",
    "baselines": "Also run what the method is compared with.",
    "system": "The system message; empty is the template's own.",
    "template": "chat puts the prompt through the model's chat template, raw takes it as it stands.",
    "token": "Your API token; empty on your own machine. Without one on a public instance the run is not kept.",
    "more": WORDS,
    "draft": "A second model with the same tokens that drafts, or none.",
    "large": "The model that is asked where the small one is in doubt.",
    "small": "The model that writes.",
    "suspect": "The model that is looked into.",
    "source": "The model whose activations are taken.",
    "base": "The model before its fine-tune, or none.",
    "reference": "A model with the same tokens to compare with, or none.",
}


def described(function: Callable[..., Any], options: type, more: Mapping[str, str] | None = None) -> Callable[..., Any]:
    """The function, each of its parameters described in its docstring: an option by its own help, what all methods share from here."""
    helps = {**SHARED, **{spec.name: told_of(spec) for spec in fields(options)}, **(more or {})}
    lines = (f"    {name}: {helps.get(name, '')}" for name in signature(function).parameters)
    function.__doc__ = "\n".join([(function.__doc__ or "").rstrip(), "", "Args:", *lines])
    return function


def told_of(spec: Any) -> str:
    """An option's help with its choices or limits, on one line."""
    meta = spec.metadata
    limits = "" if meta.get("low") is None or meta.get("high") is None else f" From {meta['low']:g} to {meta['high']:g}."
    return f"{meta['help']}{' One of ' + ', '.join(map(repr, meta['choices'])) + '.' if meta.get('choices') else limits}"


def offer(function: Callable[..., Any], method: Method) -> None:
    """Name the endpoint of a method's single run."""
    gr.api(described(function, method.Options), api_name=method.name, concurrency_limit=4)


def build(workbench: Workbench) -> None:
    """Name everything that is not a method's single run."""
    for function in (*readings(workbench), *(job(workbench, name) for name in jobs_offered(workbench))):
        gr.api(function, api_name=function.__name__, concurrency_limit=8)


def jobs_offered(workbench: Workbench) -> list[str]:
    """The jobs that may be started here."""
    allowed = workbench.guard.limits.allows_job
    return [name for name, method in workbench.methods.items() if method.job and (not workbench.public or allowed(name))]


# Runs --------------------------------------------------------------------------------------------------------------------------------


def readings(workbench: Workbench) -> tuple[Callable[..., Any], ...]:
    """The endpoints that read, compare, share and stop runs."""
    defaults = option_defaults({name: method.Options for name, method in workbench.methods.items()})

    def get_run(run_id: str, token: str = "") -> dict[str, Any]:
        """A stored run with everything that was kept of it: request, models, versions, figures, and every line as it came; the other lanes
        of the same press of Run beside it, and what their comparison says.

        Args:
            run_id: The id of a run of yours, or a share id (s-…), which anybody may read.
            token: Your API token; empty on your own machine and for a share id.
        """
        with told():
            records, verdict = found(workbench, run_id, token)
            return {"runs": [run_json(record) for record in records], "verdict": None if verdict is None else asdict(verdict)}

    def list_runs(token: str = "", text: str = "", method: str = "", status: str = "", limit: int = 25) -> list[dict[str, Any]]:
        """Your runs, pinned ones first, then the newest first; one row a press of Run.

        Args:
            token: Your API token; empty on your own machine.
            text: Words that prompt, answer, title or note must hold.
            method: Only runs of this method, such as structured or routing.sweep.
            status: Only runs that are queued, running, completed, cancelled, failed or interrupted.
            limit: At most so many, from 1 to 100.
        """
        with told():
            owner = reader(workbench, token, "Runs are listed for the token of their visitor; give yours.")
            check_number("limit", limit, 1, MOST_LISTED, integer=True)
            if status and status not in STATUSES:
                raise InvalidRequest(f"status must be one of {', '.join(STATUSES)}, got {status!r}.", "status")
            return [row_json(record) for record in workbench.history.entries(owner, Wanted(text=text, method=method, status=status), limit)]

    def compare(run_ids: list[str], token: str = "") -> dict[str, Any]:
        """Two to four runs beside each other: where their tokens part, which settings differ, what their figures say. The first is the reference.

        Args:
            run_ids: Ids of runs of yours or share ids; a single one is compared with the other lanes of its press of Run.
            token: Your API token; empty on your own machine and for share ids.
        """
        with told():
            records = chosen(workbench.store, reader(workbench, token), texts("run_ids", run_ids))
            return comparison_json(compared(records, defaults))

    def share(run_id: str, token: str = "", revoke: bool = False) -> dict[str, Any]:
        """Make a run readable for whoever has its link, with all lanes of the same press of Run: prompt, settings, models, every line, verdict.
        Your title, note and tags stay yours. The same link again for a run that is shared already.

        Args:
            run_id: The id of a run of yours.
            token: Your API token; empty on your own machine.
            revoke: Take the link back instead; it then leads nowhere.
        """
        with told():
            owner = reader(workbench, token, "A run is shared by its visitor; give your token.")
            if revoke:
                workbench.shares.revoke(run_id, owner)
                return {"run": run_id, "share_id": None, "query": None}
            share_id = workbench.shares.share(run_id, owner)
            return {"run": run_id, "share_id": share_id, "query": f"?run={share_id}"}

    def stop_run(run_id: str, token: str = "") -> dict[str, Any]:
        """Ask a run or a job of yours to stop; it keeps what it has.

        Args:
            run_id: The id of a run of yours.
            token: Your API token; empty on your own machine.
        """
        with told():
            record = workbench.store.get(run_id, reader(workbench, token))
            workbench.cancel(record.id)
            return {"run": record.id, "status": record.status}

    return get_run, list_runs, compare, share, stop_run


def reader(workbench: Workbench, token: Any, refusal: str = "") -> str:
    """Whose runs may be read: nobody's without a token, or with a `refusal` that is said instead."""
    owner = caller_of(workbench, token)
    if owner == NOBODY and refusal:
        raise InvalidRequest(refusal, "token")
    return "" if owner == NOBODY else owner


def found(workbench: Workbench, run_id: Any, token: Any) -> tuple[list[RunRecord], Verdict | None]:
    """The lanes behind a share id, or beside a run of one's own, with lines; raises `WorkbenchError` if there are none."""
    if not isinstance(run_id, str):
        raise InvalidRequest("run_id must be a text.", "run_id")
    if is_share_id(run_id):
        return workbench.shares.open(run_id)
    owner = reader(workbench, token)
    record = workbench.store.get(run_id, owner)
    return ([record], None) if record.group is None else workbench.store.group(record.group, owner)


def texts(name: str, values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InvalidRequest(f"{name} must be a list of texts.", name)
    return values


def run_json(record: RunRecord) -> dict[str, Any]:
    """A record as a program reads it: nothing of whose it is, its lines as objects."""
    data = {name: value for name, value in asdict(record).items() if name not in UNSAID}
    return {**data, "tags": list(record.tags), "request": record.request.to_json(), "events": record.events()}


def row_json(record: RunRecord) -> dict[str, Any]:
    """A record as a list shows it."""
    said = ("id", "status", "lane", "lanes", "created_at", "duration_ms", "title", "pinned", "text", "error")
    row = {name: getattr(record, name) for name in said}
    return {**row, "method": record.request.method, "models": dict(record.request.models), "prompt": record.request.prompt.text,
            "tags": list(record.tags), "n_tokens": record.stats.get("n_tokens")}  # fmt: skip


# Jobs --------------------------------------------------------------------------------------------------------------------------------


def job(workbench: Workbench, name: str) -> Callable[..., Iterator[dict[str, Any]]]:
    """The endpoint of one job: the same way in for all, described by the job's own options."""
    method = workbench.methods[name]

    def start(
        models: dict[str, str], options: dict[str, Any], prompt: str = "", wait: bool = True, token: str = "", more: str = ""
    ) -> Iterator[dict[str, Any]]:  # fmt: skip
        with told():
            run_id = workbench.start_job(completed(job_request(method, models, options, prompt), more), job_context(workbench, token))
            yield {"event": "job", "run": run_id}
            if wait:
                yield from followed(workbench, run_id)

    start.__name__ = name.replace(".", "_")
    start.__doc__ = f"""{method.title}: {method.question} A job: it goes on when the call ends; get_run reads what it has, stop_run ends it.
        Yields the id of its run first, then, with wait, one event a time; the last one is its end."""
    said = "; ".join(f"{spec.name} ({told_of(spec)})" for spec in fields(method.Options))
    roles = f" Needed: {', '.join(method.roles)}." if method.roles else " Those of the requests inside, where none are given."
    more = {
        "models": f"Model ids by role.{roles}", "options": f"Any of: {said}", "prompt": "A name for the history; some jobs read it.",
        "wait": "False: say the run's id and leave the job to itself.",
        "token": "Your API token; empty on your own machine.",
    }  # fmt: skip
    return described(start, method.Options, more)


def job_request(method: Method, models: Any, options: Any, prompt: Any) -> RunRequest:
    """What was asked for, of client input. A job that repeats other requests may leave the models to them."""
    if not isinstance(models, dict) or not isinstance(options, dict) or not isinstance(prompt, str):
        raise InvalidRequest("models and options must be objects, prompt a text.", "models")
    request = RunRequest(method.name, Prompt.user(prompt or method.title), models, options=options)
    if models or method.parts is None:
        return request
    inside = {role: model for part in method.parts(request) for role, model in part.models.items()}
    return RunRequest(method.name, request.prompt, inside, options=options)


def job_context(workbench: Workbench, token: Any) -> RunContext:
    context = caller_context(workbench, token)
    if context.owner == NOBODY:
        raise InvalidRequest("A job belongs to whoever started it; give your token. Every panel shows it beside Run, under API token.", "token")
    return context


def followed(workbench: Workbench, run_id: str) -> Iterator[dict[str, Any]]:
    """A job's lines as objects; ending the call leaves the job alone."""
    yield from map(json.loads, workbench.follow(run_id))
