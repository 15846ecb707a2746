"""The way to a router of one's own, in three folded sections: Labels, Train, Sweep.

Goes in: a page of routing. Comes out: the sections, wired: what each takes, Start, Quick, Stop, go on, tables, charts, CSV. What can be tested
without a browser is in `routing_jobs` and `routing_charts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from backend.routing import labels, sweep
from backend.types import RunRecord, RunRequest
from backend.workbench import Workbench
from panels import reopening, routing_charts, routing_jobs
from panels.evidence import RESIZED
from panels.routing_jobs import LABEL, SWEEP, TRAIN, Told
from panels.routing_logic import Logic
from panels.run_page import AT_ONCE, STREAMS, Page
from panels.said import download, heading, said, shown
from panels.stream import told as refusing

KINDS = (("the final answer flips", "outcome"), ("the two laws lie far apart", "kl"), ("the choices differ", "mismatch"))
OWN = '{"prompt": "What is 3 + 4?", "answer": 7}\n{"prompt": "Name a river.", "answer": "Rhine|Danube", "grader": "regex"}'
FILE = "sweep.csv"
FOLDED = {"open": False, "elem_classes": ["loupe-evidence"]}
Make = Callable[..., RunRequest]


@dataclass(frozen=True)
class Section:
    """One job's section. `choice`: its widgets; `out`: what its course fills; `show` turns what was heard into their values."""

    method: str
    name: str
    accordion: gr.Accordion
    choice: Sequence[Component]
    buttons: dict[str, gr.Button]
    words: gr.HTML
    run: gr.State
    out: Sequence[Component]
    show: Callable[[Told], tuple[Any, ...]]


def build(workbench: Workbench, logic: Logic, page: Page, router: Component) -> None:
    """Lay the sections out under the page and wire them. `router` is the form's list of routers, which grows with every training."""
    label, train, swept = _labels(), _train(), _sweep()
    _wire(label, workbench, logic, page, routing_jobs.label_request, quick=True)
    _wire(train, workbench, logic, page, routing_jobs.train_request)
    _wire(swept, workbench, logic, page, routing_jobs.sweep_request, quick=True)
    for part in (label, train, swept):
        found = partial(_found, part)
        reopening.section(page, workbench, part.method, part.accordion, part.choice, part.out, routing_jobs.choice_of, found)
    which = train.choice[0]

    def offered(token: str) -> Any:
        with refusing():
            choices = routing_jobs.label_choices(workbench, token)
        return gr.Dropdown(choices=choices, value=choices[0][1] if choices else None)

    def routers() -> Any:
        return gr.Dropdown(choices=logic.routers())

    train.accordion.expand(offered, [page.head.visitor], [which], **AT_ONCE)
    page.head.ready.then(routers, None, [router], **AT_ONCE)
    train.accordion.expand(routers, None, [router], **AT_ONCE)
    swept.accordion.expand(routers, None, [router], **AT_ONCE)


def _found(section: Section, record: RunRecord) -> tuple[Any, ...]:
    return section.show(routing_jobs.of_record(record))


# Layout --------------------------------------------------------------------------------------------------------------------------


def _data_box(name: str) -> gr.Textbox:
    return gr.Textbox(label="Own problems, one JSON object a line; empty: pocket word problems", placeholder=OWN, lines=3, max_lines=12,
                      elem_id=f"{name}-data", elem_classes=["loupe-mono"])  # fmt: skip


def _buttons(name: str, quick: str, resume: bool) -> dict[str, gr.Button]:
    words = {"cost": "What would it take?", "start": "Start", "quick": quick, "stop": "Stop and keep", "resume": "Go on with the stopped one"}
    wanted = [key for key in words if (key != "quick" or quick) and (key != "resume" or resume)]
    with gr.Row(elem_classes=["loupe-acts"]):
        return {key: gr.Button(words[key], size="sm", elem_id=f"{name}-{key}", scale=0) for key in wanted}


