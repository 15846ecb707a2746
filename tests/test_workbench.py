"""One place that validates, admits, runs, stamps and records."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest

from backend.errors import InvalidRequest, WorkbenchError
from backend.prompt import Rendered
from tests.house import Counter, context, count, open_house


@pytest.fixture
def counter():
    return Counter()


@pytest.fixture
def house(tmp_path, counter, monkeypatch):
    monkeypatch.setattr("backend.lane_lines.render", lambda prompt, tokenizer: Rendered([7], [(7, prompt.text)], []))
    workbench = open_house(tmp_path, counter)
    yield workbench
    counter.go.set()
    workbench.close()


def events(lines):
    return [json.loads(line) for line in lines]


def tags(lines):
    return [e["event"] for e in events(lines)]


def test_what_is_streamed_is_what_is_stored(house):
    lines = [line for line in house.run(count(3), context()) if json.loads(line)["event"] not in ("progress", "queued")]
    record = house.store.runs("local")[0]
    assert list(house.store.get(record.id, "local").lines) == lines
    assert tags(lines) == ["started", "finding", "token", "token", "token", "done"]
    assert (record.status, record.text, record.stats) == ("completed", "0 1 2", {"n_tokens": 2})


def test_only_the_workbench_stamps_time_and_it_is_the_runs_own(house):
    tokens = [e for e in events(house.run(count(3, step_s=0.5), context())) if e["event"] == "token"]
    assert [t["ms"] for t in tokens] == [500, 1000, 1500]


def test_a_bad_request_is_refused_before_anything_runs_or_is_stored(house, counter):
    for bad, words in ((count(bad=True), "bad"), (count(method="nothing"), "no method"), (count(lane=3), "options.lane")):
        with pytest.raises(InvalidRequest, match=words):
            house.run(bad, context())
    assert house.store.runs("local") == [] and counter.order == []


def test_closing_keeps_tokens_and_stores_the_run_as_cancelled(house, counter):
    lines = house.run(count(50, hold_at=2), context())
    got = []
    for line in lines:
        got.append(line)
        if json.loads(line)["event"] == "token" and len([g for g in got if '"token"' in g]) == 2:
            break
    lines.close()
    counter.go.set()
    house.call(lambda: None)  # the device has come past the run
    record = house.store.get(house.store.runs("local")[0].id, "local")
    assert record.status == "cancelled" and counter.closed == ["counting"]
    assert [t["id"] for t in record.tokens()][:2] == [0, 1] and len(record.tokens()) < 5
    assert record.events()[-1] == {"event": "done", "finish_reason": "cancelled", "text": record.text, "stats": record.stats}


@pytest.mark.parametrize(("by", "words"), [("user", "told to fail"), ("bug", "Loupe itself broke here (KeyError")])
def test_a_broken_run_keeps_what_it_had_and_the_next_one_works(house, by, words):
    lines = list(house.run(count(5, fail_at=2, by=by), context()))
    last = json.loads(lines[-1])
    record = house.store.get(house.store.runs("local")[0].id, "local")
    assert last["event"] == "failed" and words in last["error"] and record.status == "failed" and words in record.error
    assert len(record.tokens()) == 2
    assert tags(house.run(count(2), context()))[-1] == "done"


def test_a_model_that_does_not_load_fails_the_run_in_words(house):
    assert events(house.run(count(model="missing"), context()))[-1] == {
        "event": "failed", "error": "missing is not here.", "where": "models.target"}  # fmt: skip


def test_lanes_run_in_order_after_one_warm_up_and_a_failed_one_does_not_stop_the_others(house, counter):
    lanes = [count(2, lane="a"), count(2, lane="b", fail_at=1), count(2, lane="c")]
    lines = list(house.run_group(lanes, context()))
    assert counter.order == ["a", "b", "c"] and counter.warmed == 1
    assert [e["lane"] for e in events(lines) if e["event"] == "started"] == ["a", "b", "c"]
    verdict = json.loads(lines[-1])
    assert verdict["sentence"] == "3 lanes: completed, failed, completed."
    records, stored = house.store.group(verdict["group"], "local")
    assert [r.lane for r in records] == ["a", "b", "c"] and stored.sentence == verdict["sentence"]


def test_stop_ends_the_group_and_leaves_no_row_for_lanes_that_never_began(house, counter):
    lines = house.run_group([count(50, lane="a", hold_at=1), count(5, lane="b")], context())
    next(line for line in lines if '"token"' in line)
    assert counter.held.wait(20)
    lines.close()
    counter.go.set()
    house.call(lambda: None)
    assert [(r.lane, r.status) for r in house.store.runs("local")] == [("a", "cancelled")] and counter.order == ["a"]


def test_a_waiting_run_sees_its_place(house, counter):
    first = house.run(count(3, hold_at=1), context())
    next(first)
    assert counter.held.wait(20)
    second, third = house.run(count(1, lane="second"), context()), house.run(count(1, lane="third"), context())
    assert json.loads(next(second))["place"] == 1 and json.loads(next(third))["place"] == 2
    counter.go.set()
    assert tags(third)[-1] == "done" and counter.order == ["counting", "second", "third"]


def test_a_job_outlives_its_reader_and_gives_way_to_a_short_run(house, counter):
    job = house.start_job(count(4, method="count.job", hold_at=2, lane="job"), context())
    reader = house.follow(job)
    next(line for line in reader if '"token"' in line)
    reader.close()
    assert counter.held.wait(20)
    short = house.run(count(2, lane="short"), context())
    assert [j.run_id for j in house.jobs()] == [job]
    counter.go.set()
    assert tags(short)[-1] == "done"
    assert tags(house.follow(job))[-1] == "done"
    house.call(lambda: None)
    assert house.store.get(job, "local").status == "completed" and house.jobs() == []
    assert counter.closed == ["short", "job"]


def test_a_jobs_clock_stands_still_while_it_gives_way(house, counter):
    job = house.start_job(count(3, method="count.job", hold_at=1, step_s=1.0), context())
    assert counter.held.wait(20)
    short = house.run(count(2, step_s=100.0), context())
    counter.go.set()
    list(short)
    assert [e["ms"] for e in events(house.follow(job)) if e["event"] == "token"] == [1000, 2000, 3000]


def test_a_stopped_job_is_cancelled_and_keeps_its_lines(house, counter):
    job = house.start_job(count(40, method="count.job", hold_at=1), context())
    assert counter.held.wait(20)
    house.stop_job(job)
    counter.go.set()
    list(house.follow(job))
    house.call(lambda: None)
    assert house.store.get(job, "local").status == "cancelled"


def test_a_job_left_by_a_dead_process_goes_on_in_its_own_lines(tmp_path, counter, monkeypatch):
    monkeypatch.setattr("backend.lane_lines.render", lambda prompt, tokenizer: Rendered([7], [(7, prompt.text)], []))
    script = f"""
