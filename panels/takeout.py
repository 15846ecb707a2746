"""The section "Take your runs with you": import, everything as CSV or SQLite, delete everything.

Goes in: a workbench and a page's head. Comes out: the section, laid out and wired, and the events after which the list of runs is another. What can
be tested without a browser is in `takeout_logic`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from backend.workbench import Workbench
from panels.header import Top
from panels.said import shown
from panels.stream import told
from panels.takeout_logic import Takeout

ASSETS = Path(__file__).resolve().parent.parent / "assets"
QUIET = {"show_progress": "hidden", "api_visibility": "private", "queue": False}


def build(workbench: Workbench, head: Top) -> tuple[Any, Any]:
    """Lay out the section, closed; returns the events of an import and of deleting everything."""
    takeout = Takeout(workbench, Path(get_upload_folder()))
    script = (ASSETS / "takeout.js").read_text(encoding="utf-8")
    with gr.Accordion("Take your runs with you: import, CSV, SQLite, delete", open=False, elem_id="takeout"):
        section = gr.HTML(shown({}), html_template='<div class="lp-takeout"></div>', js_on_load=script, elem_id="takeout-acts",
                          apply_default_css=False)  # fmt: skip
        with gr.Row(elem_classes=["loupe-acts"]):
            upload = gr.UploadButton("Import an exported run", file_types=[".jsonl"], size="sm", elem_id="takeout-import")
            file = gr.DownloadButton("Save loupe.db", visible=False, size="sm", elem_id="takeout-database")
    return _wire(takeout, head, section, upload, file)


def _wire(takeout: Takeout, head: Top, section: gr.HTML, upload: gr.UploadButton, file: gr.DownloadButton) -> tuple[Any, Any]:
    def bring(request: gr.Request, token: str, path: str) -> str:
        with told():
            return takeout.bring(request, token, path)

    def listing(token: str) -> str:
        with told():
            return takeout.listing(token)

    def database(token: str) -> gr.DownloadButton:
        with told():
            made = takeout.database(token)
        return gr.DownloadButton(f"Save loupe.db, {max(1, round(made.stat().st_size / 1000)):,} kB", value=made, visible=True)

    def forget(token: str) -> tuple[str, gr.DownloadButton]:
        with told():
            return takeout.forget(token), gr.DownloadButton(value=None, visible=False)

    section.listing(listing, [head.visitor], [section], **QUIET)
    section.database(database, [head.visitor], [file], **QUIET)
    return (
        upload.upload(bring, [head.visitor, upload], [section], **QUIET),
        section.forget(forget, [head.visitor], [section, file], **QUIET),
    )
