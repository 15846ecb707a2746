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

from backend import examples
from backend.errors import WorkbenchError
from backend.measure import measure_request
from backend.method import Method
from backend.types import Finding, Prompt, RunContext, RunRequest
from backend.workbench import Workbench
from panels import controls, measuring
from panels.lanes import footing, row
from panels.records import opened
from panels.stream import streamed, told
from panels.visitor import LOCAL, context_of, owner_of, stop_runs


class RunLogic:
    """One workbench, seen from the page of one method. `roles` are its models besides the target; a role may be left empty.

    The values of a form stand in this order: `controls.SHARED`, the models of `roles`, the method's options.
    """

    method_name: str
    roles: tuple[str, ...] = ()

    def __init__(self, workbench: Workbench) -> None:
        self.workbench = workbench
        self.method: Method = workbench.methods[self.method_name]
        self.option_names = tuple(controls.specs(self.method.Options))
        self.presets = [example for example in examples.load() if example.panel == self.method_name]
        self.recorded = recorded_text(self.method_name)

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
        options = dict(zip(self.option_names, values[m:], strict=True))
        return controls.to_request(self.method_name, values[:n], options, dict(zip(self.roles, values[n:m], strict=True)))

    def values(self, request: RunRequest) -> list[Any]:
        """The form's values of a request; an option that it leaves out has its default."""
        options = {**default_options(self.method.Options), **request.options}
        models = (request.models.get(role, controls.NO_MODEL) for role in self.roles)
        return [*controls.from_request(request), *models, *(options[name] for name in self.option_names)]

    def start(self) -> RunRequest:
        """What a page opens with: the best preset; without any, the first model and an empty prompt."""
        choices = self.workbench.models.choices()
        nothing = RunRequest(self.method_name, Prompt.user(""), {"target": choices[0][1]} if choices else {})
        return self.presets[0].request if self.presets else nothing

    def preset_values(self, title: str) -> list[Any]:
        return self.values(next(p.request for p in self.presets if p.title == title))

    def first(self, token: Any, query: Mapping[str, str], choices: Any) -> tuple[list[Any], str | None]:
        """Form values and strip text of a page that opens: a stored run, a preset, or the best preset with what was chosen last."""
        if query.get("run"):
            record, text = opened(self.workbench, owner_of(self.workbench.public, token), query["run"])
            if record.request.method != self.method_name:
                raise WorkbenchError(f"Run {record.id} belongs to {record.request.method}, not to this page. Open it in History.")
            return self.values(record.request), text
        wanted = query.get("preset", "").removeprefix(f"{self.method_name}-")
        preset = next((p for p in self.presets if p.name == f"{self.method_name}-{wanted}"), None)
        values = self.values(preset.request if preset else self.start())
        kept = controls.recalled(choices) if preset is None else None
        return [*(kept or values[: len(controls.SHARED)]), *values[len(controls.SHARED) :]], None

    # Before a run -------------------------------------------------------------------------------------------------------------

    def lint(self, values: Sequence[Any]) -> str:
        """What the line under the options says: why this can't run, or what is known of it."""
        try:
            request = self.request(values)
            return self.words(request, self.workbench.check(request))
        except WorkbenchError as error:
            return f"! {error}"

    def cost(self, text: str, compare: Sequence[str], values: Sequence[Any]) -> str:
        """What Measure would cost."""
        return measuring.cost(text or "", len(self.lanes_to_measure(self.request(values), compare)))

    # Runs ---------------------------------------------------------------------------------------------------------------------

    def run(self, request: gr.Request, token: Any, compare: Sequence[str], values: Sequence[Any]) -> Iterator[str]:
        """The lines of the form's request and of the lanes that were ticked."""
        return self.workbench.run_group(self.lanes(self.request(values), compare), context_of(self.workbench, token, request))

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

    def inspect(self, run_id: str, position: int) -> dict[str, Any]:
        """One step's candidates for the card. The run id is what authorises: it carries 80 random bits and is shown to its owner only."""
        try:
            return self.workbench.inspect(run_id, position)
        except WorkbenchError as error:
            return {"error": str(error)}

    def events(self, lanes: Sequence[RunRequest]) -> Iterator[dict[str, Any]]:
        """The lines of requests from outside a page, as objects. On a public instance they belong to nobody who could read them again."""
        context = RunContext(owner="api" if self.workbench.public else LOCAL)
        with closing(self.workbench.run_group(lanes, context)) as lines:
            for line in lines:
                yield json.loads(line)


def recorded_text(name: str) -> str:
    """The recorded run that a page opens with; nothing where none ships."""
    path = examples.assets_dir() / "runs" / f"{name}.jsonl"
    return "".join(map(row, examples.recorded(name))) if path.is_file() else ""


def default_options(options: type) -> dict[str, Any]:
    return {name: controls.default_of(spec) for name, spec in controls.specs(options).items()}


def at_most_tokens(request: RunRequest, n: int) -> RunRequest:
    return replace(request, sampling=replace(request.sampling, max_new_tokens=n))