import os, pathlib, threading
import backend.lane_lines as w
from backend.prompt import Rendered
from backend.types import Prompt
w.render = lambda prompt, tokenizer: Rendered([7], [(7, prompt.text)], [])
from tests.house import *
c = Counter(); h = open_house(pathlib.Path({str(tmp_path)!r}), c)
lanes = [count(8, lane='a', step_s=1.0).to_json(), count(8, lane='b', step_s=2.0, hold_at=-1).to_json()]
c2 = c.run
def run(request, context, models):
    if len(c.order) == 6: print(h.jobs()[0].run_id, flush=True); os._exit(1)
    yield from c2(request, context, models)
import dataclasses
from backend import measure
h.methods['measure'] = measure.method({{'count': dataclasses.replace(c.method(), run=run)}})
job = h.start_job(RunRequest('measure', Prompt.user('x'), {{'target': 'm'}}, SamplingParams(), {{'lanes': lanes, 'repeats': 3}}), context())
h.follow(job) and list(h.follow(job))
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    job = told.stdout.strip()
    assert job, told.stderr
    again = open_house(tmp_path, counter)
    try:
        assert again.resume_jobs() == [job]
        list(again.follow(job))
        again.call(lambda: None)
        record = again.store.get(job, "local")
        repeats = [e["data"]["repeat"] for e in record.events() if e["event"] == "finding" and e["kind"] == "repeat"]
        assert record.status == "completed" and repeats == [0, 0, 1, 1, 2, 2, 3, 3]
        assert counter.order[-2:] == ["b", "a"] and len(counter.order) <= 4, "only what came after the last checkpoint runs again"
        assert record.stats["ratios"][0]["ratio"] == pytest.approx(0.5)
    finally:
        again.close()


