"""Labels on disk: one file a chunk of prompts, so that a job that was stopped goes on behind the last whole one.

Goes in: chunks. Comes out: the folder's columns, memory-mapped shard by shard. Features are fp16 (`features`), everything else integers; the
embeddings of the proposed tokens are not in it, only their ids. Knows nothing of models.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from backend.errors import WorkbenchError
from backend.model_files import read_json, write_json
from backend.routing.labelling import Chunk
from backend.routing.tasks import Problem

NOTES = "labels.json"
KIND = "labels"


@dataclass(frozen=True)
class Labels:
    """All labelled positions. `right` (prompts,) int8: 1, 0, or -1 where there was no grader; `marks` (prompts,) which prompts they were."""

    columns: dict[str, Tensor]
    right: Tensor
    marks: Tensor
    notes: dict[str, Any]

    @property
    def n_prompts(self) -> int:
        return len(self.right)

    @property
    def n_judged(self) -> int:
        """How many prompts, the first ones, have labels; of the others only is known where the choices differ."""
        return min(int(self.notes["options"]["n_prompts"]), self.n_prompts)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("shard-*.safetensors"))


def write_shard(folder: Path, number: int, chunk: Chunk, problems: list[Problem]) -> None:
    """Beside its place first, then there: a kill leaves a whole file or none."""
    right = torch.tensor([-1 if r is None else int(r) for r in chunk.right], dtype=torch.int8)
    tensors = {**chunk.columns, "right": right, "marks": torch.tensor([p.mark for p in problems], dtype=torch.int64)}
    part = folder / f"part-{number:05d}"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part)
    os.replace(part, folder / f"shard-{number:05d}.safetensors")


def write_notes(folder: Path, notes: dict[str, Any]) -> None:
    write_json(folder / NOTES, notes)


def read_labels(folder: Path) -> Labels:
    """Raises `WorkbenchError` when the folder holds no labels, unfinished ones, or damaged ones."""
    notes, files = read_json(folder / NOTES), shards(folder)
    if not notes or not files:
        raise WorkbenchError(f"{folder.name} holds no labels; make them first.", "options.labels")
    if not notes.get("finished"):
        raise WorkbenchError(f"The labels in {folder.name} are not finished; let their job end first.", "options.labels")
    parts: list[dict[str, Tensor]] = []
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                parts.append({name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118 (it is no dictionary)
        except (SafetensorError, OSError) as error:
            raise WorkbenchError(f"{file.name} of the labels in {folder.name} is damaged; make them again.", "options.labels") from error
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return Labels(whole, whole.pop("right"), whole.pop("marks"), notes)
