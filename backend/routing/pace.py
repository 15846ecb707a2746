"""How a job works: in small pieces, telling where it is, giving way, stopping when asked.

Goes in: a generator that yields after each piece of work. Comes out: `Progress` events between the pieces, and its result. Knows nothing of
what the work is.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any, TypeVar

from backend.types import Event, Progress, RunContext

SAY_EVERY_S = 0.25  # each event is a place where a short run may go first

T = TypeVar("T")


class Stopped(Exception):
    """Somebody asked the job to stop; raised between two pieces and caught where the job ends."""


class Pace:
    """The pace of one job: how many of `total` units are done, and since when. `already` were done by an earlier process."""

    def __init__(self, context: RunContext, total: float, already: float = 0) -> None:
        self._context, self._total, self._already = context, total, already
        self._start = self._said = context.clock()
        self.done = already

    def now(self, note: str) -> Progress:
        elapsed = self._context.clock() - self._start
        rate = (self.done - self._already) / elapsed if elapsed > 0 else 0.0
        return Progress(round(self.done, 2), self._total, note, rate or None)

    def work(self, steps: Generator[Any, None, T], note: str, size: float = 0, pieces: int = 0) -> Generator[Event, None, T]:
        """Drive `steps` to their result, which counts `size` units; with `pieces` (how many there will be about) they count on the way.

        Raises `Stopped` when the run is cancelled."""
        before = self.done
        with closing(steps):
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    self.done = before + size
                    return end.value
                if pieces:
                    self.done = min(before + size, self.done + size / pieces)
                if self._context.cancelled():
                    raise Stopped
                if self._context.clock() - self._said >= SAY_EVERY_S:
                    self._said = self._context.clock()
                    yield self.now(note)


def earlier(context: RunContext, event: str, kind: str) -> Iterator[dict[str, Any]]:
    """What a resumed job has said before: its `artifact` lines or the data of its findings of one kind."""
    for line in map(json.loads, context.earlier):
        if line["event"] == event and line["kind"] == kind:
            yield line if event == "artifact" else line["data"]
