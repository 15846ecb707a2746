"""A request as code that runs it again: Python, command line, curl.

Goes in: a `RunRequest` of structured generation and the address of this app. Comes out: texts to copy. Pure; knows the names of the
named endpoint's parameters and of the command line, nothing else.
"""

from __future__ import annotations

import json
import shlex
from typing import Any

from backend.types import RunRequest


def parameters(request: RunRequest) -> dict[str, Any]:
    """The request as the parameters of the endpoint `/structured`."""
    sampling, options = request.sampling, request.options
    return {
        "prompt": request.prompt.text,
        "grammar": options.get("grammar", ""),
        "kind": options.get("kind", "json_schema"),
        "model": request.models["target"],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "max_new_tokens": sampling.max_new_tokens,
        "seed": sampling.seed,
        "baselines": False,
        "system": request.prompt.system or "",
        "template": request.prompt.template,
        "whitespace": options.get("whitespace", "fixed"),
    }


def python(request: RunRequest, address: str) -> str:
    """Through the app's endpoint, with the official client."""
    arguments = "".join(f"    {name}={value!r},\n" for name, value in parameters(request).items())
    return (
        "from gradio_client import Client\n\n"
        f"client = Client({address!r})\n"
        f'job = client.submit(\n{arguments}    api_name="/structured",\n)\n'
        "for event in job:\n    print(event)\n"
    )


def command_line(request: RunRequest) -> str:
    """Through the command line, the request on standard input."""
    body = json.dumps(request.to_json(), ensure_ascii=False, indent=2)
    return f"python -m backend run {request.method} --request - <<'REQUEST'\n{body}\nREQUEST\n"


def curl(request: RunRequest, address: str) -> str:
    """Through the app's endpoint, with two calls: the first answers with an id, the second streams."""
    body = shlex.quote(json.dumps({"data": list(parameters(request).values())}, ensure_ascii=False))
    call = f"{address}/gradio_api/call/structured"
    return (
        f"ID=$(curl -s -X POST {call} -H 'Content-Type: application/json' \\\n  -d {body} | cut -d'\"' -f4)\n"
        f"curl -N {call}/$ID\n"
    )
