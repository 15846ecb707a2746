"""The same run once more with the same seeds, and whether it came out the same.

Goes in: a workbench, a run of one's own or of a recording that ships. Comes out: the lines of its lanes as they run anew, then one line
`{"event": "again", "identical", "sentence", "lanes"}`, which is shown and never stored. Knows methods only through the workbench: what was done
to a run by hand (a threshold that was moved) is put back by the method's `replay`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from backend import examples
from backend.errors import WorkbenchError
from backend.identity import again_line, same_tokens
from backend.imports import shipped_entry
from backend.lane_lines import device_of
from backend.types import RunContext, RunRecord, RunRequest

if TYPE_CHECKING:
    from backend.workbench import Workbench

OPEN = ("queued", "running")
ENDS = ("done", "failed")
KEPT = ("started", "token", "finding", *ENDS)


def rerun(workbench: Workbench, run_id: str, context: RunContext) -> Iterator[str]:
    """The lines of the run `run_id` and of the lanes beside it, anew, in their order; closing the iterator stops them (a job goes on).

    Raises `WorkbenchError` for a run that is not the owner's, or still under way, and `InvalidRequest` where it can't run here.
    """
    before = earlier(workbench, run_id, context.owner)
    for record in before:
        if record.status in OPEN:
            raise WorkbenchError("This run is still under way; it can be repeated when it has ended.")
    requests = [as_it_ran(workbench, record) for record in before]
    parent = None if examples.recorded_run(run_id) is not None else run_id
    lines = _started(workbench, requests, before, replace(context, parent_run_id=parent))
    return _compared(lines, before, requests, workbench.versions)


def earlier(workbench: Workbench, run_id: str, owner: str) -> list[RunRecord]:
    """The run with the lanes beside it, in the order they ran: of a recording that ships, or of one's own."""
    if examples.recorded_run(run_id) is not None:
        return recorded_group(run_id)
    record = workbench.store.get(run_id, owner)
    return workbench.store.group(record.group, owner)[0] if record.group else [record]


def recorded_group(run_id: str) -> list[RunRecord]:
    """All lanes of the shipped recording that `run_id` belongs to, as records; raises `WorkbenchError` where none ships."""
    found = shipped_entry(run_id)
    if found is None:
        raise WorkbenchError(f"There is no recorded run {run_id}.")
    return found[0]


def as_it_ran(workbench: Workbench, record: RunRecord) -> RunRequest:
    """The request that gives this run's events again."""
    replay = workbench.method(record.request.method).replay
    return record.request if replay is None else replay(record.request, record.events())


def _started(workbench: Workbench, requests: Sequence[RunRequest], before: Sequence[RunRecord], context: RunContext) -> Iterator[str]:
    if workbench.method(requests[0].method).job:
        return workbench.follow(workbench.start_job(requests[0], context))
    if before[0].group is None and len(before) == 1:
        return workbench.run(requests[0], replace(context, lane=before[0].lane))
    return workbench.run_group(requests, context)


def _compared(lines: Iterator[str], before: Sequence[RunRecord], requests: Sequence[RunRequest], versions: Mapping[str, str]) -> Iterator[str]:
    """The lines as they come, then what comparing them says."""
    found: dict[str, list[str]] = {}
    lane = ""
    with closing(lines):
        for line in lines:
            yield line
            event = json.loads(line)
            lane = str(event.get("lane")) if event["event"] == "started" else lane
            if lane and event["event"] in KEPT:
                found.setdefault(lane, []).append(line)
            lane = "" if event["event"] in ENDS else lane  # a lane whose models are missing fails before it has started
    asked = {_lane_of(record): (record, request) for record, request in zip(before, requests, strict=True)}
    pairs = [(asked[name][0], _heard(own, asked[name][1], versions)) for name, own in found.items() if name in asked]
    yield again_line([same_tokens(*pair) for pair in pairs], len(before))


def _lane_of(record: RunRecord) -> str:
    """The lane as its first line names it; a job's row has none."""
    return next((str(event.get("lane")) for event in record.events() if event["event"] == "started"), str(record.lane))


def _heard(lines: Sequence[str], request: RunRequest, versions: Mapping[str, str]) -> RunRecord:
    """One lane's lines as a record."""
    events = [json.loads(line) for line in lines]
    started, end = events[0], events[-1]
    status = "failed" if end["event"] == "failed" else "cancelled" if end.get("finish_reason", "cancelled") == "cancelled" else "completed"
    return RunRecord(started["run"], request, status, group=started.get("group"), lane=started.get("lane"), created_at=started["at"],
                     device=device_of(started["models"]), models=started["models"], versions=dict(versions), lines=tuple(lines),
                     text=end.get("text", ""), stats=end.get("stats", {}))  # fmt: skip
