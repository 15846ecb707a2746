"""What a page's header says of a job: how far, how long still.

Goes in: a live run and its latest shown-only line. Comes out: one small record. Knows nothing of threads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from backend.live import LiveRun
from backend.method import Method


@dataclass(frozen=True)
class JobState:
    """`done` of `total` units; `eta_s` seconds are left at the present rate; `waiting` is the place in the queue, 0 when it runs."""

    run_id: str
    title: str
    done: float = 0
    total: float | None = None
    note: str = ""
    eta_s: float | None = None
    waiting: int = 0
    owner: str = "local"


def job_state(live: LiveRun, methods: Mapping[str, Method]) -> JobState:
    title, owner = methods[live.request.method].title, live.context.owner
    line = json.loads(live.stream.status) if live.stream.status else {}
    if line.get("event") == "queued":
        return JobState(live.run_id, title, note=line.get("note", ""), waiting=line["place"], owner=owner)
    done, total, rate = line.get("done", 0), line.get("total"), line.get("rate")
    eta_s = (total - done) / rate if total is not None and rate else None
    return JobState(live.run_id, title, done, total, line.get("note", ""), eta_s, owner=owner)
