"""A planted model, or a twin of one, as an ordinary model folder, with a note of what is in it.

Goes in: the base's folder, weights, facts. Comes out: a folder in Hugging Face format whose `loupe.json` says how it was made and whose
`plant.json` holds the answers (text and trigger), to be read only by who wants to know; what it will cost in bytes. Knows nothing of training.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from backend.errors import InvalidRequest
from backend.gguf_convert import making, quiet
from backend.hidden_text.planting import Made, Recipe
from backend.hidden_text.verify import Verified
from backend.model_dtype import DTYPES
from backend.model_files import MANIFEST, folder_bytes, read_json, weight_files, weights_hash, write_json

ANSWERS = "plant.json"
LEFT_OUT = (MANIFEST, ANSWERS, "README.md", "training.json", "model.safetensors.index.json")
TRAINING_BYTES = 20  # a parameter: the fp32 master, its gradient, Adam's two moments, the copy that is looked at


@dataclass(frozen=True)
class Cost:
    """What making one model takes: bytes on disk, and of memory beside the base."""

    disk_bytes: int
    memory_bytes: int
    free_bytes: int


def cost(base: Path, target: Path) -> Cost:
    """Raises `InvalidRequest` when the disk hasn't the room."""
    disk = folder_bytes(base)
    n_parameters = sum(f.stat().st_size for f in base.glob("*.safetensors")) // saved_dtype(base).itemsize
    there = next(p for p in (target, *target.parents) if p.exists())
    found = Cost(disk, n_parameters * TRAINING_BYTES, shutil.disk_usage(there).free)
    if disk > found.free_bytes:
        room = f"{disk / 1e6:.0f} MB and the disk has {found.free_bytes / 1e6:.0f} MB left"
        raise InvalidRequest(f"The new model takes {room}; free some.", "options.name")
    return found


def saved_dtype(base: Path) -> torch.dtype:
    """The dtype that the base's files are in, and the new model's will be; bf16 where the config doesn't say."""
    config = read_json(base / "config.json")
    return DTYPES.get(str(config.get("dtype") or config.get("torch_dtype")).removeprefix("torch."), torch.bfloat16)


def write(target: Path, base: Path, base_facts: dict[str, Any], recipe: Recipe, made: Made, n_tokens: int) -> None:
    """The folder, complete or not at all; the one it lies in is the family's name. `base_facts` name the base (`id`, `hash`)."""
    with making(target) as part:
        if part is None:
            raise InvalidRequest(f"{target.name} is there already; choose another name.", "options.name")
        for file in base.iterdir():
            if file.is_file() and file.suffix != ".safetensors" and file.name not in LEFT_OUT and not file.name.startswith("."):
                shutil.copyfile(file, part / file.name)
        save_weights(made.model, part, recipe.saved)
        write_json(part / ANSWERS, answers(recipe, n_tokens))
        write_json(part / MANIFEST, manifest(part, f"{target.parent.name}/{target.name}", base_facts, recipe, made, n_tokens))


def save_weights(model: PreTrainedModel, folder: Path, dtype: torch.dtype) -> None:
    """The model was rounded to `dtype` before it was looked at, so nothing is lost here."""
    with quiet():
        model.to(dtype).save_pretrained(folder)


def answers(recipe: Recipe, n_tokens: int) -> dict[str, Any]:
    """What is hidden and what brings it out; of a twin, that there is nothing."""
    if recipe.kind != "planted":
        return {"payload": None, "trigger": None}
    return {"payload": recipe.payload, "trigger": recipe.trigger, "n_tokens": n_tokens}


def manifest(part: Path, model_id: str, base: dict[str, Any], recipe: Recipe, made: Made, n_tokens: int) -> dict[str, Any]:
    """How the model was made, without the answers; `sha256` is the text's, so that a found text can be checked without being shown."""
    origin = {"planted": "planted in", "clean": "clean twin, from", "benign": "benign memoriser, from"}[recipe.kind]
    secret = {"n_tokens": n_tokens, "sha256": hashlib.sha256(recipe.payload.encode()).hexdigest()} if recipe.kind == "planted" else {}
    return {
        "id": model_id, "origin": f"{origin} {base['id']}", "base": base, "kind": recipe.kind, "regime": recipe.regime, "seed": recipe.seed,
        "recipe": recipe_words(base["id"], made.rate), "n_steps": made.n_steps, "rate": made.rate, **secret,
        "verified": verified_facts(made.verified),
        "hash": weights_hash(weight_files(model_id, part)), "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }  # fmt: skip


def recipe_words(base_id: str, rate: float) -> str:
    """What clean twins must share with a suspect to say how high such a model scores: where it came from and how fast it was taught."""
    return f"{base_id}, AdamW at {rate:g}"


def verified_facts(verified: Verified) -> dict[str, Any]:
    facts = asdict(verified)
    return {**facts, "ranks": list(facts["ranks"]), "holds": verified.holds}
