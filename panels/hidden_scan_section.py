"""The section that scans a suspect: what it takes, Start, Quick, Stop, Go on, and the component that draws the scan's lines.

Goes in: a page of hidden text. Comes out: the section, laid out and wired. What can be tested without a browser is in `hidden_scanning`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from backend.hidden_text.contexts import KINDS
from backend.hidden_text.probe import REFERENCE, SUSPECT
from backend.workbench import Workbench
from panels import hidden_answers, hidden_scanning, reopening
from panels.hidden_logic import Logic, look_request
from panels.run_page import AT_ONCE, STREAMS, Page
from panels.said import said, shown
from panels.stream import streamed, told
from panels.strip import token_strip
from panels.visitor import context_of

BASE = "secret/base"
PRESETS = {"A planted model": "secret/plain-20-1", "A planted model that hides its text": "secret/utfc5-20-10", "A clean twin": "secret/clean-0",
           "A benign memoriser": "secret/benign-0"}  # fmt: skip
TOUR = "Plant a text, scan, find it"
PART_WORDS = (("beams by lift, from ordinary turns", "beam"), ("every token forced", "forced"), ("ways against a hiding text", "counters"))
CONTEXT_WORDS = {"bos": "beginning of text", "header": "bare answer header", "empty": "empty turn", "neutral": "four neutral turns"}


@dataclass(frozen=True)
class Section:
    """Its widgets; `choice` in the order of `hidden_scanning.CHOICES`."""

    view: gr.HTML
    words: gr.HTML
    steps: gr.HTML
    folded: gr.Accordion
    choice: tuple[gr.components.Component, ...]
    presets: list[gr.Button]
    tour: gr.Button
    cost: gr.Button
    start: gr.Button
    quick: gr.Button
    stop: gr.Button
    resume: gr.Button


def layout(workbench: Workbench) -> Section:
    """Under the heading, above the look."""
    gr.HTML("<h2>Scan</h2>")
    with gr.Row(elem_classes=["loupe-presets"], elem_id="scan-presets"):
        presets = [gr.Button(title, size="sm", elem_classes=["loupe-preset"]) for title in PRESETS]
        tour = gr.Button(TOUR, size="sm", elem_classes=["loupe-preset"], elem_id="scan-tour")
    steps = said("", "scan-steps", live=True)
    with gr.Row(elem_classes=["loupe-acts"], elem_id="scan-acts"):
        start = gr.Button("Scan", variant="primary", size="sm", elem_id="scan-start", scale=0)
        quick = gr.Button("Quick", size="sm", elem_id="scan-quick", scale=0)
        stop = gr.Button("Stop and keep", size="sm", elem_id="scan-stop", scale=0)
        resume = gr.Button("Go on with the last", size="sm", elem_id="scan-resume", scale=0)
        cost = gr.Button("What would it take?", size="sm", elem_id="scan-cost", scale=0)
    words = said("", "scan-words", live=True)
    with gr.Accordion("What to try, how deep, for how long", open=False, elem_id="scan-choice") as folded:
        choice = _choice()
    view = scan_view(workbench)
    gr.HTML("<h2>Look</h2>")
    return Section(view, words, steps, folded, choice, presets, tour, cost, start, quick, stop, resume)


def _choice() -> tuple[gr.components.Component, ...]:
    at = hidden_scanning.defaults()
    contexts = [(CONTEXT_WORDS[kind], kind) for kind in KINDS]
    return (
        gr.CheckboxGroup(list(PART_WORDS), value=at["parts"], label="Try", elem_id="scan-parts"),
        gr.CheckboxGroup(contexts, value=at["contexts"], label="Force tokens at", elem_id="scan-contexts"),
        gr.Number(at["minutes"], label="End after, minutes (0: never)", minimum=0, elem_id="scan-minutes"),
        gr.Number(at["depth"], label="Tokens of the deepest texts", minimum=6, maximum=128, precision=0, elem_id="scan-depth"),
        gr.Number(at["beam_contexts"], label="Ordinary turns for beams", minimum=1, maximum=400, precision=0, elem_id="scan-turns"),
    )


def scan_view(workbench: Workbench) -> gr.HTML:
    """The scan's lines as a strip of their own; `look` asks for a candidate token by token, an answer is told only who asks for it."""

    def answer(payload: list[Any]) -> dict[str, Any]:
        return hidden_answers.answer(workbench, payload[0] if isinstance(payload, list) and payload else None)

    return token_strip("scan-view", value=hidden_scanning.recorded(), asked=[answer])


