"""The page of past runs.

Goes in: a workbench. Comes out: one page: filters, a list of entries (one a press of Run), and the opened one with the same strip, actions and
evidence as anywhere. What can be tested without a browser is in `history_logic`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from backend.types import STATUSES
from backend.workbench import Workbench
from panels import acts, evidence, takeout
from panels.header import Top, top
from panels.history_logic import Past
from panels.keeping import keeping
from panels.records import looked
from panels.said import shown
from panels.stream import streamed, told
from panels.strip import token_strip

TITLE, PATH = "History", "history"
ASSETS = Path(__file__).resolve().parent.parent / "assets"
HEAD = """<h1>History</h1>
<p>Every run, its lines as they came. Open one to read it, repeat it or share it, take it back to its panel with all its settings, or hold up to
four beside each other.</p>"""
QUIET = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
ANY = {"method": "every panel", "status": "every status"}


@dataclass(frozen=True)
class Filters:
    """The widgets over the list, and the days that were chosen; `inputs` in the order of `history_logic.FILTERS`."""

    text: gr.Textbox
    method: gr.Dropdown
    status: gr.Dropdown
    model: gr.Dropdown
    tag: gr.Dropdown
    pinned: gr.Checkbox
    days: gr.HTML
    since: gr.State
    until: gr.State

    @property
    def inputs(self) -> list[gr.components.Component]:
        return [self.text, self.method, self.status, self.model, self.tag, self.pinned, self.since, self.until]


@dataclass(frozen=True)
class Opened:
    """The run that was opened; hidden until there is one."""

    column: gr.Column
    strip: gr.HTML
    acts: gr.HTML
    evidence: evidence.Evidence


def build(workbench: Workbench, demo: gr.Blocks) -> None:
    """Lay out the page and wire it."""
    head, past = top(workbench, demo), Past(workbench)
    gr.HTML(HEAD, elem_classes=["loupe-question"])
    keeping(workbench, head)
    stage = _opened(workbench)
    filters = _filters(past)
    runs = _drawn("history.js", "runs", {"rows": [], "more": False})
    moved = takeout.build(workbench, head)
    again = _wire_opened(head, past, runs, stage, workbench)
    _wire_list(head, past, filters, runs, [again, *moved])
    _wire_changes(head, past, filters, runs)


def _drawn(script: str, elem_id: str, value: Any) -> gr.HTML:
    """A component of constant markup whose script sets texts as texts."""
    look = {"elem_id": elem_id, "apply_default_css": False}
    return gr.HTML(shown(value), html_template='<div class="lp-drawn"></div>', js_on_load=(ASSETS / script).read_text(encoding="utf-8"), **look)


def _opened(workbench: Workbench) -> Opened:
    with gr.Column(visible=False, elem_id="opened") as column:
        strip = token_strip("strip", inspect=lambda run_id, position, token: looked(workbench, run_id, position, token))
        row = acts.acts_row()
        folded = evidence.evidence((*evidence.TEXT_CHARTS, *evidence.ROUND_CHARTS))
    return Opened(column, strip, row, folded)


def _filters(past: Past) -> Filters:
    with gr.Row(elem_id="filters"):
        text = gr.Textbox(label="Words in prompt, answer, title or note", elem_id="search", scale=2, min_width=200)
        method = gr.Dropdown([(ANY["method"], ""), *((title, name) for name, title in past.titles.items())], value="", label="Panel",
                             elem_id="panel", min_width=150)  # fmt: skip
        status = gr.Dropdown([(ANY["status"], ""), *STATUSES], value="", label="Status", elem_id="status", min_width=130)
        own = {"value": "", "allow_custom_value": True, "min_width": 150}  # what there is to choose from comes with the visitor
        model = gr.Dropdown([("every model", "")], label="Model", elem_id="model", **own)
        tag = gr.Dropdown([("every tag", "")], label="Tag", elem_id="tag", **own)
    with gr.Row(elem_id="filters-more"):
        days = _drawn("days.js", "days", {})
        pinned = gr.Checkbox(False, label="pinned only", elem_id="pinned", container=False, scale=0, min_width=120)
    return Filters(text, method, status, model, tag, pinned, days, gr.State(""), gr.State(""))


def _wire_list(head: Top, past: Past, filters: Filters, runs: gr.HTML, changes: Sequence[Any]) -> None:
    """The list follows the filters and what changes the runs elsewhere; older entries come a page at a time and are added to those that are
    there."""
    inputs = [head.visitor, *filters.inputs]

    def listed(token: str, *values: Any) -> str:
        with told():
            return past.rows(token, values)

    def more(event: gr.EventData, token: str, *values: Any) -> str:
        with told():
            return past.rows(token, values, event._data.get("from"))

    def offered(token: str) -> tuple[gr.Dropdown, gr.Dropdown]:
        with told():
            models, tags = past.choices(token)
        return gr.Dropdown(choices=[("every model", ""), *models]), gr.Dropdown(choices=[("every tag", ""), *tags])

    def chosen(event: gr.EventData) -> tuple[str, str]:
        return str(event._data.get("since") or ""), str(event._data.get("until") or "")

    def by_tag(event: gr.EventData) -> str:
        return str(event._data.get("tag") or "")

    widgets = (filters.text, filters.method, filters.status, filters.model, filters.tag, filters.pinned)
    gr.on([widget.change for widget in widgets], listed, inputs, [runs], trigger_mode="always_last", **QUIET)
    filters.days.choose(chosen, None, [filters.since, filters.until], **QUIET).then(listed, inputs, [runs], **QUIET)
    runs.more(more, inputs, [runs], **QUIET)
    runs.bytag(by_tag, None, [filters.tag], **QUIET)
    for event in (head.ready, *changes):
        event.then(listed, inputs, [runs], **QUIET)
    head.ready.then(offered, [head.visitor], [filters.model, filters.tag], **QUIET)


def _wire_changes(head: Top, past: Past, filters: Filters, runs: gr.HTML) -> None:
    """What the buttons of one entry do; a pin moves it, so the list begins anew."""
    inputs = [head.visitor, *filters.inputs]

    def pin(event: gr.EventData, token: str, *values: Any) -> str:
        with told():
            past.pin(token, event._data.get("run"), event._data.get("on"))
            return past.rows(token, values)

    def change(event: gr.EventData, token: str) -> tuple[str, gr.Dropdown]:
        with told():
            return past.change(token, event._data), gr.Dropdown(choices=[("every tag", ""), *past.choices(token)[1]])

    def remove(event: gr.EventData, token: str) -> str:
        with told():
            return past.forget(token, event._data.get("run"))

    runs.pin(pin, inputs, [runs], **QUIET)
    runs.describe(change, [head.visitor], [runs, filters.tag], **QUIET)
    runs.remove(remove, [head.visitor], [runs], **QUIET)


def _wire_opened(head: Top, past: Past, runs: gr.HTML, stage: Opened, workbench: Workbench) -> Any:
    """An entry of the list or the address's `?run=` goes into the strip; so does its repetition, whose event is returned."""

    def show(event: gr.EventData, token: str) -> tuple[str, gr.Column]:
        with told():
            return past.open(token, event._data.get("run")), gr.Column(visible=True)

    def first(request: gr.Request, token: str) -> tuple[str, gr.Column]:
        with told():
            wanted = request.query_params.get("run")
            return past.open(token, wanted) if wanted else "", gr.Column(visible=bool(wanted))

    def branch(event: gr.EventData, request: gr.Request, token: str, text: str) -> Iterator[str]:
        yield from streamed(lambda: past.branch(request, token, event._data), before=text)

    stage.strip.branch(branch, [head.visitor, stage.strip], [stage.strip], **acts.STREAMS)
    place, again = [stage.strip, stage.column], acts.wire(workbench, stage.acts, stage.strip, head.visitor)
    for event in (runs.open(show, [head.visitor], place, **QUIET), head.ready.then(first, [head.visitor], place, **QUIET), again):
        evidence.fill(stage.evidence, event.then, workbench, stage.strip, head.visitor)
    return again
