"""The token strip: one `gr.HTML` whose value is one growing string of JSON lines.

Goes in: the lines of one or more runs (CONTRACTS, "Lines"), a `started` line beginning each lane, then one line
`{"event": "verdict", "sentence": …, "figures": …, "holds": …}`; a line `{"event": "recorded", "model": …, "device": …, "date": …}`
marks a recording, a line `{"event": "clean", "points": [[x, y], …], "words": …}` brings a scan's grey dots.
Comes out: the page's verdict, picture, strips and card, where there are `round` lines their staircases, timeline and tree, and two
events, `select` and `branch`. Doesn't know models, methods or the store:
template and script are constant, no text ever passes through a template, and what else a token could have been is asked of `inspect`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

ASSETS = Path(__file__).resolve().parent.parent / "assets"
# What every strip has, then the views of speculation; a view hides itself where a run has nothing for it. `strip.js` puts them together.
VIEWS = ("staircase.js", "refused.js", "tree.js", "timeline.js", "rounds.js", "routing-picture.js", "routing-threshold.js", "routing.js",
         "contamination.js", "hidden_found.js", "hidden_dots.js", "hidden_map.js", "hidden_table.js", "hidden_lift.js")  # fmt: skip
SCRIPTS = ("glyphs.js", "glossary.js", "views.js", "lane.js", "picture.js", "card.js", *VIEWS, "strip.js")
ROOT = '<div class="lp"></div>'


def strip_script() -> str:
    """The component's script: the files in their order, as one text."""
    return "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS)


def token_strip(
    elem_id: str, inspect: Callable[[str, int], dict[str, Any]] | None = None, value: str = "", asked: Sequence[Callable[..., Any]] = ()
) -> gr.HTML:
    """The strip as a component; stream the grown string into it with `show_progress="hidden"`.

    `inspect(run_id, position)` returns `{"models": {role: {"top": [{"id", "text", "p", "final_p", "cut"}, …]}}, …}` or `{"error": words}`.
    `strip.select(fn)` and `strip.branch(fn)` get a `gr.EventData` with `run`, `position` and `token_id`:
    a token was opened, or a run shall be continued from there with another token. `asked`: what a page's own views may ask besides, by name.
    """
    strip = gr.HTML(
        html_template=ROOT,
        js_on_load=strip_script(),
        apply_default_css=False,
        elem_id=elem_id,
        elem_classes=["loupe-strip"],
        server_functions=[*([_server_function(inspect)] if inspect else []), *asked] or None,
    )
    # Gradio warns of a `<script>` in a value; in ours it is a token's text and never becomes markup. A subclass would do as well,
    # but Gradio writes a .pyi beside every file that has one.
    strip.postprocess = _as_it_stands
    strip.value = value
    return strip


def _as_it_stands(value: str | None) -> str:
    return value or ""


def _server_function(ask: Callable[[str, int], dict[str, Any]]) -> Callable[[list[Any]], dict[str, Any]]:
    """`ask` as the browser calls it: one argument, made by anybody, so its shape is checked here."""

    def inspect(payload: list[Any]) -> dict[str, Any]:
        match payload:
            case [str(run), int(position)] if position >= 0 and not isinstance(position, bool):
                return ask(run, position)
            case _:
                return {"error": "The page asked for a token that can't be."}

    return inspect
