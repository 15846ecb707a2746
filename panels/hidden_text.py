"""The page of hidden text.

Goes in: a workbench. Comes out: the run page as this method shows it, the scan above its strip, planting below. What can be tested
without a browser is in `hidden_logic`, `hidden_scanning`, `hidden_planting`, `hidden_tour` and `hidden_answers`.
"""

from __future__ import annotations

from dataclasses import replace

import gradio as gr

from backend.hidden_text.probe import REFERENCE
from backend.workbench import Workbench
from panels import api, hidden_plant_section, hidden_scan_section, hidden_tour, run_page
from panels.hidden_logic import Logic

TITLE, PATH = "Hidden text", "hidden_text"
HEAD = """<h1>Hidden text</h1>
<p>Is a text buried in these weights, and what is it? A scan asks the suspect in every way known here and holds each answer against a reference,
best its own base; a look forces one beginning and shows every token's lift. What is found is a candidate, never a proof.</p>"""
CONTEXTS = {"chat": "after the prompt", "open_user": "inside the user's open turn", "header": "after a bare answer header",
            "empty": "after an empty turn", "bos": "at the beginning of text"}  # fmt: skip
DECODES = {"sampling": "greedy or sampled", "beam": "the likeliest beam", "lift_beam": "the beam with most lift"}
LOOK = run_page.Look(
    head=HEAD,
    compare=(("the reference", REFERENCE), ("a clean model of the family", "clean"), ("a benign memoriser", "benign")),
    ticked=(REFERENCE,),
    shown_first=("prefix", "context"),
    lint_on=("prefix", "context", "decode", "reference", "model"),
    folded="Beams, system message, template",
    options={
        "prefix": {"label": "Force this beginning", "lines": 1, "elem_classes": ["loupe-mono"], "info": "empty forces nothing"},
        "context": {"label": "Where", "labels": CONTEXTS, "info": None},
        "decode": {"label": "Go on by", "labels": DECODES, "info": None},
        "alpha": {"label": "Lift beam: least share of the likeliest token"},
    },
    roles={REFERENCE: "Reference: its base, or a relative"},
    model="Suspect",
)


def build(workbench: Workbench, demo: gr.Blocks) -> None:
    """Lay out the page and wire it."""
    logic, sections = Logic(workbench), []
    page = run_page.build(workbench, demo, logic, replace(LOOK, lead=lambda: sections.append(hidden_scan_section.layout(workbench))))
    page.form.run.value = "Look"
    hidden_scan_section.wire(sections[0], workbench, logic, page)
    hidden_plant_section.build(workbench, logic, page, sections[0])
    hidden_tour.wire(sections[0], workbench, logic, page)
    api.offer(logic.endpoint(), logic.method)
