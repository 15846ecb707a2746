"""The token strip: one `gr.HTML` whose value is one growing string of JSON lines.

Goes in: the lines of one or more runs (CONTRACTS, "Lines"), a `started` line beginning each lane, then one line
`{"event": "verdict", "sentence": …, "figures": …, "holds": …}`; a line `{"event": "recorded", "model": …, "device": …, "date": …}`
marks a recording, a line `{"event": "clean", "points": [[x, y], …], "words": …}` brings a scan's grey dots.
Comes out: the page's verdict, replay, picture, strips and card, where there are `round` lines their staircases, timeline and tree, and
three events, `select`, `branch` and `live`. Doesn't know models, methods or the store:
template and script are constant, no text ever passes through a template, and what else a token could have been is asked of `inspect`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from backend.strip_files import script_text

ASSETS = Path(__file__).resolve().parent.parent / "assets"
ROOT = '<div class="lp"></div>'


def strip_script() -> str:
    """The component's script: the files in their order, as one text."""
    return script_text()


def token_strip(
    elem_id: str, inspect: Callable[[str, int, str], dict[str, Any]] | None = None, value: str = "", asked: Sequence[Callable[..., Any]] = (),
    live: bool = False,
) -> gr.HTML:  # fmt: skip
    """The strip as a component; stream the grown string into it with `show_progress="hidden"`.

    `inspect(run_id, position, token)` returns `{"models": {role: {"top": [{"id", "text", "p", "final_p", "cut"}, …]}}, …}` or
    `{"error": words}`; `token` is the visitor's, or the share id that the text came with.
    `strip.select(fn)` and `strip.branch(fn)` get a `gr.EventData` with `run`, `position` and `token_id`:
    a token was opened, or a run shall be continued from there with another token. `asked`: what a page's own views may ask besides, by name.
    `live`: the page can run a recording's own requests, `strip.live(fn)` with the id of its first lane as `run`.
    """
    strip = gr.HTML(
        html_template=ROOT,
        js_on_load=strip_script(),
        apply_default_css=False,
        elem_id=elem_id,
        elem_classes=["loupe-strip"],
        server_functions=[*([_server_function(inspect)] if inspect else []), *asked] or None,
        live=live,
    )
    # Gradio warns of a `<script>` in a value; in ours it is a token's text and never becomes markup. A subclass would do as well,
    # but Gradio writes a .pyi beside every file that has one.
    strip.postprocess = _as_it_stands
    strip.value = value
    return strip


def _as_it_stands(value: str | None) -> str:
    return value or ""


def _server_function(ask: Callable[[str, int, str], dict[str, Any]]) -> Callable[[list[Any]], dict[str, Any]]:
    """`ask` as the browser calls it: one argument, made by anybody, so its shape is checked here."""

    def inspect(payload: list[Any]) -> dict[str, Any]:
        match payload:
            case [str(run), int(position), str(token)] if position >= 0 and not isinstance(position, bool):
                return ask(run, position, token)
            case _:
                return {"error": "The page asked for a token that can't be."}

    return inspect
