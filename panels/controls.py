"""The widgets every panel shares, and the way from what they say to a `RunRequest` and back.

Goes in: a workbench's model choices, an `Options` dataclass, values of widgets (they come from the browser, so anything may stand in
them). Comes out: widgets in a fixed order, a checked request, the widgets' values of a request. Doesn't know what a method does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from typing import Any

import gradio as gr
from gradio.components import Component

from backend.errors import InvalidRequest
from backend.options import default_of
from backend.types import TEMPLATES, Prompt, RunRequest, SamplingParams
from panels.visitor import browser_secret

SHARED = ("model", "prompt", "template", "system", "temperature", "top_p", "top_k", "max_new_tokens", "seed")
NO_MODEL = "none"
TEMPLATE_LABELS = {"chat": "chat, with the model's template", "raw": "raw, as it stands"}


def model_picker(choices: Sequence[tuple[str, str]], public: bool, label: str = "Model") -> gr.Dropdown:
    """A model from the list, or, on one's own machine, any id typed in."""
    info = None if public else "or type a folder, a .gguf file or a Hub id"
    first = choices[0][1] if choices else None
    return gr.Dropdown(list(choices), value=first, label=label, info=info, allow_custom_value=not public, elem_id="model")


def role_picker(choices: Sequence[tuple[str, str]], public: bool, role: str, label: str) -> gr.Dropdown:
    """A further model that a method can do without."""
    more = [("none", NO_MODEL), *choices]
    return gr.Dropdown(more, value=NO_MODEL, label=label, allow_custom_value=not public, elem_id=f"model-{role}")


def prompt_box() -> gr.Textbox:
    return gr.Textbox(label="Prompt", lines=3, max_lines=12, elem_id="prompt")


def prompt_details() -> tuple[gr.Radio, gr.Textbox]:
    """How the prompt is put to the model: template and system message, seldom touched."""
    choices = [(TEMPLATE_LABELS[name], name) for name in TEMPLATES]
    template = gr.Radio(choices, value="chat", label="Template", elem_id="template")
    system = gr.Textbox(label="System message", placeholder="the template's own", lines=2, elem_id="system")
    return template, system


def sampling_controls() -> tuple[gr.Number, ...]:
    """Temperature, top-p, top-k, length and seed, in the order of `SHARED`."""
    start = SamplingParams()
    return (
        gr.Number(start.temperature, label="Temperature (0 is greedy)", minimum=0, maximum=10, step=0.1, elem_id="temperature"),
        gr.Number(start.top_p, label="Top-p", minimum=0.0001, maximum=1, step=0.05, elem_id="top-p"),
        gr.Number(start.top_k, label="Top-k (0 cuts nothing)", minimum=0, precision=0, elem_id="top-k"),
        gr.Number(start.max_new_tokens, label="Most tokens", minimum=1, maximum=100_000, precision=0, elem_id="max-new-tokens"),
        gr.Number(start.seed, label="Seed", minimum=0, precision=0, elem_id="seed"),
    )


def option_widget(spec: Field[Any], label: str | None = None, labels: Mapping[str, str] | None = None,
                  offered: Sequence[tuple[str, str]] | None = None, **more: Any) -> Component:  # fmt: skip
    """The widget of one `Options` field: choices, truth, number or text; label and help come from the field. `offered`: texts to choose
    from, though another may be typed in."""
    meta, value = spec.metadata, default_of(spec)
    name = spec.name.replace("_", " ")
    common = {"label": label or name.capitalize(), "info": meta.get("help"), "elem_id": name.replace(" ", "-"), **more}
    if meta.get("choices"):
        return gr.Dropdown([((labels or {}).get(c, c), c) for c in meta["choices"]], value=value, **common)
    if offered is not None:
        return gr.Dropdown(list(offered), value=value, allow_custom_value=True, **common)
    if isinstance(value, bool):
        return gr.Checkbox(value, **common)
    if isinstance(value, (int, float)):
        precision = 0 if isinstance(value, int) else None
        return gr.Number(value, minimum=meta.get("low"), maximum=meta.get("high"), precision=precision, **common)
    return gr.Textbox(value, **common)


def specs(options: type) -> dict[str, Field[Any]]:
    """The fields of an `Options` dataclass by name."""
    return {spec.name: spec for spec in fields(options)}


def to_request(method: str, shared: Sequence[Any], options: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> RunRequest:
    """The request that the widgets stand for; `shared` in the order of `SHARED`, `more` the models of further roles, of which
    `NO_MODEL` and an empty name are left out. Raises `InvalidRequest` naming the field."""
    said = dict(zip(SHARED, shared, strict=True))
    if not isinstance(said["model"], str) or not said["model"].strip():
        raise InvalidRequest("Choose a model, or type the name of one.", "models.target")
    if not isinstance(said["prompt"], str):
        raise InvalidRequest("prompt must be a text.", "prompt")
    prompt = Prompt.user(said["prompt"], said["template"], said["system"] or None)
    sampling = SamplingParams(said["temperature"], said["top_p"], said["top_k"], said["max_new_tokens"], said["seed"])
    models = {"target": said["model"], **{role: name for role, name in (more or {}).items() if name not in (None, "", NO_MODEL)}}
    for role, name in models.items():
        if not isinstance(name, str):
            raise InvalidRequest(f"models.{role} must be a name, got {type(name).__name__}.", f"models.{role}")
    return RunRequest(method, prompt, {role: name.strip() for role, name in models.items()}, sampling, dict(options))


def from_request(request: RunRequest) -> tuple[Any, ...]:
    """The shared widgets' values of a request, in the order of `SHARED`. Of several messages the last one fills the prompt."""
    s = request.sampling
    model = request.models.get("target") or next(iter(request.models.values()), None)
    return (model, request.prompt.text, request.prompt.template, request.prompt.system or "",
            s.temperature, s.top_p, s.top_k, s.max_new_tokens, s.seed)  # fmt: skip


def remembered_state() -> gr.BrowserState:
    """Model, prompt and sampling as last chosen in this browser, on any page."""
    return gr.BrowserState(None, storage_key="loupe-choices", secret=browser_secret())


# The last value is what is remembered so far: it stays until a person has touched the page's controls (keys.js).
REMEMBER = """(...values) => {
  const names = %s, before = values.pop();
  return [window.loupeTouched ? Object.fromEntries(names.map((name, i) => [name, values[i]])) : before];
}"""


def remember(widgets: Sequence[Component], state: gr.BrowserState) -> None:
    """Keep what the shared widgets say whenever one loses the focus or is set, once a person has had a hand in it: what a page or a preset
    fills in by itself is nobody's choice. Happens in the browser, the server isn't asked."""
    triggers = [w.blur if isinstance(w, gr.Textbox) else w.change for w in widgets]
    gr.on(triggers, None, [*widgets, state], [state], js=REMEMBER % list(SHARED), show_progress="hidden", api_visibility="private")


def recalled(values: Any) -> tuple[Any, ...] | None:
    """The shared widgets' values out of the browser's memory, if all are there and make a request; else None."""
    if not isinstance(values, Mapping) or set(values) != set(SHARED):
        return None
    try:
        return from_request(to_request("any", [values[name] for name in SHARED], {}))
    except InvalidRequest:
        return None
