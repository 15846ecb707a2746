"""The newest sweep, for the picture of a page: accuracy against the share of large tokens.

Goes in: a workbench and whose runs may be read; the recording that ships. Comes out: one line `{"event": "sweep", "points", "words"}` for the
strip, which is shown and never stored. Knows what a sweep finds, not how.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from backend import examples
from backend.types import RunRecord
from backend.workbench import Workbench

METHOD = "routing.sweep"
SHIPPED = "routing-sweep"  # assets/runs/NAME.jsonl
LOOKED_AT = 10  # of the newest sweeps; older ones are not searched for one that found something
DRAWN = ("strategy", "budget", "share", "accuracy", "low", "high", "n")


def shipped_line() -> str | None:
    """The recorded sweep, or None where none ships."""
    if not (examples.assets_dir() / "runs" / f"{SHIPPED}.jsonl").is_file():
        return None
    lines = examples.recorded(SHIPPED)
    header = json.loads(lines[0])
    return line_of(lines, ["recorded sweep", header.get("device"), header.get("date")])


def newest_line(workbench: Workbench, owner: str) -> str | None:
    """The newest sweep of one's own that has a point, stopped ones too; None where there is none."""
    for record in workbench.store.runs(owner, method=METHOD, limit=LOOKED_AT):
        line = line_of(workbench.store.get(record.id, owner).lines, named(record, "your last sweep"))
        if line is not None:
            return line
    return None


def named(record: RunRecord, what: str = "this sweep") -> list[str]:
    """A sweep in words: how it ended, its pair, its day."""
    state = what if record.status == "completed" else f"{what} ({record.status})"
    return [state, f"{record.request.models.get('small')} with {record.request.models.get('large')}", record.created_at[:10]]


def line_of(lines: Iterable[str], words: Sequence[Any]) -> str | None:
    """A job's lines as the strip's line; None where no point was found."""
    points = points_of(lines)
    if not points:
        return None
    told = [*map(str, filter(None, words)), f"{points[0]['n']} problems"]
    data = {"event": "sweep", "points": [{name: point.get(name) for name in DRAWN} for point in points], "words": " · ".join(told)}
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def points_of(lines: Iterable[str]) -> list[Mapping[str, Any]]:
    """What the findings of kind `point` hold; of an arm that was told twice (before and after a stop) the last."""
    found: dict[tuple[str, float], Mapping[str, Any]] = {}
    for event in map(json.loads, lines):
        if event.get("event") == "finding" and event.get("kind") == "point":
            found[event["data"]["strategy"], event["data"]["budget"]] = event["data"]
    return list(found.values())
