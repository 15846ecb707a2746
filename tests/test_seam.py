"""The seam: what crosses it survives pickling and a fork, and says the same as a run in this process."""

from __future__ import annotations

import dataclasses
import inspect
import json
import multiprocessing
import pickle
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from backend import measure
from backend import seam as seam_module
from backend.errors import InvalidRequest, WorkbenchError
from backend.house import methods, open_workbench
from backend.lane_lines import LaneJob
from backend.measure import measure_request
from backend.models import ModelPool
from backend.paths import assets_dir
from backend.prompt import Rendered
from backend.seam import Look, Placed, Rooms, Seam, Settings, Turn, gpu_lines
from backend.store import Store
from backend.types import Failed, Finding, Prompt, RunRequest, SamplingParams
from backend.workbench import Workbench
from tests.house import Counter, Names, context, count

pytestmark = pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")  # the fork is what is tested
FORK = multiprocessing.get_context("fork")
PLACES = {"structured": "pocket/large", "contamination": "exam/leaked-base"}


class Lender:
    """What `spaces.GPU` does as far as we can see it: arguments and texts go through pickle, the work is done by a forked process that is
    kept for the next turn, and closing the generator sets a flag that the worker reads after each line."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.closed = self.hooks = None
        self._worker = None

    def __call__(self, call, duration):
        def lent(job: object) -> Iterator[str]:
            self.asked.append(duration(job))
            if self._worker is None:
                self._worker = self._start(call)
            pipe, stop, _ = self._worker
            stop.clear()
            pipe.send_bytes(pickle.dumps(job))
            return self._texts(pipe, stop)

        return lent

    def _start(self, call):
        here, there = FORK.Pipe()
        stop = FORK.Event()
        process = FORK.Process(target=self._work, args=(call, there, stop), daemon=True)
        process.start()
        return here, stop, process

    @staticmethod
    def _work(call, pipe, stop):
        torch.set_num_threads(1)  # a forked OpenMP has no threads of its own
        while True:
            lines = call(pickle.loads(pipe.recv_bytes()))
            for text in lines:
                if stop.is_set():
                    lines.close()
                    break
                pipe.send_bytes(pickle.dumps(("text", text)))
            pipe.send_bytes(pickle.dumps(("end", n_hooks(call.args[0]))))

    def _texts(self, pipe, stop):
        try:
            while True:
                kind, value = pickle.loads(pipe.recv_bytes())
                if kind == "end":
                    self.hooks = value
                    return
                yield value
        except GeneratorExit:
            stop.set()
            while pickle.loads(pipe.recv_bytes())[0] != "end":
                pass
            self.closed = True
            raise

    def end(self) -> None:
        if self._worker is not None:
            self._worker[2].kill()
            self._worker[2].join()


def n_hooks(rooms) -> int:
    """Forward hooks that are left on the placed models."""
    placed = getattr(rooms.models, "placed", {})
    modules = [module for model in placed.values() if hasattr(model, "model") for module in model.model.modules()]
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)


@pytest.fixture
def lender():
    made = Lender()
    yield made
    made.end()


@pytest.fixture
def counter():
    counter = Counter()
    yield counter
    counter.go.set()


@pytest.fixture
def house(tmp_path, counter, lender, monkeypatch):
    """A workbench whose runs go through the seam; its method counts, its models are names."""
    monkeypatch.setattr("backend.lane_lines.render", lambda prompt, tokenizer: Rendered([7], [(7, prompt.text)], []))
    single = counter.method()
    rooms = {"count": single, "count.job": counter.method("count.job", job=True), "measure": measure.method({"count": single})}
    seam = Seam(Rooms(rooms, Names()), Settings(most_s=60), lender)
    workbench = Workbench(tmp_path / "seam", rooms, Names(), Store(tmp_path / "seam"), clock=counter.clock, seam=seam)
    yield workbench
    workbench.close()


def events(lines):
    return [json.loads(line) for line in lines]


def tokens(found):
    return [(e["id"], e["text"], e["logprob"], e["source"]) for e in found if e["event"] == "token"]


def test_what_goes_in_survives_pickling():
    request = json.dumps(count(4, lane="a").to_json())
    lane = LaneJob("01J", "G", "a", request, (Finding("lint", {"path": "$"}),), False, True, "why")
    for job in (Turn((lane, lane), {"threshold": 0.4}), Look(request, (1, 2), 1, 5)):
        assert pickle.loads(pickle.dumps(job)) == job
    assert lane.asked() == count(4, lane="a")


def test_a_group_through_a_forked_process_is_stored_like_one_of_this_process(house, lender):
    lines = list(house.run_group([count(4, lane="a"), count(3, lane="b")], context()))
    found = events(lines)
    assert [e["event"] for e in found if e["event"] != "progress"] == [
        "started", "finding", *["token"] * 4, "done", "started", "finding", *["token"] * 3, "done", "verdict",
    ]  # fmt: skip
    first, second = [e["run"] for e in found if e["event"] == "started"]
    assert [house.store.get(run, "local").status for run in (first, second)] == ["completed", "completed"]
    stored = [*house.store.get(first, "local").lines, *house.store.get(second, "local").lines]
    assert stored == [line for line, e in zip(lines, found, strict=True) if e["event"] not in ("progress", "queued", "verdict")]
    assert found[-1]["sentence"] == "2 lanes: completed, completed." and lender.asked == [11]


def test_controls_are_off_and_say_why(house):
    lines = events(house.run(count(2), context()))
    assert next(e["fixed"] for e in lines if e["event"] == "started") == house.no_control
    with pytest.raises(WorkbenchError, match="nothing can be moved"):
        house.control(lines[0].get("run", "any"), "threshold", 0.5)


def test_an_exception_crosses_as_a_failed_line_and_leaves_the_next_lane_alone(house):
    found = events(house.run_group([count(4, lane="a", fail_at=2), count(4, lane="b", fail_at=1, by="bug"), count(2, lane="c")], context()))
    failed = [e for e in found if e["event"] == "failed"]
    assert failed[0] == {"event": "failed", "error": "This method was told to fail.", "where": "options.fail_at"}
    assert "KeyError" in failed[1]["error"]
    assert [r.status for r in reversed(house.store.runs("local"))] == ["failed", "failed", "completed"]


def test_closing_the_page_closes_the_call_and_keeps_what_came(house, lender):
    lines = house.run_group([count(100_000, lane="a"), count(5, lane="b")], context())
    seen = []
    for line in lines:
        seen.append(json.loads(line))
        if sum(e["event"] == "token" for e in seen) == 3:
            break
    lines.close()
    assert events(house.run(count(1), context()))[-1]["event"] == "done"  # the device is free again, the same worker goes on
    kept = [r for r in house.store.runs("local") if r.request.sampling.max_new_tokens == 100_000][0]
    record = house.store.get(kept.id, "local")
    last = record.events()[-1]
    assert lender.closed and record.status == "cancelled" and len(record.tokens()) >= 3
    assert last["event"] == "done" and last["finish_reason"] == "cancelled" and last["text"] == "".join(t["text"] for t in record.tokens())
    assert not [r for r in house.store.runs("local") if r.lane == "b"]  # Stop ends the group: what never began leaves no row


def gradio_like(title, message):
    return type("Error", (Exception,), {"title": title, "message": message})(message)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (gradio_like("ZeroGPU quota exceeded", "You have exceeded your free ZeroGPU quota (60s requested vs. 3s left)."), "No GPU time is left"),
        (gradio_like("ZeroGPU illegal duration", "The requested GPU duration (90s) is larger than the maximum allowed"), "longer than you may ask"),
        (gradio_like("ZeroGPU worker error", "GPU task aborted"), "cut off"),
        (gradio_like("ZeroGPU worker error", "RuntimeError"), "could not be had"),
        (OSError("the pipe is gone"), "broke"),
    ],
)
def test_what_the_lender_refuses_is_a_failed_line_that_offers_a_recording(tmp_path, counter, error, said, monkeypatch):
    def lend(call, duration):
        def lent(job):
            raise error
            yield

        return lent

    rooms = {"count": counter.method()}
    house = Workbench(tmp_path, rooms, Names(), Store(tmp_path), clock=counter.clock, seam=Seam(Rooms(rooms, Names()), Settings(), lend))
    found = events(house.run_group([count(2, lane="a"), count(2, lane="b")], context()))
    failed = [e for e in found if e["event"] == "failed"]
    assert len(failed) == 1 and said in failed[0]["error"] and failed[0]["where"] == seam_module.WHERE
    (record,) = house.store.runs("local")
    assert record.status == "failed" and record.error == failed[0]["error"]
    house.close()


def test_a_turn_is_taken_in_the_callers_context(tmp_path, counter, monkeypatch):
    """The lender looks for the visitor in a context variable of the web server; the work is done by the device's thread."""
    monkeypatch.setattr("backend.lane_lines.render", lambda prompt, tokenizer: Rendered([7], [(7, prompt.text)], []))
    visitor, seen = ContextVar("visitor", default="nobody"), []

    def lend(call, duration):
        def lent(job):
            seen.append(visitor.get())
            yield from call(job)

        return lent

    rooms = {"count": counter.method()}
    house = Workbench(tmp_path, rooms, Names(), Store(tmp_path), clock=counter.clock, seam=Seam(Rooms(rooms, Names()), Settings(), lend))
    visitor.set("ann")
    lines = list(house.run(count(2), context()))
    run = next(e["run"] for e in events(lines) if e["event"] == "started")
    visitor.set("ben")
    assert house.inspect(run, 1)["before"] == [0] and seen == ["ann", "ben"]
    house.close()


