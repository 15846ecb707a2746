"""The page of small-large routing.

Goes in: a workbench. Comes out: the run page as this method shows it, its live threshold, the what-if of a token, and the way to a router of
one's own below. What can be tested without a browser is in `routing_logic`, `routing_jobs`, `routing_sweeps` and `routing_charts`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from backend.workbench import Workbench
from panels import api, evidence, routing_section, run_page
from panels.routing_logic import Logic
from panels.run_page import AT_ONCE, STREAMS
from panels.stream import streamed, told

TITLE, PATH = "Routing", "routing"
HEAD = """<h1>Small-large routing</h1>
<p>How few tokens of the large model are enough? The small model writes; where it is in doubt, the large one reads up and says the token itself.
Run a preset, then move the threshold, or let the other model speak at a token and see what changes.</p>"""
STRATEGIES = {"neural": "a trained router", "entropy": "entropy of the small model", "margin": "lead of its first choice", "random": "chance",
              "top1": "its first choice's probability", "oracle": "where both differ (knows the large one)", "every_k": "every k-th token",
              "always": "large only", "never": "small only"}  # fmt: skip
LOOK = run_page.Look(
    head=HEAD,
    compare=(("large only", "always"), ("small only", "never"), ("entropy, same budget", "entropy"), ("random, same budget", "random")),
    ticked=("always", "never", "entropy"),
    shown_first=("strategy", "threshold", "target_fraction", "router"),
    lint_on=("strategy", "threshold", "router", "small", "model"),
    folded="Routing in detail, system message, template",
    options={
        "strategy": {"label": "The large model is asked by", "labels": STRATEGIES, "info": None},
        "threshold": {"label": "Threshold", "info": "asked where the score is at least this; entropy counts nats"},
        "target_fraction": {"label": "Share of large tokens to aim at", "info": "leads instead of the threshold; 0: the threshold does"},
        "router": {"info": None},
        "every": {"label": "k of every k-th token", "info": None},
        "opinions": {"label": "Large model's opinion of small tokens", "info": "reads the end of the answer after it"},
        "force": {"label": "Decided by hand", "info": '[[position, "small" or "large"], …]', "elem_classes": ["loupe-mono"]},
        "controls": {"label": "Threshold moved on the way", "info": "[[position, value], …]", "elem_classes": ["loupe-mono"]},
        "budget_from": {"visible": False},
    },
    roles={"small": "Small model"},
    model="Large model",
)


def build(workbench: Workbench, demo: gr.Blocks) -> None:
    """Lay out the page and wire it."""
    logic = Logic(workbench)
    routers = {**LOOK.options["router"], "offered": logic.routers()}
    page = run_page.build(workbench, demo, logic, replace(LOOK, options={**LOOK.options, "router": routers}))
    _threshold(page, logic)
    _what_if(page, logic, workbench)
    routing_section.build(workbench, logic, page, page.form.options["router"])
    api.offer(logic.endpoint(), logic.method)


def _threshold(page: run_page.Page, logic: Logic) -> None:
    """The strip's slider steers a run that is under way; a threshold that pleased is taken over into the form."""
    form, strip = page.form, page.stage.strip

    def steer(event: gr.EventData, token: str) -> None:
        with told():
            logic.steer(token, event._data)

    def adopt(event: gr.EventData) -> tuple[Any, float]:
        return round(float(event._data["value"]), 5), 0.0

    strip.steer(steer, [page.head.visitor], None, **AT_ONCE)
    strip.adopt(adopt, None, [form.options["threshold"], form.options["target_fraction"]], **AT_ONCE)


def _what_if(page: run_page.Page, logic: Logic, workbench: Workbench) -> None:
    """A card's button adds a lane that lets the other model speak at one token."""
    stage, visitor = page.stage, page.head.visitor

    def force(event: gr.EventData, request: gr.Request, token: str, text: str) -> Iterator[str]:
        yield from streamed(lambda: logic.force(request, token, event._data), before=text or "")

    ended = stage.strip.force(force, [visitor, stage.strip], [stage.strip], **STREAMS)
    evidence.fill(stage.evidence, ended.then, workbench, stage.strip, visitor)
