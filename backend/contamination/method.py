"""The single run as the workbench takes it: run, warm, inspect, and the record that names them.

Goes in: requests and loaded models. Comes out: a `Method`. The package's docstring lists `detail`, `stats` and `finding` kinds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from backend.contamination.generate import OWN, PATCH, Alone, Trio, generate, identity_steps
from backend.contamination.neurons import Neurons
from backend.contamination.request import BASE, PATCHED, SOURCE, SPEAKERS, SUSPECT, Options, baselines, chosen_neurons, lane, parse
from backend.contamination.request import check as check_request
from backend.contamination.shapes import require_family
from backend.contamination.taps import sites_of
from backend.contamination.verdict import verdict
from backend.method import Method
from backend.prompt import render
from backend.sampling import explain
from backend.types import Event, RunContext, RunRequest

NAMES = {OWN: "the suspect, unpatched", PATCH: "the suspect, patched", SOURCE: "the source"}


def neurons_of(request: RunRequest, models: Mapping[str, Any], data_dir: Path) -> Neurons:
    """The list of a run whose models are one family; raises `InvalidRequest` where they are none, whoever speaks."""
    require_family(models[SUSPECT], models[SOURCE], f"models.{SOURCE}")
    if BASE in models and models[BASE].hash != models[SOURCE].hash:
        require_family(models[SUSPECT], models[BASE], f"models.{BASE}")
    return chosen_neurons(request, sites_of(models[SUSPECT]), data_dir)


def run(request: RunRequest, context: RunContext, models: Mapping[str, Any], data_dir: Path) -> Iterator[Event]:
    return generate(request, context, models, neurons_of(request, models, data_dir))


def warm(request: RunRequest, models: Mapping[str, Any], data_dir: Path) -> None:
    """Make the identity check, which runs both models; a lane alone reads its prompt once."""
    neurons, options = neurons_of(request, models, data_dir), parse(request)
    speaker = models[SUSPECT if options.patch == PATCHED else SPEAKERS[options.patch]]
    ids = list(render(request.prompt, speaker.tokenizer).ids)
    if options.patch == PATCHED:
        for _ in identity_steps(models, neurons, ids):
            pass
    else:
        Alone(speaker).own(ids, 1)


def inspect(request: RunRequest, models: Mapping[str, Any], ids: Sequence[int], position: int, k: int, data_dir: Path) -> dict[str, Any]:
    """The step before `ids[position]` again: the top k of the suspect without and with the patch, and of the source."""
    neurons, options = neurons_of(request, models, data_dir), parse(request)
    if options.patch == PATCHED:
        handles, voices = {OWN: models[SUSPECT], SOURCE: models[SOURCE], PATCH: models[SUSPECT]}, Trio(models, neurons)
    else:
        handles, voices = {OWN: models[SPEAKERS[options.patch]]}, Alone(models[SPEAKERS[options.patch]])
    tokenizer = handles[OWN].tokenizer
    context = list(render(request.prompt, tokenizer).ids) + list(ids[:position])
    found = {}
    for name in handles:
        row = getattr(voices, name)(context, 1)[0]
        top = [{**entry, "text": tokenizer.decode([entry["id"]])} for entry in explain(row, request.sampling, None, k)]
        label = NAMES[name] if options.patch == PATCHED else options.patch if options.patch != "none" else SUSPECT
        found[label] = {"id": handles[name].id, "top": top}
    return {"vocabulary": handles[OWN].vocab_size, "n_neurons": len(neurons), "models": found}


def method(data_dir: Path) -> Method:
    return Method(
        name="contamination", title="Patched decoding", question="What does this model say without the neurons that may hold the answers?",
        Options=Options, roles=(SUSPECT, SOURCE), run=lambda request, context, models: run(request, context, models, data_dir),
        check=lambda request, resources: check_request(request, resources, data_dir), baselines=baselines, lane=lane, verdict=verdict,
        inspect=lambda request, models, ids, position, k: inspect(request, models, ids, position, k, data_dir),
        warm=lambda request, models: warm(request, models, data_dir),
    )  # fmt: skip
