"""A run once more: the same tokens where nothing changed, and the truth where something did."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backend.errors import WorkbenchError
from backend.identity import same_tokens, sentence
from backend.rerun import earlier, recorded_group, rerun
from backend.types import Prompt, RunRecord, RunRequest, SamplingParams
from backend.workbench import Workbench
from tests.house import Counter, context, count, open_house

REQUEST = RunRequest("count", Prompt.user("x"), {"target": "m"})
BF16 = {"target": {"id": "m", "hash": "0", "dtype": "bfloat16", "device": "cpu"}}


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
def house(tmp_path: Path, counter: Counter, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    from backend.prompt import Rendered

    monkeypatch.setattr("backend.lane_lines.render", lambda prompt, tokenizer: Rendered([7], [(7, prompt.text)], []))
    workbench = open_house(tmp_path, counter)
    yield workbench
    counter.go.set()
    workbench.close()


def record(ids: list[int], status: str = "completed", models: dict | None = None, **more: object) -> RunRecord:
    lines = tuple(json.dumps({"event": "token", "id": i, "text": f"t{i}", "position": n}) for n, i in enumerate(ids))
    return RunRecord("r", REQUEST, status, lane="lane", lines=lines, models=models or {}, **more)


def again(house: Workbench, run_id: str) -> tuple[list[dict], dict]:
    events = [json.loads(line) for line in rerun(house, run_id, context())]
    return events[:-1], events[-1]


def first_run(house: Workbench) -> str:
    return house.store.runs("local", limit=50)[-1].id


@pytest.mark.parametrize("seed", range(40))
def test_the_first_difference_is_where_two_lists_part_and_none_where_they_are_equal(seed: int) -> None:
    rng = random.Random(seed)
    a = [rng.randrange(3) for _ in range(rng.randrange(8))]
    b = a[: rng.randrange(8)] + [rng.randrange(3) for _ in range(rng.randrange(3))] if seed % 4 else list(a)
    found = same_tokens(record(a), record(b))
    assert found.identical == (a == b)
    if a != b:
        at = found.first_difference
        assert a[:at] == b[:at] and a[at : at + 1] != b[at : at + 1]
        assert (found.old, found.new) == tuple(f"t{ids[at]}" if at < len(ids) else None for ids in (a, b))


def test_a_run_that_was_cut_short_is_the_same_as_far_as_it_went() -> None:
    found = same_tokens(record([1, 2], "cancelled"), record([1, 2, 3]))
    assert found.cut and not found.identical and "first 2 tokens are the same, then the earlier run was cut short" in found.words
    assert not same_tokens(record([1, 9], "cancelled"), record([1, 2, 3])).cut
    assert not same_tokens(record([1, 2]), record([1, 2, 3])).cut


def test_what_else_changed_is_named_and_rounding_only_where_there_is_some() -> None:
    old = record([1, 2], models=BF16, versions={"torch": "2.12", "gradio": "6.30"})
    new = record([1, 3], models={"target": {**BF16["target"], "hash": "1"}}, versions={"torch": "2.13", "gradio": "6.31"})
    found = same_tokens(old, new)
    assert found.changed == ("target model: hash 0 → 1", "torch 2.12 → 2.13")
    words = sentence([found], 1)
    assert 'differs from token 1: "t2" became "t3"' in words.lower() and "bfloat16" in words and "torch 2.12 → 2.13" in words
    assert "bfloat16" not in sentence([same_tokens(record([1]), record([2]))], 1)
    assert "bfloat16" not in sentence([same_tokens(old, old)], 1)


def test_findings_of_a_job_are_compared_without_their_times() -> None:
    def job(**data: object) -> RunRecord:
        return replace(record([]), lines=(json.dumps({"event": "finding", "kind": "row", "data": data, "ms": 3}),))

    made = "01JABCDEFGHJKMNPQRSTVWXYZ0"
    assert same_tokens(job(n=1, ms_per_token=2.0, router=made), job(n=1, ms_per_token=9.0, router=made[::-1])).identical
    assert same_tokens(job(n=1), job(n=2)).first_difference == 0


def test_a_group_runs_again_lane_by_lane_and_is_identical(house: Workbench, counter: Counter) -> None:
    list(house.run_group([count(4, lane="a"), count(6, lane="b")], context()))
    before = first_run(house)
    events, end = again(house, before)
    assert [e["lane"] for e in events if e["event"] == "started"] == ["a", "b"] == counter.order[:2]
    assert end["identical"] and end["sentence"] == "a: identical, 4 tokens; b: identical, 6 tokens."
    anew = [r for r in house.store.runs("local") if r.parent_run_id == before]
    assert [r.request for r in reversed(anew)] == [r.request for r in earlier(house, before, "local")]


def test_a_lane_that_changed_is_told_and_where(house: Workbench, counter: Counter) -> None:
    list(house.run(count(4), context()))
    counter.said = lambda i: 9 if i == 2 else i
    end = again(house, first_run(house))[1]
    assert not end["identical"] and end["lanes"][0]["first_difference"] == 2
    assert end["sentence"].startswith("Differs from token 2:")


def test_a_lane_whose_model_is_gone_leaves_the_others_to_be_compared(house: Workbench) -> None:
    list(house.run_group([count(3, model="missing", lane="a"), count(3, lane="b")], context()))
    end = again(house, first_run(house))[1]
    assert not end["identical"] and [lane["lane"] for lane in end["lanes"]] == ["b"] and "1 of 2 lanes did not run" in end["sentence"]


def test_a_job_runs_again_as_a_job(house: Workbench) -> None:
    run_id = house.start_job(count(3, method="count.job"), context())
    list(house.follow(run_id))
    events, end = again(house, run_id)
    assert end["identical"] and events[-1]["event"] == "done"
    assert [r.parent_run_id for r in house.store.runs("local", method="count.job")] == [run_id, None]


def test_nobody_elses_run_and_none_that_is_under_way_can_be_repeated(house: Workbench, counter: Counter) -> None:
    lines = house.run(count(9, hold_at=1), context())
    next(lines)
    assert counter.held.wait(20)
    open_run = house.store.runs("local")[0].id
    with pytest.raises(WorkbenchError, match="under way"):
        rerun(house, open_run, context())
    with pytest.raises(WorkbenchError, match="no run"):
        rerun(house, open_run, context(owner="somebody else"))
    counter.go.set()
    list(lines)


def test_the_lanes_of_a_recording_are_records_like_any() -> None:
    from backend import examples

    lines = examples.recorded("structured")
    header = json.loads(lines[0])
    records = recorded_group(next(iter(header["requests"])))
    assert [r.id for r in records] == list(header["requests"]) and all(r.tokens() and r.models for r in records)
    assert [line for r in records for line in r.lines] == [line for line in lines[1:] if json.loads(line)["event"] != "verdict"]
    assert same_tokens(records[0], records[0]).identical


def test_a_threshold_moved_by_hand_is_moved_again(tmp_path: Path) -> None:
    """The pocket pair: a run whose threshold is moved on the way, then the stored run again, token by token the same."""
    pytest.importorskip("torch")
    from backend.house import open_workbench

    workbench = open_workbench(tmp_path, program="a test")
    try:
        request = next(e.request for e in workbench.examples() if e.name == "routing-problem")
        request = replace(request, sampling=SamplingParams(max_new_tokens=60)).with_options(strategy="entropy", threshold=9.0)
        lines = workbench.run(request, context())
        run_id = next(json.loads(line)["run"] for line in lines if json.loads(line)["event"] == "started")
        workbench.control(run_id, "threshold", 0.0)
        rest = [json.loads(line) for line in lines]
        assert [e["value"] for e in rest if e["event"] == "control"] == [0.0]
        events = [json.loads(line) for line in rerun(workbench, run_id, context())]
        old = workbench.store.get(run_id, "local")
        assert events[-1]["identical"], events[-1]["sentence"]
        assert [t["source"] for t in old.tokens()] == [e["source"] for e in events if e["event"] == "token"]
        assert old.tokens()[-1]["source"] == "large", "the moved threshold asks for every token"
    finally:
        workbench.close()
