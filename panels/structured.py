"""The page of structured generation.

Goes in: a workbench. Comes out: one page: controls in the sidebar, verdict, picture and strips, then Step and Measure, then the evidence.
Lays out and wires; what can be tested without a browser is in `structured_logic`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from backend.workbench import Workbench
from panels import controls, evidence, structured_logic
from panels.header import Top, top
from panels.measuring import QUICK, REPEATS
from panels.model_note import model_note
from panels.said import said, shown
from panels.stream import streamed, told
from panels.strip import token_strip

TITLE, PATH = "Structured", "structured"
ASSETS = Path(__file__).resolve().parent.parent / "assets"
HEAD = """<h1>Structured generation</h1>
<p>Does this model still say what it wants when a grammar holds its hand, and what does that cost?
Run a preset, then open a token: its card shows what the model would have said.</p>"""
KINDS = {"json_schema": "JSON Schema", "json": "any JSON", "regex": "regular expression", "ebnf": "EBNF grammar",
         "structural_tag": "structural tag"}  # fmt: skip
SPACES = {"fixed": "one blank at the usual places", "any": "up to two blanks anywhere"}
HOLDS = {"grammar": "enforced", "none": "left out", "prompt": "asked for in the prompt"}
SHOWN_FIRST = ("kind", "grammar")
QUIET = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE = {**QUIET, "queue": False}
STREAMS = {**QUIET, "concurrency_limit": 16, "concurrency_id": "runs"}


@dataclass(frozen=True)
class Form:
    """The sidebar. `shared` in the order of `controls.SHARED`, `options` in the order of the method's `Options`."""

    shared: tuple[gr.components.Component, ...]
    options: dict[str, gr.components.Component]
    lint: gr.HTML
    run: gr.Button
    stop: gr.Button
    compare: gr.CheckboxGroup

    @property
    def inputs(self) -> list[gr.components.Component]:
        return [*self.shared, *self.options.values()]


@dataclass(frozen=True)
class Stage:
    """The main column."""

    presets: list[gr.Button]
    strip: gr.HTML
    selected: gr.State
    step: gr.Button
    one: gr.Checkbox
    measure: gr.Button
    offer: gr.Column
    cost: gr.HTML
    start: gr.Button
    quick: gr.Button
    evidence: evidence.Evidence


def build(workbench: Workbench, demo: gr.Blocks) -> None:
    """Lay out the page and wire it."""
    head = top(workbench, demo)
    logic = structured_logic.Logic(workbench)
    remembered = controls.remembered_state()
    form = _sidebar(workbench, logic)
    stage = _main(workbench, logic)
    _wire_form(form, logic, remembered)
    _wire_runs(form, stage, logic, head, workbench)
    _wire_measure(form, stage, logic, head)
    _wire_load(form, stage, logic, head, remembered, workbench)
    gr.api(logic.endpoint(), api_name="structured", concurrency_limit=4)


def _sidebar(workbench: Workbench, logic: structured_logic.Logic) -> Form:
    with gr.Sidebar(width=340, elem_id="controls"):
        model = controls.model_picker(workbench.models.choices(), workbench.public)
        prompt = controls.prompt_box()
        options, lint = _grammar(logic)
        with gr.Row(elem_id="actions"):
            run = gr.Button("Run", variant="primary", elem_id="run")
            stop = gr.Button("Stop", elem_id="stop")
        said("Ctrl+Enter runs, Esc stops and keeps what came.")
        choices = [("without grammar", "none"), ("schema in the prompt", "prompt")]
        compare = gr.CheckboxGroup(choices, value=["none"], label="Compare with", elem_id="compare")
        with gr.Accordion("Sampling", open=False, elem_id="sampling"):
            sampling = controls.sampling_controls()
        with gr.Accordion("System message, template, spacing", open=False, elem_id="more"):
            template, system = controls.prompt_details()
            for name, widget in options.items():
                if name not in SHOWN_FIRST:
                    widget.render()
        gr.HTML("<span hidden></span>", html_template="<span hidden></span>", js_on_load=(ASSETS / "keys.js").read_text(encoding="utf-8"))
    shared = (model, prompt, template, system, *sampling)
    return Form(shared, options, lint, run, stop, compare)


def _grammar(logic: structured_logic.Logic) -> tuple[dict[str, gr.components.Component], gr.HTML]:
    """Kind, grammar and what the linter says of them; the method's other options are made here and shown further down."""
    specs = controls.specs(logic.method.Options)
    options = {name: controls.option_widget(spec, **OPTION_LOOKS.get(name, {"render": False})) for name, spec in specs.items()}
    lint = said("", "lint", "loupe-note loupe-lint", live=True)
    return options, lint


OPTION_LOOKS: dict[str, dict[str, Any]] = {
    "kind": {"label": "The answer follows a", "labels": KINDS, "info": None},
    "grammar": {"lines": 8, "max_lines": 18, "elem_classes": ["loupe-mono"], "info": None},
    "whitespace": {"label": "Spacing of JSON", "labels": SPACES, "render": False},
    "constrain": {"label": "The grammar is", "labels": HOLDS, "render": False},
}


