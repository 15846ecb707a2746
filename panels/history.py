"""The page of past runs.

Goes in: a workbench. Comes out: one page: a filtered list, newest first, and the opened run with the same strip and evidence as anywhere.
Knows the store's records; how a run came about is told by its lines.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from backend.errors import WorkbenchError
from backend.types import STATUSES
from backend.workbench import Workbench
from panels import evidence
from panels.header import top
from panels.records import opened, row_of
from panels.said import shown
from panels.stream import told
from panels.strip import token_strip
from panels.visitor import owner_of

TITLE, PATH = "History", "history"
ASSETS = Path(__file__).resolve().parent.parent / "assets"
PAGE_ROWS = 25
HEAD = """<h1>History</h1>
<p>Every run, its lines as they came. Open one to read it again, or take it back to its panel with all its settings.</p>"""
QUIET = {"show_progress": "hidden", "api_visibility": "private", "queue": False}


class Past:
    """One workbench's store as this page asks it. Tokens and filters are client input; the store reads by owner only."""

    def __init__(self, workbench: Workbench) -> None:
        self.workbench = workbench
        self.titles = {name: method.title for name, method in workbench.methods.items()}

    def rows(self, token: Any, method: Any, status: Any, text: Any, pages: int) -> str:
        """The list as JSON for its component: so many pages of runs, and whether there are older ones."""
        owner, limit = owner_of(self.workbench.public, token), PAGE_ROWS * pages
        records = self.workbench.store.runs(owner, method or None, status or None, text or None, limit=limit + 1)
        rows = [row_of(record, self.titles) for record in records[:limit]]
        return shown({"rows": rows, "more": len(records) > limit})

    def open(self, token: Any, run_id: Any) -> str:
        """The strip's text of a run of one's own."""
        if not isinstance(run_id, str):
            raise WorkbenchError("The list sent no run to open.")
        return opened(self.workbench, owner_of(self.workbench.public, token), run_id)[1]

    def delete(self, token: Any, run_id: Any) -> None:
        if isinstance(run_id, str):
            self.workbench.store.delete(run_id, owner_of(self.workbench.public, token))


def run_list() -> gr.HTML:
    """The list: constant markup, a script that sets texts as texts, events `open`, `delete` and `more`."""
    script = (ASSETS / "history.js").read_text(encoding="utf-8")
    return gr.HTML(shown({"rows": [], "more": False}), html_template='<div class="lp-runs"></div>', js_on_load=script, elem_id="runs",
                   apply_default_css=False)  # fmt: skip


def build(workbench: Workbench, demo: gr.Blocks) -> None:
    """Lay out the page and wire it."""
    head, past = top(workbench, demo), Past(workbench)
    gr.HTML(HEAD, elem_classes=["loupe-question"])
    with gr.Column(visible=False, elem_id="opened") as stage:
        strip = token_strip("strip", inspect=lambda run_id, position: looked(workbench, run_id, position))
        folded = evidence.evidence((*evidence.TEXT_CHARTS, *evidence.ROUND_CHARTS))
    with gr.Row(elem_id="filters"):
        method = gr.Dropdown([("every panel", ""), *((title, name) for name, title in past.titles.items())], value="", label="Panel")
        status = gr.Dropdown([("every status", ""), *STATUSES], value="", label="Status", elem_id="status")
        text = gr.Textbox(label="Words in prompt or answer", elem_id="search")
    runs, pages = run_list(), gr.State(1)
    filters = [head.visitor, method, status, text, pages]

    def listed(*values: Any) -> str:
        with told():
            return past.rows(*values)

    def show(event: gr.EventData, token: str) -> tuple[str, gr.Column]:
        with told():
            return past.open(token, event._data.get("run")), gr.Column(visible=True)

    def remove(event: gr.EventData, token: str) -> None:
        with told():
            past.delete(token, event._data.get("run"))

    def first(request: gr.Request, token: str) -> tuple[str, gr.Column]:
        with told():
            wanted = request.query_params.get("run")
            return past.open(token, wanted) if wanted else "", gr.Column(visible=bool(wanted))

    gr.on([method.change, status.change, text.change], lambda: 1, None, [pages], **QUIET).then(listed, filters, [runs], **QUIET)
    runs.more(lambda n: n + 1, [pages], [pages], **QUIET).then(listed, filters, [runs], **QUIET)
    runs.delete(remove, [head.visitor], None, **QUIET).then(listed, filters, [runs], **QUIET)
    head.ready.then(listed, filters, [runs], **QUIET)
    place = [strip, stage]
    for is_open in (runs.open(show, [head.visitor], place, **QUIET), head.ready.then(first, [head.visitor], place, **QUIET)):
        evidence.fill(folded, is_open.then, workbench, strip, head.visitor)


def looked(workbench: Workbench, run_id: str, position: int) -> dict[str, Any]:
    """One step's candidates for the card, or why there are none."""
    try:
        return workbench.inspect(run_id, position)
    except WorkbenchError as error:
        return {"error": str(error)}
