"""Words, facts and tables on a page, whoever wrote them.

Goes in: a string, a dictionary or a list of dictionaries. Comes out: a `gr.HTML` whose markup is constant and whose script sets texts as
texts: what a model or a person wrote never passes through a template. Doesn't know what it shows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr

ASSETS = Path(__file__).resolve().parent.parent / "assets"


def said(value: Any = "", elem_id: str | None = None, classes: str = "loupe-note", live: bool = False) -> gr.HTML:
    """A place for words; give new ones as `shown(…)`. `live` has a screen reader say what changes."""
    root = f'<div class="lp-said"{" aria-live=polite" if live else ""}></div>'
    script = (ASSETS / "facts.js").read_text(encoding="utf-8")
    look = {"elem_id": elem_id, "elem_classes": classes.split(), "apply_default_css": False}
    return gr.HTML(shown(value), html_template=root, js_on_load=script, **look)


def shown(value: Any) -> str:
    """The component's value for these words, facts or rows. `<` is written as JSON escapes it, so no tag is ever seen in the value."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")