def test_long_work_is_refused_with_the_reason_and_short_work_is_not(house):
    with pytest.raises(InvalidRequest, match="longer than a GPU turn"):
        house.start_job(count(3, method="count.job"), context())
    with pytest.raises(InvalidRequest, match="at most 60"):
        house.seam.check_job(measure_request([count(200), count(200)], 3))
    house.seam.check_job(measure_request([count(20), count(20)], 3))
    house.seam.check_job(count(3, method="count.job", quick=True))
    with pytest.raises(WorkbenchError, match="by the turn"):
        house.call(lambda: 1)


def test_a_short_measurement_is_one_turn(house, lender):
    lanes = [count(8, lane="a"), count(8, lane="b")]
    run = house.start_job(measure_request(lanes, 3), context())
    last = events(house.follow(run))[-1]
    record = house.store.get(run, "local")
    assert last["event"] == "done" and record.status == "completed" and len(lender.asked) == 1, record.error
    assert any(e["event"] == "finding" for e in record.events()) and not house.jobs()


def test_the_length_of_a_turn_grows_with_tokens_and_lanes_and_is_capped(counter):
    seam = Seam(Rooms({"count": counter.method()}, Names()), Settings(most_s=60, tokens_per_s=10))

    def turn(*lengths):
        return Turn(tuple(LaneJob(str(n), None, "", json.dumps(count(n).to_json())) for n in lengths))

    assert [seam.seconds(turn(*n)) for n in ((0,), (50,), (50, 50), (5000,))] == [10, 15, 20, 60]
    assert seam.seconds(Look("{}", (), 0, 1)) == 10


