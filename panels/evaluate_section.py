"""The section that runs drafters over a set of prompts: what it takes, Start, Quick, Stop, table, CSV.

Goes in: a page of speculative decoding. Comes out: the section, wired. What can be tested without a browser is in `evaluating`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from backend.workbench import Workbench
from panels import evaluating, reopening
from panels.run_page import AT_ONCE, STREAMS, Page
from panels.said import download, said, shown
from panels.speculative_logic import PLAIN, Logic, choices
from panels.stream import told

SETS = (("built-in mix, 24 prompts", "mix"), ("for the pocket models", "pocket"), ("my own", "own"))
OWN = '{"prompt": "Write a haiku about rain.", "kind": "poem"}\n{"prompt": "List five rivers of Europe."}'
FILE = "drafters.csv"


@dataclass(frozen=True)
class Section:
    """Its widgets; `parts` is what a job fills, in the order of `_shown`."""

    accordion: gr.Accordion
    choice: tuple[gr.components.Component, ...]
    own: gr.Textbox
    cost: gr.Button
    start: gr.Button
    quick: gr.Button
    stop: gr.Button
    parts: tuple[gr.components.Component, ...]


def build(workbench: Workbench, logic: Logic, page: Page) -> None:
    """Lay it out under the page, closed, and wire it."""
    section = _layout()
    _wire_cost(section, workbench, logic, page)
    _wire_job(section, workbench, logic, page)
    reopening.section(page, workbench, evaluating.METHOD, section.accordion, section.choice, section.parts, evaluating.choice_of,
                      lambda record: _shown(evaluating.of_record(record)))  # fmt: skip


def _layout() -> Section:
    with gr.Accordion("Evaluate: these drafters over a set of prompts", open=False, elem_id="evaluate", elem_classes=["loupe-evidence"]) as folded:
        said("Model, draft model, sampling and sizes are those of the form; every drafter runs beside plain on every prompt.")
        prompts = gr.Radio(list(SETS), value="mix", label="Prompts", elem_id="evaluate-prompts")
        own = gr.Textbox(label="Own prompts, one JSON object a line", placeholder=OWN, lines=4, max_lines=12, visible=False,
                         elem_id="evaluate-own", elem_classes=["loupe-mono"])  # fmt: skip
        offered = [choice for choice in choices() if choice[1] != PLAIN]
        drafters = gr.CheckboxGroup(offered, value=["auto", "lookup", "recycling"], label="Drafters", elem_id="evaluate-drafters")
        with gr.Row(elem_classes=["loupe-acts"]):
            cost = gr.Button("What would it take?", size="sm", elem_id="evaluate-cost", scale=0)
            start = gr.Button("Start", size="sm", elem_id="evaluate-start", scale=0)
            quick = gr.Button(f"Quick, first {evaluating.QUICK} prompts", size="sm", elem_id="evaluate-quick", scale=0)
            stop = gr.Button("Stop and keep", size="sm", elem_id="evaluate-stop", scale=0)
        words = said("", "evaluate-words", live=True)
        summary = said("", "evaluate-summary", "", explains=True)
        saver = download("evaluate-csv")
        with gr.Accordion("Every prompt", open=False, elem_id="evaluate-every"):
            rows = said("", "evaluate-rows", "", explains=True)
    run = gr.State("")
    return Section(folded, (prompts, own, drafters), own, cost, start, quick, stop, (words, summary, saver, rows, run))


def _shown(now: evaluating.Told) -> tuple[str, str, str, str, str]:
    """The values of the section's parts."""
    rows = evaluating.csv_rows(now.rows)
    return shown(now.words), shown(list(now.summary) or ""), shown({"name": FILE, "rows": rows}), shown(rows or ""), now.run


def _wire_cost(section: Section, workbench: Workbench, logic: Logic, page: Page) -> None:
    """The cost is said when the section is unfolded, when a choice changes, and when it is asked for."""
    prompts = section.choice[0]

    def cost(text: str, prompts: str, own: str, drafters: list[str], *values: Any) -> str:
        with told():
            return shown(evaluating.cost(workbench, evaluating.request_of(logic, values, prompts, own, drafters), text or ""))

    prompts.change(lambda chosen: gr.Textbox(visible=chosen == "own"), [prompts], [section.own], **AT_ONCE)
    section.cost.click(cost, [page.stage.strip, *section.choice, *page.form.inputs], [section.parts[0]], **AT_ONCE)


def _wire_job(section: Section, workbench: Workbench, logic: Logic, page: Page) -> None:
    """Start and Quick follow the job; the section opens on what the last one found."""
    visitor = page.head.visitor

    def start(most: int) -> Any:
        def handler(request: gr.Request, token: str, prompts: str, own: str, drafters: list[str], *values: Any) -> Iterator[tuple[str, ...]]:
            with told():
                wanted = evaluating.request_of(logic, values, prompts, own, drafters, most)
                for now in evaluating.started(workbench, request, token, wanted):
                    yield _shown(now)

        return handler

    def last(token: str, run: str) -> tuple[Any, ...]:
        with told():
            return (gr.skip(),) * len(section.parts) if run else _shown(evaluating.last(workbench, token))

    def stop(token: str, run: str) -> None:
        with told():
            evaluating.stop(workbench, token, run)

    inputs, parts = [visitor, *section.choice, *page.form.inputs], list(section.parts)
    section.start.click(start(0), inputs, parts, **STREAMS)
    section.quick.click(start(evaluating.QUICK), inputs, parts, **STREAMS)
    section.stop.click(stop, [visitor, section.parts[-1]], None, **AT_ONCE)
    section.accordion.expand(last, [visitor, section.parts[-1]], parts, **AT_ONCE)
