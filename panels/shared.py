"""The page of a shared run: whoever has its link reads it, without a login.

Goes in: a workbench, `?run=s-…`. Comes out: verdict, picture, strip and evidence of what is stored under that id, marked as shared, and the way to a
panel with the same inputs. An id that is unknown or no longer shared is told in a plain sentence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from backend.errors import WorkbenchError
from backend.shares import is_share_id
from backend.workbench import Workbench
from panels import evidence
from panels.header import top
from panels.records import looked, opened, page_of
from panels.said import shown
from panels.strip import token_strip

TITLE, PATH, SHOW_IN_NAVBAR = "Shared run", "shared", False
ASSETS = Path(__file__).resolve().parent.parent / "assets"
HEAD = "<h1>Shared run</h1>\n<p>Somebody handed this run on as it was stored. Open a token for its facts.</p>"
NO_LINK = "This address names no shared run. A link to one ends in ?run=s- and 32 letters and digits."
GONE = "This run is not shared, or no longer."
QUIET = {"show_progress": "hidden", "api_visibility": "private", "queue": False}


def build(workbench: Workbench, demo: gr.Blocks) -> None:
    """Lay out the page and wire it."""
    head = top(workbench, demo)
    gr.HTML(HEAD, elem_classes=["loupe-question"])
    script = (ASSETS / "way.js").read_text(encoding="utf-8")
    way = gr.HTML(shown({}), html_template='<p class="lp-way"></p>', js_on_load=script, elem_id="way", apply_default_css=False)
    with gr.Column(visible=False, elem_id="opened") as stage:
        strip = token_strip("strip", inspect=lambda run_id, position, token: looked(workbench, run_id, position, token))
        folded = evidence.evidence((*evidence.TEXT_CHARTS, *evidence.ROUND_CHARTS))

    def first(request: gr.Request) -> tuple[str, str, gr.Column]:
        told, text = read(workbench, request.query_params.get("run"))
        return told, text, gr.Column(visible=bool(text))

    filled = head.ready.then(first, None, [way, strip, stage], **QUIET)
    evidence.fill(folded, filled.then, workbench, strip, head.visitor)


def read(workbench: Workbench, share: Any) -> tuple[str, str]:
    """What the page says above the strip, and the strip's text; empty where there is nothing to read."""
    if not isinstance(share, str) or not is_share_id(share):
        return shown({"words": NO_LINK}), ""
    try:
        record, text = opened(workbench, "", share)
    except WorkbenchError:
        return shown({"words": GONE}), ""
    method = workbench.methods.get(record.request.method)
    page = page_of(record.request)
    way = {"href": f"{page}?run={share}", "label": f"Open these inputs in {method.title if method else page}"} if page else {}
    return shown(way), text
