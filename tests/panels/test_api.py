"""What programs are answered: runs, lists, comparisons, links, jobs, on one's own machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from inspect import signature
from pathlib import Path

import gradio as gr
import pytest
from gradio.utils import get_function_description

from backend.public import Limits
from backend.types import Prompt, RunContext, RunRequest, SamplingParams
from backend.workbench import Workbench
from panels import api, notice, visitor
from panels.structured_logic import Logic
from tests.panels.fake import fake_workbench

WORDS = "one two three"


@pytest.fixture
def workbench(data_dir: Path) -> Iterator[Workbench]:
    made = fake_workbench(data_dir)
    yield made
    made.close()


@pytest.fixture
def calls(workbench: Workbench) -> dict[str, object]:
    return {function.__name__: function for function in api.readings(workbench)}


def ran(workbench: Workbench, words: str = WORDS, lanes: int = 1) -> str:
    request = RunRequest("structured", Prompt.user(words), {"target": "smollm2"}, SamplingParams(), {"grammar": "{}"})
    list(workbench.run_group([request, *workbench.baselines(request)][:lanes], RunContext()))
    return workbench.history.entries("local")[0].id


def test_a_run_is_read_with_its_lanes_its_lines_and_what_was_concluded(workbench, calls):
    run_id = ran(workbench, lanes=2)
    read = calls["get_run"](run_id)
    records, verdict = workbench.store.group(workbench.store.get(run_id, "local").group, "local")
    assert [run["id"] for run in read["runs"]] == [record.id for record in records] and read["verdict"]["sentence"] == verdict.sentence
    for run, record in zip(read["runs"], records, strict=True):
        assert run["events"] == record.events() and RunRequest.from_json(run["request"]) == record.request and run["text"] == record.text
    assert json.loads(json.dumps(read)) == read


def test_a_list_is_what_the_history_page_shows_and_the_filters_are_its_own(workbench, calls):
    first, second = ran(workbench, "apples and pears"), ran(workbench, "stones", lanes=2)
    assert [row["id"] for row in calls["list_runs"]()] == [second, first]
    assert [row["id"] for row in calls["list_runs"](text="pears")] == [first] and calls["list_runs"](method="routing") == []
    assert [row["lanes"] for row in calls["list_runs"](limit=1)] == [2]
    for bad in ({"limit": 0}, {"limit": 101}, {"limit": True}, {"status": "gone"}):
        with pytest.raises(gr.Error, match="limit must be|status must be"):
            calls["list_runs"](**bad)


def test_a_comparison_says_where_two_runs_part(workbench, calls):
    first, second = ran(workbench, "one two three"), ran(workbench, "one two four")
    told = calls["compare"]([first, second])
    assert [side["run"] for side in told["sides"]] == [first, second] and told["sides"][1]["first_difference"] == 2
    for bad in ([], [first, 7], "x", None):
        with pytest.raises(gr.Error):
            calls["compare"](bad)


def test_a_job_says_its_run_first_and_goes_on_without_its_reader(workbench, calls):
    models = {"small": "pocket/small", "large": "pocket/large"}
    start = api.job(workbench, "routing.sweep")
    events = list(start(models, {"n_prompts": 20}))
    assert events[0]["event"] == "job" and events[-1]["event"] == "done" and events[1]["event"] in ("started", "queued", "progress")
    stored = calls["get_run"](events[0]["run"])["runs"][0]
    assert stored["status"] == "completed" and stored["method" if "method" in stored else "request"]
    left = list(start(models, {"n_prompts": 20}, wait=False))
    assert len(left) == 1
    list(workbench.follow(left[0]["run"]))
    workbench.call(lambda: None)
    assert workbench.store.get(left[0]["run"], "local").status == "completed"


def test_a_job_is_stopped_by_its_id(workbench, calls):
    run_id = next(api.job(workbench, "hidden_text.scan")({"suspect": "smollm2"}, {"beam_contexts": 7}, wait=False))["run"]
    assert calls["stop_run"](run_id)["run"] == run_id
    list(workbench.follow(run_id))
    workbench.call(lambda: None)
    assert workbench.store.get(run_id, "local").status == "cancelled"


def test_a_measurement_takes_its_models_from_its_lanes(workbench):
    lanes = [RunRequest("structured", Prompt.user("a b c d e f g h"), {"target": "smollm2"}, options={"grammar": "{}"}).to_json()] * 2
    request = api.job_request(workbench.methods["measure"], {}, {"lanes": lanes, "repeats": 3}, "")
    assert request.models == {"target": "smollm2"} and request.options["lanes"] == lanes


def test_every_parameter_of_every_endpoint_is_described_and_every_option_of_a_job_named(workbench):
    jobs = {name: api.job(workbench, name) for name in api.jobs_offered(workbench)}
    logic = Logic(workbench)
    for function in (*api.readings(workbench), *jobs.values(), api.described(logic.endpoint(), logic.method.Options)):
        words, parameters, _ = get_function_description(function)
        assert words and set(parameters) == set(signature(function).parameters) and all(parameters.values()), function.__name__
    for name, function in jobs.items():
        told = get_function_description(function)[1]["options"]
        assert all(spec.name in told for spec in fields(workbench.methods[name].Options))


def test_a_public_instance_offers_the_jobs_it_runs(workbench):
    assert "hidden_text.plant" in api.jobs_offered(workbench)
    workbench.public = True
    assert "hidden_text.plant" not in api.jobs_offered(workbench) and "routing.sweep" in api.jobs_offered(workbench)


# The visitor and her notice ------------------------------------------------------------------------------------------------------------


def test_a_token_is_minted_once_and_its_mark_says_whether_runs_are_kept():
    token = visitor.mint("")
    assert visitor.mint(token) == token and visitor.keeps(token) and visitor.bare(token) == token
    off = visitor.marked(token, False)
    assert visitor.mint(off) == off and not visitor.keeps(off) and visitor.owner_of(True, off) == visitor.owner_of(True, token)
    assert visitor.marked(off, True) == token
    for forged in ("", None, 7, "x" * 32, token + "x", token.upper() + "G", f"{token}.unkept.unkept", ["a"], f"hf-{token}x"):
        assert visitor.bare(forged) == "" and visitor.bare(visitor.mint(forged)) not in ("", forged)


def test_an_account_has_one_token_on_every_machine_and_leaves_none_when_it_signs_out(monkeypatch):
    monkeypatch.setenv("OAUTH_CLIENT_ID", "id")
    monkeypatch.setenv("OAUTH_CLIENT_SECRET", "one secret")
    browser, other = visitor.mint(""), visitor.mint("")
    account = visitor.mint(browser, "sub-1")
    assert account == visitor.mint(other, "sub-1") != visitor.mint(other, "sub-2") and account.startswith(visitor.ACCOUNT)
    assert visitor.mint(visitor.marked(browser, False), "sub-1") == visitor.marked(account, False)
    signed_out = visitor.mint(account)
    assert not signed_out.startswith(visitor.ACCOUNT) and signed_out not in (browser, other)
    monkeypatch.setenv("OAUTH_CLIENT_SECRET", "another secret")
    assert visitor.mint("", "sub-1") != account


def test_the_notice_says_what_is_kept_how_long_and_who_sees_it():
    limits = Limits(max_runs=7, max_job_s=600)
    words = notice.notice(limits, 3, True, where="This Space keeps its history until it restarts.")
    told = ("prompt, settings, models and answer", "random token in this browser", "Nobody else sees them", "3 of 7", "10 min", "until it restarts")
    for said in told:
        assert said in words
    assert "with one more the oldest goes" in notice.notice(limits, 7, True) and "your account" in notice.notice(limits, 0, True, signed_in=True)
    assert "deleted when they have ended" in notice.notice(limits, 3, False) and "Jobs" in notice.notice(limits, 3, False)
