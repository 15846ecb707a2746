"""A request as code that runs it again: Python with this repository, the Gradio client, curl, the command line.

Goes in: a `RunRequest` and the address of this app. Comes out: texts to copy. Pure; knows the names of the named endpoints' parameters and of
the command line, nothing else. What an endpoint has no parameter for goes along as `more`, so each text asks for the very same run.
"""

from __future__ import annotations

import json
import pprint
import shlex
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from backend.contamination import request as contamination_request
from backend.hidden_text import force as hidden_text_force
from backend.options import default_of
from backend.routing import request as routing_request
from backend.speculative import request as speculative_request
from backend.structured import request as structured_request
from backend.types import Prompt, RunRequest, SamplingParams
from panels.controls import NO_MODEL
from panels.further import left_over

SAMPLING = ("temperature", "top_p", "top_k", "max_new_tokens", "seed")
PROMPT = ("system", "template")
COMMON = ("token", "more")
# The parameters of a method's endpoint, which is named like the method, in their order.
ORDER: Mapping[str, tuple[str, ...]] = {
    "structured": ("prompt", "grammar", "kind", "model", *SAMPLING, "baselines", *PROMPT, "whitespace", *COMMON),
    "speculative": ("prompt", "drafter", "model", "draft", "gamma", "nodes", "ngram", *SAMPLING, "baselines", *PROMPT, "law", "mode", "branch",
                    "fallback", "width", *COMMON),
    "routing": ("prompt", "strategy", "target_fraction", "threshold", "large", "small", "router", *SAMPLING, "baselines", *PROMPT, "every",
                "opinions", *COMMON),
    "contamination": ("prompt", "suspect", "source", "base", "patch", "neurons", "k", *SAMPLING, "baselines", *PROMPT, *COMMON),
    "hidden_text": ("prompt", "prefix", "suspect", "reference", "context", "decode", "beams", "alpha", *SAMPLING, "baselines", *PROMPT, *COMMON),
}  # fmt: skip
# Which of them name a model, and of which role.
ROLES: Mapping[str, Mapping[str, str]] = {
    "structured": {"model": "target"},
    "speculative": {"model": "target", "draft": "draft"},
    "routing": {"large": "large", "small": "small"},
    "contamination": {"suspect": "suspect", "source": "source", "base": "base"},
    "hidden_text": {"suspect": "suspect", "reference": "reference"},
}
OPTIONS: Mapping[str, type] = {
    "structured": structured_request.Options, "speculative": speculative_request.Options, "routing": routing_request.Options,
    "contamination": contamination_request.Options, "hidden_text": hidden_text_force.Options,
}  # fmt: skip
QUIET: Mapping[str, Any] = {"baselines": False, "token": "", "more": ""}  # left out of a text where they say nothing


def parameters(request: RunRequest) -> dict[str, Any]:
    """The request as the parameters of its method's endpoint, in their order; a job's are the same for all jobs."""
    if request.method not in ORDER:
        return _job_parameters(request)
    roles, sampling = ROLES[request.method], request.sampling
    defaults = {spec.name: default_of(spec) for spec in fields(OPTIONS[request.method])}
    said = {
        "prompt": request.prompt.text, "system": request.prompt.system or "", "template": request.prompt.template, **QUIET,
        **{name: getattr(sampling, name) for name in SAMPLING}, **{name: request.models.get(role, NO_MODEL) for name, role in roles.items()},
    }  # fmt: skip
    named = {name: said[name] if name in said else {**defaults, **request.options}[name] for name in ORDER[request.method]}
    unsaid = {name: value for name, value in request.options.items() if name in named or value != defaults.get(name)}
    return named | {"more": left_over(replace(request, options=unsaid), _meant(request.method, named, defaults))}


def _meant(method: str, named: Mapping[str, Any], defaults: Mapping[str, Any]) -> RunRequest:
    """The request that the endpoint makes of these parameters."""
    models = {role: named[name] for name, role in ROLES[method].items() if named[name] != NO_MODEL}
    options = {name: named[name] for name in ORDER[method] if name in defaults and name not in ROLES[method]}
    prompt = Prompt.user(named["prompt"], named["template"], named["system"] or None)
    return RunRequest(method, prompt, models, SamplingParams(**{name: named[name] for name in SAMPLING}), options)


def _job_parameters(request: RunRequest) -> dict[str, Any]:
    """Models, options and a name; what a job reads besides goes along as `more`."""
    named = {"models": dict(request.models), "options": dict(request.options), "prompt": request.prompt.text}
    meant = RunRequest(request.method, Prompt.user(request.prompt.text or "its title"), request.models, options=request.options)
    return {**named, "wait": True, "token": "", "more": left_over(request, meant)}


def endpoint_of(method: str) -> str:
    return method.replace(".", "_")


def _told(request: RunRequest, token: str) -> dict[str, Any]:
    """The parameters that say something. `token`: what stands for a visitor's own, where one is needed."""
    named = parameters(request) | {"token": token}
    return {name: value for name, value in named.items() if name == "wait" or QUIET.get(name) != value}


def python(request: RunRequest, job: bool = False) -> str:
    """With this repository itself, in its folder; no app need run."""
    call = "workbench.follow(workbench.start_job(request, RunContext()))" if job else "workbench.run(request, RunContext())"
    return (
        "from backend.house import open_workbench\n"
        "from backend.paths import data_dir\n"
        "from backend.types import RunContext, RunRequest\n\n"
        f"request = RunRequest.from_json(\n{_indented(pprint.pformat(request.to_json(), width=110, sort_dicts=False))}\n)\n"
        "workbench = open_workbench(data_dir())\n"
        "try:\n"
        f"    for line in {call}:\n"
        "        print(line)\n"
        "finally:\n"
        "    workbench.close()\n"
    )


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.split("\n"))


def client(request: RunRequest, address: str, token: str = "") -> str:
    """Through the app's endpoint, with the official client."""
    arguments = "".join(f"    {name}={value!r},\n" for name, value in _told(request, token).items())
    return (
        "from gradio_client import Client\n\n"
        f"client = Client({address!r}, download_files=False)  # a line's `path` is a place in a schema, no file\n"
        f'job = client.submit(\n{arguments}    api_name="/{endpoint_of(request.method)}",\n)\n'
        "for event in job:\n    print(event)\n"
    )


def command_line(request: RunRequest) -> str:
    """Through the command line, the request on standard input."""
    body = json.dumps(request.to_json(), ensure_ascii=False, indent=2)
    return f"python -m backend run {request.method} --request - <<'REQUEST'\n{body}\nREQUEST\n"


def curl(request: RunRequest, address: str, token: str = "") -> str:
    """Through the app's endpoint, with two calls: the first answers with an id, the second streams."""
    body = shlex.quote(json.dumps(_told(request, token), ensure_ascii=False))
    call = f"{address}/gradio_api/call/v2/{endpoint_of(request.method)}"
    return f"ID=$(curl -s -X POST {call} -H 'Content-Type: application/json' \\\n  -d {body} | cut -d'\"' -f4)\ncurl -N {call}/$ID\n"
