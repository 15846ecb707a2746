"""The page every method is run on: controls in the sidebar, verdict, picture and strips, then Step and Measure, then the evidence.

Goes in: a workbench, a page's logic and how it looks. Comes out: the laid-out and wired page, as its parts. Lays out and wires; what can
be tested without a browser is in `run_logic`, what differs between pages stands in their `Look`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gradio as gr

from backend.workbench import Workbench
from panels import acts, acts_logic, controls, evidence, notice, reopening
from panels.carried import carried_line
from panels.header import Top, top
from panels.measuring import QUICK, REPEATS
from panels.model_note import model_note
from panels.run_logic import RunLogic
from panels.said import said, shown
from panels.stream import streamed, told
from panels.strip import token_strip

ASSETS = Path(__file__).resolve().parent.parent / "assets"
QUIET = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE = {**QUIET, "queue": False}
STREAMS = {**QUIET, "concurrency_limit": 24, "concurrency_id": "runs"}


@dataclass(frozen=True)
class Look:
    """What differs between run pages.

    `head`: heading and question, ours, as HTML. `compare`: lanes to tick, `(label, value)`; `ticked`: those ticked at first.
    `options`: arguments of `controls.option_widget` by option; `shown_first`: the options that stand under the prompt, the rest is folded
    under `folded`. `roles`: labels of further models. `lint_on`: options and roles whose change says the line under them again.
    `model`: label of the first model. `lead`: lays out what stands between the heading and the run.
    """

    head: str
    compare: Sequence[tuple[str, str]]
    ticked: Sequence[str]
    shown_first: Sequence[str]
    lint_on: Sequence[str]
    folded: str = "System message, template"
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    charts: Sequence[evidence.Chart] = evidence.TEXT_CHARTS
    evidence: str = evidence.FOLDED
    model: str = "Model"
    lead: Callable[[], None] | None = None


@dataclass(frozen=True)
class Form:
    """The sidebar. `shared` in the order of `controls.SHARED`, `roles` and `options` in the order of the logic. `carried`: what a request
    brought along that no field holds."""

    shared: tuple[gr.components.Component, ...]
    roles: dict[str, gr.components.Component]
    options: dict[str, gr.components.Component]
    carried: gr.HTML
    lint: gr.HTML
    run: gr.Button
    stop: gr.Button
    compare: gr.CheckboxGroup
    link: gr.Button
    links: gr.HTML

    @property
    def inputs(self) -> list[gr.components.Component]:
        return [*self.shared, *self.roles.values(), *self.options.values(), self.carried]


@dataclass(frozen=True)
class Stage:
    """The main column."""

    presets: list[gr.Button]
    came: gr.HTML
    strip: gr.HTML
    acts: gr.HTML
    selected: gr.State
    step: gr.Button
    one: gr.Checkbox
    measure: gr.Button
    offer: gr.Column
    cost: gr.HTML
    start: gr.Button
    quick: gr.Button
    evidence: evidence.Evidence


@dataclass(frozen=True)
class Page:
    """A page that is laid out; what a method adds goes below it. `runs`: the events that fill the strip; `.then` comes after each."""

    head: Top
    form: Form
    stage: Stage
    runs: tuple[Any, ...] = ()


def build(workbench: Workbench, demo: gr.Blocks, logic: RunLogic, look: Look) -> Page:
    """Lay out the page and wire it."""
    head = top(workbench, demo)
    remembered = controls.remembered_state()
    page = Page(head, _sidebar(workbench, logic, look, head), _main(workbench, logic, look))
    _wire_form(page.form, logic, look, remembered, head.visitor)
    page = replace(page, runs=_wire_runs(page, logic, workbench))
    _wire_measure(page, logic)
    _wire_load(page, logic, remembered, workbench)
    reopening.wire(page, logic, workbench)
    return page


def _sidebar(workbench: Workbench, logic: RunLogic, look: Look, head: Top) -> Form:
    choices, public = workbench.models.choices(), workbench.public
    with gr.Sidebar(width=340, elem_id="controls"):
        model = controls.model_picker(choices, public, look.model)
        roles = {role: controls.role_picker(choices, public, role, look.roles[role]) for role in logic.roles}
        prompt = controls.prompt_box()
        carried = carried_line()
        options = _options(logic, look)
        lint = said("", "lint", "loupe-note loupe-lint", live=True)
        with gr.Row(elem_id="actions"):
            run = gr.Button("Run", variant="primary", elem_id="run")
            stop = gr.Button("Stop", elem_id="stop")
        said("Ctrl+Enter runs, Esc stops and keeps what came.")
        link = gr.Button("Copy a link to these inputs", size="sm", elem_id="copy-link")
        links = gr.HTML("", html_template='<div class="lp-links"></div>', js_on_load=(ASSETS / "links.js").read_text(encoding="utf-8"),
                        elem_id="links", apply_default_css=False)  # fmt: skip
        compare = gr.CheckboxGroup(list(look.compare), value=list(look.ticked), label="Compare with", elem_id="compare")
        notice.place(workbench, head)
        with gr.Accordion("Sampling", open=False, elem_id="sampling"):
            sampling = controls.sampling_controls()
        with gr.Accordion(look.folded, open=False, elem_id="more"):
            template, system = controls.prompt_details()
            for name, widget in options.items():
                if name not in look.shown_first:
                    widget.render()
        gr.HTML("<span hidden></span>", html_template="<span hidden></span>", js_on_load=(ASSETS / "keys.js").read_text(encoding="utf-8"))
    return Form((model, prompt, template, system, *sampling), roles, options, carried, lint, run, stop, compare, link, links)


def _options(logic: RunLogic, look: Look) -> dict[str, gr.components.Component]:
    """The method's options; those that are folded away are made here and shown further down."""
    specs = controls.specs(logic.method.Options)
    folded = {name: {} if name in look.shown_first else {"render": False} for name in specs}
    return {name: controls.option_widget(spec, **{**folded[name], **look.options.get(name, {})}) for name, spec in specs.items()}


