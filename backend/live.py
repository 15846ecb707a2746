"""Runs that are under way: their lines as they come, for any number of readers, and the mailbox of their controls.

Goes in: lines from the device thread, cancel and control from pages. Comes out: the same lines, in order, to whoever follows.
The list of a run's lines is kept whole (it is what the store will hold), so a slow reader never stops the device.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from backend.lane_lines import LaneJob
from backend.types import Finding, RunContext, RunRequest


class Stream:
    """Lines for readers. Stored lines stay in order for late readers; of the shown-only ones the latest is enough."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._status: tuple[int, str] = (0, "")
        self._ended = False
        self._changed = threading.Condition()
        self._cancelled = threading.Event()

    def emit(self, line: str, stored: bool = True) -> None:
        with self._changed:
            if stored:
                self._lines.append(line)
            else:
                self._status = (self._status[0] + 1, line)
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def cancel(self) -> None:
        self._cancelled.set()

    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def status(self) -> str:
        """The latest shown-only line."""
        return self._status[1]

    def wait(self, timeout_s: float | None = None) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._ended, timeout_s)

    def follow(self) -> Iterator[str]:
        """Every stored line from the first, and the shown-only ones that are current, until the end."""
        sent, shown = 0, 0
        while True:
            fresh, status, ended = self._news(sent, shown)
            if status[0] > shown:
                shown = status[0]
                yield status[1]
            sent += len(fresh)
            yield from fresh
            if ended:
                return

    def _news(self, sent: int, shown: int) -> tuple[list[str], tuple[int, str], bool]:
        """Wait for something new: the lines after the first `sent`, the status, whether this was all."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._lines) > sent or self._status[0] > shown)
            return self._lines[sent:], self._status, self._ended


class LiveRun:
    """One run from its admission to its end."""

    def __init__(self, run_id: str, request: RunRequest, context: RunContext, stream: Stream, findings: Sequence[Finding] = ()) -> None:
        self.run_id, self.request, self.context, self.stream, self.findings = run_id, request, context, stream, findings
        self._mailbox: dict[str, Any] = {}
        self._lock = threading.Lock()

    def stopper(self, clock: Callable[[], float], longest_s: float) -> Callable[[], bool]:
        """Says whether to stop: somebody asked for it, or the time a job may take is over."""
        end = clock() + longest_s
        return lambda: self.stream.cancelled() or clock() > end

    def post(self, name: str, value: Any) -> None:
        with self._lock:
            self._mailbox[name] = value

    def take(self) -> Mapping[str, Any]:
        """What was posted since the last call."""
        with self._lock:
            mail, self._mailbox = self._mailbox, {}
            return mail


def lane_job(live: LiveRun, lane: str, warm: bool, fixed: str | None = None) -> LaneJob:
    """The run as another process can be told of it.

    A resumed job goes on in its own lines; one that goes on from another's work has no first line yet."""
    earlier, request = live.context.earlier, json.dumps(live.request.to_json(), ensure_ascii=False)
    begun = bool(earlier) and json.loads(earlier[0])["event"] == "started"
    return LaneJob(live.run_id, live.context.group, lane, request, tuple(live.findings), begun, warm, fixed)
