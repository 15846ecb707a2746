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


def said(value: Any = "", elem_id: str | None = None, classes: str = "loupe-note", live: bool = False,
         explains: bool = False, tag: str = "div") -> gr.HTML:  # fmt: skip
    """A place for words; give new ones as `shown(…)`. `live` has a screen reader say what changes; `explains` puts the glossary's
    definition behind each term in a table's first column, a list of facts or a text that is a term."""
    root = f'<{tag} class="lp-said"{" aria-live=polite" if live else ""}></{tag}>'
    scripts = ("glossary.js", "facts.js") if explains else ("facts.js",)
    script = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in scripts)
    look = {"elem_id": elem_id, "elem_classes": classes.split(), "apply_default_css": False}
    return gr.HTML(shown(value), html_template=root, js_on_load=script, **look)


def heading(term: str, visible: bool = True) -> gr.HTML:
    """A small heading that is a term, its definition behind it."""
    made = said(term, classes="loupe-heading", explains=True, tag="h3")
    made.visible = visible
    return made


def download(elem_id: str) -> gr.HTML:
    """A button that saves rows as CSV, or a text as JSON; give them as `shown({"name": …, "rows": […]})` or `{"name": …, "text": …}`."""
    script = (ASSETS / "download.js").read_text(encoding="utf-8")
    return gr.HTML(shown({"rows": []}), html_template='<div class="lp-download"></div>', js_on_load=script, elem_id=elem_id,
                   apply_default_css=False)  # fmt: skip


def shown(value: Any) -> str:
    """The component's value for these words, facts or rows. `<` is written as JSON escapes it, so no tag is ever seen in the value."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")
