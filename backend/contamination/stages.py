"""A job in stages: each is worked through once, its result kept in a file, so that a stopped job goes on with the next.

Goes in: generators that yield how much a step was worth. Comes out: `Progress` between the steps, and results as JSON. Knows nothing of what a
stage does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from backend.model_files import write_json
from backend.types import Event, Progress, RunContext

SAY_EVERY_S = 0.25  # each event is a place where a short run may go first
Steps = Generator[float, None, Any]


class Stopped(Exception):
    """Somebody asked the job to stop; raised between two steps and caught where the job ends."""


class Stages:
    """The stages of one job, `total` units of work together, kept in `folder`."""

    def __init__(self, context: RunContext, folder: Path, total: float) -> None:
        self._context, self._folder, self._total = context, folder, total
        self._start = self._said = context.clock()
        self._skipped = self.done = 0.0

    def path(self, name: str) -> Path:
        return self._folder / f"stage-{re.sub(r'[^a-z0-9]+', '-', name.lower())}.json"

    def has(self, name: str) -> bool:
        return self.path(name).is_file()

    def run(self, name: str, size: float, make: Callable[[], Steps]) -> Generator[Event, None, Any]:
        """The stage's result, from its file or worked out now (`size` units). Raises `Stopped` when the run is cancelled."""
        if self.has(name):
            self.done += size
            self._skipped += size
            return json.loads(self.path(name).read_text(encoding="utf-8"))
        yield self._progress(name)
        result = yield from self.drive(name, size, make())
        write_json(self.path(name), result)
        return result

    def drive(self, name: str, size: float, steps: Steps) -> Generator[Event, None, Any]:
        """The same, kept nowhere: for what must be done every time."""
        before = self.done
        with closing(steps):
            while True:
                try:
                    worth = next(steps)
                except StopIteration as end:
                    self.done = before + size
                    return end.value
                self.done = min(before + size, self.done + worth)
                if self._context.cancelled():
                    raise Stopped
                if self._context.clock() - self._said >= SAY_EVERY_S:
                    yield self._progress(name)

    def _progress(self, note: str) -> Progress:
        self._said = self._context.clock()
        elapsed, done = self._said - self._start, self.done - self._skipped
        return Progress(round(self.done, 1), round(self._total, 1), note, done / elapsed if elapsed > 0 and done > 0 else None)


def earlier(context: RunContext, event: str, kind: str) -> Iterator[dict[str, Any]]:
    """What a resumed job has said before: its `artifact` lines or the data of its findings of one kind."""
    for line in map(json.loads, context.earlier):
        if line["event"] == event and line["kind"] == kind:
            yield line if event == "artifact" else line["data"]
