"""What each indicator reads where the truth is known: on the heavily leaked and on the clean exam model.

Goes in: the assets. Comes out: a table, empty where the exam family does not ship with one. Made by the bench (`bench/contamination.py`), never
by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backend.contamination.indicators import Reading
from backend.model_files import read_json, write_json
from backend.paths import assets_dir

FILE = "readings.json"
HEAVY, CLEAN = "heavy", "clean"

Table = dict[str, dict[str, dict[str, Any]]]  # indicator, subset, then heavy or clean: auc with its interval


def shipped_readings(folder: Path | None = None) -> Table:
    return read_json((folder or assets_dir() / "models" / "exam") / FILE).get("readings", {})


def table(heavy: Sequence[Reading], clean: Sequence[Reading]) -> Table:
    found: Table = {}
    for name, side in ((HEAVY, heavy), (CLEAN, clean)):
        for reading in side:
            if reading.auc is not None:
                found.setdefault(reading.name, {}).setdefault(reading.subset, {})[name] = dict(reading.auc)
    return found


def write(folder: Path, heavy: Sequence[Reading], clean: Sequence[Reading], made: Mapping[str, Any]) -> None:
    """`made` says on which models (hashes) and items."""
    write_json(folder / FILE, {"made": dict(made), "readings": table(heavy, clean)})
