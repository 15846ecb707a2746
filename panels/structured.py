"""The page of structured generation.

Goes in: a workbench. Comes out: the run page as this method shows it. What can be tested without a browser is in `structured_logic`.
"""

from __future__ import annotations

import gradio as gr

from backend.workbench import Workbench
from panels import api, run_page
from panels.structured_logic import Logic

TITLE, PATH = "Structured", "structured"
HEAD = """<h1>Structured generation</h1>
<p>Does this model still say what it wants when a grammar holds its hand, and what does that cost?
Run a preset, then open a token: its card shows what the model would have said.</p>"""
KINDS = {"json_schema": "JSON Schema", "json": "any JSON", "regex": "regular expression", "ebnf": "EBNF grammar",
         "structural_tag": "structural tag"}  # fmt: skip
SPACES = {"fixed": "one blank at the usual places", "any": "up to two blanks anywhere"}
HOLDS = {"grammar": "enforced", "none": "left out", "prompt": "asked for in the prompt"}
LOOK = run_page.Look(
    head=HEAD,
    compare=(("without grammar", "none"), ("schema in the prompt", "prompt")),
    ticked=("none",),
    shown_first=("kind", "grammar"),
    lint_on=("kind", "grammar"),
    folded="System message, template, spacing",
    options={
        "kind": {"label": "The answer follows a", "labels": KINDS, "info": None},
        "grammar": {"lines": 8, "max_lines": 18, "elem_classes": ["loupe-mono"], "info": None},
        "whitespace": {"label": "Spacing of JSON", "labels": SPACES},
        "constrain": {"label": "The grammar is", "labels": HOLDS},
    },
)


def build(workbench: Workbench, demo: gr.Blocks) -> None:
    """Lay out the page and wire it."""
    logic = Logic(workbench)
    run_page.build(workbench, demo, logic, LOOK)
    api.offer(logic.endpoint(), logic.method)
