"""The page of speculative decoding.

Goes in: a workbench. Comes out: the run page as this method shows it, the speed-up curve with its what-if, and the evaluation over a
prompt set. What can be tested without a browser is in `speculative_logic`, `speculation_charts` and `evaluating`.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from backend.workbench import Workbench
from panels import api, evaluate_section, run_page, speculation_charts
from panels.evidence import RESIZED, ROUND_CHARTS, TEXT_CHARTS
from panels.lanes import lanes
from panels.run_page import AT_ONCE
from panels.said import heading, said, shown
from panels.speculative_logic import PLAIN, Logic, choices

TITLE, PATH = "Speculative", "speculative"
HEAD = """<h1>Speculative decoding</h1>
<p>How much faster can the same text come, without changing it? Something cheap drafts a few tokens, the model checks them all at once.
Run a preset, then step through its rounds: what was drafted, what was kept, what each part cost.</p>"""
LABELS = {"auto": "auto: lookup and recycling", "none": "nothing: plain decoding", "model": "a draft model",
          "lookup": "prompt lookup", "recycling": "Token Recycling", "tree": "an LLMCad tree of a draft model"}  # fmt: skip
LAWS = {"coupled": "one noise: plain's own text", "residual": "rejection, residual"}
MODES = {"fast": "fast", "reproducible": "reproducible: one width"}
LOOK = run_page.Look(
    head=HEAD,
    compare=choices(),
    ticked=("lookup", "recycling", PLAIN),
    shown_first=("drafter",),
    lint_on=("drafter", "draft", "mode", "model"),
    folded="Drafting in detail, system message, template",
    options={
        "drafter": {"label": "Drafted by", "labels": LABELS, "info": None},
        "gamma": {"label": "Tokens drafted a round (0: from the costs)", "info": "of a draft model or a lookup"},
        "ngram": {"label": "Lookup: longest match"},
        "nodes": {"label": "Tree size (0: from the costs)", "info": "of Token Recycling or LLMCad"},
        "branch": {"label": "LLMCad: confidence that opens a branch", "info": None},
        "fallback": {"label": "LLMCad: confidence that ends drafting", "info": "adjusts itself; 0 never ends it"},
        "law": {"label": "When sampling, accept by", "labels": LAWS},
        "mode": {"labels": MODES, "info": "reproducible: bits don't depend on what was drafted"},
        "width": {"label": "Reproducible: rows of a forward"},
    },
    roles={"draft": "Draft model"},
    charts=(*ROUND_CHARTS, *TEXT_CHARTS),
    evidence="Evidence: acceptance by position, run lengths, confidence, figures, the request, copy as code",
)


def build(workbench: Workbench, demo: gr.Blocks) -> None:
    """Lay out the page and wire it."""
    logic = Logic(workbench)
    page = run_page.build(workbench, demo, logic, LOOK)
    _what_if(page)
    evaluate_section.build(workbench, logic, page)
    api.offer(logic.endpoint(), logic.method)


def _what_if(page: run_page.Page) -> None:
    """The predicted speed-up with what was measured, and two sliders that move its costs."""
    with gr.Accordion("What if: the speed-up curve", open=False, elem_id="what-if", elem_classes=["loupe-evidence"]) as folded:
        heading("speed-up curve")
        plot = gr.Plot(show_label=False, elem_id="speed-up", visible=False)
        note = said("", "speed-up-note")
        with gr.Row():
            c = gr.Slider(0, 1, value=0.1, step=0.01, label="What if a draft step cost c single steps", elem_id="what-c")
            v = gr.Slider(1, 6, value=1.2, step=0.05, label="What if checking 8 drafted tokens cost v single steps", elem_id="what-v")

    def draw(text: str, *costs: float) -> tuple[Any, str]:
        figure = speculation_charts.speed_up(lanes(text or ""), *costs)
        return gr.Plot(value=figure, visible=figure is not None), shown(speculation_charts.curve_note(lanes(text or "")))

    def anew(text: str) -> tuple[Any, ...]:
        """After a run, or unfolded: the sliders stand at what was measured, so that the first move starts there."""
        costs = speculation_charts.measured_costs(lanes(text or ""))
        return (*draw(text), *(costs or (gr.skip(), gr.skip())))

    for ended in page.runs:
        ended.then(anew, [page.stage.strip], [plot, note, c, v], **AT_ONCE)
    folded.expand(anew, [page.stage.strip], [plot, note, c, v], **AT_ONCE).then(None, js=RESIZED)
    for slider in (c, v):
        slider.input(draw, [page.stage.strip, c, v], [plot, note], trigger_mode="always_last", **AT_ONCE)
