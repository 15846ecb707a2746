"""What a request has beyond an endpoint's own parameters: one JSON text that is laid over it.

Goes in: a request, the text of a caller (anything may stand in it). Comes out: the request with it; and, the other way, what must be said so that
the parameters stand for just this request. Knows no method and no endpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from backend.errors import InvalidRequest
from backend.types import RunRequest

IN_PROMPT = ("messages", "template", "system")
LAID_OVER = ("models", "sampling", "options")
WORDS = (
    "Further fields of the request as a JSON object: answer_prefix (token ids that the answer already has), messages (instead of prompt),"
    " template, system, models, sampling, options."
)


def completed(request: RunRequest, more: Any) -> RunRequest:
    """The request with these further fields; raises `InvalidRequest` for what is no such object."""
    fields = _fields(more)
    data = request.to_json()
    for name, value in fields.items():
        if name in IN_PROMPT:
            data["prompt"][name] = value
        elif name in LAID_OVER:
            if not isinstance(value, Mapping):
                raise InvalidRequest(f"more.{name} must be an object, got {type(value).__name__}.", f"more.{name}")
            data[name] = {**data[name], **value}
        elif name == "answer_prefix":
            data[name] = value
        else:
            raise InvalidRequest(f"more has no field {name!r}; it has {', '.join((*IN_PROMPT, *LAID_OVER, 'answer_prefix'))}.", f"more.{name}")
    return RunRequest.from_json(data) if fields else request


def _fields(more: Any) -> Mapping[str, Any]:
    if more == "":
        return {}
    try:
        fields = json.loads(more) if isinstance(more, str) else None
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"more is not JSON ({error}).", "more") from error
    if not isinstance(fields, dict):
        raise InvalidRequest("more must be a text that holds a JSON object.", "more")
    return fields


def left_over(wanted: RunRequest, made: RunRequest) -> str:
    """What must be laid over `made` (what the parameters stand for) so that it is the wanted request; empty where nothing must."""
    want, have = wanted.to_json(), made.to_json()
    fields: dict[str, Any] = {name: want["prompt"][name] for name in IN_PROMPT if want["prompt"][name] != have["prompt"][name]}
    for name in LAID_OVER:
        other = {key: value for key, value in want[name].items() if key not in have[name] or have[name][key] != value}
        fields |= {name: other} if other else {}
    if wanted.answer_prefix != made.answer_prefix:
        fields["answer_prefix"] = want["answer_prefix"]
    return json.dumps(fields, ensure_ascii=False) if fields else ""
