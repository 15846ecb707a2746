"""What every run page does, without the page: requests and widgets, first opening, run, branch, step, measure.

Goes in: values of widgets (client input: anything may stand in them), the visitor's token, Gradio's request. Comes out: lines, texts,
widget values. A page's own logic is a subclass that says what differs. No layout; the workbench decides what is valid.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import gradio as gr

from backend import examples, recordings
from backend.errors import InvalidRequest, WorkbenchError
from backend.measure import measure_request
from backend.method import Method
from backend.types import Finding, Prompt, RunRequest
from backend.workbench import Workbench
from panels import controls, links, measuring
from panels.carried import carried, put_back
from panels.lanes import footing, row
from panels.records import looked, opened, page_of
from panels.stream import streamed, told
from panels.visitor import caller_context, context_of, owner_of, stop_runs

ANSWER = ("text", "finish_reason", "stats", "error")


class RunLogic:
    """One workbench, seen from the page of one method. `roles` are its models besides the target; a role may be left empty.

    The values of a form stand in this order: `controls.SHARED`, the models of `roles`, the method's options, what the form carries along.
    """

    method_name: str
    roles: tuple[str, ...] = ()

    def __init__(self, workbench: Workbench) -> None:
        self.workbench = workbench
        self.method: Method = workbench.methods[self.method_name]
        self.option_names = tuple(controls.specs(self.method.Options))
        self.presets = [example for example in examples.load() if example.panel == self.method_name]
        self.recorded = recorded_text(self.method_name)
        self.shelf = recordings.shipped(self.method_name)

    # What a page says differently ---------------------------------------------------------------------------------------------

    def chosen(self, wanted: RunRequest, compare: Sequence[str]) -> list[RunRequest]:
        """The lanes that were ticked beside the wanted one; here the method's baselines by the names of their lanes."""
        return [baseline for baseline in self.workbench.baselines(wanted) if self.workbench.lane(baseline) in compare]

    def lanes(self, wanted: RunRequest, compare: Sequence[str]) -> list[RunRequest]:
        """What one press of Run asks for, in the order of the strip."""
        return [wanted, *self.chosen(wanted, compare)]

    def lanes_to_measure(self, wanted: RunRequest, compare: Sequence[str]) -> list[RunRequest]:
        """What Measure repeats; the others are compared with the last one."""
        return [wanted, *(self.chosen(wanted, compare) or self.workbench.baselines(wanted)[:1])]

    def words(self, request: RunRequest, findings: Sequence[Finding]) -> str:
        """The line under the options, of a request that can run."""
        return "\n".join(f"! {finding.data.get('text') or finding.data.get('message', '')}" for finding in findings)

    # Widgets and requests -----------------------------------------------------------------------------------------------------

    def request(self, values: Sequence[Any]) -> RunRequest:
        """The request that the form stands for."""
        n, m = len(controls.SHARED), len(controls.SHARED) + len(self.roles)
        end = m + len(self.option_names)
        options = dict(zip(self.option_names, values[m:end], strict=True))
        wanted = controls.to_request(self.method_name, values[:n], options, dict(zip(self.roles, values[n:m], strict=True)))
        return put_back(wanted, *values[end:]) if values[end:] else wanted

    def values(self, request: RunRequest) -> list[Any]:
        """The form's values of a request; an option that it leaves out has its default."""
        options = {**default_options(self.method.Options), **request.options}
        models = (request.models.get(role, controls.NO_MODEL) for role in self.roles)
        return [*controls.from_request(request), *models, *(options[name] for name in self.option_names), carried(request)]

    def of_job(self, job: RunRequest) -> RunRequest:
        """What the form says of a job of this page: what it measured; else its models, sampling, and the options that a single run has too."""
        if job.method == "measure":
            return RunRequest.from_json(job.options["lanes"][0])
        start = self.start()
        options = {name: job.options[name] for name in self.option_names if name in job.options}
        return replace(start, models=dict(job.models), sampling=job.sampling, options={**start.options, **options})

    def start(self) -> RunRequest:
        """What a page opens with: the best preset; without any, the first model and an empty prompt."""
        choices = self.workbench.models.choices()
        nothing = RunRequest(self.method_name, Prompt.user(""), {"target": choices[0][1]} if choices else {})
        return self.presets[0].request if self.presets else nothing

    def preset_values(self, title: str) -> list[Any]:
        return self.values(next(p.request for p in self.presets if p.title == title))

    def first(self, token: Any, query: Mapping[str, str], choices: Any) -> tuple[list[Any], str | None]:
        """Form values and strip text of a page that opens: a stored run, a preset with its recording, the inputs of a link, or the best
        preset with what was chosen last."""
        if query.get("run"):
            record, text = opened(self.workbench, owner_of(self.workbench.public, token), query["run"])
            if record.request.method == self.method_name:
                return self.values(record.request), text
            if page_of(record.request) == self.method_name:
                return self.values(self.of_job(record.request)), None
            raise WorkbenchError(f"Run {record.id} belongs to {record.request.method}, not to this page. Open it in History.")
        wanted = query.get("preset", "").removeprefix(f"{self.method_name}-")
        preset = next((p for p in self.presets if p.name == f"{self.method_name}-{wanted}"), None)
        if wanted and preset is None:
            raise InvalidRequest(f"There is no preset {wanted!r} here; there are {', '.join(p.name for p in self.presets)}.", "preset")
        values = self.values(preset.request if preset else self.start())
        if links.asks(self, query):
            return self._linked(token, values, query), ""
        if preset is not None:
            return values, self._recording(recordings.name_of(preset.name))
        kept = controls.recalled(choices)
        return [*(kept or values[: len(controls.SHARED)]), *values[len(controls.SHARED) :]], None

    def opening(self, token: Any, query: Mapping[str, str], choices: Any, run: str) -> tuple[list[Any], str | None, str]:
        """What a page opens with, and what it says to whoever came by a link; one whose inputs can't be taken leaves the page as it is."""
        try:
            values, text = self.first(token, query, choices)
        except InvalidRequest as error:
            values, text = self.first(token, {}, choices)
            return values, text, f"! The inputs of this link were not taken. {error}"
        return values, text, links.words(self, query, text, run)

    def _linked(self, token: Any, values: Sequence[Any], query: Mapping[str, str]) -> list[Any]:
        """The form's values of a link; on a public instance within what its visitors may ask for."""
        said = links.filled(self, values, query)
        if self.workbench.public:
            self.workbench.guard.check(self.request(said), owner_of(True, token))
        return said

    def _recording(self, name: str) -> str | None:
        """The strip's text of one of this page's recordings; None where there is none of that name."""
        found = next((one for one in self.shelf if one.name == name), None)
        return None if found is None else "".join(map(row, found.lines()))

    def link(self, values: Sequence[Any]) -> str:
        """Page and query of a link to the form's inputs; raises `InvalidRequest` where they do not fit into one."""
        return f"{self.method_name}?{links.query_of(self, values)}"

    # Before a run -------------------------------------------------------------------------------------------------------------

    def lint(self, values: Sequence[Any], token: Any = None) -> str:
        """What the line under the options says: why this can't run, or what is known of it."""
        try:
            request = self.request(values)
            return self.words(request, self.workbench.check(request, owner_of(self.workbench.public, token) if token else None))
        except WorkbenchError as error:
            return f"! {error}"

    def cost(self, text: str, compare: Sequence[str], values: Sequence[Any]) -> str:
        """What Measure would cost."""
        return measuring.cost(text or "", len(self.lanes_to_measure(self.request(values), compare)))

    # Runs ---------------------------------------------------------------------------------------------------------------------

    def run(self, request: gr.Request, token: Any, compare: Sequence[str], values: Sequence[Any]) -> Iterator[str]:
        """The lines of the form's request and of the lanes that were ticked."""
        return self.workbench.run_group(self.lanes(self.request(values), compare), context_of(self.workbench, token, request))

    def preset(self, request: gr.Request, token: Any, compare: Sequence[str], values: Sequence[Any]) -> Iterator[str]:
        """What a preset shows that was just pressed: on a public instance its recording, where one has these lanes; else its run."""
        wanted = self.lanes(self.request(values), compare)
        found = recordings.holding(self.shelf, wanted, self.method.Options) if self.workbench.public else None
        return found.lines() if found else self.workbench.run_group(wanted, context_of(self.workbench, token, request))

    def live(self, request: gr.Request, token: Any, event: Any) -> Iterator[str]:
        """The lines of a recording's own requests, run here and now; `event` names one of its runs."""
        run = event.get("run") if isinstance(event, Mapping) else None
        found = next((one for one in self.shelf if run in one.runs), None)
        if found is None:
            raise WorkbenchError("This recording is not one of this page's. Press Run to run what the form says.")
        return self.workbench.run_group(found.requests, context_of(self.workbench, token, request))

    def branch(self, request: gr.Request, token: Any, event: Any, one: bool) -> Iterator[str]:
        """The lines of a run that goes another way at one token; `event` is what the strip's card sent."""
        match event:
            case {"run": str(run), "position": int(position), "token_id": int(token_id)}:
                return self._continue(request, token, run, position, token_id, 0 if one else None)
            case _:
                raise WorkbenchError("The card sent no token to go on from.")

    def step(self, request: gr.Request, token: Any, text: str, selected: Any, values: Sequence[Any]) -> Iterator[str]:
        """The growing text of a strip that goes on by one token, from the selected one or from the end; else the form's first."""
        with told():
            foot = footing(text or "", selected if isinstance(selected, dict) else None)
        if foot is None:
            first = self._shorter(values)
            return streamed(lambda: self.workbench.run(first, context_of(self.workbench, token, request)))
        return streamed(lambda: self._continue(request, token, foot.run, foot.position, foot.token_id, 1), before=foot.before)

    def _shorter(self, values: Sequence[Any]) -> RunRequest:
        with told():
            return at_most_tokens(self.request(values), 1)

    def _continue(self, request: gr.Request, token: Any, run: str, position: int, token_id: int, more: int | None) -> Iterator[str]:
        """Go on after `token_id` at `position`, by `more` tokens (None: as many as the run has left)."""
        context = replace(context_of(self.workbench, token, request), parent_run_id=self._parent(run))
        wanted = self.workbench.branch(run, position, token_id, context.owner)
        return self.workbench.run(wanted if more is None else at_most_tokens(wanted, more), context)

    def _parent(self, run: str) -> str | None:
        """A recording that ships has no row to point at."""
        return None if examples.recorded_run(run) is not None else run

    def stop(self, request: gr.Request, token: Any) -> None:
        stop_runs(self.workbench, owner_of(self.workbench.public, token), request.session_hash)

    def measure(self, request: gr.Request, token: Any, compare: Sequence[str], values: Sequence[Any], repeats: int) -> Iterator[str]:
        """Start the job and tell its course; it goes on when the page closes."""
        lanes = self.lanes_to_measure(self.request(values), compare)
        run_id = self.workbench.start_job(measure_request(lanes, repeats), context_of(self.workbench, token, request))
        yield from measuring.course(self.workbench.follow(run_id))

    def inspect(self, run_id: str, position: int, token: str) -> dict[str, Any]:
        """One step's candidates for the card."""
        return looked(self.workbench, run_id, position, token)

    def events(self, lanes: Sequence[RunRequest], token: str = "") -> Iterator[dict[str, Any]]:
        """The lines of requests from outside a page, as objects; the last one also says what each lane came to, for who reads no other."""
        answers: dict[str, dict[str, Any]] = {}
        with closing(self.workbench.run_group(lanes, caller_context(self.workbench, token))) as lines:
            for event in map(json.loads, lines):
                if event["event"] == "started":
                    answers[event["lane"]] = {"run": event["run"]}
                if event["event"] in ("done", "failed") and answers:
                    answers[list(answers)[-1]] |= {name: event[name] for name in ANSWER if name in event}
                yield event | {"answers": answers} if event["event"] == "verdict" else event


def recorded_text(name: str) -> str:
    """The recorded run that a page opens with; nothing where none ships."""
    path = examples.assets_dir() / "runs" / f"{name}.jsonl"
    return "".join(map(row, examples.recorded(name))) if path.is_file() else ""


def default_options(options: type) -> dict[str, Any]:
    return {name: controls.default_of(spec) for name, spec in controls.specs(options).items()}


def at_most_tokens(request: RunRequest, n: int) -> RunRequest:
    return replace(request, sampling=replace(request.sampling, max_new_tokens=n))
