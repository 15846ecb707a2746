"""What is folded under an audit: votes, what can't be concluded, tables, the k curve, the map of neurons, the changed answers, the report.

Goes in: the audit's strip. Comes out: components and their values. What the tables say is in `contamination_tables`, the drawing in
`contamination_charts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from backend.workbench import Workbench
from panels import contamination_auditing as auditing
from panels import contamination_charts as charts
from panels import contamination_tables as tables
from panels.evidence import RESIZED
from panels.run_page import AT_ONCE, Page
from panels.said import ASSETS, download, heading, said, shown

TITLE = "Evidence of the audit: votes, before and after, indicators, k, neurons, controls, changed answers, report"
CHANGES = "diffs"  # the one that is no table: texts before and after, character by character
TABLES = {
    "votes": ("Who says what", tables.votes), "cannot": ("", tables.cannot), "effects": ("Before and after", tables.effects),
    "indicators": ("Indicators", tables.indicators), "gaps": ("Gaps in points", tables.gaps), "controls": ("Controls, patched", tables.controls),
    "suppressions": ("Too little, too much", tables.suppressions), CHANGES: ("Answers that the patch changed", tables.diffs),
    "basis": ("On what this was found", tables.basis),
}  # fmt: skip
CHARTS = {"k-curve": ("accuracy against k", charts.k_curve), "neuron-map": ("layer × neuron", charts.neuron_map)}
REPORT = "audit.json"


@dataclass(frozen=True)
class Evidence:
    """The folded part; `tables` and `charts` in the order of `TABLES` and `CHARTS`, each with the heading that is shown when it says something."""

    accordion: gr.Accordion
    tables: tuple[gr.HTML, ...]
    titles: tuple[gr.HTML, ...]
    headings: tuple[gr.HTML, ...]
    charts: tuple[gr.Plot, ...]
    question: gr.Dropdown
    look: gr.Button
    report: gr.HTML

    @property
    def parts(self) -> list[gr.components.Component]:
        return [*self.tables, *self.titles, *self.headings, *self.charts, self.question, self.look, self.report]


def layout() -> Evidence:
    """Lay it out, closed: the charts behind what they stand on."""
    made: dict[str, Any] = {}
    with gr.Accordion(TITLE, open=False, elem_id="audit-evidence", elem_classes=["loupe-evidence"]) as accordion:
        for name in ("votes", "cannot", "effects"):
            made[name] = _table(name)
        drawn = [_chart(name) for name in CHARTS]
        for name in ("indicators", "gaps", "controls", "suppressions", "diffs"):
            made[name] = _table(name)
        with gr.Row(elem_classes=["loupe-acts"], elem_id="audit-look"):
            question = gr.Dropdown([], label="Look at one of them", elem_id="audit-question", visible=False)
            look = gr.Button("Put it into the prompt below", size="sm", elem_id="audit-to-prompt", scale=0, visible=False)
        made["basis"] = _table("basis")
        report = download("audit-report")
    accordion.expand(None, js=RESIZED)  # a chart drawn while folded has no width to take
    titles, parts = zip(*(made[name] for name in TABLES), strict=True)
    headings, plots = zip(*drawn, strict=True)
    return Evidence(accordion, parts, titles, headings, plots, question, look, report)


def _table(name: str) -> tuple[gr.HTML, gr.HTML]:
    title = heading(TABLES[name][0], visible=False)
    return title, changes(f"audit-{name}") if name == CHANGES else said("", f"audit-{name}", "loupe-wide", explains=True)


def changes(elem_id: str) -> gr.HTML:
    """Texts before and after as a list, what went struck and what came underlined; give them as `shown(rows)`."""
    script = (ASSETS / "changes.js").read_text(encoding="utf-8")
    return gr.HTML(shown(""), html_template='<div class="lp-changes"></div>', js_on_load=script, elem_id=elem_id, apply_default_css=False)


def _chart(name: str) -> tuple[gr.HTML, gr.Plot]:
    return heading(CHARTS[name][0], visible=False), gr.Plot(show_label=False, elem_id=name, visible=False)


def wire(part: Evidence, runs: Sequence[Any], opened: Any, strip: gr.HTML, workbench: Workbench, page: Page) -> None:
    """Each run fills it when it has ended, however it ended, and names its neurons to the single run; what the page opened on and unfolding fill
    it too."""
    form, visitor = page.form, page.head.visitor

    def fill(text: str, token: str) -> list[Any]:
        return values(workbench, token, text or "")

    def name_neurons(text: str) -> tuple[Any, Any]:
        listed = tables.found_in(text or "").stats.get("neurons")
        return (listed, 0) if listed else (gr.skip(), gr.skip())

    for ended in (*runs, opened):
        ended.then(fill, [strip, visitor], part.parts, **AT_ONCE)
    for ended in runs:
        ended.then(name_neurons, [strip], [form.options["neurons"], form.options["k"]], **AT_ONCE)
    part.accordion.expand(fill, [strip, visitor], part.parts, **AT_ONCE)
    prompt, template = form.shared[1], form.shared[2]
    part.look.click(lambda question: (question or gr.skip(), "raw"), [part.question], [prompt, template], **AT_ONCE)


def values(workbench: Workbench, token: Any, text: str) -> list[Any]:
    """The values of `Evidence.parts`: what has nothing to say is empty or hidden."""
    found = tables.found_in(text)
    figures = [draw(found) for _, draw in CHARTS.values()]
    asked, made = tables.questions(found), {name: make(found) for name, (_, make) in TABLES.items()}
    return [
        *(shown(rows or "") for rows in made.values()),
        *(gr.HTML(visible=bool(rows and TABLES[name][0])) for name, rows in made.items()),
        *(gr.HTML(visible=figure is not None) for figure in figures),
        *(gr.Plot(value=figure, visible=figure is not None) for figure in figures),
        gr.Dropdown(choices=asked, value=next(iter(asked), None), visible=bool(asked)),
        gr.Button(visible=bool(asked)),
        shown({"name": REPORT, "text": auditing.report_text(workbench, token, found.run)}),
    ]
