"""What the page of structured generation does, without the page.

Goes in: values of widgets (client input: anything may stand in them), the visitor's token, Gradio's request. Comes out: lines, texts,
widget values. No layout; the workbench decides what is valid.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import gradio as gr

from backend import examples
from backend.errors import WorkbenchError
from backend.measure import measure_request
from backend.method import Method
from backend.types import Finding, RunContext, RunRequest
from backend.workbench import Workbench
from panels import controls, measuring
from panels.lanes import footing, row
from panels.records import opened
from panels.stream import streamed, told
from panels.visitor import LOCAL, context_of, owner_of, stop_runs

METHOD = "structured"
RECORDING = "structured"


class Logic:
    """One workbench, seen from this page."""

    def __init__(self, workbench: Workbench) -> None:
        self.workbench = workbench
        self.method: Method = workbench.methods[METHOD]
        self.option_names = tuple(controls.specs(self.method.Options))
        self.presets = [example for example in examples.load() if example.panel == METHOD]
        self.recorded = recorded_text()

    # Widgets and requests -----------------------------------------------------------------------------------------------------

    def request(self, values: Sequence[Any]) -> RunRequest:
        """The request that the form stands for."""
        n = len(controls.SHARED)
        return controls.to_request(METHOD, values[:n], dict(zip(self.option_names, values[n:], strict=True)))

    def values(self, request: RunRequest) -> list[Any]:
        """The form's values of a request; an option that it leaves out has its default."""
        options = {**default_options(self.method.Options), **request.options}
        return [*controls.from_request(request), *(options[name] for name in self.option_names)]

    def preset_values(self, title: str) -> list[Any]:
        return self.values(next(p.request for p in self.presets if p.title == title))

    def first(self, token: Any, query: Mapping[str, str], choices: Any) -> tuple[list[Any], str | None]:
        """Form values and strip text of a page that opens: a stored run, a preset, or the best preset with what was chosen last."""
        if query.get("run"):
            record, text = opened(self.workbench, owner_of(self.workbench.public, token), query["run"])
            if record.request.method != METHOD:
                raise WorkbenchError(f"Run {record.id} belongs to {record.request.method}, not to this page. Open it in History.")
            return self.values(record.request), text
        wanted = query.get("preset", "").removeprefix("structured-")
        preset = next((p for p in self.presets if p.name == f"structured-{wanted}"), None)
        values = self.values((preset or self.presets[0]).request)
        kept = controls.recalled(choices) if preset is None else None
        return [*(kept or values[: len(controls.SHARED)]), *values[len(controls.SHARED) :]], None

    # Before a run -------------------------------------------------------------------------------------------------------------

    def lint(self, values: Sequence[Any]) -> str:
        """What the line under the grammar says: where it is wrong, what will not be enforced, or that all is."""
        try:
            request = self.request(values)
            return lint_words(self.workbench.check(request), request.options["kind"])
        except WorkbenchError as error:
            return f"! {error}"

    def cost(self, text: str, compare: Sequence[str], values: Sequence[Any]) -> str:
        """What Measure would cost."""
        return measuring.cost(text or "", len(measuring.lanes_to_measure(self.workbench, self.request(values), compare)))

    # Runs ---------------------------------------------------------------------------------------------------------------------

    def run(self, request: gr.Request, token: Any, compare: Sequence[str], values: Sequence[Any]) -> Iterator[str]:
        """The lines of the form's request and of the baselines that were ticked."""
        wanted = self.request(values)
        lanes = [wanted, *measuring.chosen_baselines(self.workbench, wanted, compare)]
        return self.workbench.run_group(lanes, context_of(self.workbench, token, request))

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
        lanes = measuring.lanes_to_measure(self.workbench, self.request(values), compare)
        run_id = self.workbench.start_job(measure_request(lanes, repeats), context_of(self.workbench, token, request))
        yield from measuring.course(self.workbench.follow(run_id))

    def inspect(self, run_id: str, position: int) -> dict[str, Any]:
        """One step's candidates for the card. The run id is what authorises: it carries 80 random bits and is shown to its owner only."""
        try:
            return self.workbench.inspect(run_id, position)
        except WorkbenchError as error:
            return {"error": str(error)}

    # The named endpoint -------------------------------------------------------------------------------------------------------

    def endpoint(self) -> Callable[..., Iterator[dict[str, Any]]]:
        """The function behind `/structured`."""

        def structured(
            prompt: str, grammar: str, kind: str = "json_schema", model: str = "smollm2", temperature: float = 0.0, top_p: float = 1.0,
            top_k: int = 0, max_new_tokens: int = 128, seed: int = 0, baselines: bool = False, system: str = "", template: str = "chat",
            whitespace: str = "fixed",
        ) -> Iterator[dict[str, Any]]:  # fmt: skip
            """Generate text that follows a grammar, and tell for every token what the grammar did to it.

            `grammar` is a JSON Schema, a regular expression, an EBNF grammar or a structural tag, as `kind` says (json_schema, json, regex,
            ebnf, structural_tag). Temperature 0 is greedy. With `baselines` the same request follows without grammar and with the grammar
            written into the prompt. Yields one event a time, as the run's lines have them; the last one is the verdict.
            """
            shared = (model, prompt, template, system, temperature, top_p, top_k, max_new_tokens, seed)
            options = {"kind": kind, "grammar": grammar, "whitespace": whitespace}
            with told():
                yield from self.events(controls.to_request(METHOD, shared, options), baselines)

        return structured

    def events(self, request: RunRequest, baselines: bool) -> Iterator[dict[str, Any]]:
        """The lines of a request from outside a page, as objects. On a public instance they belong to nobody who could read them again."""
        lanes = [request, *(self.workbench.baselines(request) if baselines else ())]
        context = RunContext(owner="api" if self.workbench.public else LOCAL)
        with closing(self.workbench.run_group(lanes, context)) as lines:
            for line in lines:
                yield json.loads(line)


def recorded_text() -> str:
    """The recorded run that the page opens with; nothing where none ships."""
    path = examples.assets_dir() / "runs" / f"{RECORDING}.jsonl"
    return "".join(map(row, examples.recorded(RECORDING))) if path.is_file() else ""


def default_options(options: type) -> dict[str, Any]:
    return {name: controls.default_of(spec) for name, spec in controls.specs(options).items()}


def at_most_tokens(request: RunRequest, n: int) -> RunRequest:
    return replace(request, sampling=replace(request.sampling, max_new_tokens=n))


def lint_words(findings: Sequence[Finding], kind: str) -> str:
    """Findings as lines, path first; or that nothing was found, in the words of the kind."""
    if not findings:
        return "✓ every keyword is enforced" if kind == "json_schema" else "✓ no complaint"
    return "\n".join(_finding_words(finding.data) for finding in findings)


def _finding_words(data: Mapping[str, Any]) -> str:
    parts = (data.get("path"), data.get("keyword"), data.get("effect"))
    return "! " + " · ".join(str(part) for part in parts if part) + (f": {data['message']}" if data.get("message") else "")
