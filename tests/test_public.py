"""A public instance: what its settings are, what it refuses, whose things are whose, and what goes when it is full."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from pathlib import Path

import pytest

from app import main, parse
from backend import artifacts, measure
from backend.errors import InvalidRequest, WorkbenchError
from backend.eviction import database_bytes, make_room
from backend.house import methods as real_methods
from backend.measure import measure_request
from backend.owned import Owned, named
from backend.paths import assets_dir
from backend.prompt import Rendered
from backend.public import UNITS, Limits, check_request, variable
from backend.store import Store, new_id
from backend.types import Artifact, Prompt, RunContext, RunRequest, SamplingParams
from backend.workbench import Workbench
from tests.house import Counter, Names, context, count

ANN, BOB = "a" * 64, "b" * 64
OUTSIDE = ("org/name", "/some/folder", "./x.gguf", "~/x", "mine/a", "smollm2/../../x", "pocket/../../etc", "pocket/a/b", "pocket\\..\\x", "",
           "Smollm2", "smollm2 ", "pocket", "pocket/*/x")  # fmt: skip


@pytest.fixture
def counter():
    return Counter()


@pytest.fixture
def house(tmp_path, counter, monkeypatch):
    """A public instance with small limits."""
    monkeypatch.setattr("backend.lane_lines.render", lambda prompt, tokenizer: Rendered([7], [(7, prompt.text)], []))
    single = counter.method()
    jobs = {"count.job": replace(counter.method("count.job", job=True), size=lambda request: {"items": request.sampling.max_new_tokens}),
            "count.secret": counter.method("count.secret", job=True), "measure": measure.method({"count": single})}  # fmt: skip
    limits = Limits(max_new_tokens=64, max_items=40, max_runs=3, max_open_jobs=2, max_job_s=10, public_models=("m", "pocket/*"),
                    public_jobs=("count.job", "measure"))  # fmt: skip
    workbench = Workbench(tmp_path, {"count": single, **jobs}, Names(), Store(tmp_path), public=True, limits=limits, clock=counter.clock)
    yield workbench
    counter.go.set()
    workbench.close()


# Settings ----------------------------------------------------------------------------------------------------------------------------


def test_every_setting_is_read_from_its_variable_and_without_any_the_defaults_hold():
    assert Limits.read({}) == Limits.read({"LOUPE_MAX_RUNS": " "}) == Limits()
    for spec in fields(Limits):
        listed = isinstance(spec.default, tuple)
        text = "a, b/*" if listed else str(spec.metadata["low"])
        read = Limits.read({variable(spec.name): text, "HOME": "/"})
        assert read == replace(Limits(), **{spec.name: ("a", "b/*") if listed else int(text)})


def test_the_programs_help_names_every_setting_with_its_default(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    told = capsys.readouterr().out
    for spec in fields(Limits):
        assert f"{variable(spec.name)}=" in told and spec.metadata["help"] in told


def test_a_start_with_a_setting_that_cannot_be_ends_in_words(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("LOUPE_MAX_RUNS", "many")
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    with pytest.raises(SystemExit, match="LOUPE_MAX_RUNS must be a whole number"):
        main(["--public", "--data-dir", str(tmp_path)])


def test_mcp_without_its_package_ends_in_words(monkeypatch):
    monkeypatch.setattr("app.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install 'gradio\\[mcp\\]=="):
        main(["--mcp"])


@pytest.mark.parametrize("text", ["many", "-1", "1.5", "1e9", "0", "10000000000000"])
def test_a_setting_that_cannot_be_names_its_variable_its_limits_and_the_value(text: str):
    with pytest.raises(InvalidRequest, match=r"LOUPE_MAX_NEW_TOKENS must be a whole number between 1 and .*got '?" + text) as caught:
        Limits.read({"LOUPE_MAX_NEW_TOKENS": text})
    assert caught.value.where == "LOUPE_MAX_NEW_TOKENS"


def test_the_list_lets_no_path_and_no_other_id_through():
    assert [Limits().allows_model(name) for name in ("smollm2", "pocket/large", "exam/base", "secret/plain-20-1")] == [True] * 4
    assert not [name for name in OUTSIDE if Limits().allows_model(name)]
    assert Limits(public_models=("org/name",)).allows_model("org/name") and not Limits(public_models=("org/name",)).allows_model("smollm2")


# What a request may be ----------------------------------------------------------------------------------------------------------------


def test_a_request_above_a_limit_is_refused_and_a_local_instance_refuses_none(house):
    too_much = {
        "between 0 and 64": count(65), "at most 8,000 characters": replace(count(), prompt=Prompt.user("x" * 8_001)),
        "at most 50,000 characters": count(lane="x" * 50_001), "must be one of": count(model="../secret"),
        "at most 40 prompts or items": count(41, method="count.job"), "is not run on this instance": count(method="count.secret"),
    }  # fmt: skip
    for words, request in too_much.items():
        with pytest.raises(InvalidRequest, match=words):
            house.check(request)
    house.public = False
    assert all(house.check(request) for request in too_much.values())


def test_every_role_is_held_against_the_list(house):
    for name in OUTSIDE:
        models = {"target": "m", "other": name}
        with pytest.raises(InvalidRequest, match="models"):
            house.run(replace(count(), models=models), context(owner=ANN))
    assert house.store.runs(ANN) == []


def test_requests_inside_a_request_are_held_to_the_same_limits(house):
    fine = replace(measure_request([count(9), count(9, lane="b")], 3), sampling=SamplingParams(max_new_tokens=9))
    assert house.check(fine) == []
    for bad in (count(65), count(model="/etc"), count(9, method="count.job"), replace(fine, models={})):
        lanes = [count(9).to_json(), bad.to_json()]
        with pytest.raises(InvalidRequest, match="between 0 and 64|must be one of|a job can't hold another"):
            house.check(fine.with_options(lanes=lanes))


@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_of_a_jobs_size_has_its_limit(unit: str):
    limits, name = Limits(), UNITS[unit][0]
    job = RunRequest("measure", Prompt.user("x"), {})
    check_request(limits, job, True, {unit: getattr(limits, name)})
    for asked, told in ((getattr(limits, name) + 1, f"{getattr(limits, name) + 1:,}"), (float("inf"), "no end")):
        with pytest.raises(InvalidRequest, match=told):
            check_request(limits, job, True, {unit: asked})


def test_a_jobs_data_is_held_to_the_size_of_an_upload():
    job = RunRequest("measure", Prompt.user("x"), {}, options={"data": "é" * 600_000})
    check_request(Limits(), job, True, {})
    with pytest.raises(InvalidRequest, match="at most 1 MB here, this is 1.1 MB"):
        check_request(Limits(max_upload_mb=1), job, True, {})


def test_the_shipped_jobs_say_what_they_will_take(tmp_path: Path):
    """Told by their own options: prompts of a set, problems, items of the exam, vocabulary times contexts."""
    known, pair = real_methods(tmp_path), {"small": "pocket/small", "large": "pocket/large"}
    prompts = '{"prompt": "abc"}\n{"prompt": "abcdef"}'

    def size(method: str, models: dict[str, str], **options: object) -> dict[str, float]:
        return dict(known[method].size(RunRequest(method, Prompt.user("x"), models, options=options)))

    assert size("speculative.evaluate", {"target": "smollm2"}, prompts=prompts) == {"items": 2, "prompt_chars": 6}
    assert size("routing.sweep", pair, n_prompts=60) == {"items": 60, "new_tokens": 160, "prompt_chars": 0}
    assert size("routing.label", pair, n_prompts=60, unjudged=5, data=prompts) == {"items": 65, "new_tokens": 160, "prompt_chars": 6}
    assert size("contamination.audit", {"suspect": "exam/leaked"}, most=3)["items"] % 3 == 0
    vocabulary = size("hidden_text.scan", {"suspect": "pocket/large"}, contexts="bos", user_tokens=False)
    assert vocabulary["seconds"] == 1500 and vocabulary["scan_tokens"] > 1000
    whole = size("hidden_text.scan", {"suspect": "pocket/large"}, budget_s=0.0)
    assert whole == {"scan_tokens": 7 * vocabulary["scan_tokens"], "seconds": float("inf")}


def test_one_job_a_visitor_and_so_many_in_all(house, counter):
    job = count(4, method="count.job", hold_at=1)
    house.start_job(job, context(owner=ANN))
    with pytest.raises(InvalidRequest, match="One job a visitor"):
        house.start_job(job, context(owner=ANN))
    house.start_job(replace(job, options={}), context(owner=BOB))
    with pytest.raises(InvalidRequest, match="2 jobs are running or waiting"):
        house.start_job(job, context(owner="c" * 64))
    counter.go.set()


def test_a_job_ends_with_what_it_has_when_its_time_is_over(house):
    job = house.start_job(count(40, method="count.job", step_s=1.0), context(owner=ANN))
    list(house.follow(job))
    house.call(lambda: None)
    record = house.store.get(job, ANN)
    assert record.status == "cancelled" and len(record.tokens()) == 11


# Whose is what ------------------------------------------------------------------------------------------------------------------------


def made(house: Workbench, owner: str, name: str | None = None) -> tuple[str, str]:
    """A run of the owner and what it made."""
    list(house.run(count(1), context(owner=owner)))
    run_id = house.store.runs(owner)[0].id
    artifact_id = name or artifacts.create(house.data_dir, "router")[0]
    Owned(house.store).note(run_id, Artifact(artifact_id, "router", {}).to_line())
    return run_id, artifact_id


def test_what_another_made_can_be_used_no_more_than_what_never_was(house):
    _, thing = made(house, ANN)
    other = new_id()
    for where in (thing, f" {thing} ", [thing], {"deep": [{"er": thing}]}):
        assert house.guard.owned.check(count(lane=where), ANN) is None
        refusals = []
        for name in (thing, other):
            with pytest.raises(InvalidRequest) as caught:
                house.run(count(lane=_swapped(where, thing, name)), context(owner=BOB))
            refusals.append(str(caught.value).replace(name, "ID"))
        assert refusals[0] == refusals[1] and "There is no artifact ID here" in refusals[0]


def _swapped(value, old, new):
    match value:
        case str():
            return value.replace(old, new)
        case list():
            return [_swapped(inner, old, new) for inner in value]
        case dict():
            return {name: _swapped(inner, old, new) for name, inner in value.items()}


def test_what_ships_is_everybodys_and_words_are_not_taken_for_things(house):
    for words in ("shipped/pocket", "Is this mine/yours?", "mine", "01ABC", "all"):
        assert list(named({"router": words})) == []
        house.check(count(lane=words), BOB)


def test_a_planted_model_is_its_makers_alone_by_role_and_by_option(house):
    made(house, ANN, "mine/planted")
    house.check(count(model="mine/planted"), ANN)
    for owner in (BOB, None):
        with pytest.raises(InvalidRequest, match="must be one of"):
            house.check(count(model="mine/planted"), owner)
    with pytest.raises(InvalidRequest, match="There is no artifact"):
        house.check(count(lane="mine/planted"), BOB)


def test_a_run_that_goes_on_with_an_artifact_takes_it_over_and_one_that_is_gone_leaves_none(house):
    first, thing = made(house, ANN)
    second, _ = made(house, ANN, thing)
    house.store.delete(first, ANN)
    assert house.guard.owned.owner_of(thing) == ANN
    house.store.delete(second, ANN)
    assert house.guard.owned.owner_of(thing) is None
    house.guard.owned.note(second, Artifact(thing, "router", {}).to_line())
    assert house.guard.owned.owner_of(thing) is None


def test_what_a_run_made_goes_with_it(house):
    _, thing = made(house, ANN)
    folder = artifacts.resolve(house.data_dir, thing)
    for _ in range(3):
        list(house.run(count(1), context(owner=ANN)))
    assert not folder.exists() and (assets_dir() / "routers").is_dir()
    run_id, thing = made(house, BOB)
    folder = artifacts.resolve(house.data_dir, thing)
    house.history.forget(run_id, BOB)
    assert not folder.exists() and house.guard.owned.owner_of(thing) is None


def test_what_was_not_to_be_kept_does_not_stay_because_its_process_was_killed(tmp_path: Path):
    killed = Store(tmp_path)
    for keep, status in ((True, "queued"), (False, "queued"), (False, "completed")):
        put(killed, ANN, status=status, words=f"{keep} {status}", kept=keep)
    killed.close()
    again = Store(tmp_path)
    assert [(record.status, record.request.prompt.text) for record in again.runs(ANN)] == [("interrupted", "True queued")]
    assert again.interrupted == [again.runs(ANN)[0].id]
    again.close()


# Room ---------------------------------------------------------------------------------------------------------------------------------


def put(store: Store, owner: str, n_lanes: int = 1, words: str = "x", status: str = "completed", kept: bool = True) -> str:
    """An entry; returns its first run."""
    group, ids = new_id() if n_lanes > 1 else None, [new_id() for _ in range(n_lanes)]
    for run_id in ids:
        store.start(run_id, replace(count(), prompt=Prompt.user(words)), RunContext(owner=owner, group=group, kept=kept), {})
        if status == "completed":
            store.finish(run_id, status, [], 1.0, words, {}, 0, None)
    return ids[0]


def test_the_oldest_entry_that_is_neither_pinned_nor_shared_nor_under_way_goes_first(tmp_path: Path):
    """Against a plain list of what must stay, for 60 entries of two owners by the seed 5; at most 5 of an owner's 7 are held."""
    rng, store = random.Random(5), Store(tmp_path)
    workbench = Workbench(tmp_path, {}, Names(), store)
    stays: dict[str, list[tuple[str, str]]] = {ANN: [], BOB: []}
    for _ in range(60):
        owner = rng.choice((ANN, BOB))
        expected = stays[owner]
        if len(expected) == 7:
            del expected[next(i for i, (_, held) in enumerate(expected) if not held)]
        make_room(store, owner, 7, 2**40, lambda runs: None)
        fate = rng.choice(("", "", "", "pinned", "shared", "queued")) if sum(bool(held) for _, held in expected) < 5 else ""
        run_id = put(store, owner, rng.choice((1, 2, 3)), status="queued" if fate == "queued" else "completed")
        if fate == "pinned":
            workbench.history.pin(run_id, owner, True)
        if fate == "shared":
            workbench.shares.share(run_id, owner)
        expected.append((run_id, fate))
    for owner in (ANN, BOB):
        assert {record.id for record in workbench.history.entries(owner, limit=99)} == {run_id for run_id, _ in stays[owner]}
    workbench.close()


