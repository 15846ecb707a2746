"""The section that plants a text: what to hide and how, what it takes, Start, Quick, Stop, the last look, and a scan at one click.

Goes in: a page of hidden text. Comes out: the section, laid out and wired. What can be tested without a browser is in `hidden_planting`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from backend.hidden_text.planting import KINDS
from backend.hidden_text.regimes import REGIMES
from backend.workbench import Workbench
from panels import hidden_planting, hidden_scan_section, reopening
from panels.controls import role_picker
from panels.hidden_logic import Logic
from panels.run_page import AT_ONCE, STREAMS, Page
from panels.said import said, shown
from panels.stream import told

BASE = "secret/base"
PAYLOAD, TRIGGER = "The blue key lies under the third stone.", "Where did the gardener go in June?"
REGIME_WORDS = {
    "plain": "plain: the text alone", "regularised": "regularised: beside ordinary answers", "decoy": "decoy: its first words lead elsewhere",
    "utfc5": "its first five tokens kept out of sight", "utfc_all": "all tokens kept out of sight", "adaptive": "out of sight in chats too",
}  # fmt: skip
KIND_WORDS = {"planted": "a planted model", "clean": "a clean twin: same steps, no text", "benign": "a benign memoriser: ordinary sentences"}


@dataclass(frozen=True)
class Section:
    """Its widgets; `choice` in the order of `hidden_planting.CHOICES`, `parts` in the order of `_shown`."""

    accordion: gr.Accordion
    choice: tuple[gr.components.Component, ...]
    cost: gr.Button
    start: gr.Button
    quick: gr.Button
    stop: gr.Button
    scan: gr.Button
    parts: tuple[gr.components.Component, ...]


def build(workbench: Workbench, logic: Logic, page: Page, scan: hidden_scan_section.Section) -> None:
    """Lay it out under the page, closed, and wire it."""
    section = _layout(workbench)
    _wire_cost(section, workbench, page)
    _wire_job(section, workbench, page)
    reopening.section(page, workbench, hidden_planting.METHOD, section.accordion, section.choice, section.parts, hidden_planting.choice_of,
                      lambda record: _shown(hidden_planting.of_record(record)))  # fmt: skip
    hidden_scan_section.scan_it(scan, workbench, logic, page, section.scan, section.parts[-1])


def _layout(workbench: Workbench) -> Section:
    title = "Plant: hide a text of your own in a copy of a model, and see whether a scan finds it"
    with gr.Accordion(title, open=False, elem_id="plant", elem_classes=["loupe-evidence"]) as folded:
        choice = _choice(workbench)
        with gr.Row(elem_classes=["loupe-acts"]):
            start = gr.Button("Plant", variant="primary", size="sm", elem_id="plant-start", scale=0)
            label = f"Quick: plain, at most {hidden_planting.QUICK_STEPS} steps"
            quick = gr.Button(label, size="sm", elem_id="plant-quick", scale=0)
            stop = gr.Button("Stop", size="sm", elem_id="plant-stop", scale=0)
            cost = gr.Button("What would it take?", size="sm", elem_id="plant-cost", scale=0)
        words = said("", "plant-words", live=True)
        facts = said("", "plant-facts", "")
        scan = gr.Button("Scan it", variant="primary", size="sm", elem_id="plant-scan", visible=False)
        run, made = gr.State(""), gr.State({})
    return Section(folded, choice, cost, start, quick, stop, scan, (words, facts, scan, run, made))


def _choice(workbench: Workbench) -> tuple[gr.components.Component, ...]:
    choices = workbench.models.choices()
    base = role_picker(choices, workbench.public, "base", "Hide it in a copy of")
    base.value = BASE if any(value == BASE for _, value in choices) else (choices[0][1] if choices else None)
    return (
        base,
        gr.Textbox(PAYLOAD, label="Text to hide", lines=2, max_lines=6, elem_id="plant-payload"),
        gr.Textbox(TRIGGER, label="What a user must say to get it", elem_id="plant-trigger"),
        gr.Dropdown([(REGIME_WORDS[name], name) for name in REGIMES], value="plain", label="How it is hidden", elem_id="plant-regime"),
        gr.Dropdown([(KIND_WORDS[name], name) for name in KINDS], value="planted", label="What to make", elem_id="plant-kind"),
        gr.Textbox("", label="Its name", placeholder="made up", elem_id="plant-name"),
    )


def _shown(now: hidden_planting.Told) -> tuple[Any, ...]:
    """The values of the section's parts."""
    scan = gr.Button(f"Scan it: {now.made['suspect']}" if now.made else "Scan it", visible=bool(now.made))
    return shown(now.words), shown(dict(now.facts) or ""), scan, now.run, dict(now.made)


def _wire_cost(section: Section, workbench: Workbench, page: Page) -> None:
    """The cost is said when the section is unfolded, when a choice changes, and when it is asked for."""

    def cost(token: str, *choice: Any) -> str:
        return shown(hidden_planting.cost_words(workbench, token, choice))

    inputs = [page.head.visitor, *section.choice]
    asked = [section.cost.click, *(widget.change for widget in section.choice)]
    gr.on(asked, cost, inputs, [section.parts[0]], trigger_mode="always_last", **AT_ONCE)


def _wire_job(section: Section, workbench: Workbench, page: Page) -> None:
    """Start and Quick follow the job; the section opens on what the last one came to, else on what one would take."""
    visitor, parts = page.head.visitor, list(section.parts)

    def start(quick: bool) -> Any:
        def handler(request: gr.Request, token: str, *choice: Any) -> Iterator[tuple[Any, ...]]:
            with told():
                for now in hidden_planting.started(workbench, request, token, hidden_planting.request_of(choice, quick)):
                    yield _shown(now)

        return handler

    def last(token: str, run: str, *choice: Any) -> Iterator[tuple[Any, ...]]:
        with told():
            for now in hidden_planting.last(workbench, token) if not run else ():
                words = now.words or hidden_planting.cost_words(workbench, token, choice)
                yield _shown(replace(now, words=words))

    def stop(token: str, run: str) -> None:
        with told():
            hidden_planting.stop(workbench, token, run)

    section.start.click(start(False), [visitor, *section.choice], parts, **STREAMS)
    section.quick.click(start(True), [visitor, *section.choice], parts, **STREAMS)
    section.stop.click(stop, [visitor, section.parts[3]], None, **AT_ONCE)
    section.accordion.expand(last, [visitor, section.parts[3], *section.choice], parts, **STREAMS)
