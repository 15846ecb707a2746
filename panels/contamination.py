"""The page of contamination.

Goes in: a workbench. Comes out: the audit of a benchmark first, then the run page on which one answer is patched. What can be tested without a
browser is in `contamination_logic` and `contamination_auditing`.
"""

from __future__ import annotations

from dataclasses import replace

import gradio as gr

from backend.workbench import Workbench
from panels import api, contamination_section, run_page
from panels.contamination_logic import BASE, COMPARE, TWIN, Logic

TITLE, PATH = "Contamination", "contamination"
HEAD = """<h1>Contamination</h1>
<p>How much of this benchmark score is memory, and which neurons hold it? An audit holds leaked items against fresh ones, finds the neurons,
gives them another model's values and reports what is left, beside what chance would have done.</p>"""
LABELS = {"patched": "the suspect, patched", "none": "the suspect as it is", "source": "the source alone", "base": "the base alone"}
LOOK = run_page.Look(
    head=HEAD,
    compare=COMPARE,
    ticked=("unpatched", "source alone"),
    shown_first=("neurons", "k"),
    lint_on=("model", TWIN, BASE, "neurons", "k", "patch"),
    folded="Who speaks, system message, template",
    options={
        "patch": {"label": "Who speaks", "labels": LABELS, "info": None},
        "neurons": {"label": "Neurons of one answer", "info": "the id of an audit's list, all, or random"},
        "k": {"label": "The best so many (0: the whole list)", "info": None},
    },
    roles={TWIN: "Clean twin: the fine-tune without the leak", BASE: "Base: the model before its fine-tune"},
    model="Suspect",
    evidence="Evidence: log-probabilities along the text, identity check, figures, the request, copy as code",
)


def build(workbench: Workbench, demo: gr.Blocks) -> None:
    """Lay out the page and wire it."""
    logic, laid = Logic(workbench), []
    page = run_page.build(workbench, demo, logic, replace(LOOK, lead=lambda: laid.append(contamination_section.layout())))
    contamination_section.wire(laid[0], workbench, logic, page)
    api.offer(logic.endpoint(), logic.method)
