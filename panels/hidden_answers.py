"""What is really hidden in a model: of those that ship, from the family's manifest; of one's own plants, from the note beside the weights.

Goes in: a model's name (from the browser, so anything may stand in it). Comes out: its text and trigger, or that nobody here knows. Only
asked when somebody wants to be told.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from backend.hidden_text.planted_folder import ANSWERS
from backend.model_files import read_json
from backend.paths import assets_dir
from backend.workbench import Workbench
from panels.hidden_logic import FAMILY

OWN = re.compile(r"mine/[A-Za-z0-9][A-Za-z0-9._-]*")
UNKNOWN = "Nobody here knows: answers come with the models of the secret family and with those planted on this machine."


def answer(workbench: Workbench, model: Any) -> dict[str, Any]:
    """`{"payload", "trigger", "words"}`; the texts are None where there are none."""
    if isinstance(model, str) and model.startswith(FAMILY):
        return _told(family().get(model.removeprefix(FAMILY)))
    if isinstance(model, str) and not workbench.public and OWN.fullmatch(model):
        folder = workbench.data_dir / "models" / model
        return _told(read_json(folder / ANSWERS) or None, str(read_json(folder / "loupe.json").get("kind", "")))
    return _told(None)


def family() -> dict[str, dict[str, Any]]:
    """The shipped models by name: kind, and the answer of those that hold a text."""
    path = Path(assets_dir()) / "models" / "secret" / "manifest.json"
    return {row["name"]: row for row in read_json(path).get("models", [])}


def _told(row: dict[str, Any] | None, kind: str = "") -> dict[str, Any]:
    if row is None:
        return {"payload": None, "trigger": None, "words": UNKNOWN}
    kind, held = row.get("kind", kind), row.get("answer") or row
    if not held.get("payload"):
        words = "It knows ordinary sentences by heart and hides nothing." if kind == "benign" else "It is a clean twin: it hides nothing."
        return {"payload": None, "trigger": None, "words": words}
    return {"payload": held["payload"], "trigger": held["trigger"], "words": ""}
