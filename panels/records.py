"""Stored runs as pages show them.

Goes in: records of the store, ids from a link: a run of one's own, a share id, a recording that ships. Comes out: the text a strip draws, rows
for a list, the request behind a run, the page it belongs to. Knows the store's records, not its SQL.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from backend import examples
from backend.errors import WorkbenchError
from backend.exchange import IMPORTED_RUN, as_it_ran
from backend.shares import is_share_id
from backend.types import RunRecord, RunRequest, Verdict
from backend.workbench import Workbench, verdict_line
from panels.lanes import row
from panels.visitor import owner_of

EXCERPT = 160
# Pages that runs can be taken back to; a page is named like its method, its jobs begin with that name.
PAGES = ("structured", "speculative", "routing", "contamination", "hidden_text")
CUT_SHORT = {"event": "failed", "error": "The app stopped in mid-run. This is what was kept."}


def text_of(records: Sequence[RunRecord], verdict: Verdict | None = None) -> str:
    """The lines of these runs, one lane after another, and what was concluded; a run that was cut short says so."""
    lines = [imported_line(records[0])] if records and IMPORTED_RUN in records[0].versions else []
    for record in records:
        lines += record.lines
        if record.status == "interrupted":
            lines.append(json.dumps(CUT_SHORT))
    if verdict is not None and records:
        lines.append(verdict_line(verdict, records[0].group or ""))
    return "".join(map(row, lines))


def opened(workbench: Workbench, owner: str, run_id: str) -> tuple[RunRecord, str]:
    """A run of one's own, or the one behind a share id, and the strip's text of it, the other lanes of its group beside it. Raises
    `WorkbenchError` if there is none."""
    if is_share_id(run_id):
        records, verdict = workbench.shares.open(run_id)
        return records[0], row(shared_line(run_id, records[0])) + text_of(records, verdict)
    record = workbench.store.get(run_id, owner)
    if record.group is None:
        return record, text_of([record])
    return record, text_of(*workbench.store.group(record.group, owner))


def imported_line(record: RunRecord) -> str:
    """The line before a run that came from a file: what the file says of its making."""
    ran = as_it_ran(record)
    data = {"event": "imported", "run": record.versions[IMPORTED_RUN], "device": ran.device, "date": ran.created_at[:10]}
    return json.dumps(data, ensure_ascii=False)


def shared_line(share_id: str, record: RunRecord) -> str:
    """The line before a shared run: under which id it may be read, and where it was made."""
    models = ", ".join(dict.fromkeys(str(model.get("id")) for model in record.models.values())) or ", ".join(record.request.models.values())
    data = {"event": "shared", "share": share_id, "model": models, "device": record.device, "date": as_it_ran(record).created_at[:10]}
    return json.dumps(data, ensure_ascii=False)


def request_of(workbench: Workbench, owner: str, run_id: str, share: str = "") -> RunRequest:
    """What was asked, of a recording that ships, of a run of one's own, or of one that may be read under the share id."""
    shipped = examples.recorded_run(run_id)
    if shipped is not None:
        return shipped[0]
    if not share:
        return workbench.store.get(run_id, owner).request
    found = next((record for record in workbench.shares.open(share)[0] if record.id == run_id), None)
    if found is None:
        raise WorkbenchError(f"There is no run {run_id} here.")
    return found.request


def reader_of(public: bool, token: Any) -> str:
    """Who reads: whoever has the visitor's token, or a share id."""
    return token if isinstance(token, str) and is_share_id(token) else owner_of(public, token)


def looked(workbench: Workbench, run_id: str, position: int, token: str, k: int = 10) -> dict[str, Any]:
    """One step's candidates for the card, or why there are none."""
    try:
        return workbench.inspect(run_id, position, k, reader_of(workbench.public, token))
    except WorkbenchError as error:
        return {"error": str(error)}


def page_of(request: RunRequest) -> str:
    """The page a run can be taken back to; that of a measurement is the page of what it measured. Empty where there is none."""
    method = request.method
    if method == "measure":
        lanes = request.options.get("lanes") or [{}]
        method = str(lanes[0].get("method", ""))
    page = method.split(".")[0]
    return page if page in PAGES else ""


def row_of(record: RunRecord, titles: Mapping[str, str]) -> dict[str, Any]:
    """One entry as a list shows it."""
    method = record.request.method
    return {
        "run": record.id,
        "title": record.title,
        "note": record.note,
        "tags": list(record.tags),
        "pinned": record.pinned,
        "panel": titles.get(method, method),
        "page": page_of(record.request),
        "lanes": record.lanes,
        "model": ", ".join(dict.fromkeys(record.request.models.values())),
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