def test_a_control_reaches_the_run_once_and_becomes_a_line(house, counter):
    lines = house.run(count(4, hold_at=1), context())
    run_id = json.loads(next(lines))["run"]
    assert counter.held.wait(20)
    house.control(run_id, "threshold", 0.4)
    counter.go.set()
    told = [e for e in events(lines) if e["event"] == "control"]
    assert told == [{"event": "control", "name": "threshold", "value": 0.4, "position": 1, "ms": 0.0}]
    with pytest.raises(WorkbenchError, match="has ended"):
        house.control(run_id, "threshold", 0.5)


def test_inspection_and_branching_start_from_the_stored_tokens(house):
    list(house.run(count(5), context()))
    run_id = house.store.runs("local")[0].id
    assert house.inspect(run_id, 3)["before"] == [0, 1, 2]
    branch = house.branch(run_id, 3, 9)
    assert branch.answer_prefix == (0, 1, 2, 9) and branch.sampling.max_new_tokens == 1
    with pytest.raises(WorkbenchError, match="no token 5"):
        house.inspect(run_id, 5)
    with pytest.raises(WorkbenchError, match="no run"):
        house.inspect(run_id, 1, owner="somebody else")


def test_two_processes_share_the_device_and_neither_loses_a_run(house, counter, tmp_path):
    first = house.run(count(3, hold_at=1), context())
    next(first)
    assert counter.held.wait(20)
    script = f"""
import pathlib
import backend.lane_lines as w
from backend.prompt import Rendered
from backend.types import Prompt
w.render = lambda prompt, tokenizer: Rendered([7], [(7, prompt.text)], [])
from tests.house import *
h = open_house(pathlib.Path({str(tmp_path)!r}), Counter(), "the command line")
for line in h.run(count(2, lane="other"), context()): print(line, flush=True)
h.close()
"""
    other = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    waiting = json.loads(other.stdout.readline())
    assert waiting["event"] == "queued" and "in the app" in waiting["note"]
    counter.go.set()
    assert tags(first)[-1] == "done"
    rest, _ = other.communicate(timeout=60)
    assert tags(rest.splitlines())[-1] == "done" and other.returncode == 0
    assert sorted(r.status for r in house.store.runs("local")) == ["completed", "completed"]


def test_a_job_lets_another_process_in_between_its_steps(house, counter, tmp_path):
    job = house.start_job(count(3, method="count.job", hold_at=1), context())
    assert counter.held.wait(20)
    script = f"""
import pathlib
import backend.lane_lines as w
from backend.prompt import Rendered
from backend.types import Prompt
w.render = lambda prompt, tokenizer: Rendered([7], [(7, prompt.text)], [])
from tests.house import *
h = open_house(pathlib.Path({str(tmp_path)!r}), Counter(), "the command line")
for line in h.run(count(1), context()): print(line, flush=True)
h.close()
"""
    other = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert f"job {job}" in json.loads(other.stdout.readline())["note"]
    threading.Timer(0.0, counter.go.set).start()
    other.communicate(timeout=60)
    assert other.returncode == 0
    list(house.follow(job))
    house.call(lambda: None)
    runs = {r.request.method: r for r in house.store.runs("local")}
    assert runs["count"].finished_at <= runs["count.job"].finished_at
