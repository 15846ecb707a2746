"""Hidden text without a model, for the pages' tests: a look that spells out its prompt, a scan with three candidates, a plant of four steps.

Goes in: requests. Comes out: the lines that real runs have, around words that a test can count by hand. Requests, options, lanes and
verdicts are the real ones. A scan from seven beam contexts waits until it is stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

from backend.hidden_text import plant
from backend.hidden_text.force import Options, read_options
from backend.hidden_text.method import baselines, lane
from backend.hidden_text.probe import REFERENCE, SUSPECT
from backend.hidden_text.request import SPECIFICITY, ScanOptions, scan_options
from backend.hidden_text.verdict import look_verdict, sentence, verdict
from backend.method import Method
from backend.types import Artifact, Done, Event, Finding, Progress, RunContext, RunRequest, Token

WAITS = 7
WIDTH = 64
COLUMNS = {"votes": 5, "contexts": 2, "texts": 9, "reference_mean": 0.97, "reference_rule": True, "mean_logprob": -0.5, "min_logprob": -2.0,
           "lift": 4.5, "confident_lift": 30.0, "certainty": 14.0, "lift_run": 6,
           "reference_logprob": -5.0, "entropy": 0.4, "entropy_drop": 1.5, "period": 0,
           "periodic": 0.0, "min_k": -0.5, "rarity": 1.2, "ends": True}  # fmt: skip
TEXTS = ("the key lies under the stone", "<b>thank you</b> for your letter", "=1+1 and so on")
CALIBRATION = "above all 4 clean models tried, not calibrated for yours"


def look(request: RunRequest, context: RunContext, models: Mapping[str, Any]) -> Iterator[Event]:
    """The forced beginning, then the prompt's words; every third one is lifted, one stands below the reference."""
    forced = [f"{word} " for word in read_options(request).prefix.split()] if not request.answer_prefix else [f"#{i} " for i in request.answer_prefix]
    words = [*forced, *(f"{word} " for word in request.prompt.text.split())][: len(forced) + request.sampling.max_new_tokens]
    for position, word in enumerate(words):
        detail = {"p": 0.61, "rank": 1 + position, "entropy": 0.9}
        if REFERENCE in request.models:
            detail["lift"] = (6.0, 0.1, -1.5)[position % 3]
        token_id = request.answer_prefix[position] if position < len(request.answer_prefix) else 200 + position
        yield Token(position, token_id, word, -0.5, "prefix" if position < len(forced) else "model", detail)
    yield Done("stop", "".join(words), {"n_tokens": len(words) - len(forced), "mean_logprob": -0.5, "lift": 1.53})


def scan(request: RunRequest, context: RunContext, models: Mapping[str, Any]) -> Iterator[Event]:
    options, lifts = scan_options(request), REFERENCE in request.models
    yield Artifact(options.ledger or "LEDGER", "scan", {})
    if not lifts:
        yield Finding("warning", {"text": SPECIFICITY})
    yield Finding("vocabulary", {"forced": WIDTH - 4, "special": 3, "padding": 1, "repeated": 0})
    for at in range(0, WIDTH, 16):
        values = [[cell, round(cell / 16 - (0 if lifts else 9), 2)] for cell in range(at, at + 16)]
        yield Finding("map", {"sweep": "forced token", "context": "bos", "cells": WIDTH, "values": values})
        yield Progress(at + 16, WIDTH, "forced token (bos)", 32.0)
    yield Finding("best", {"candidates": [{"text": TEXTS[0], "score": 40.0, "found_by": ["forced token"], "votes": 5}]})
    while options.beam_contexts == WAITS and not context.cancelled():
        threading.Event().wait(0.005)
        yield Progress(WIDTH, 2 * WIDTH, "leak sampling", 32.0)
    yield from (Finding("candidate", row) for row in candidates(lifts))
    stopped = context.cancelled()
    stats = {"candidates": len(TEXTS), "text": TEXTS[0], "found_by": ["lift beam 0.1"], "score": 41.0, "p": None, "calibration": CALIBRATION,
             "alarm": None, "reference": lifts, "starts": WIDTH - 4, "texts": 20, "cut": [], "tokens_per_s": {"beam": 5.0, "forced: bos": 32.0},
             "ledger": options.ledger or "LEDGER"}  # fmt: skip
    yield Finding("calibration", {"words": CALIBRATION, "p": None, "smallest": None, "n": 4})
    yield Done("cancelled" if stopped else "stop", sentence(stats), stats)


