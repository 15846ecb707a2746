"""The first page: what Loupe is, and its five questions.

Goes in: a workbench. Comes out: the page. All its words and drawings are constants of the repository (`assets/home.html`).
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from backend.workbench import Workbench
from panels.header import top
from panels.model_note import model_note

PAGE = Path(__file__).resolve().parent.parent / "assets" / "home.html"


def build(workbench: Workbench, demo: gr.Blocks) -> None:
    """Lay the page out."""
    top(workbench, demo)
    page = PAGE.read_text(encoding="utf-8")
    gr.HTML(page, elem_id="home", apply_default_css=False)
    model_note(workbench)
