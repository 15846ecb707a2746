"""A request as code that runs it again: Python, command line, curl.

Goes in: a `RunRequest` and the address of this app. Comes out: texts to copy. Pure; knows the names of the named endpoints' parameters
and of the command line, nothing else.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from backend.contamination import request as contamination_request
from backend.hidden_text import force as hidden_text_force
from backend.options import default_of
from backend.routing import request as routing_request
from backend.speculative.request import Options
from backend.types import RunRequest


def structured(request: RunRequest) -> dict[str, Any]:
    """The request as the parameters of the endpoint `/structured`, in their order."""
    options = request.options
    grammar = {"grammar": options.get("grammar", ""), "kind": options.get("kind", "json_schema")}
    return {"prompt": request.prompt.text, **grammar, "model": request.models["target"], **_sampling(request), "baselines": False,
            **_prompt(request), "whitespace": options.get("whitespace", "fixed")}  # fmt: skip


def speculative(request: RunRequest) -> dict[str, Any]:
    """The request as the parameters of the endpoint `/speculative`, in their order."""
    said = {**{spec.name: default_of(spec) for spec in fields(Options)}, **request.options}
    models = {"model": request.models["target"], "draft": request.models.get("draft", "none")}
    sizes = {name: said[name] for name in ("gamma", "nodes", "ngram")}
    return {"prompt": request.prompt.text, "drafter": said["drafter"], **models, **sizes, **_sampling(request), "baselines": False,
            **_prompt(request), **{name: said[name] for name in ("law", "mode", "branch", "fallback", "width")}}  # fmt: skip


def routing(request: RunRequest) -> dict[str, Any]:
    """The request as the parameters of the endpoint `/routing`, in their order. What was forced or moved by hand is no part of them."""
    said = {**{spec.name: default_of(spec) for spec in fields(routing_request.Options)}, **request.options}
    how = {name: said[name] for name in ("strategy", "target_fraction", "threshold")}
    who = {"large": request.models["large"], "small": request.models["small"], "router": said["router"]}
    return {"prompt": request.prompt.text, **how, **who, **_sampling(request), "baselines": False, **_prompt(request),
            **{name: said[name] for name in ("every", "opinions")}}  # fmt: skip


def contamination(request: RunRequest) -> dict[str, Any]:
    """The request as the parameters of the endpoint `/contamination`, in their order."""
    said = {**{spec.name: default_of(spec) for spec in fields(contamination_request.Options)}, **request.options}
    models = {role: request.models.get(role, "none") for role in ("suspect", "source", "base")}
    return {"prompt": request.prompt.text, **models, **said, **_sampling(request), "baselines": False, **_prompt(request)}


def hidden_text(request: RunRequest) -> dict[str, Any]:
    """The request as the parameters of the endpoint `/hidden_text`, in their order."""
    said = {**{spec.name: default_of(spec) for spec in fields(hidden_text_force.Options)}, **request.options}
    models = {role: request.models.get(role, "none") for role in ("suspect", "reference")}
    how = {name: said[name] for name in ("context", "decode", "beams", "alpha")}
    return {"prompt": request.prompt.text, "prefix": said["prefix"], **models, **how, **_sampling(request), "baselines": False,
            **_prompt(request)}  # fmt: skip


def _sampling(request: RunRequest) -> dict[str, Any]:
    s = request.sampling
    return {"temperature": s.temperature, "top_p": s.top_p, "top_k": s.top_k, "max_new_tokens": s.max_new_tokens, "seed": s.seed}


def _prompt(request: RunRequest) -> dict[str, Any]:
    return {"system": request.prompt.system or "", "template": request.prompt.template}


# A method's endpoint is named like the method.
PARAMETERS: Mapping[str, Callable[[RunRequest], dict[str, Any]]] = {
    "structured": structured, "speculative": speculative, "routing": routing, "contamination": contamination,
    "hidden_text": hidden_text,
}  # fmt: skip


def parameters(request: RunRequest) -> dict[str, Any]:
    """The request as the parameters of its method's endpoint."""
    return PARAMETERS[request.method](request)


def python(request: RunRequest, address: str) -> str:
    """Through the app's endpoint, with the official client."""
    arguments = "".join(f"    {name}={value!r},\n" for name, value in parameters(request).items())
    return (
        "from gradio_client import Client\n\n"
        f"client = Client({address!r})\n"
        f'job = client.submit(\n{arguments}    api_name="/{request.method}",\n)\n'
        "for event in job:\n    print(event)\n"
    )


def command_line(request: RunRequest) -> str:
    """Through the command line, the request on standard input."""
    body = json.dumps(request.to_json(), ensure_ascii=False, indent=2)
    return f"python -m backend run {request.method} --request - <<'REQUEST'\n{body}\nREQUEST\n"


def curl(request: RunRequest, address: str) -> str:
    """Through the app's endpoint, with two calls: the first answers with an id, the second streams."""
    body = shlex.quote(json.dumps({"data": list(parameters(request).values())}, ensure_ascii=False))
    call = f"{address}/gradio_api/call/{request.method}"
    return f"ID=$(curl -s -X POST {call} -H 'Content-Type: application/json' \\\n  -d {body} | cut -d'\"' -f4)\ncurl -N {call}/$ID\n"
