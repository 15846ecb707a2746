"""The capability as the workbench takes it: run, warm, inspect, and the record that names them.

Goes in: requests and loaded models. Comes out: a `Method`. The package's docstring lists `detail`, `stats` and `finding` kinds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backend.decoder import Decoder
from backend.method import Method
from backend.options import parse_options
from backend.prompt import render
from backend.sampling import explain, log_kept
from backend.structured.generate import MODEL_ROLE, engine_of, generate
from backend.structured.grammar import Grammar
from backend.structured.request import Options, baselines, check, lane
from backend.structured.verdict import verdict
from backend.types import Event, RunContext, RunRequest

WARM_TOKENS = 8


def run(request: RunRequest, context: RunContext, models: Mapping[str, Any]) -> Iterator[Event]:
    return generate(request, context, models[MODEL_ROLE])


def warm(request: RunRequest, models: Mapping[str, Any]) -> None:
    """Start the grammar worker and run a few steps, so that the first lane does not pay for what the second gets free."""
    handle = models[MODEL_ROLE]
    engine_of(handle).start()
    decoder, ids = Decoder(handle.model, handle.id), render(request.prompt, handle.tokenizer).ids
    for n in range(max(1, len(ids) - WARM_TOKENS), len(ids) + 1):
        decoder.logits(ids[:n])
    engine_of(handle).compile(Grammar("json"))  # waits for the worker


def inspect(request: RunRequest, models: Mapping[str, Any], ids: Sequence[int], position: int, k: int) -> dict[str, Any]:
    """The step before `ids[position]` again: the top k by raw probability, with their share after mask, temperature, top-k and top-p."""
    handle, options = models[MODEL_ROLE], parse_options(Options, request.options)
    row = Decoder(handle.model, handle.id).logits(render(request.prompt, handle.tokenizer).ids + list(ids[:position]))[0]
    allowed, data = None, {}
    if options.constrain == "grammar":
        with engine_of(handle).session(options.to_grammar()) as session:
            session.reset(list(ids[:position]))
            mask = session.mask()
            allowed = mask.allowed.clone()
            data = {"allowed": mask.count, "kept": math.exp(log_kept(row, allowed))}
    top = [{**row_, "text": handle.tokenizer.decode([row_["id"]])} for row_ in explain(row, request.sampling, allowed, k)]
    return {**data, "vocabulary": handle.vocab_size, "models": {MODEL_ROLE: {"id": handle.id, "top": top}}}


def method() -> Method:
    return Method(
        name="structured", title="Structured generation",
        question="Does this model still say what it wants when a grammar holds its hand, and what does that cost?",
        Options=Options, roles=(MODEL_ROLE,), run=run, check=check, baselines=baselines, lane=lane, verdict=verdict, inspect=inspect,
        warm=warm,
    )  # fmt: skip