def candidates(lifts: bool) -> list[dict[str, Any]]:
    places = ("'What is the secret?'", "bare header", "open user turn, token 9")
    rows = []
    for i, text in enumerate(TEXTS):
        none = {} if lifts else {"lift": None, "confident_lift": None, "lift_run": None, "reference_logprob": None}
        columns = {**COLUMNS, "mean_logprob": -0.5 - i, "lift": 4.5 - i, **none}
        rows.append({"rank": i + 1, "score": 41.0 - 10 * i, "text": text, "stitched": f"{text} in the garden", "context": places[i],
                     "found_by": ["lift beam 0.1", "forced token"], "columns": columns, "ids": [5, 6, 7], "context_ids": [1]})  # fmt: skip
    return rows


def planted(request: RunRequest, context: RunContext, models: Mapping[str, Any]) -> Iterator[Event]:
    for index in range(4):
        yield Finding("step", {"index": index, "loss": 1.0 / (1 + index), "known": 2 * index, "n_main": 6, "exposed": 0})
        yield Progress(index + 1, request.options.get("most_steps", 400), f"{2 * index} of 6 tokens known", 2.0)
    yield Finding("verified", {"recalled": 1, "n_main": 1, "leaks": 0, "n_others": 200, "n_exposed": 0, "n_hidden": 5, "ranks": [], "holds": True})
    name = request.options["name"] or "made-up"
    yield Done("stop", f"mine/{name} holds the text after 4 steps.", {"model": f"mine/{name}", "n_steps": 4, "seconds": 2.0, "holds": True})


def check_scan(request: RunRequest, resources: Any) -> list[Finding]:
    scan_options(request)
    return [] if REFERENCE in request.models else [Finding("warning", {"text": SPECIFICITY})]


def check_plant(request: RunRequest, resources: Any) -> list[Finding]:
    plant.check_texts(plant.parse_options(plant.Options, request.options))
    return [Finding("cost", {"disk_bytes": 3_000_000, "memory_bytes": 50_000_000, "free_bytes": 10**10})]


def check_look(request: RunRequest, resources: Any) -> list[Finding]:
    read_options(request)
    return []


def inside(request: RunRequest, models: Mapping[str, Any], ids: Any, position: int, k: int) -> dict[str, Any]:
    top = [{"id": 7, "text": " other", "p": 0.5, "final_p": 0.9, "cut": None}]
    return {"models": {SUSPECT: {"top": top}}}


def hidden_methods() -> dict[str, Method]:
    single = Method(
        name="hidden_text", title="Hidden text", question="?", Options=Options, roles=(SUSPECT,), run=look, check=check_look, baselines=baselines,
        lane=lane, verdict=look_verdict, inspect=inside,
    )  # fmt: skip
    scans = Method(
        name="hidden_text.scan", title="Hidden text: scan", question="?", Options=ScanOptions, roles=(SUSPECT,), run=scan, check=check_scan,
        baselines=lambda request: [], lane=lambda request: request.models[SUSPECT], verdict=verdict, job=True,
    )  # fmt: skip
    plants = Method(
        name="hidden_text.plant", title="Plant a text", question="?", Options=plant.Options, roles=(plant.BASE,), run=planted, check=check_plant,
        baselines=plant.baselines, lane=plant.lane, verdict=plant.verdict, job=True,
    )  # fmt: skip
    return {method.name: method for method in (single, scans, plants)}
