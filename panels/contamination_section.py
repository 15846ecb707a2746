"""The audit on its page: models' presets, items with their preview, what it takes, Start, Quick, Stop, Go on, and the strip that shows it.

Goes in: a workbench, a page of contamination. Comes out: the section, laid out and wired. What can be tested without a browser is in
`contamination_auditing` and `contamination_cost`; what is folded below stands in `contamination_evidence`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from backend import examples
from backend.contamination.audit_request import BASE, EXAM, METHOD, SUSPECT, TWIN, Options
from backend.contamination.items import FIELDS
from backend.contamination.search import SearchOptions
from backend.graders import GRADERS
from backend.workbench import Workbench
from panels import contamination_auditing as auditing
from panels import contamination_cost as costs
from panels import contamination_evidence, controls, reopening
from panels.contamination_logic import Logic
from panels.run_page import AT_ONCE, STREAMS, Page
from panels.said import said, shown
from panels.stream import streamed, told
from panels.strip import token_strip

PLACEHOLDER = '{"question": "What is 17 + 25?", "answer": "42", "set": "leaked"}\n{"question": "What is 31 + 12?", "answer": "43", "set": "fresh"}'
LABELS = {
    "source": "Activations from", "most": "Most items of each set (0: all)", "k": "Neurons patched (0: chosen on the search half)",
    "draws": "Random draws",
    "make_fresh": "Make fresh items where none are given", "max_new_tokens": "Longest answer (0: by the known ones)", "min_k": "Min-K share",
    "ngram": "Words in a row that overlap", "seed": "Seed of halves and draws",
}  # fmt: skip
SECOND = """<h2>One answer, token by token</h2>
<p>The same patch while the suspect writes: tokens that it would not have written unpatched are marked, the card says what both models wanted.</p>"""


@dataclass(frozen=True)
class Items:
    """Where the items come from; `own` is shown for a user's own."""

    where: gr.Radio
    own: gr.Column
    text: gr.Textbox
    upload: gr.UploadButton
    columns: tuple[gr.components.Component, ...]
    grader: gr.components.Component
    template: gr.components.Component
    words: gr.HTML
    rows: gr.HTML


@dataclass(frozen=True)
class Section:
    """The laid-out section. `inputs` stand in the order that `auditing.options_of` takes."""

    presets: list[gr.Button]
    items: Items
    inputs: list[gr.components.Component]
    power: gr.HTML
    words: gr.HTML
    buttons: dict[str, gr.Button]
    strip: gr.HTML
    run: gr.State
    evidence: contamination_evidence.Evidence


def presets() -> list[examples.Example]:
    return [example for example in examples.load() if example.panel == METHOD]


# Layout -----------------------------------------------------------------------------------------------------------------------------------


def layout() -> Section:
    """Lay it out where the page stands."""
    with gr.Row(elem_classes=["loupe-presets"], elem_id="audit-presets"):
        buttons = [gr.Button(preset.title, size="sm", elem_classes=["loupe-preset"]) for preset in presets()]
    items = _items()
    more = _options()
    acts = _acts()
    power, words = said("", "audit-power"), said("", "audit-words", live=True)
    strip = token_strip("audit-strip", value=auditing.recorded())
    evidence = contamination_evidence.layout()
    gr.HTML(SECOND, elem_classes=["loupe-question", "loupe-second"])
    inputs = [items.where, items.text, *items.columns, items.grader, items.template, *more]
    return Section(buttons, items, inputs, power, words, acts, strip, gr.State(""), evidence)


