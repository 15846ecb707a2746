"""What the workbench knows of a method: a handful of functions under one name.

Goes in: what a capability package defines. Comes out: one frozen record that the workbench, the panels, the CLI and the API
look things up in. Knows nothing of how a method works.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.prompt import Rendered
from backend.resources import Resources
from backend.types import Event, Finding, RunContext, RunRecord, RunRequest, Verdict


@dataclass(frozen=True)
class Method:
    """One method by name.

    `run(request, context, models)` yields events; `models` maps role to a loaded model.
    `check(request, resources)` raises `InvalidRequest` or returns what is known before the run (lint findings).
    `baselines(request)` gives the same request with the neutral options; `lane(request)` names a request's lane in plain words.
    `verdict(records)` compares the lanes of one group, first lane first.
    `inspect(request, models, ids, position, k)` recomputes the step that chose `ids[position]` (answer ids) and returns the top k.
    `warm(request, models)` makes ready what a first run would pay for and the next ones would not (a worker process, kernels).
    `replay(request, events)` adds to a request what was done to its run by hand (a threshold that was moved), so that it runs again as it ran.
    `size(request)` says what a job will take in the units that public instances limit: `items`, `scan_tokens`, `new_tokens`, `seconds`.
    `parts(request)` gives the requests inside a request, each of which must be allowed by itself.
    `seen(request, tokenizer)`: what the model reads before its answer, where that is not the prompt.
    `prompt_role`: whose tokenizer and template the prompt is shown with (default: the first role).
    A job belongs to the workbench, not to a page, and gives way between its events.
    """

    name: str
    title: str
    question: str
    Options: type
    roles: tuple[str, ...]
    run: Callable[[RunRequest, RunContext, Mapping[str, Any]], Iterator[Event]]
    check: Callable[[RunRequest, Resources], list[Finding]]
    baselines: Callable[[RunRequest], list[RunRequest]]
    lane: Callable[[RunRequest], str]
    verdict: Callable[[Sequence[RunRecord]], Verdict]
    inspect: Callable[[RunRequest, Mapping[str, Any], Sequence[int], int, int], dict[str, Any]] | None = None
    warm: Callable[[RunRequest, Mapping[str, Any]], None] | None = None
    replay: Callable[[RunRequest, Sequence[Mapping[str, Any]]], RunRequest] | None = None
    size: Callable[[RunRequest], Mapping[str, float]] | None = None
    parts: Callable[[RunRequest], Sequence[RunRequest]] | None = None
    seen: Callable[[RunRequest, Any], Rendered] | None = None
    prompt_role: str = ""
    job: bool = False
