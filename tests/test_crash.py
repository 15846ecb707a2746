"""Killing the process that runs: nothing that had ended is lost, nothing hangs, nobody else's run is touched."""

from __future__ import annotations

import json

import pytest

from backend.bench.app_crash import Seen, faults, kill_often, request_of
from backend.recorder import CHECKPOINT_LINES
from backend.store import Store, new_id
from backend.types import RunContext

pytestmark = pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")  # the fork is what is tested
DONE = json.dumps({"event": "done", "finish_reason": "stop", "text": "", "stats": {}})


def test_five_kills_at_random_moments_leave_no_fault(data_dir):
    found, counts = kill_often(data_dir, 5, seed=3)
    assert found == [] and counts["lines seen"] > 100
    again = Store(data_dir)
    assert {r.status for r in again.runs("local", limit=10_000)} <= {"completed", "interrupted"}
    again.close()


@pytest.fixture
def store(data_dir):
    made = Store(data_dir)
    yield made
    made.close()


def running(store):
    run_id = new_id()
    store.start(run_id, request_of(3), RunContext(), {})
    store.running(run_id, {}, "cpu")
    return run_id


def token(position):
    return json.dumps({"event": "token", "position": position})


def found(store, seen, other):
    return list(faults(store.path.parent, seen, other))


def test_the_judge_sees_a_run_that_had_ended_and_is_gone_back(store):
    other, cut = running(store), running(store)
    seen = Seen({cut: [token(0), DONE]}, [cut], [cut])
    assert any("had ended and is running" in fault for fault in found(store, seen, other))


def test_the_judge_sees_a_run_that_hangs(store):
    other, hanging = running(store), running(store)  # of a living process, but not the one that may go on
    assert found(store, Seen(), other) == [f"stuck: {hanging}"]


def test_the_judge_sees_more_lines_lost_than_a_checkpoint_holds(store):
    other, cut = running(store), running(store)
    lines = [token(i) for i in range(CHECKPOINT_LINES + 2)]
    store.finish(cut, "interrupted", lines[:2], 1.0, "", {}, 2, None)
    assert found(store, Seen({cut: lines}), other) == []
    assert any("more than a checkpoint" in fault for fault in found(store, Seen({cut: [*lines, token(0)]}), other))


def test_the_judge_sees_lines_that_are_not_those_that_were_shown(store):
    other, cut = running(store), running(store)
    store.finish(cut, "completed", [token(0), DONE], 1.0, "", {}, 1, None)
    assert any("not those that were shown" in fault for fault in found(store, Seen({cut: [token(1), DONE]}, [cut], [cut]), other))


def test_the_judge_sees_that_a_living_process_lost_its_run(store):
    other = running(store)
    store.finish(other, "interrupted", [], 1.0, "", {}, 0, None)
    assert "a living process's run became interrupted" in found(store, Seen(), other)
