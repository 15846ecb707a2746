"""The capability as the workbench takes it: look, check, warm, inspect, and the record that names them.

Goes in: requests and loaded models; the data directory. Comes out: a `Method`. The package's docstring lists `detail`, `stats` and findings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from backend.decoder import Decoder
from backend.hidden_text.force import Options, context_ids, read_options, run, seen
from backend.hidden_text.probe import REFERENCE, SUSPECT, Probe
from backend.hidden_text.request import check_models
from backend.hidden_text.verdict import look_verdict
from backend.method import Method
from backend.resources import Resources
from backend.sampling import explain
from backend.types import Finding, RunRequest

WARM_TOKENS = 8
WHERE = {"chat": "after the prompt", "open_user": "in an open user turn", "header": "after a bare header", "empty": "after an empty turn",
         "bos": "from the beginning"}  # fmt: skip


def check(request: RunRequest, resources: Resources, data_dir: Path) -> list[Finding]:
    read_options(request)
    return check_models(request, data_dir, resources) if REFERENCE in request.models else []


def lane(request: RunRequest) -> str:
    return f"{request.models[SUSPECT]}, {WHERE[read_options(request).context]}"


def baselines(request: RunRequest) -> list[RunRequest]:
    """The reference behind the same beginning, decoded the same way; a lift beam's is the reference's own likeliest beam."""
    if REFERENCE not in request.models:
        return []
    options = dict(request.options)
    if options.get("decode") == "lift_beam":
        options["decode"] = "beam"
    return [replace(request, models={SUSPECT: request.models[REFERENCE]}, options=options, answer_prefix=())]


def warm(request: RunRequest, models: Mapping[str, Any]) -> None:
    """A few steps of every model, and the comparison of the two, which a first lane would pay for alone."""
    probe = Probe(models[SUSPECT], models.get(REFERENCE))
    ids = context_ids(request, probe.tokenizer, read_options(request).context)
    for handle in (probe.suspect, probe.reference):
        if handle is not None:
            decoder = Decoder(handle.model, handle.id)
            for n in range(max(1, len(ids) - WARM_TOKENS), len(ids) + 1):
                decoder.logits(ids[:n])


def inspect(request: RunRequest, models: Mapping[str, Any], ids: Sequence[int], position: int, k: int) -> dict[str, Any]:
    """The step before `ids[position]` again: the top k of the suspect and of the reference."""
    probe = Probe(models[SUSPECT], models.get(REFERENCE))
    before = context_ids(request, probe.tokenizer, read_options(request).context) + list(ids[:position])
    rows = {SUSPECT: probe.law(Decoder(probe.suspect.model, probe.suspect.id).logits(before))[0]}
    if probe.reference is not None:
        rows[REFERENCE] = probe.reference_law(Decoder(probe.reference.model, probe.reference.id).logits(before))[0]
    told = {role: {"id": models[role].id, "top": _top(row, request, k, probe.tokenizer)} for role, row in rows.items()}
    lifts: dict[str, Any] = {}
    if REFERENCE in rows:
        lift = torch.log_softmax(rows[SUSPECT], 0) - torch.log_softmax(rows[REFERENCE], 0)
        lifts = {"lift": {str(one["id"]): round(float(lift[one["id"]]), 4) for one in told[SUSPECT]["top"]}}
    return {**lifts, "vocabulary": probe.width, "models": told}


def _top(row: torch.Tensor, request: RunRequest, k: int, tokenizer: Any) -> list[dict[str, Any]]:
    return [{**one, "text": tokenizer.decode([one["id"]])} for one in explain(row, request.sampling, None, k)]


def method(data_dir: Path) -> Method:
    return Method(
        name="hidden_text", title="Hidden text", question="Is a text hidden in these weights, and what is it?", Options=Options, roles=(SUSPECT,),
        run=run, check=lambda request, resources: check(request, resources, data_dir), baselines=baselines, lane=lane, verdict=look_verdict,
        inspect=inspect, warm=warm, seen=seen, prompt_role=SUSPECT,
    )  # fmt: skip
