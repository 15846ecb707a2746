"""The page that holds runs against each other.

Goes in: a workbench, `?runs=ID,ID` (one's own, shared ones, recordings). Comes out: one page: which runs, a sentence, a picture, the aligned
tokens, what was set differently, the figures. Lays out and wires; what it shows is `compare_logic`. Not in the navigation: one comes here
from runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from backend.workbench import Workbench
from panels.compare_logic import Comparing, View
from panels.header import top
from panels.said import said, shown
from panels.stream import told

TITLE, PATH, SHOW_IN_NAVBAR = "Compare", "compare", False
ASSETS = Path(__file__).resolve().parent.parent / "assets"
SCRIPTS = ("glyphs.js", "lane.js", "compare-picture.js", "compare-strips.js", "compare.js")
HEAD = """<h1>Compare</h1>
<p>Two to four runs beside each other: where their tokens part, how sure each was, how long it took, what was set differently. Run 1 is what
the others are held against.</p>"""
QUIET = {"show_progress": "hidden", "api_visibility": "private", "queue": False}


def build(workbench: Workbench, demo: gr.Blocks) -> None:
    """Lay out the page and wire it."""
    head, logic = top(workbench, demo), Comparing(workbench)
    gr.HTML(HEAD, elem_classes=["loupe-question"])
    drawn, ids = _component(SCRIPTS, "compare", "lp lp-cmp"), gr.State([])
    with gr.Accordion("Add a run", open=False, elem_id="add-run") as adding:
        text = gr.Textbox(label="Words in prompt or answer, a run's id, a shared link", elem_id="find-run")
        picker = _component(("glyphs.js", "compare-picker.js"), "picker", "lp-pick")
    with gr.Column(visible=False, elem_id="cmp-tables") as below:
        tables, findings = _tables()
    place = [drawn, *tables, findings, ids, below]

    def first(request: gr.Request, token: str) -> list[Any]:
        return values(logic.first(token, request.query_params.get("runs")))

    def choose(event: gr.EventData, token: str) -> list[Any]:
        with told():
            return values(logic.view(token, event._data.get("runs")))

    def add(event: gr.EventData, token: str, chosen: list[str]) -> list[Any]:
        with told():
            return values(logic.added(token, chosen, event._data.get("run")))

    def find(token: str, words: str) -> str:
        with told():
            return logic.found(token, words)

    head.ready.then(first, [head.visitor], place, **QUIET)
    drawn.choose(choose, [head.visitor], place, **QUIET)
    picker.pick(add, [head.visitor, ids], place, **QUIET)
    gr.on([adding.expand, text.change], find, [head.visitor, text], [picker], trigger_mode="always_last", **QUIET)


def values(view: View) -> list[Any]:
    """What the page's components get, in the order of `place`; without a comparison there are no tables."""
    below = gr.Column(visible=view.figures not in ("", shown("")))
    return [view.drawn, view.settings, view.figures, view.findings, view.same, gr.Accordion(open=view.job), view.ids, below]


def _tables() -> tuple[list[gr.HTML], gr.Accordion]:
    """Set differently, figures, findings and what is the same; the findings' fold, which is open where there is nothing else to look at."""
    made = []
    for name, elem_id in (("Set differently", "cmp-settings"), ("Figures", "cmp-figures")):
        gr.HTML(f"<h2>{name}</h2>")
        made.append(said("", elem_id, "loupe-wide", explains=elem_id == "cmp-figures"))
    with gr.Accordion("Findings", open=False, elem_id="found") as found:
        made.append(said("", "cmp-findings", "loupe-wide"))
    with gr.Accordion("The same in all runs", open=False, elem_id="same"):
        made.append(said("", "cmp-same", ""))
    return made, found


def _component(scripts: tuple[str, ...], elem_id: str, classes: str) -> gr.HTML:
    """A component whose markup is constant and whose script sets texts as texts."""
    script = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in scripts)
    return gr.HTML(shown({"runs": []}), html_template=f'<div class="{classes}"></div>', js_on_load=script, elem_id=elem_id, apply_default_css=False)