def _labels() -> Section:
    with gr.Accordion("Labels: which tokens matter on this pair?", elem_id="labels", **FOLDED) as folded:
        said("The form's large model answers; at each token it is tried whether its small model's choice there would have spoiled the answer.")
        options = labels.Options()
        data = _data_box("labels")
        with gr.Row():
            n = gr.Number(options.n_prompts, label="Prompts to judge", precision=0, elem_id="labels-n")
            unjudged = gr.Number(options.unjudged, label="More, only compared", precision=0, elem_id="labels-unjudged")
        kind = gr.Radio(list(KINDS), value="outcome", label="A token matters when", elem_id="labels-kind")
        buttons = _buttons("labels", f"Quick, {routing_jobs.QUICK_LABELS} prompts", True)
        words = said("", "labels-words", live=True)
        classes = said("", "labels-classes", "", explains=True)
        with gr.Accordion("Examples of each class, with both continuations", open=False, elem_id="labels-more"):
            examples = said("", "labels-examples", "", explains=True)
    run = gr.State("")

    def show(told: Told) -> tuple[Any, ...]:
        rows = routing_jobs.class_rows(told), routing_jobs.example_rows(told)
        return shown(told.words), told.run, *(shown(one or "") for one in rows)

    return Section(LABEL, "labels", folded, (data, n, unjudged, kind), buttons, words, run, (words, run, classes, examples), show)


def _train() -> Section:
    with gr.Accordion("Train: a router from these labels", elem_id="train", **FOLDED) as folded:
        said("A small network learns to tell which tokens matter. Figures are of prompts that it has not seen.")
        with gr.Row():
            which = gr.Dropdown([], label="Labels", elem_id="train-labels", allow_custom_value=True)
            seed = gr.Number(1, label="Seed", precision=0, elem_id="train-seed", scale=0)
        buttons = _buttons("train", "", False)
        words = said("", "train-words", live=True)
        table = said("", "train-metrics", "", explains=True)
        plots = [_plot(*one) for one in (("ROC", "train-roc"), ("calibration", "train-calibration"), ("recall against budget", "train-recall"))]
    run = gr.State("")
    drawn = (routing_charts.roc, routing_charts.calibration, routing_charts.recall)

    def show(told: Told) -> tuple[Any, ...]:
        figures = [draw(told) if told.ended else None for draw in drawn]
        return shown(told.words), told.run, shown(routing_jobs.metric_rows(told) or ""), *_plots(figures)

    return Section(TRAIN, "train", folded, (which, seed), buttons, words, run, (words, run, table, *(part for pair in plots for part in pair)), show)


def _sweep() -> Section:
    with gr.Accordion("Sweep: accuracy against the share of large tokens", elem_id="sweep", **FOLDED) as folded:
        said("Every problem is answered at every budget, by the form's router and by what it has to beat. This draws the picture above.")
        data = _data_box("sweep")
        with gr.Row():
            n = gr.Number(sweep.Options().n_prompts, label="Problems", precision=0, elem_id="sweep-n", scale=0)
            budgets = gr.Textbox(", ".join(f"{100 * share:g}" for share in sweep.QUICK), label="Budgets, % large tokens", elem_id="sweep-budgets")
        named = [("router" if name == "neural" else name, name) for name in sweep.STRATEGIES]
        strategies = gr.CheckboxGroup(named, value=list(sweep.STRATEGIES), label="Curves", elem_id="sweep-strategies")
        buttons = _buttons("sweep", f"Quick, {routing_jobs.QUICK_PROBLEMS} problems, {len(routing_jobs.QUICK_BUDGETS)} budgets", True)
        words = said("", "sweep-words", live=True)
        axis = gr.Radio(list(routing_charts.AXIS_LABELS), value="share", label="Against", elem_id="sweep-axis")
        plot = _plot("Pareto curve", "sweep-pareto")
        areas = said("", "sweep-areas", "", explains=True)
        saver = download("sweep-csv")
        with gr.Accordion("Every point", open=False, elem_id="sweep-every"):
            rows = said("", "sweep-rows", "", explains=True)
    run, heard = gr.State(""), gr.State(Told())

    def show(told: Told) -> tuple[Any, ...]:
        points, found = routing_jobs.point_rows(told), routing_jobs.area_rows(told)
        csv = shown({"name": FILE, "rows": points})
        return shown(told.words), told.run, told, "share", *_plots([routing_charts.pareto(told)]), shown(found or ""), csv, shown(points or "")

    def against(told: Told, name: str) -> Any:
        return gr.Plot(value=routing_charts.pareto(told, name if name in routing_charts.AXES else "share"))

    axis.input(against, [heard, axis], [plot[1]], **AT_ONCE)
    out = (words, run, heard, axis, *plot, areas, saver, rows)
    return Section(SWEEP, "sweep", folded, (data, n, budgets, strategies), buttons, words, run, out, show)


