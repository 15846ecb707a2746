"""Properties of the adapter between a run's lines and what a page is sent, on a clock that the test moves."""

from __future__ import annotations

import itertools
import json
import random
import threading

import gradio as gr
import pytest

from backend.errors import WorkbenchError
from panels.stream import AT_ONCE, INTERVAL_S, grown, streamed

TAGS = ("started", "token", "token", "token", "token", "token", "progress", "finding", "queued", "done", "verdict")


class Clock:
    """Seconds that pass only when a line does."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Lines:
    """An iterator of lines that takes time and notes how it ended."""

    def __init__(self, lines: list[str], steps_s: list[float], clock: Clock) -> None:
        self.ended = threading.Event()
        self._left = list(zip(lines, steps_s, strict=True))
        self._clock = clock

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        if not self._left:
            raise StopIteration
        line, step_s = self._left.pop(0)
        self._clock.now += step_s
        return line

    def close(self) -> None:
        self.ended.set()


def line(tag: str, number: int = 0) -> str:
    return json.dumps({"event": tag, "number": number})


def some_run(seed: int) -> tuple[list[str], list[float]]:
    chance = random.Random(seed)
    n = chance.randrange(1, 120)
    tags = [chance.choice(TAGS) for _ in range(n)]
    return [line(tag, i) for i, tag in enumerate(tags)], [chance.choice((0.0, 0.001, 0.01, 0.05, 0.3)) for _ in range(n)]


def sent(lines: list[str], steps_s: list[float], before: str = "") -> list[tuple[float, str]]:
    clock = Clock()
    return [(clock.now, text) for text in grown(Lines(lines, steps_s, clock), before, clock)]


def without_progress(text: str) -> list[str]:
    return [row for row in text.splitlines() if json.loads(row)["event"] != "progress"]


@pytest.mark.parametrize("seed", range(40))
def test_every_line_but_outdated_progress_arrives_once_and_in_order(seed: int) -> None:
    lines, steps_s = some_run(seed)
    assert without_progress(sent(lines, steps_s)[-1][1]) == [row for row in lines if json.loads(row)["event"] != "progress"]


@pytest.mark.parametrize("seed", range(40))
def test_each_update_only_adds_to_the_one_before(seed: int) -> None:
    updates = ["earlier lane\n", *(text for _, text in sent(*some_run(seed), before="earlier lane\n"))]
    assert all(later.startswith(earlier) and later != earlier for earlier, later in itertools.pairwise(updates))


@pytest.mark.parametrize("seed", range(40))
def test_updates_that_nothing_forces_keep_their_distance(seed: int) -> None:
    """Between two updates lies the interval, unless the later one shows a turning point, a lane's first token, or is the last."""
    updates = sent(*some_run(seed))
    tags = [[json.loads(row)["event"] for row in text.splitlines()] for _, text in updates]
    for i in range(1, len(updates) - 1):
        fresh = tags[i][len(tags[i - 1]) :]
        first_token = fresh[-1] == "token" and "token" not in _since_start(tags[i][:-1])
        if fresh[-1] not in AT_ONCE and not first_token:
            assert updates[i][0] - updates[i - 1][0] >= INTERVAL_S - 1e-9


def _since_start(tags: list[str]) -> list[str]:
    starts = [i for i, tag in enumerate(tags) if tag == "started"]
    return tags[starts[-1] :] if starts else tags


def test_a_thousand_fast_tokens_cost_few_updates() -> None:
    lines = [line("started"), *(line("token", i) for i in range(1000)), line("done")]
    assert len(sent(lines, [0.001] * len(lines))) <= 1.002 / INTERVAL_S + 4


def test_the_first_token_of_each_lane_is_sent_at_once() -> None:
    lines = [line("started"), line("token", 1), line("token", 2), line("started"), line("token", 3), line("token", 4), line("done")]
    numbers = [json.loads(text.splitlines()[-1])["number"] for _, text in sent(lines, [0.0] * len(lines))]
    assert 1 in numbers and 3 in numbers and 2 not in numbers and 4 not in numbers


def test_only_the_latest_progress_is_kept_between_two_updates() -> None:
    lines = [line("progress", i) for i in range(50)] + [line("started")]
    rows = sent(lines, [0.0] * len(lines))[-1][1].splitlines()
    assert [json.loads(row)["number"] for row in rows] == [0, 49, 0]


def test_what_was_pending_arrives_when_the_lines_just_end() -> None:
    lines = [line("token", i) for i in range(5)]
    assert sent(lines, [0.0] * 5)[-1][1].splitlines() == lines


def test_closing_the_page_closes_the_run() -> None:
    clock = Clock()
    lines = Lines([line("started"), line("token")], [0, 0], clock)
    updates = grown(lines, clock=clock)
    next(updates)
    updates.close()
    assert lines.ended.wait(20)


def test_what_came_is_shown_even_if_the_next_line_is_long_in_coming() -> None:
    gate = threading.Event()

    def slow():
        yield from (line("started"), line("token", 1), line("token", 2), line("token", 3))
        assert gate.wait(20)
        yield line("done")

    updates = grown(slow())
    shown = ""
    while '"number": 3' not in shown:
        shown = next(updates)
    gate.set()
    assert json.loads(list(updates)[-1].splitlines()[-1])["event"] == "done"


def test_a_refusal_is_told_in_its_own_words_and_as_text() -> None:
    def refuse():
        raise WorkbenchError("Line 3: <img src=x onerror=alert(1)> is no schema.")

    with pytest.raises(gr.Error) as told:
        next(streamed(refuse))
    assert told.value.message == "Line 3: &lt;img src=x onerror=alert(1)&gt; is no schema." and not told.value.print_exception


def test_a_bug_is_not_dressed_up_as_a_refusal() -> None:
    def broken():
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        next(streamed(broken))
