"""Stored runs as pages show them.

Goes in: records of the store, ids from a link. Comes out: the text a strip draws, rows for a list, the request behind a run.
Knows the store's records, not its SQL; no gradio.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from backend import examples
from backend.types import RunRecord, RunRequest, Verdict
from backend.workbench import Workbench, verdict_line
from panels.lanes import row

EXCERPT = 160
# Methods whose runs can be taken back to a page of their own, which is named like them.
PAGES = ("structured", "speculative", "routing", "contamination", "hidden_text")
CUT_SHORT = {"event": "failed", "error": "The app stopped in mid-run. This is what was kept."}


def text_of(records: Sequence[RunRecord], verdict: Verdict | None = None) -> str:
    """The lines of these runs, one lane after another, and what was concluded; a run that was cut short says so."""
    lines: list[str] = []
    for record in records:
        lines += record.lines
        if record.status == "interrupted":
            lines.append(json.dumps(CUT_SHORT))
    if verdict is not None and records:
        lines.append(verdict_line(verdict, records[0].group or ""))
    return "".join(map(row, lines))


def opened(workbench: Workbench, owner: str, run_id: str) -> tuple[RunRecord, str]:
    """A run of one's own and the strip's text of it, the other lanes of its group beside it. Raises `WorkbenchError` if there is none."""
    record = workbench.store.get(run_id, owner)
    if record.group is None:
        return record, text_of([record])
    return record, text_of(*workbench.store.group(record.group, owner))


def request_of(workbench: Workbench, owner: str, run_id: str) -> RunRequest:
    """What was asked, of a recording that ships or a run of one's own."""
    shipped = examples.recorded_run(run_id)
    return shipped[0] if shipped is not None else workbench.store.get(run_id, owner).request


def row_of(record: RunRecord, titles: dict[str, str]) -> dict[str, Any]:
    """One run as a list shows it."""
    method = record.request.method
    return {
        "run": record.id,
        "panel": titles.get(method, method),
        "page": method if method in PAGES else "",
        "lane": record.lane or "",
        "model": ", ".join(record.request.models.values()),
        "status": record.status,
        "at": record.created_at,
        "seconds": None if record.duration_ms is None else round(record.duration_ms / 1000, 1),
        "prompt": excerpt(record.request.prompt.text),
        "text": excerpt(record.error or record.text),
    }


def excerpt(text: str) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT else line[: EXCERPT - 1] + "…"
