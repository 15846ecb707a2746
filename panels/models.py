"""The page of models: what any id is, whether it will run here, and how to get it.

Goes in: a workbench. Comes out: one page. Knows the passport as facts to show, not how it is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from backend.errors import InvalidRequest
from backend.model_service import ModelState
from backend.workbench import Workbench
from panels import controls
from panels.header import top
from panels.said import said, shown
from panels.stream import told

TITLE, PATH = "Models", "models"
EVERY_S = 1
HEAD = """<h1>Models</h1>
<p>The passport of any model: what it is, what it needs, which panels it works in and why not in others. Nothing is loaded to say so.</p>"""
QUIET = {"show_progress": "hidden", "api_visibility": "private", "queue": False}


def build(workbench: Workbench, demo: gr.Blocks) -> None:
    """Lay out the page and wire it."""
    head = top(workbench, demo)
    gr.HTML(HEAD, elem_classes=["loupe-question"])
    with gr.Row(elem_id="pick"):
        model = controls.model_picker(workbench.models.choices(), workbench.public)
        get = gr.Button("Get it", elem_id="get", scale=0, visible=not workbench.public)
    state = said("", "model-state", "loupe-note", live=True)
    passport = said("", "passport", "")
    timer = gr.Timer(EVERY_S, active=False)

    def describe(model_id: Any) -> tuple[str, str]:
        with told():
            return shown(facts(workbench.models.describe(named(model_id)))), shown(words(workbench.models.state(named(model_id))))

    def fetch(model_id: Any) -> gr.Timer:
        with told():
            workbench.models.fetch(named(model_id))
            return gr.Timer(active=True)

    def tick(model_id: Any) -> tuple[str, gr.Timer]:
        now = workbench.models.state(named(model_id))
        return shown(words(now)), gr.Timer(active=now.fetching)

    gr.on([model.change], describe, [model], [passport, state], trigger_mode="always_last", **QUIET)
    get.click(fetch, [model], [timer], **QUIET)
    timer.tick(tick, [model], [state, timer], **QUIET)
    head.ready.then(describe, [model], [passport, state], **QUIET)


def named(model_id: Any) -> str:
    """The id that was picked or typed."""
    if not isinstance(model_id, str) or not model_id.strip():
        raise InvalidRequest("Choose a model, or type the name of one.", "models.target")
    return model_id.strip()


def words(state: ModelState) -> str:
    """Where the model's files are."""
    if state.error:
        return state.error
    if state.present:
        return state.note or "The files are on this machine."
    share = f" · {100 * state.done / state.total:.0f} %" if state.total else ""
    return f"{state.note or 'Not on this machine yet'}{share}"


def facts(passport: Mapping[str, Any]) -> dict[str, Any]:
    """The passport with plain names; what a model lacks stays, as a dash."""
    return {name.removeprefix("n_").replace("_", " "): plain(name, value) for name, value in passport.items()}


def plain(name: str, value: Any) -> Any:
    """Bytes in units; everything else as it is."""
    if name.endswith("bytes") and isinstance(value, (int, float)):
        return gigabytes(value)
    if isinstance(value, Mapping) and "memory" in name:
        return {key: gigabytes(inner) for key, inner in value.items()}
    return value


def gigabytes(n_bytes: float) -> str:
    return f"{n_bytes / 2**30:.2f} GiB" if n_bytes >= 2**28 else f"{n_bytes / 2**20:.0f} MiB"