def _plot(term: str, elem_id: str) -> tuple[gr.HTML, gr.Plot]:
    return heading(term, visible=False), gr.Plot(show_label=False, elem_id=elem_id, visible=False)


def _plots(figures: Sequence[Any]) -> list[Any]:
    """Headings and charts, those without a figure hidden."""
    return [part for figure in figures for part in (gr.HTML(visible=figure is not None), gr.Plot(value=figure, visible=figure is not None))]


# Wiring --------------------------------------------------------------------------------------------------------------------------


def _wire(section: Section, workbench: Workbench, logic: Logic, page: Page, make: Make, quick: bool = False) -> None:
    """Cost, Start, Quick, Stop, go on; the section opens on what the last job found."""
    visitor, n = page.head.visitor, len(section.choice)

    def wanted(values: Sequence[Any], **more: Any) -> RunRequest:
        return make(logic, values[n:], *values[:n], **more)

    def cost(token: str, text: str, *values: Any) -> str:
        with refusing():
            return shown(routing_jobs.cost(workbench, token, wanted(values), text or ""))

    def start(**more: Any) -> Any:
        def handler(request: gr.Request, token: str, *values: Any) -> Iterator[tuple[Any, ...]]:
            with refusing():
                yield from map(section.show, _thinned(routing_jobs.started(workbench, request, token, wanted(values, **more))))

        return handler

    def resume(request: gr.Request, token: str) -> Iterator[tuple[Any, ...]]:
        with refusing():
            yield from map(section.show, _thinned(routing_jobs.resumed(workbench, request, token, section.method)))

    def last(token: str, run: str) -> tuple[Any, ...]:
        with refusing():
            return (gr.skip(),) * len(section.out) if run else section.show(routing_jobs.last(workbench, token, section.method))

    def stop(token: str, run: str) -> None:
        with refusing():
            routing_jobs.stop(workbench, token, run)

    inputs, out, buttons = [visitor, *section.choice, *page.form.inputs], list(section.out), section.buttons
    buttons["cost"].click(cost, [visitor, page.stage.strip, *section.choice, *page.form.inputs], [section.words], **AT_ONCE)
    ended = [buttons["start"].click(start(), inputs, out, **STREAMS)]
    if quick:
        ended.append(buttons["quick"].click(start(quick=True), inputs, out, **STREAMS))
    if "resume" in buttons:
        ended.append(buttons["resume"].click(resume, [visitor], out, **STREAMS))
    buttons["stop"].click(stop, [visitor, section.run], None, **AT_ONCE)
    section.accordion.expand(last, [visitor, section.run], out, **AT_ONCE).then(None, js=RESIZED)
    if section.method == SWEEP:
        _draw_picture(ended, logic, page)


def _draw_picture(ended: Sequence[Any], logic: Logic, page: Page) -> None:
    """A sweep that has ended goes into the picture above."""

    def drawn(token: str, text: str) -> str:
        with refusing():
            return logic.text_with_newest(token, text or "")

    for event in ended:
        event.then(drawn, [page.head.visitor, page.stage.strip], [page.stage.strip], **AT_ONCE)


def _thinned(course: Iterator[Told]) -> Iterator[Told]:
    """Without those moments at which only one more finding of a heap came: the page draws what is told at its turning points."""
    before = Told()
    for now in course:
        if now.words != before.words or now.ended or now.run != before.run or len(now.of("point")) != len(before.of("point")):
            yield now
        before = now