def _main(workbench: Workbench, logic: RunLogic, look: Look) -> Stage:
    gr.HTML(look.head, elem_classes=["loupe-question"])
    if look.lead is not None:
        look.lead()
    with gr.Row(elem_classes=["loupe-presets"], elem_id="presets"):
        presets = [gr.Button(preset.title, size="sm", elem_classes=["loupe-preset"]) for preset in logic.presets]
    model_note(workbench)
    came = said("", "link-note", "loupe-note loupe-embedded", live=True)
    strip = token_strip("strip", inspect=logic.inspect, value=logic.recorded, live=True)
    selected = gr.State(None)
    with gr.Row(elem_id="after"):
        step = gr.Button("Step", size="sm", elem_id="step", scale=0)
        one = gr.Checkbox(False, label="continue by one token only", elem_id="one", scale=0, container=False)
        measure = gr.Button("Measure …", size="sm", elem_id="measure", scale=0)
    row = acts.acts_row()
    with gr.Column(visible=False, elem_id="offer") as offer:
        cost = said("", "cost", live=True)
        with gr.Row():
            start = gr.Button(f"Measure, {REPEATS} repeats", size="sm", elem_id="measure-start", scale=0)
            quick = gr.Button(f"Quick, {QUICK} repeats", size="sm", elem_id="measure-quick", scale=0)
    return Stage(presets, came, strip, row, selected, step, one, measure, offer, cost, start, quick, evidence.evidence(look.charts, look.evidence))


def _wire_form(form: Form, logic: RunLogic, look: Look, remembered: gr.BrowserState, visitor: gr.BrowserState) -> None:
    """Lint while one types, at most one check under way; remember the shared choices."""

    def lint(token: str, *values: Any) -> str:
        return shown(logic.lint(values, token))

    widgets = {**form.roles, **form.options, "model": form.shared[0]}
    triggers = [widgets[name].change for name in look.lint_on]
    gr.on(triggers, lint, [visitor, *form.inputs], [form.lint], trigger_mode="always_last", **AT_ONCE)
    controls.remember(form.shared, remembered)

    def link(request: gr.Request, *values: Any) -> str:
        with told():
            return shown({"links": acts_logic.links(logic.link(values), evidence.address_of(request), os.environ)})

    form.link.click(link, form.inputs, [form.links], **AT_ONCE)


