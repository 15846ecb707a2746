"""The capability as the workbench takes it: run, warm, inspect, and the record that names them.

Goes in: requests and loaded models. Comes out: a `Method`. The package's docstring lists `detail`, `stats` and `finding` kinds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backend.decoder import Decoder
from backend.method import Method
from backend.prompt import render
from backend.sampling import explain
from backend.speculative.costs import costs_of
from backend.speculative.drafters import takes_trees
from backend.speculative.generate import generate
from backend.speculative.request import DRAFT, TARGET, Options, baselines, check, lane
from backend.speculative.verdict import verdict
from backend.types import RunRequest


def warm(request: RunRequest, models: Mapping[str, Any]) -> None:
    """Measure what forwards cost here and whether trees come out right; that also warms both models up."""
    costs_of(models[TARGET], models.get(DRAFT))
    takes_trees(models[TARGET])


def inspect(request: RunRequest, models: Mapping[str, Any], ids: Sequence[int], position: int, k: int) -> dict[str, Any]:
    """The step before `ids[position]` again: the top k of the target and, where one drafts, of the draft model."""
    handle = models[TARGET]
    context = render(request.prompt, handle.tokenizer).ids + list(ids[:position])
    found = {}
    for role in (TARGET, DRAFT):
        if role in models:
            row = Decoder(models[role].model, models[role].id).logits(context)[0]
            top = [{**entry, "text": handle.tokenizer.decode([entry["id"]])} for entry in explain(row, request.sampling, None, k)]
            found[role] = {"id": models[role].id, "top": top}
    return {"vocabulary": handle.vocab_size, "models": found}


def method() -> Method:
    return Method(
        name="speculative", title="Speculative decoding",
        question="How much faster can the same text come, without changing it?",
        Options=Options, roles=(TARGET,), run=generate, check=check, baselines=baselines, lane=lane, verdict=verdict, inspect=inspect,
        warm=warm,
    )  # fmt: skip