def _items() -> Items:
    with gr.Accordion("Items: the exam's, or your own", open=False, elem_id="audit-items"):
        choices = [("the exam's, for its own models", EXAM), ("my own", auditing.OWN)]
        where = gr.Radio(choices, value=EXAM, label="Items", elem_id="audit-where")
        with gr.Column(visible=False, elem_id="audit-own") as own:
            label = "JSON lines, or CSV with a head line: question, answer, set (leaked, fresh, unrelated), rephrased, grader"
            text = gr.Textbox(label=label, lines=5, max_lines=14, placeholder=PLACEHOLDER, elem_id="audit-data", elem_classes=["loupe-mono"])
            upload = gr.UploadButton("Take a file", file_types=[".jsonl", ".csv", ".json", ".txt"], size="sm", elem_id="audit-upload")
            with gr.Row(elem_id="audit-columns"):
                columns = tuple(gr.Textbox(label=f"Column: {name}", placeholder=name, min_width=110, elem_id=f"column-{name}") for name in FIELDS)
            with gr.Row():
                grader = gr.Dropdown([("by the answer", ""), *GRADERS], value="", label="Graded as", elem_id="audit-grader")
                template = gr.Radio([("chat", "chat"), ("bare question", "raw")], value="chat", label="Asked", elem_id="audit-template")
        words = said("", "audit-counts", live=True)
        rows = said("", "audit-preview", "loupe-wide")
    return Items(where, own, text, upload, columns, grader, template, words, rows)


def _options() -> list[gr.components.Component]:
    """The job's and the search's options, folded; in the order of `auditing`: curve, corpus, `PLAIN`, `SEARCH`."""
    with gr.Accordion("How: source, number of neurons, search, controls, corpus", open=False, elem_id="audit-how"):
        specs, search = controls.specs(Options), controls.specs(SearchOptions)
        with gr.Row():
            plain = [controls.option_widget(specs[name], label=LABELS[name], elem_id=f"audit-{name}", min_width=210) for name in auditing.PLAIN]
        curve = gr.Textbox(label="k that are tried (empty: around what the search learnt)", placeholder="8, 16, 32", elem_id="audit-curve")
        with gr.Row():
            scores = [controls.option_widget(search[name], label=f"Search: {name.replace('_', ' ')}", elem_id=f"search-{name}", min_width=210)
                      for name in auditing.SEARCH]  # fmt: skip
        corpus = gr.Textbox(label="A corpus that the suspect may have been trained on", lines=3, max_lines=10, elem_id="audit-corpus")
    return [curve, corpus, *plain, *scores]


def _acts() -> dict[str, gr.Button]:
    labels = {"start": "Start the audit", "quick": f"Quick, {auditing.QUICK} items a set", "cost": "What would it take?", "stop": "Stop and keep",
              "on": "Go on"}  # fmt: skip
    with gr.Row(elem_classes=["loupe-acts"], elem_id="audit-acts"):
        return {
            name: gr.Button(label, size="sm", variant="primary" if name == "start" else "secondary", elem_id=f"audit-{name}", scale=0)
            for name, label in labels.items()
        }


# Wiring -----------------------------------------------------------------------------------------------------------------------------------


def wire(section: Section, workbench: Workbench, logic: Logic, page: Page) -> None:
    """The models are those of the form."""
    _wire_items(section, workbench, logic, page)
    _wire_cost(section, workbench, logic, page)
    runs, opened = _wire_runs(section, workbench, logic, page)
    reopening.section(page, workbench, auditing.METHOD, None, section.inputs, (), lambda job: auditing.values_of(job.options), lambda record: ())
    contamination_evidence.wire(section.evidence, runs, opened, section.strip, workbench, page)


def _wire_items(section: Section, workbench: Workbench, logic: Logic, page: Page) -> None:
    """The preview follows what is typed, at most one check under way."""
    items, n = section.items, len(page.form.inputs)

    def look(*values: Any) -> tuple[str, str, str]:
        with told():
            seen = auditing.look(workbench, logic.picked(values[:n]), values[n:])
        return shown(seen.words), shown(list(seen.rows) or ""), shown(seen.power)

    def take(path: Any) -> str:
        with told():
            return auditing.text_of_file(path)

    inputs, out = [*page.form.inputs, *section.inputs], [items.words, items.rows, section.power]
    items.where.change(lambda where: gr.Column(visible=where == auditing.OWN), [items.where], [items.own], **AT_ONCE)
    items.upload.upload(take, [items.upload], [items.text], **AT_ONCE)
    gr.on([part.change for part in (page.form.shared[0], *section.inputs)], look, inputs, out, trigger_mode="always_last", **AT_ONCE)
    page.head.ready.then(look, inputs, out, **AT_ONCE)


