"""Trains a pocket model from nothing.

Goes in: a size, minutes, a seed, a folder. Comes out: reports as it goes; in the folder a checkpoint to go on from, and `training.json`
with what the card tells. Knows nothing of exporting or evaluating.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from backend.errors import InvalidRequest
from backend.packing import Document
from backend.pocket.corpus import stream
from backend.pocket.lean_llama import LeanLlama
from backend.pocket.model_config import SIZES, Size, llama_config
from backend.pocket.tokenizer import encode, pocket_tokenizer
from backend.training import CHECKPOINT, Documents, Plan, Report, fastest_dtype, read_checkpoint
from backend.training import train as train_model
from backend.types import check_number

TRAINING, TOKENIZER = "training.json", "tokenizer"


def train(size: str, minutes: float, seed: int, folder: Path, device: str = "cpu") -> Iterator[Report]:
    """Train, or go on where the folder's checkpoint stands; `minutes` may differ from before, size and seed may not (`InvalidRequest`)."""
    shape = size_named(size)
    check_number("minutes", minutes, 0.01, 10_000)
    check_number("seed", seed, 0, 2**31, integer=True)
    model = LeanLlama(llama_config(shape), seed).to(device)
    notes = {
        "command": f"python -m backend pocket train --size {size} --minutes {minutes:g} --seed {seed}",
        "size": size,
        "minutes": minutes,
        "shipped_minutes": shape.minutes,
        "seed": seed,
        **machine(device),
    }
    documents = documents_of(seed, claim(folder, notes))
    plan = Plan(shape.muon_lr, shape.adamw_lr, shape.decay_share, seconds=minutes * 60)
    here = (folder / CHECKPOINT).exists()
    plan = replace(plan, dtype=read_checkpoint(folder)["plan"]["dtype"] if here else fastest_dtype(model, documents, plan))
    notes["dtype"] = plan.dtype
    with closing(train_model(model, documents, plan, folder)) as reports:
        for report in reports:
            if report.finished:
                write_notes(folder, notes, report)
            yield report


def size_named(name: str) -> Size:
    if name not in SIZES:
        raise InvalidRequest(f"size must be one of {', '.join(SIZES)}, got {name!r}.", "size")
    return SIZES[name]


def weaker(size: str, minutes: float) -> str | None:
    """A warning for whoever gives a model less time than the shipped one had; None otherwise."""
    shipped = size_named(size).minutes
    if minutes >= shipped:
        return None
    return f"{minutes:g} minutes are less than the {shipped:g} that the shipped pocket/{size} had on two cores: expect a weaker model."


def documents_of(seed: int, tokenizer: PreTrainedTokenizerFast) -> Documents:
    """The corpus of a seed as training documents, from any place on."""

    def documents(start: int) -> Iterator[Document]:
        for item in stream(seed, start):
            ids, weights = encode(tokenizer, item)
            yield Document(ids, weights, item.skill)

    return documents


def claim(folder: Path, notes: dict[str, Any]) -> PreTrainedTokenizerFast:
    """Note whose run the folder holds, and keep the tokenizer that its ids mean; raises `InvalidRequest` when it holds another run."""
    file = folder / TRAINING
    if file.exists():
        held = json.loads(file.read_text())
        for name in ("size", "seed"):
            if held[name] != notes[name]:
                raise InvalidRequest(f"{folder} holds a run with {name} {held[name]}, not {notes[name]}; choose another folder.", name)
    else:
        pocket_tokenizer().save_pretrained(folder / TOKENIZER)
        file.write_text(json.dumps(notes, indent=1) + "\n")
    return PreTrainedTokenizerFast.from_pretrained(folder / TOKENIZER)


def write_notes(folder: Path, notes: dict[str, Any], report: Report) -> None:
    """`training.json`: what was asked for and what came of it, with the learning curve."""
    curve = [{"minutes": round(r["elapsed_s"] / 60, 2), "tokens": r["tokens"], "loss": round(r["loss"], 4)} for r in _history(folder)]
    result = {
        "n_tokens": report.tokens,
        "steps": report.step,
        "tokens_per_s": round(report.tokens / report.elapsed_s),
        "losses": {skill: round(loss, 4) for skill, loss in sorted(report.losses.items())},
        "weaker": weaker(notes["size"], notes["minutes"]),
        "curve": curve[:: -max(1, len(curve) // 60)][::-1],  # about 60 points, the last among them
    }
    (folder / TRAINING).write_text(json.dumps({**notes, **result}, indent=1) + "\n")


def _history(folder: Path) -> list[dict[str, Any]]:
    return read_checkpoint(folder)["progress"]["history"]


def machine(device: str) -> dict[str, Any]:
    """Where it was made, as far as speed depends on it."""
    if device.startswith("cuda"):
        return {"device": torch.cuda.get_device_name(device), "threads": 1, "torch": torch.__version__}
    return {"device": f"CPU, {platform.machine()}", "threads": min(Plan.shards, os.cpu_count() or 1), "torch": torch.__version__}
