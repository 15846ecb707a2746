"""From a run's lines to what a page is sent: one growing string, at most so many times a second.

Goes in: an iterator of lines (JSON objects, no line breaks) and a clock. Comes out: the string so far, each time a page should see it,
and errors as Gradio shows them. Knows nothing of models, methods or components.
"""

from __future__ import annotations

import html
import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

import gradio as gr

from backend.errors import WorkbenchError
from panels.lanes import row

INTERVAL_S = 0.08
AT_ONCE = frozenset({"started", "queued", "done", "failed", "verdict"})


class Pace:
    """Says for each line whether the page must see it now: turning points and the first token of a lane at once, the rest in time."""

    def __init__(self, clock: Callable[[], float], interval_s: float = INTERVAL_S) -> None:
        self._clock, self._interval_s = clock, interval_s
        self._sent_at = -math.inf
        self._waiting_for_first = True

    def due(self, tag: str) -> bool:
        first = tag == "token" and self._waiting_for_first
        self._waiting_for_first = tag == "started" or (self._waiting_for_first and not first)
        return tag in AT_ONCE or first or self.left_s() <= 0

    def left_s(self) -> float:
        """Seconds until an update that nothing forces."""
        return self._sent_at + self._interval_s - self._clock()

    def sent(self) -> None:
        self._sent_at = self._clock()


def grown(lines: Iterator[str], before: str = "", clock: Callable[[], float] = time.monotonic) -> Iterator[str]:
    """`before` and the lines so far, one to a row, whenever the page is due; ends with all of them. Closes `lines`.

    Of several progress lines that came between two updates only the last is kept: they are shown, never stored.
    Lines are read one ahead in a thread of their own, so that what came is shown in time even when the next one is long in coming.
    """
    text, pending, pace = before, [], Pace(clock)
    with _one_ahead(lines) as coming:
        while (line := coming(max(pace.left_s(), 0.001) if pending else None)) != "":
            if line is not None:
                tag = json.loads(line)["event"]
                if tag == "progress" and pending and pending[-1][0] == "progress":
                    pending.pop()
                pending.append((tag, line))
            if pending and (pace.due(tag) if line is not None else pace.left_s() <= 0):
                text += _rows(pending)
                pending.clear()
                pace.sent()
                yield text
    if pending:
        yield text + _rows(pending)


@contextmanager
def _one_ahead(lines: Iterator[str]) -> Iterator[Callable[[float | None], str | None]]:
    """A function that waits so many seconds (None: for ever) and gives the next line, "" after the last, None if it has not come.

    `lines` is closed by the thread that reads it: a generator can't be closed while another thread is inside.
    """
    hand = ThreadPoolExecutor(1, "lines")
    ahead = [hand.submit(next, lines, "")]

    def coming(timeout_s: float | None) -> str | None:
        if not wait(ahead, timeout_s).done:
            return None
        line = ahead.pop().result()
        ahead.append(hand.submit(next, lines, ""))
        return line

    try:
        yield coming
    finally:
        hand.submit(lines.close)
        hand.shutdown(wait=False)


def _rows(pending: list[tuple[str, str]]) -> str:
    return "".join(row(line) for _, line in pending)


@contextmanager
def told() -> Iterator[None]:
    """The one place where a `WorkbenchError` becomes what Gradio shows; its text is escaped, because the toast is HTML."""
    try:
        yield
    except WorkbenchError as error:
        raise gr.Error(html.escape(str(error)), duration=None, print_exception=False, title="Not run") from error


def streamed(start: Callable[[], Iterator[str]], before: str = "", clock: Callable[[], float] = time.monotonic) -> Iterator[str]:
    """What a streaming handler yields: `start()` is asked for the lines here, so that its refusal is told too."""
    with told():
        yield from grown(start(), before, clock)
