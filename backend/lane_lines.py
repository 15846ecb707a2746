"""From a lane that is to run to its lines: the part of a run that happens where the models are.

Goes in: a lane (picklable), its method, a way to its models, a context. Comes out: stamped lines, the first to the last, errors among
them. In-process runs and GPU turns in another process share it, so they can't say different things. Knows no store, stream or page.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from backend.errors import WorkbenchError
from backend.method import Method
from backend.prompt import render
from backend.store import now
from backend.types import Control, Done, Event, Failed, Finding, Round, RunContext, RunRequest, Started, Token

log = logging.getLogger("loupe")
TIMED = (Token, Round, Finding, Control)
SHOWN_ONLY = frozenset({"progress", "queued"})


@dataclass(frozen=True)
class LaneJob:
    """One lane as another process can be told of it; `request` is JSON. `begun`: it goes on in lines that it has already; `fixed`: why
    nothing can be moved while it runs."""

    run_id: str
    group: str | None
    lane: str
    request: str
    findings: tuple[Finding, ...] = ()
    begun: bool = False
    warm: bool = True
    fixed: str | None = None

    def asked(self) -> RunRequest:
        return RunRequest.from_json(json.loads(self.request))


@dataclass(frozen=True)
class Line:
    """One line and what a recorder must know of it, so that nobody who has the event parses its text again."""

    text: str
    stored: bool = True
    token: str | None = None
    end: Done | Failed | None = None
    models: Mapping[str, Mapping[str, Any]] | None = None  # of a first line

    @classmethod
    def of(cls, event: Event, **stamp: Any) -> Line:
        text = event.to_line(**stamp)
        match event:
            case Token():
                return cls(text, token=event.text)
            case Started():
                return cls(text, models=event.models)
            case Done() | Failed():
                return cls(text, end=event)
        return cls(text, event.stored)

    @classmethod
    def read(cls, text: str) -> Line:
        """A line that came as text from another process."""
        data = json.loads(text)
        match data["event"]:
            case "token":
                return cls(text, token=data["text"])
            case "started":
                return cls(text, models=data["models"])
            case "done":
                return cls(text, end=Done(data["finish_reason"], data["text"], data["stats"]))
            case "failed":
                return cls(text, end=Failed(data["error"], data.get("where")))
            case tag:
                return cls(text, stored=tag not in SHOWN_ONLY)


def lane_lines(job: LaneJob, method: Method, load: Callable[[], Mapping[str, Any]], context: RunContext) -> Iterator[Line]:
    """The lines of one run. `load()` brings its models, ready and warm; time counts from then on. An error is the last line.

    Here, and nowhere else, does a line get its time.
    """
    try:
        models, request = load(), job.asked()
        start = context.clock()
        if not job.begun:
            yield Line.of(started(job, request, method, models))
            for finding in job.findings:
                yield _timed(finding, context.clock() - start)
        with closing(method.run(request, context, models)) as events:
            for event in events:
                yield _timed(event, context.clock() - start)
    except WorkbenchError as error:
        yield Line.of(Failed(str(error), error.where))
    except Exception as error:
        log.exception("run %s broke", job.run_id)
        yield Line.of(broke(error))


def broke(error: Exception) -> Failed:
    """A bug of ours as the last line of the run it hit."""
    return Failed(f"Loupe itself broke here ({type(error).__name__}: {error}). The log has the details.")


def _timed(event: Event, seconds: float) -> Line:
    return Line.of(event, ms=round(seconds * 1000, 3)) if isinstance(event, TIMED) else Line.of(event)


def started(job: LaneJob, request: RunRequest, method: Method, models: Mapping[str, Any]) -> Started:
    """The first line: which models, and the prompt as the method's reader sees it."""
    reader = models.get(method.prompt_role) or next(iter(models.values()), None)
    seen = method.seen or (lambda request, tokenizer: render(request.prompt, tokenizer))
    rendered = seen(request, reader.tokenizer) if reader is not None else None
    return Started(
        job.run_id, job.group, job.lane, method.name, model_lines(models), [list(piece) for piece in rendered.pieces] if rendered else [],
        now(), list(rendered.warnings) if rendered else None, job.fixed,
    )  # fmt: skip


def model_lines(models: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the first line says of each model, by role."""
    return {role: model.line() for role, model in models.items()}


def device_of(lines: Mapping[str, Mapping[str, Any]]) -> str:
    """Where these models are, in words."""
    return ", ".join(sorted({str(line["device"]) for line in lines.values()})) or "cpu"