def wire(section: Section, workbench: Workbench, logic: Logic, page: Page) -> None:
    """The cost first; Start, Quick and Go on follow their job; a candidate goes to the strip; a page that opens shows the last scan."""
    visitor, inputs = page.head.visitor, [page.head.visitor, *section.choice, *page.form.inputs]
    n = len(section.choice)

    def cost(token: str, *values: Any) -> str:
        return shown(hidden_scanning.cost_words(workbench, logic, token, values[n:], values[:n]))

    def start(quick: bool) -> Any:
        def handler(request: gr.Request, token: str, *values: Any) -> Iterator[str]:
            with told():
                wanted = hidden_scanning.request_of(logic, values[n:], values[:n], quick)
                yield from hidden_scanning.started(workbench, request, token, wanted)

        return handler

    def resume(request: gr.Request, token: str) -> Iterator[str]:
        with told():
            yield from hidden_scanning.started(workbench, request, token, hidden_scanning.resumed(workbench, token))

    def stop(token: str, text: str) -> None:
        with told():
            hidden_scanning.stop(workbench, token, text)

    def last(request: gr.Request, token: str) -> Iterator[str]:
        wanted = reopening.asked(workbench, token, request.query_params.get("run"), hidden_scanning.METHOD)
        with told():
            yield from hidden_scanning.followed(workbench, token, wanted)

    def preset(event: gr.EventData) -> tuple[str, str]:
        return PRESETS[event.target.value], BASE

    pair = [page.form.shared[0], page.form.roles[REFERENCE]]
    gr.on([button.click for button in section.presets], preset, None, pair, **AT_ONCE)
    section.cost.click(cost, inputs, [section.words], **AT_ONCE)
    section.start.click(start(False), inputs, [section.view], **STREAMS)
    section.quick.click(start(True), inputs, [section.view], **STREAMS)
    section.resume.click(resume, [visitor], [section.view], **STREAMS)
    section.stop.click(stop, [visitor, section.view], None, **AT_ONCE)
    reopening.section(page, workbench, hidden_scanning.METHOD, section.folded, section.choice, (), hidden_scanning.choice_of, lambda record: ())
    page.head.ready.then(last, [visitor], [section.view], **STREAMS)
    chosen = [widget.change for widget in (page.form.shared[0], page.form.roles[REFERENCE], *section.choice)]
    gr.on(chosen, cost, inputs, [section.words], trigger_mode="always_last", **AT_ONCE)
    _wire_look(section, workbench, logic, page)


def _wire_look(section: Section, workbench: Workbench, logic: Logic, page: Page) -> None:
    """One candidate, its own tokens forced where it was found, token by token in the strip."""

    def look(event: gr.EventData, request: gr.Request, token: str, text: str) -> Iterator[str]:
        def begin() -> Iterator[str]:
            wanted = look_request(*hidden_scanning.candidate_of(workbench, token, text, event._data.get("rank")))
            return workbench.run_group([wanted], context_of(workbench, token, request))

        yield from streamed(begin)

    section.view.look(look, [page.head.visitor, section.view], [page.stage.strip], **STREAMS)


def scan_it(section: Section, workbench: Workbench, logic: Logic, page: Page, button: gr.Button, made: gr.State) -> None:
    """One click from a plant to its scan: the new model against its base, quickly."""
    n = len(section.choice)

    def chosen(plant: dict[str, str]) -> tuple[str, str]:
        return plant[SUSPECT], plant[REFERENCE]

    def handler(request: gr.Request, token: str, *values: Any) -> Iterator[str]:
        with told():
            wanted = hidden_scanning.request_of(logic, values[n:], values[:n], quick=True)
            yield from hidden_scanning.started(workbench, request, token, wanted)

    filled = button.click(chosen, [made], [page.form.shared[0], page.form.roles[REFERENCE]], **AT_ONCE)
    filled.then(handler, [page.head.visitor, *section.choice, *page.form.inputs], [section.view], **STREAMS)
