"""The report of an audit: everything that was found and what it was found on, as one JSON file.

Goes in: the audit's models, items and options, what its stages gave. Comes out: a dictionary. Two reports of the same models, items and options
are the same but for the neurons' id. Knows nothing of files or events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backend.contamination.audit_request import Audit
from backend.errors import InvalidRequest
from backend.model_files import read_json

KIND, FILE = "audit", "report.json"
FORMAT = 1
PARTS = ("identity", "accuracy", "indicators", "gap", "search", "chosen", "neurons", "changes", "suppression", "controls", "constant", "verdict",
         "diffs")  # fmt: skip


def build(audit: Audit, found: Mapping[str, Any]) -> dict[str, Any]:
    """The report; parts that this audit could not have are left out. A user's items are named by their hash, not copied, but for those that the
    patch changed."""
    options = {name: value for name, value in asdict(audit.options).items() if name not in ("data", "corpus")}
    return {
        "format": FORMAT,
        "models": {role: model.line() for role, model in audit.models.items()},
        "source": audit.source,
        "items": audit.hashes(),
        "fresh_items_made": audit.made_fresh,
        "max_new_tokens": audit.max_new_tokens,
        "power": audit.power(),
        "options": options,
        **{name: found[name] for name in PARTS if name in found},
    }


def load(folder: Path) -> dict[str, Any]:
    """Raises `InvalidRequest` when the audit in this folder did not end."""
    data = read_json(folder / FILE)
    if not data:
        raise InvalidRequest(f"The audit {folder.name} has no report yet; let its job end first.")
    return data
