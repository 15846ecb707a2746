"""The line that says how far a model is that is still on its way.

Goes in: a workbench. Comes out: a place on the page that fills and empties itself. Knows the state, not where models come from.
"""

from __future__ import annotations

import gradio as gr

from backend.model_service import ModelState
from backend.workbench import Workbench
from panels.said import said, shown

EVERY_S = 1
DEFAULT_MODEL = "smollm2"


def model_note(workbench: Workbench) -> None:
    """Lay the note out; it asks once a second until the model is here."""
    note = said("", "model-note", "loupe-note", live=True)
    timer = gr.Timer(EVERY_S)

    def tick() -> tuple[str, gr.Timer]:
        state = workbench.models.state(DEFAULT_MODEL)
        return shown(state_words(DEFAULT_MODEL, state)), gr.Timer(active=not state.present)

    timer.tick(tick, None, [note, timer], queue=False, show_progress="hidden", api_visibility="private")


def state_words(model_id: str, state: ModelState) -> str:
    """How far the model is, and what can be looked at meanwhile; nothing once it is here."""
    if state.present:
        return ""
    if state.error:
        return f"{model_id} is not here: {state.error} The recorded run on Structured is real, and the pocket models work."
    share = f", {100 * state.done / state.total:.0f} %" if state.total else ""
    what = state.note or "on its way"
    return f"{model_id} is on its way ({what}{share}). Meanwhile read the run recorded on it, or use a pocket model."
