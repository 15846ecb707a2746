"""Writes one run down while it happens: lines in checkpoints, the outcome once.

Goes in: lines of one run. Comes out: the same lines for its stream, and rows in the store. Knows nothing of models or pages, nor
whether the lines were made here or in another process. A full disk never stops a run: what could not be kept is said in the stats.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from backend.lane_lines import Line
from backend.owned import Owned
from backend.store import Store
from backend.types import Done, Event, Failed, Finding

CHECKPOINT_S = 2.0
CHECKPOINT_LINES = 200


class Recorder:
    """One run's pen. `clock` gives seconds."""

    def __init__(self, store: Store, run_id: str, emit: Callable[[str, bool], None], clock: Callable[[], float]) -> None:
        self._store, self._run_id, self._emit, self._clock = store, run_id, emit, clock
        self._owned = Owned(store)
        self._start = self._saved_at = clock()
        self._unsaved: list[str] = []
        self._texts: list[str] = []
        self._problem: str | None = None
        self.outcome: Done | Failed | None = None

    def restart_clock(self) -> None:
        """Time counts from here: models are loaded and the device is ours."""
        self._start = self._clock()

    def write(self, event: Event) -> None:
        """Show and keep an event that carries no time."""
        self.take(Line.of(event))

    def take(self, line: Line) -> None:
        """Show and keep one line."""
        if line.token is not None:
            self._texts.append(line.token)
        if line.end is not None:
            self.outcome = line.end
        if line.stored:
            self._unsaved.append(line.text)
        self._emit(line.text, line.stored)
        self._keep(lambda: self._owned.note(self._run_id, line.text), then=lambda: None)
        if len(self._unsaved) >= CHECKPOINT_LINES or self._clock() - self._saved_at >= CHECKPOINT_S:
            self._checkpoint()

    @property
    def text(self) -> str:
        """What the tokens said so far."""
        return "".join(self._texts)

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
        text = outcome.text if isinstance(outcome, Done) else self.text
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