def _main(workbench: Workbench, logic: structured_logic.Logic) -> Stage:
    gr.HTML(HEAD, elem_classes=["loupe-question"])
    with gr.Row(elem_classes=["loupe-presets"], elem_id="presets"):
        presets = [gr.Button(preset.title, size="sm", elem_classes=["loupe-preset"]) for preset in logic.presets]
    model_note(workbench)
    strip = token_strip("strip", inspect=logic.inspect, value=logic.recorded)
    selected = gr.State(None)
    with gr.Row(elem_id="after"):
        step = gr.Button("Step", size="sm", elem_id="step", scale=0)
        one = gr.Checkbox(False, label="continue by one token only", elem_id="one", scale=0, container=False)
        measure = gr.Button("Measure …", size="sm", elem_id="measure", scale=0)
    with gr.Column(visible=False, elem_id="offer") as offer:
        cost = said("", "cost", live=True)
        with gr.Row():
            start = gr.Button(f"Measure, {REPEATS} repeats", size="sm", elem_id="measure-start", scale=0)
            quick = gr.Button(f"Quick, {QUICK} repeats", size="sm", elem_id="measure-quick", scale=0)
    return Stage(presets, strip, selected, step, one, measure, offer, cost, start, quick, evidence.evidence())


def _wire_form(form: Form, logic: structured_logic.Logic, remembered: gr.BrowserState) -> None:
    """Lint while one types, at most one check under way; remember the shared choices."""

    def lint(*values: Any) -> str:
        return shown(logic.lint(values))

    triggers = [form.options["kind"].change, form.options["grammar"].change]
    gr.on(triggers, lint, form.inputs, [form.lint], trigger_mode="always_last", **AT_ONCE)
    controls.remember(form.shared, remembered)


def _wire_runs(form: Form, stage: Stage, logic: structured_logic.Logic, head: Top, workbench: Workbench) -> None:
    """Run, preset, branch and step stream into the strip; each fills the evidence when it has ended, however it ended."""

    def run(request: gr.Request, token: str, compare: list[str], *values: Any) -> Iterator[str]:
        yield from streamed(lambda: logic.run(request, token, compare, values))

    def fill(event: gr.EventData) -> list[Any]:
        return logic.preset_values(event.target.value)

    def branch(event: gr.EventData, request: gr.Request, token: str, text: str, one: bool) -> Iterator[str]:
        yield from streamed(lambda: logic.branch(request, token, event._data, one), before=text)

    def step(request: gr.Request, token: str, text: str, selected: Any, *values: Any) -> Iterator[str]:
        yield from logic.step(request, token, text, selected, values)

    def stop(request: gr.Request, token: str) -> None:
        logic.stop(request, token)

    def select(event: gr.EventData) -> dict[str, Any]:
        return dict(event._data)

    inputs, out = [head.visitor, form.compare, *form.inputs], [stage.strip]
    filled = gr.on([p.click for p in stage.presets], fill, None, form.inputs, **AT_ONCE)
    continued = [head.visitor, stage.strip, stage.one]
    stepped = [head.visitor, stage.strip, stage.selected, *form.inputs]
    runs = [
        form.run.click(run, inputs, out, **STREAMS),
        filled.then(run, inputs, out, **STREAMS),
        stage.strip.branch(branch, continued, out, **STREAMS),
        stage.step.click(step, stepped, out, **STREAMS).then(lambda: None, None, [stage.selected], **AT_ONCE),
    ]
    form.stop.click(stop, [head.visitor], None, **AT_ONCE)
    stage.strip.select(select, None, [stage.selected], **AT_ONCE)
    for ended in runs:
        evidence.fill(stage.evidence, ended.then, workbench, stage.strip, head.visitor)


def _wire_measure(form: Form, stage: Stage, logic: structured_logic.Logic, head: Top) -> None:
    """Measure says its cost first; then it is a job, and this page only follows it."""

    def offer(text: str, compare: list[str], *values: Any) -> tuple[Any, str]:
        with told():
            return gr.Column(visible=True), shown(logic.cost(text, compare, values))

    def measure(repeats: int) -> Any:
        def handler(request: gr.Request, token: str, compare: list[str], *values: Any) -> Iterator[str]:
            with told():
                for words in logic.measure(request, token, compare, values, repeats):
                    yield shown(words)

        return handler

    inputs = [head.visitor, form.compare, *form.inputs]
    anew = [form.run.click, *(preset.click for preset in stage.presets)]  # what was measured of another request must not stay beside it
    gr.on(anew, lambda: (gr.Column(visible=False), shown("")), None, [stage.offer, stage.cost], **AT_ONCE)
    stage.measure.click(offer, [stage.strip, form.compare, *form.inputs], [stage.offer, stage.cost], **AT_ONCE)
    stage.start.click(measure(REPEATS), inputs, [stage.cost], **STREAMS)
    stage.quick.click(measure(QUICK), inputs, [stage.cost], **STREAMS)


def _wire_load(
    form: Form, stage: Stage, logic: structured_logic.Logic, head: Top, remembered: gr.BrowserState, workbench: Workbench
) -> None:
    """`?run=` and `?preset=` fill the page, else what was chosen last; the strip keeps its recording unless a run was asked for."""

    def load(request: gr.Request, token: str, choices: Any) -> list[Any]:
        with told():
            values, text = logic.first(token, dict(request.query_params), choices)
            return [*values, gr.skip() if text is None else text]

    head.ready.then(load, [head.visitor, remembered], [*form.inputs, stage.strip], **AT_ONCE)
    # the chart's script is 4.6 MB: a page that opens on a recording brings it only when somebody unfolds the evidence
    evidence.fill(stage.evidence, stage.evidence.accordion.expand, workbench, stage.strip, head.visitor)