def test_settings_come_from_the_environment_and_say_what_is_wrong():
    assert Settings.read({}) == Settings()
    read = Settings.read({"LOUPE_GPU_SECONDS": "90", "LOUPE_GPU_TOKENS_PER_S": "40", "LOUPE_PRELOAD": "smollm2, pocket/large"})
    assert read == Settings(90, 40, ("smollm2", "pocket/large"))
    for wrong in ({"LOUPE_GPU_SECONDS": "1"}, {"LOUPE_GPU_SECONDS": "long"}, {"LOUPE_GPU_TOKENS_PER_S": "0"}):
        with pytest.raises(InvalidRequest, match=next(iter(wrong))):
            Settings.read(wrong)


def request_for(method: str) -> RunRequest:
    if method == "contamination":
        text = next(p for p in (assets_dir() / "examples").glob("contamination-leaked-item.json")).read_text()
        request = RunRequest.from_json(json.loads(text).get("request", json.loads(text)))
        return dataclasses.replace(request, sampling=dataclasses.replace(request.sampling, max_new_tokens=8))
    grammar = {"kind": "regex", "grammar": "[0-9]{3}"}
    return RunRequest("structured", Prompt.user("12 + 30 ="), {"target": "pocket/large"}, SamplingParams(max_new_tokens=8), grammar)


