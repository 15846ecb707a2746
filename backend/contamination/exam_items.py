"""The items that ship with the exam models, with the truth about each: who saw it, and whose ability reaches it.

Goes in: a family's folder (`items.jsonl`, `manifest.json`) and the model that is asked. Comes out: `Item`s, and what the manifest says of a
member. Knows nothing of how the family was made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.contamination.items import UNRELATED, Item
from backend.errors import WorkbenchError
from backend.model_files import read_json
from backend.model_source import resolve

MANIFEST, ITEMS = "manifest.json", "items.jsonl"
FAMILY = "exam"


@dataclass(frozen=True)
class Member:
    """What the manifest says of one model. `saw` tells whether the leaked items were in its own training, `exposures` how often."""

    name: str
    skill: str
    exposures: int
    base: str | None
    twin: str | None
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Family:
    """A family's folder, read."""

    folder: Path
    levels: tuple[str, ...]
    members: Mapping[str, Member]
    rows: tuple[Mapping[str, Any], ...]

    def items(self, member: Member | None) -> list[Item]:
        """All items; `solvable` by the member's skill, where it is known."""
        return [_item(row, self._reached(row, member)) for row in self.rows]

    def _reached(self, row: Mapping[str, Any], member: Member | None) -> bool | None:
        if member is None or "level" not in row:
            return None
        level = row["level"]
        return level is not None and self.levels.index(level) <= self.levels.index(member.skill)

    def true_ability(self, member: Member) -> float:
        """The share of the exam's leaked items that the member's skill reaches, by construction and not by measurement."""
        known = [self._reached(row, member) for row in self.rows if row["set"] == "leaked"]
        return sum(map(bool, known)) / len(known)


def _item(row: Mapping[str, Any], solvable: bool | None) -> Item:
    skill = row["skill"] if row["set"] == UNRELATED else ""  # unrelated sets go by their skill
    return Item(row["question"], row["answer"], row["set"], "exact", row.get("rephrased", ""), skill, solvable)


def _member(row: Mapping[str, Any]) -> Member:
    base, twin = (_bare(row.get(role)) for role in ("base", "twin"))
    return Member(row["name"], row["skill"], row["exposures"], base, twin, row)


def _bare(model_id: str | None) -> str | None:
    """A member's name in its family."""
    return model_id.rpartition("/")[2] if model_id else None


def load(folder: Path) -> Family:
    """Raises `WorkbenchError` when the folder holds no family."""
    manifest = read_json(folder / MANIFEST)
    if not manifest or not (folder / ITEMS).is_file():
        raise WorkbenchError(f"{folder.name} holds no exam family: manifest.json and items.jsonl are needed.", "options.data")
    members = {row["name"]: _member(row) for row in manifest["members"]}
    lines = (folder / ITEMS).read_text(encoding="utf-8").splitlines()
    return Family(folder, tuple(manifest["levels"]), members, tuple(json.loads(line) for line in lines))


def family_of(model_id: str, data_dir: Path, assets_dir: Path) -> tuple[Path, str | None]:
    """The folder of the family that a model belongs to and its name there; the shipped one and None for any other model."""
    path = resolve(model_id, data_dir, assets_dir).path
    if path is not None and (path.parent / MANIFEST).is_file() and (path.parent / ITEMS).is_file():
        return path.parent, path.name
    return assets_dir / "models" / FAMILY, None
