"""The Measure button: what it will cost, the job's request, and its course in words.

Goes in: the requests of the lanes, what the strip shows of their last run, the job's lines. Comes out: a `measure` request and texts.
Knows nothing of components; the arithmetic of the intervals is the job's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing

from backend.types import RunRequest
from backend.workbench import Workbench
from panels.header import duration
from panels.lanes import lanes

REPEATS, QUICK = 8, 3


def lanes_to_measure(workbench: Workbench, request: RunRequest, compare: Sequence[str]) -> list[RunRequest]:
    """The request, then the chosen baselines (one where none is chosen), the free one last: the others are compared with it."""
    chosen = chosen_baselines(workbench, request, compare) or workbench.baselines(request)[:1]
    return [request, *sorted(chosen, key=lambda r: r.options.get("constrain") == "none")]


def chosen_baselines(workbench: Workbench, request: RunRequest, compare: Sequence[str]) -> list[RunRequest]:
    """The baselines whose lane was ticked, in the method's order."""
    return [baseline for baseline in workbench.baselines(request) if baseline.options.get("constrain") in compare]


def cost(text: str, n_lanes: int) -> str:
    """What the button says before anything starts: time, from the lanes in the strip, for the whole and the quick variant."""
    seconds = [lane.seconds for lane in lanes(text) if lane.seconds and not lane.continued]
    what = f"Repeats {n_lanes} lanes in turn, after one round to warm up"
    if not seconds:
        return f"{what}. Run once first to know how long that takes."
    one = n_lanes * sum(seconds) / len(seconds)
    times = f"{REPEATS} repeats about {duration((REPEATS + 1) * one)}, {QUICK} about {duration((QUICK + 1) * one)}"
    return f"{what}: {times}. No more memory than a run; a few kilobytes of disk."


def course(lines: Iterator[str]) -> Iterator[str]:
    """A job's lines as the words that a page shows while it goes on, the conclusion last. Closes `lines`."""
    with closing(lines):
        for line in lines:
            event = json.loads(line)
            if event["event"] == "queued":
                yield f"Waits behind {event['place']}."
            elif event["event"] == "progress":
                yield f"{event.get('note') or 'Measuring'} · {event['done']:.0f} of {event['total'] or 0:.0f}"
            elif event["event"] in ("done", "failed"):
                yield event.get("text") or event.get("error") or ""
