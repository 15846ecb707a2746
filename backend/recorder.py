"""Writes one run down while it happens: lines in checkpoints, the outcome once.

Goes in: events of one run. Comes out: stamped lines for its stream and rows in the store. Only here does a line get its time.
Knows nothing of models or pages. A full disk never stops a run: what could not be kept is said in the stats.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from backend.store import Store
from backend.types import Control, Done, Event, Failed, Finding, Round, Token

CHECKPOINT_S = 2.0
CHECKPOINT_LINES = 200
TIMED = (Token, Round, Finding, Control)


class Recorder:
    """One run's pen. `clock` gives seconds."""

    def __init__(self, store: Store, run_id: str, emit: Callable[[str, bool], None], clock: Callable[[], float]) -> None:
        self._store, self._run_id, self._emit, self._clock = store, run_id, emit, clock
        self._start = self._saved_at = clock()
        self._unsaved: list[str] = []
        self._texts: list[str] = []
        self._problem: str | None = None
        self.outcome: Done | Failed | None = None

    def restart_clock(self) -> None:
        """Time counts from here: models are loaded and the device is ours."""
        self._start = self._clock()

    def write(self, event: Event, **stamp: Any) -> None:
        """Stamp, show, and keep one event."""
        if isinstance(event, TIMED):
            stamp["ms"] = round((self._clock() - self._start) * 1000, 3)
        if isinstance(event, Token):
            self._texts.append(event.text)
        if isinstance(event, (Done, Failed)):
            self.outcome = event
        line = event.to_line(**stamp)
        if event.stored:
            self._unsaved.append(line)
        self._emit(line, event.stored)
        if len(self._unsaved) >= CHECKPOINT_LINES or self._clock() - self._saved_at >= CHECKPOINT_S:
            self._checkpoint()

    def _checkpoint(self) -> None:
        self._saved_at = self._clock()
        self._keep(lambda: self._store.append(self._run_id, self._unsaved), then=self._unsaved.clear)

    def leave(self) -> None:
        """Keep what there is and leave the row open: the next start goes on with this job."""
        self._checkpoint()

    def finish(self, cancelled: bool) -> str:
        """Close the row; returns the status. A run without a last event was cut short from outside."""
        outcome = self.outcome
        if isinstance(outcome, Failed):
            status, error = "failed", outcome.error
        elif outcome is None or cancelled or outcome.finish_reason == "cancelled":
            status, error = "cancelled", None
        else:
            status, error = "completed", None
        text = outcome.text if isinstance(outcome, Done) else "".join(self._texts)
        stats: Mapping[str, Any] = outcome.stats if isinstance(outcome, Done) else {}
        duration_ms = round((self._clock() - self._start) * 1000, 3)
        self._keep(
            lambda: self._store.finish(self._run_id, status, self._unsaved, duration_ms, text, stats, len(self._texts), error),
            then=self._unsaved.clear,
        )
        return status

    def _keep(self, save: Callable[[], None], then: Callable[[], None]) -> None:
        try:
            save()
        except sqlite3.Error as error:
            if self._problem is None:
                self._problem = str(error)
                self._emit(Finding("warning", {"text": f"This run is not being kept: {error}."}).to_line(), True)
        else:
            then()
