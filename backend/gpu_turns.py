"""Runs whose models are on the other side of the seam: their lanes, one GPU turn, as a task of the device's thread.

Goes in: lanes that were admitted, each with its recorder. Comes out: their lines where an in-process run puts them: streams and rows.
Knows a turn by its lines; which lane a turn broke in, and which never began, is told from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from backend.errors import WorkbenchError
from backend.lane_lines import LaneJob, Line, device_of
from backend.live import LiveRun
from backend.recorder import Recorder
from backend.seam import Seam, Turn
from backend.types import Done, Failed


@dataclass(frozen=True)
class TurnLane:
    """One lane of a turn: what is asked of the GPU, and who writes it down here."""

    live: LiveRun
    job: LaneJob
    recorder: Recorder
    running: Callable[[str, Mapping[str, Any], str], None]

    def take(self, line: Line) -> None:
        if line.models is not None:
            self.running(self.job.run_id, line.models, device_of(line.models))
            self.recorder.restart_clock()
        self.recorder.take(line)


def turn_steps(seam: Seam, lanes: Sequence[TurnLane], end: Callable[[TurnLane], None], forget: Callable[[TurnLane], None]) -> Iterator[None]:
    """One turn to its end. `end` closes a lane's row, `forget` removes a lane that never began: Stop, or a turn that broke before it."""
    at, stopped = 0, lanes[0].live.stream.cancelled
    turn = Turn(tuple(lane.job for lane in lanes), lanes[0].live.take())
    try:
        if not stopped():
            with closing(seam.lines(turn)) as lines:
                for index, line in lines:
                    if stopped():
                        break
                    for lane in lanes[at:index]:
                        end(lane)
                    at = index
                    lanes[at].take(line)
                    yield
        if stopped() and lanes[at].recorder.outcome is None:
            lanes[at].recorder.write(Done("cancelled", lanes[at].recorder.text))
    except WorkbenchError as error:
        lanes[at].recorder.write(Failed(str(error), error.where))
    finally:
        end(lanes[at])
        for lane in lanes[at + 1 :]:
            forget(lane)


def in_context(context: Context, steps: Iterator[None]) -> Iterator[None]:
    """The same steps, each in the context of whoever asked: what lends the GPU looks there for the visitor whose quota it takes."""
    try:
        while context.run(_advanced, steps):
            yield
    finally:
        context.run(steps.close)


def _advanced(steps: Iterator[None]) -> bool:
    return next(steps, steps) is not steps