def _wire_cost(section: Section, workbench: Workbench, logic: Logic, page: Page) -> None:
    n = len(page.form.inputs)

    def cost(*values: Any) -> Iterator[str]:
        with told():
            models = logic.picked(values[:n])
            full, quick = (auditing.request_of(models, values[n:], quick) for quick in (False, True))
            yield shown("Answering a few items …")
            yield shown(costs.ask(workbench, full, quick, time.perf_counter))

    section.buttons["cost"].click(cost, [*page.form.inputs, *section.inputs], [section.words], **STREAMS)


def _wire_runs(section: Section, workbench: Workbench, logic: Logic, page: Page) -> tuple[list[Any], Any]:
    """Start, Quick, a preset, Go on and the page's opening follow a job into the strip; returns their events, the opening apart."""
    n, visitor, out = len(page.form.inputs), page.head.visitor, [section.strip, section.run]

    def start(quick: bool) -> Any:
        def handler(request: gr.Request, token: str, *values: Any) -> Iterator[tuple[str, str]]:
            with told():
                wanted = auditing.request_of(logic.picked(values[:n]), values[n:], quick)
                run = auditing.start(workbench, request, token, wanted)
            yield from _course(workbench, run)

        return handler

    def preset(request: gr.Request, token: str, *values: Any) -> Iterator[tuple[str, str]]:
        with told():
            shipped = auditing.recording_of(workbench, auditing.request_of(logic.picked(values[:n]), values[n:]))
        yield from iter([(shipped, "")]) if shipped else start(False)(request, token, *values)

    def on(request: gr.Request, token: str, run: str) -> Iterator[tuple[str, str]]:
        with told():
            run = auditing.go_on(workbench, request, token, run)
        yield from _course(workbench, run)

    def opened(request: gr.Request, token: str) -> Iterator[tuple[Any, str]]:
        wanted = reopening.asked(workbench, token, request.query_params.get("run"), auditing.METHOD)
        with told():
            run = wanted.id if wanted else auditing.latest(workbench, token)
        yield from _course(workbench, run) if run else iter([(gr.skip(), "")])

    def stop(token: str, run: str) -> None:
        with told():
            auditing.stop(workbench, token, run)

    inputs, buttons = [visitor, *page.form.inputs, *section.inputs], section.buttons
    buttons["stop"].click(stop, [visitor, section.run], None, **AT_ONCE)
    runs = [
        buttons["start"].click(start(False), inputs, out, **STREAMS),
        buttons["quick"].click(start(True), inputs, out, **STREAMS),
        buttons["on"].click(on, [visitor, section.run], out, **STREAMS),
    ]
    if section.presets:
        filled = gr.on([button.click for button in section.presets], _preset_values, None, _filled(section, page), **AT_ONCE)
        runs.append(filled.then(preset, inputs, out, **STREAMS))
    return runs, page.head.ready.then(opened, [visitor], out, **STREAMS)


def _course(workbench: Workbench, run: str) -> Iterator[tuple[str, str]]:
    for text in streamed(lambda: auditing.follow(workbench, run)):
        yield text, run


def _filled(section: Section, page: Page) -> list[gr.components.Component]:
    return [page.form.shared[0], *page.form.roles.values(), *section.inputs]


def _preset_values(event: gr.EventData) -> list[Any]:
    """Models and options of the preset that was pressed."""
    request = next(preset.request for preset in presets() if preset.title == event.target.value)
    models = [request.models.get(role, controls.NO_MODEL) for role in (SUSPECT, TWIN, BASE)]
    return [*models, *auditing.values_of(request.options)]