@pytest.mark.parametrize("method", ["structured", "contamination"])
def test_a_pocket_model_says_the_same_on_both_sides_and_keeps_no_hook(method, data_dir, lender):
    """The model is loaded here, before the fork; the worker is used twice, so that what a first turn left would show in the second."""
    rooms, request = methods(data_dir), request_for(method)
    pool = ModelPool(data_dir, assets_dir(), device="cpu")
    placed = Placed(pool, {model_id: pool.place(model_id) for model_id in request.models.values()})
    baselines = rooms[method].baselines(request)
    lanes = [LaneJob(str(i), "G", "", json.dumps(r.to_json())) for i, r in enumerate([request, *baselines])]
    seam = Seam(Rooms(rooms, placed), Settings(), lender)
    here = [text for text in gpu_lines(Rooms(rooms, placed), Turn(tuple(lanes)))]
    for _ in range(2):
        there = [f"{index} {line.text}" for index, line in seam.lines(Turn(tuple(lanes)))]
        assert [told(t) for t in there] == [told(t) for t in here]
        assert lender.hooks == 0
    assert tokens([json.loads(t.partition(" ")[2]) for t in here])
    if rooms[method].inspect is not None:
        ids = tuple(e["id"] for e in map(answer, here) if e["event"] == "token" and e.get("position") is not None)[:3]
        look = Look(json.dumps(request.to_json()), ids, 1, 3)
        assert seam.look(look) == json.loads(json.dumps(rooms[method].inspect(request, placed.load_all(request.models), list(ids), 1, 3)))
    for model in placed.placed.values():
        model.resources.close()


def test_the_house_where_the_gpu_is_lent_loads_no_model_into_the_web_process(data_dir, lender, monkeypatch):
    monkeypatch.setenv("SPACES_ZERO_GPU", "1")
    monkeypatch.setenv("LOUPE_PRELOAD", "pocket/small")
    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=lender))
    house = open_workbench(data_dir)
    request = dataclasses.replace(request_for("structured"), models={"target": "pocket/small"})
    house.prepare(request)
    found = events(house.run_group([request, *house.baselines(request)], context()))
    assert [e["finish_reason"] for e in found if e["event"] == "done"] and not [e for e in found if e["event"] == "failed"]
    run = next(e["run"] for e in found if e["event"] == "started")
    assert house.inspect(run, 0)["models"]["target"]["top"]
    assert house.models.pool.loaded() == [] and len(lender.asked) == 2
    house.close()


def answer(text: str) -> dict:
    return json.loads(text.partition(" ")[2])


def told(text: str) -> tuple:
    """A line without what may differ between two runs: times, and statistics made of them."""
    event = answer(text)
    kept = {k: v for k, v in event.items() if k not in ("ms", "at", "stats")}
    return text.partition(" ")[0], json.dumps(kept, sort_keys=True)


def test_a_model_that_is_placed_is_not_loaded_again(counter):
    pool = SimpleNamespace(load_all=lambda models: {role: f"loaded {name}" for role, name in models.items()})
    placed = Placed(pool, {"a": "placed a"})
    assert placed.load_all({"x": "a", "y": "b", "z": "a"}) == {"x": "placed a", "y": "loaded b", "z": "placed a"}


def test_the_lender_is_only_asked_for_where_the_gpu_is_lent(monkeypatch):
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    assert seam_module.lender() is None
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU="the decorator"))
    assert seam_module.lender() == "the decorator"


def test_the_call_is_a_plain_generator_function_to_the_lender(counter):
    """`spaces` asks `inspect` what it is given; anything but a generator function would be run to its end first."""
    assert inspect.isgeneratorfunction(partial(gpu_lines, Rooms({"count": counter.method()}, Names())))
    assert Failed("x").where is None
