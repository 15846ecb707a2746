"""How a scan keeps time: how far it is, how fast, when a part must give way to the next.

Goes in: the run's clock, what there is to do. Comes out: `Progress` events, at most four a second, and deadlines. Knows nothing of the work.
"""

from __future__ import annotations

from backend.types import Progress, RunContext

SAY_EVERY_S = 0.25


class Stopped(Exception):
    """Somebody asked the job to stop; raised between two forwards and caught where the job ends."""


class Pace:
    """The pace of one part: `done` of `total` tokens. `deadline` is a reading of the clock, or None."""

    def __init__(self, context: RunContext, note: str, total: float, deadline: float | None = None) -> None:
        self._context, self._note, self.total, self.deadline = context, note, total, deadline
        self._start = self._said = context.clock()
        self.done = self.fresh = 0.0

    def add(self, n_tokens: float, fresh: bool = True) -> None:
        """Count work done; what came from the ledger (not `fresh`) says nothing about speed."""
        self.done += n_tokens
        self.fresh += n_tokens if fresh else 0.0

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.fresh / max(self._context.clock() - self._start, 1e-9)

    def spent(self, share: float = 1.0) -> bool:
        """Whether this share of the time is up; never without a deadline."""
        return self.deadline is not None and self._context.clock() >= self._start + share * (self.deadline - self._start)

    def tick(self) -> Progress | None:
        """Raises `Stopped` when the run is cancelled; now and then an event."""
        if self._context.cancelled():
            raise Stopped
        if self._context.clock() - self._said < SAY_EVERY_S:
            return None
        self._said = self._context.clock()
        return Progress(round(self.done), round(max(self.total, self.done)), self._note, self.rate or None)