def _wire_runs(page: Page, logic: RunLogic, workbench: Workbench) -> tuple[Any, ...]:
    """Run, preset, branch and step stream into the strip; each fills the evidence when it has ended, however it ended."""
    form, stage, visitor = page.form, page.stage, page.head.visitor

    def run(request: gr.Request, token: str, compare: list[str], *values: Any) -> Iterator[str]:
        yield from streamed(lambda: logic.run(request, token, compare, values))

    def preset(request: gr.Request, token: str, compare: list[str], *values: Any) -> Iterator[str]:
        yield from streamed(lambda: logic.preset(request, token, compare, values))

    def live(event: gr.EventData, request: gr.Request, token: str) -> Iterator[str]:
        yield from streamed(lambda: logic.live(request, token, event._data))

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

    inputs, out = [visitor, form.compare, *form.inputs], [stage.strip]
    runs = [
        form.run.click(run, inputs, out, **STREAMS),
        stage.strip.live(live, [visitor], out, **STREAMS),
        stage.strip.branch(branch, [visitor, stage.strip, stage.one], out, **STREAMS),
        stage.step.click(step, [visitor, stage.strip, stage.selected, *form.inputs], out, **STREAMS).then(
            lambda: None, None, [stage.selected], **AT_ONCE
        ),
        acts.wire(workbench, stage.acts, stage.strip, visitor),
    ]
    if stage.presets:
        filled = gr.on([p.click for p in stage.presets], fill, None, form.inputs, **AT_ONCE)
        runs.append(filled.then(preset, inputs, out, **STREAMS))
    form.stop.click(stop, [visitor], None, **AT_ONCE)
    stage.strip.select(select, None, [stage.selected], **AT_ONCE)
    for ended in runs:
        evidence.fill(stage.evidence, ended.then, workbench, stage.strip, visitor)
    return tuple(runs)


def _wire_measure(page: Page, logic: RunLogic) -> None:
    """Measure says its cost first; then it is a job, and this page only follows it."""
    form, stage = page.form, page.stage

    def offer(text: str, compare: list[str], *values: Any) -> tuple[Any, str]:
        with told():
            return gr.Column(visible=True), shown(logic.cost(text, compare, values))

    def measure(repeats: int) -> Any:
        def handler(request: gr.Request, token: str, compare: list[str], *values: Any) -> Iterator[str]:
            with told():
                for words in logic.measure(request, token, compare, values, repeats):
                    yield shown(words)

        return handler

    inputs = [page.head.visitor, form.compare, *form.inputs]
    anew = [form.run.click, *(preset.click for preset in stage.presets)]  # what was measured of another request must not stay beside it
    gr.on(anew, lambda: (gr.Column(visible=False), shown(""), shown("")), None, [stage.offer, stage.cost, stage.came], **AT_ONCE)
    stage.measure.click(offer, [stage.strip, form.compare, *form.inputs], [stage.offer, stage.cost], **AT_ONCE)
    stage.start.click(measure(REPEATS), inputs, [stage.cost], **STREAMS)
    stage.quick.click(measure(QUICK), inputs, [stage.cost], **STREAMS)


def _wire_load(page: Page, logic: RunLogic, remembered: gr.BrowserState, workbench: Workbench) -> None:
    """`?run=`, `?preset=` and a link's inputs fill the page, else what was chosen last; the strip keeps its recording unless something else
    was asked for. Nothing runs by itself."""
    form, stage, head = page.form, page.stage, page.head

    def load(request: gr.Request, token: str, choices: Any) -> list[Any]:
        with told():
            values, text, words = logic.opening(token, dict(request.query_params), choices, str(form.run.value))
            return [*values, gr.skip() if text is None else text, shown(words)]

    head.ready.then(load, [head.visitor, remembered], [*form.inputs, stage.strip, stage.came], **AT_ONCE)
    # the chart's script is 4.6 MB: a page that opens on a recording brings it only when somebody unfolds the evidence
    evidence.fill(stage.evidence, stage.evidence.accordion.expand, workbench, stage.strip, head.visitor)
