"""What a request brings along that the form has no field for: given answer tokens, earlier messages, who speaks last.

Goes in: a request, or what the browser sends back (client input). Comes out: one JSON text that is a value of the form like any other, the
request with it put back in, and a place on the page that says it in words and lets each part be taken away. Knows no method.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from backend.errors import InvalidRequest
from backend.types import Prompt, RunRequest

ASSETS = Path(__file__).resolve().parent.parent / "assets"
PREFIX, MESSAGES, ROLE, SYSTEM = "answer_prefix", "messages", "role", "system"
PARTS = (PREFIX, MESSAGES, ROLE, SYSTEM)


def carried(request: RunRequest) -> str:
    """The parts of a request that no field holds, as JSON; empty where there are none."""
    *earlier, last = request.prompt.messages
    parts: dict[str, Any] = {}
    if request.answer_prefix:
        parts[PREFIX] = list(request.answer_prefix)
    if earlier:
        parts[MESSAGES] = [dict(message) for message in earlier]
    if last["role"] != "user":
        parts[ROLE] = last["role"]
    if request.prompt.system == "":  # an empty field stands for the template's own
        parts[SYSTEM] = ""
    return json.dumps(parts, ensure_ascii=False).replace("<", "\\u003c") if parts else ""


def put_back(request: RunRequest, text: Any) -> RunRequest:
    """The form's request with what it carries; raises `InvalidRequest` for what is no such text."""
    parts = _parts(text)
    if not parts:
        return request
    last = {**request.prompt.messages[-1], "role": parts.get(ROLE, "user")}
    system = "" if SYSTEM in parts and request.prompt.system is None else request.prompt.system
    prompt = Prompt((*parts.get(MESSAGES, ()), last), request.prompt.template, system)
    return replace(request, prompt=prompt, answer_prefix=tuple(parts.get(PREFIX, ())))


def without(text: Any, part: Any) -> str:
    """The same text without one part."""
    kept = {name: value for name, value in _parts(text).items() if name != part}
    return json.dumps(kept, ensure_ascii=False).replace("<", "\\u003c") if kept else ""


def _parts(text: Any) -> Mapping[str, Any]:
    if not text:
        return {}
    try:
        parts = json.loads(text)
    except (TypeError, json.JSONDecodeError) as error:
        raise InvalidRequest("What the form carries along can't be read. Load the page again.", "answer_prefix") from error
    if not isinstance(parts, dict) or not set(parts) <= set(PARTS):
        raise InvalidRequest("What the form carries along can't be read. Load the page again.", "answer_prefix")
    for name in (PREFIX, MESSAGES):
        if not isinstance(parts.get(name, []), list):
            raise InvalidRequest(f"{name} must be a list.", name)
    return parts


def carried_line() -> gr.HTML:
    """Says what the form carries along, each part with a button that takes it away; nothing where there is nothing."""
    script = (ASSETS / "carried.js").read_text(encoding="utf-8")
    line = gr.HTML("", html_template='<div class="lp-carried"></div>', js_on_load=script, elem_id="carried", apply_default_css=False)
    line.take(_taken, [line], [line], queue=False, show_progress="hidden", api_visibility="private")
    return line


def _taken(event: gr.EventData, text: str) -> str:
    return without(text, event._data.get("part"))
