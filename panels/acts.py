"""The row of actions under a strip: Share, Run again, Export.

Goes in: a workbench, a strip. Comes out: the row, laid out and wired, and the event after which the strip holds a repetition. What can be tested
without a browser is in `acts_logic`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from backend.workbench import Workbench
from panels.acts_logic import Acts
from panels.evidence import address_of
from panels.said import shown
from panels.stream import streamed, told

ASSETS = Path(__file__).resolve().parent.parent / "assets"
QUIET = {"show_progress": "hidden", "api_visibility": "private"}
STREAMS = {**QUIET, "concurrency_limit": 24, "concurrency_id": "runs"}


def acts_row(elem_id: str = "acts") -> gr.HTML:
    """Lay the row out; constant markup, a script that sets texts as texts."""
    script = (ASSETS / "acts.js").read_text(encoding="utf-8")
    return gr.HTML(shown({}), html_template='<div class="lp-acts"></div>', js_on_load=script, elem_id=elem_id, apply_default_css=False)


def wire(workbench: Workbench, row: gr.HTML, strip: gr.HTML, visitor: gr.BrowserState) -> Any:
    """Wire the row to its strip; returns the event of Run again, which fills the strip."""
    acts, inputs = Acts(workbench), [visitor, strip]

    def offer(request: gr.Request, token: str, text: str) -> str:
        with told():
            return acts.offer(token, text, address_of(request))

    def publish(request: gr.Request, token: str, text: str) -> str:
        with told():
            return acts.publish(token, text, address_of(request))

    def revoke(token: str, text: str) -> str:
        with told():
            return acts.revoke(token, text)

    def take(event: gr.EventData, token: str, text: str) -> str:
        with told():
            return acts.take(token, text, event._data.get("form"))

    def again(request: gr.Request, token: str, text: str) -> Iterator[str]:
        yield from streamed(lambda: acts.again(request, token, text))

    row.offer(offer, inputs, [row], queue=False, **QUIET)
    row.publish(publish, inputs, [row], queue=False, **QUIET)
    row.revoke(revoke, inputs, [row], queue=False, **QUIET)
    row.take(take, inputs, [row], queue=False, **QUIET)
    return row.again(again, inputs, [strip], **STREAMS)