def test_a_visitor_whose_runs_are_all_held_is_told_so_and_loses_none(house):
    for _ in range(3):
        list(house.run(count(1), context(owner=ANN)))
    for record in house.history.entries(ANN):
        house.history.pin(record.id, ANN, True)
    with pytest.raises(InvalidRequest, match="You keep 3 runs here"):
        house.run(count(1), context(owner=ANN))
    assert house.history.count(ANN) == 3 and house.guard.kept(ANN) == (3, 3)
    list(house.run(count(1), context(owner=BOB)))


def test_a_full_database_lets_anybodys_oldest_go_and_never_what_is_held(tmp_path: Path):
    rng, store = random.Random(7), Store(tmp_path)
    workbench = Workbench(tmp_path, {}, Names(), store)
    pinned, shared, under_way = (put(store, ANN, words=_noise(rng), status=status) for status in ("completed", "completed", "queued"))
    workbench.history.pin(pinned, ANN, True)
    link = workbench.shares.share(shared, ANN)
    loose = [put(store, rng.choice((ANN, BOB)), words=_noise(rng)) for _ in range(120)]
    most = database_bytes(store) - 30 * 20_000
    make_room(store, BOB, 10**6, most, lambda runs: None)
    kept = [run_id for run_id in loose if _is_there(store, run_id)]
    assert database_bytes(store) <= most and kept == loose[-len(kept) :] and 30 <= len(kept) < 120
    assert all(_is_there(store, run_id) for run_id in (pinned, shared, under_way)) and workbench.shares.open(link)[0]
    with pytest.raises(InvalidRequest, match="storage is full"):
        make_room(store, BOB, 10**6, 1, lambda runs: None)
    assert all(_is_there(store, run_id) for run_id in (pinned, shared, under_way))
    workbench.close()


def _noise(rng: random.Random) -> str:
    """20,000 characters that compress to no less than half."""
    return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=20_000))


def _is_there(store: Store, run_id: str) -> bool:
    try:
        store.find(run_id)
    except WorkbenchError:
        return False
    return True
