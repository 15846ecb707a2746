"""The history page without a browser: filters, pages, changes; what the row of actions does with a run; whom it answers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backend import examples
from backend.errors import WorkbenchError
from backend.measure import measure_request
from backend.types import RunRequest
from backend.workbench import Workbench
from panels import contamination_logic, hidden_logic, routing_logic, speculative_logic, structured_logic
from panels.acts_logic import Acts, links, run_in, warning
from panels.carried import without
from panels.history_logic import FILTERS, PAGE_ROWS, Past
from panels.lanes import lanes, row
from panels.records import opened, page_of
from panels.run_logic import RunLogic, default_options
from panels.structured_logic import Logic
from panels.visitor import mint
from tests.panels.fake import fake_workbench

TAB = SimpleNamespace(session_hash="tab-1")
ALL = ("",) * len(FILTERS)


@pytest.fixture
def workbench(data_dir: Path) -> Iterator[Workbench]:
    made = fake_workbench(data_dir)
    yield made
    made.close()


def where(**wanted: Any) -> tuple[Any, ...]:
    return tuple(wanted.get(name, "") for name in FILTERS)


def ran(workbench: Workbench, prompt: str, compare: Sequence[str] = (), token: str = "", **more: Any) -> str:
    """The strip's text of a run; `more` changes the request."""
    logic = Logic(workbench)
    request = replace(logic.presets[0].request, **more) if more else logic.presets[0].request
    values = logic.values(request)
    values[1] = prompt
    return "".join(map(row, logic.run(TAB, token, compare, values)))


def listed(past: Past, values: Sequence[Any] = ALL, start: int = 0, token: str = "") -> dict[str, Any]:
    return json.loads(past.rows(token, values, start))


def prompts(told: dict[str, Any]) -> list[str]:
    return [one["prompt"] for one in told["rows"]]


# The list -------------------------------------------------------------------------------------------------------------------------


def test_pages_of_the_list_give_every_entry_once_newest_first(workbench: Workbench) -> None:
    past = Past(workbench)
    for i in range(PAGE_ROWS + 3):
        ran(workbench, f"word{i} <b>bold</b>", ["none"])
    first = listed(past)
    assert first["count"] == PAGE_ROWS + 3 and first["more"] and not first["filtered"] and first["rows"][0]["lanes"] == 2
    second = listed(past, start=PAGE_ROWS)
    assert second["from"] == PAGE_ROWS and not second["more"]
    assert prompts(first) + prompts(second) == [f"word{i} <b>bold</b>" for i in reversed(range(PAGE_ROWS + 3))]
    assert "<" not in past.rows("", ALL)
    assert prompts(listed(past, where(text="word13", method="structured", status="completed"))) == ["word13 <b>bold</b>"]
    assert listed(past, where(status="failed"))["rows"] == []


def test_each_filter_keeps_what_fits_and_nothing_else(workbench: Workbench) -> None:
    past = Past(workbench)
    for word in ("alpha", "beta", "gamma"):
        ran(workbench, word)
    alpha, beta, _ = (next(r["run"] for r in listed(past)["rows"] if r["prompt"] == word) for word in ("alpha", "beta", "gamma"))
    past.change("", {"run": alpha, "title": "A title", "note": "about zebras", "tags": "Red, odd"})
    past.pin("", beta, True)
    at = workbench.store.get(alpha, "local").created_at
    for wanted, fits in (
        (where(tag="red"), ["alpha"]), (where(text="zebras"), ["alpha"]), (where(text="title"), ["alpha"]), (where(pinned=True), ["beta"]),
        (where(model="smollm2"), ["beta", "gamma", "alpha"]), (where(model="other"), []), (where(until="2001-01-01T00:00:00.000Z"), []),
        (where(since="2001-01-01"), ["beta", "gamma", "alpha"]), (where(since=at), ["beta", "gamma", "alpha"]), (where(method="routing"), []),
    ):  # fmt: skip
        assert prompts(listed(past, wanted)) == fits, wanted
    assert past.choices("") == (["smollm2"], ["odd", "red"])


def test_what_its_owner_says_of_a_run_comes_back_as_it_is_kept(workbench: Workbench) -> None:
    past = Past(workbench)
    run = run_in(ran(workbench, "one two"))
    told = json.loads(past.change("", {"run": run, "title": "  <i>T</i> ", "note": "n\nm", "tags": "B, a  b"}))["changed"]
    assert told == {"run": run, "title": "<i>T</i>", "note": "n\nm", "tags": ["a", "b"]}
    shown = listed(past)["rows"][0]
    assert {name: shown[name] for name in told} == told
    assert json.loads(past.change("", {"run": run, "title": "", "note": "", "tags": ""}))["changed"]["tags"] == []


def test_deleting_an_entry_deletes_its_lanes_and_nothing_else(workbench: Workbench) -> None:
    past = Past(workbench)
    ran(workbench, "stays")
    first, second = (lane.run for lane in lanes(ran(workbench, "goes", ["none"])))
    assert json.loads(past.forget("", first)) == {"gone": first}
    assert prompts(listed(past)) == ["stays"]
    for run in (first, second):
        with pytest.raises(WorkbenchError, match="no run"):
            past.open("", run)


@pytest.mark.parametrize("values", [where(since="yesterday"), where(text=3), where(since="2026-1-1"), where(until="2026-01-01 OR 1=1")])
def test_a_filter_that_no_field_gives_is_refused_in_words(workbench: Workbench, values: Sequence[Any]) -> None:
    with pytest.raises(WorkbenchError, match="must be"):
        Past(workbench).rows("", values)


@pytest.mark.parametrize("sent", [None, 3, "", {}])
def test_a_button_that_sends_no_run_is_refused(workbench: Workbench, sent: Any) -> None:
    past = Past(workbench)
    for call in (
        lambda: past.open("", sent),
        lambda: past.pin("", sent, True),
        lambda: past.forget("", sent),
        lambda: past.change("", {"run": sent}),
    ):
        with pytest.raises(WorkbenchError):
            call()
    with pytest.raises(WorkbenchError, match="whole number"):
        past.rows("", ALL, "0")


def test_every_method_has_a_page_to_go_back_to(workbench: Workbench) -> None:
    request = Logic(workbench).presets[0].request
    pages = {name: page_of(replace(request, method=name)) for name in workbench.methods if name != "measure"}
    assert pages == {name: name.split(".")[0] for name in pages}
    assert page_of(measure_request([request, request], 3)) == "structured"
    assert page_of(replace(request, method="another")) == ""


def test_a_card_on_the_history_page_goes_on_with_another_token(workbench: Workbench) -> None:
    past = Past(workbench)
    run = run_in(ran(workbench, "one two three"))
    lines = [json.loads(line) for line in past.branch(TAB, "", {"run": run, "position": 1, "token_id": 7})]
    started = next(line for line in lines if line["event"] == "started")
    made = workbench.store.get(started["run"], "local")
    assert made.parent_run_id == run and made.request.answer_prefix == (100, 7)
    with pytest.raises(WorkbenchError, match="no token"):
        past.branch(TAB, "", {"run": run})


# Inputs --------------------------------------------------------------------------------------------------------------------------


def with_defaults(logic: RunLogic, request: RunRequest) -> RunRequest:
    return replace(request, options={**default_options(logic.method.Options), **request.options})


def page_logics(workbench: Workbench) -> dict[str, RunLogic]:
    modules = (structured_logic, routing_logic, speculative_logic, contamination_logic, hidden_logic)
    return {module.Logic.method_name: module.Logic(workbench) for module in modules}


def test_a_form_filled_from_a_request_stands_for_that_request(workbench: Workbench) -> None:
    """Of every shipped example of a single run, also as a branch, after earlier messages, with another last speaker and an empty system."""
    pages, seen = page_logics(workbench), set()
    for example in examples.load():
        if example.request.method not in pages:
            continue  # jobs are opened in their sections
        logic, asked = pages[example.request.method], with_defaults(pages[example.request.method], example.request)
        said = asked.prompt.messages
        earlier = ({"role": "user", "content": "Hello <b>"}, {"role": "assistant", "content": "Good day"})
        for wanted in (
            asked, replace(asked, answer_prefix=(5, 0, 7)), replace(asked, prompt=replace(asked.prompt, messages=(*earlier, *said))),
            replace(asked, prompt=replace(asked.prompt, messages=(*said, earlier[1]))), replace(asked, prompt=replace(asked.prompt, system="")),
            replace(asked, prompt=replace(asked.prompt, system="Be brief.", messages=(*earlier, *said)), answer_prefix=(1,)),
        ):  # fmt: skip
            assert logic.request(logic.values(wanted)) == wanted, example.name
        seen.add(example.request.method)
    assert seen == set(pages)


def test_what_a_form_carries_along_can_be_left_out_part_by_part(workbench: Workbench) -> None:
    logic = Logic(workbench)
    asked = with_defaults(logic, logic.presets[0].request)
    earlier = {"role": "assistant", "content": "Good day"}
    full = replace(asked, answer_prefix=(1, 2), prompt=replace(asked.prompt, messages=(earlier, *asked.prompt.messages)))
    *fields, carried = logic.values(full)
    assert logic.request([*fields, without(carried, "answer_prefix")]) == replace(full, answer_prefix=())
    assert logic.request([*fields, without(carried, "messages")]) == replace(full, prompt=asked.prompt)
    assert without(without(carried, "messages"), "answer_prefix") == "" == logic.values(asked)[-1]
    assert "<" not in logic.values(replace(asked, prompt=replace(asked.prompt, messages=({"role": "user", "content": "<b>"}, earlier))))[-1]


@pytest.mark.parametrize("sent", ["{", "[1]", '{"owner": 1}', '{"answer_prefix": 3}', '{"answer_prefix": ["a"]}', '{"messages": [3]}', 7,
                                  '{"role": "root"}'])  # fmt: skip
def test_what_the_browser_sends_back_as_carried_along_is_checked(workbench: Workbench, sent: Any) -> None:
    logic = Logic(workbench)
    *fields, _ = logic.values(logic.presets[0].request)
    with pytest.raises(WorkbenchError):
        logic.request([*fields, sent])


# Actions -------------------------------------------------------------------------------------------------------------------------


def test_sharing_says_first_what_becomes_public_and_only_then_makes_a_link(workbench: Workbench) -> None:
    acts = Acts(workbench)
    text = ran(workbench, "one two <three>", ["none"])
    run = run_in(text)
    offered = json.loads(acts.offer("", text, "http://host"))
    assert offered["view"] == "offer" and workbench.shares.share_id(run, "local") is None
    told = offered["public"]
    assert "one two <three>" in told["prompt"] and {"answer, with grammar", "answer, without grammar", "settings", "versions", "lines"} <= set(told)
    made = json.loads(acts.publish("", text, "http://host"))
    share = workbench.shares.share_id(run, "local")
    url = f"http://host/shared?run={share}"
    assert [link["url"] for link in made["links"]] == [url, f"{url}&embed=1"] and made["revocable"]
    assert json.loads(acts.offer("", text, "http://host"))["links"] == made["links"]
    acts.revoke("", text)
    assert workbench.shares.share_id(run, "local") is None
    assert json.loads(acts.offer("", text, "http://host"))["view"] == "offer"


def test_all_that_a_shared_run_shows_was_told_before(workbench: Workbench) -> None:
    """Every text of the records behind a share id is in what the owner saw, or is one of the lines that she saw counted."""
    acts = Acts(workbench)
    text = ran(workbench, "a b c", ["none"])
    told = json.dumps(json.loads(acts.offer("", text, ""))["public"], ensure_ascii=False)
    records, _ = workbench.shares.open(workbench.shares.share(run_in(text), "local"))
    for record in records:
        for shown in (record.request.prompt.text, record.text, str(record.lane), record.created_at if record is records[0] else "", *record.versions):
            assert shown in told
        assert not (record.owner or record.session or record.title or record.note or record.tags)
    assert f"{sum(len(record.lines) for record in records)}" in told


def test_a_folder_of_this_machine_is_named_before_it_is_told(workbench: Workbench) -> None:
    record = workbench.store.get(run_in(ran(workbench, "a")), "local")
    assert warning([record]) == ""
    private = replace(record, request=replace(record.request, models={"target": "/home/ann/secret"}))
    assert "/home/ann/secret" in warning([private])


def test_on_a_space_the_link_has_both_forms() -> None:
    space = {"SPACE_HOST": "ann-loupe.hf.space", "SPACE_ID": "ann/loupe"}
    found = [link["url"] for link in links("shared?run=s-1", "http://10.0.0.1:7860", space)]
    assert found == ["https://ann-loupe.hf.space/shared?run=s-1", "https://huggingface.co/spaces/ann/loupe?run=s-1"]
    assert [link["url"] for link in links("shared?run=s-1", "http://me:7860", {})] == ["http://me:7860/shared?run=s-1"]


def test_a_recording_that_ships_needs_no_link_of_its_own(workbench: Workbench) -> None:
    told = json.loads(Acts(workbench).offer("", Logic(workbench).recorded, "http://host"))
    assert told["view"] == "shipped" and told["links"][0]["url"] == "http://host/structured"


def test_a_run_is_taken_along_in_each_form(workbench: Workbench) -> None:
    acts = Acts(workbench)
    text = ran(workbench, "=1+1 two", ["none"])
    files = {form: json.loads(acts.take("", text, form))["file"] for form in ("jsonl", "csv", "html")}
    assert all(file["name"].endswith(f".{form}") for form, file in files.items())
    lines = [json.loads(line) for line in files["jsonl"]["text"].splitlines()]
    assert lines[0]["event"] == "recorded" and sum(line["event"] == "started" for line in lines) == 2
    rows = list(csv.DictReader(io.StringIO(files["csv"]["text"])))
    assert len(rows) == 4 and not any(value.startswith("=") for one in rows for value in one.values())
    assert files["html"]["text"].lstrip().lower().startswith("<!doctype html>")
    with pytest.raises(WorkbenchError, match="jsonl, csv, html"):
        acts.take("", text, "exe")


def test_a_recording_and_a_shared_run_can_be_taken_along_by_whoever_reads_them(workbench: Workbench) -> None:
    acts = Acts(workbench)
    own = ran(workbench, "one two")
    shared = opened(workbench, "local", workbench.shares.share(run_in(own), "local"))[1]
    for text in (Logic(workbench).recorded, shared):
        words = [token["text"] for lane in lanes(text) for token in lane.tokens]
        taken = [json.loads(line) for line in json.loads(acts.take("", text, "jsonl"))["file"]["text"].splitlines()]
        assert [line["text"] for line in taken if line["event"] == "token"] == words and taken[-1]["event"] == "verdict"
        assert len(list(csv.DictReader(io.StringIO(json.loads(acts.take("", text, "csv"))["file"]["text"])))) == len(words)


def test_run_again_repeats_the_lanes_and_says_that_they_are_identical(workbench: Workbench) -> None:
    text = ran(workbench, "one two three", ["none"])
    events = [json.loads(line) for line in Acts(workbench).again(TAB, "", text)]
    assert [e["lane"] for e in events if e["event"] == "started"] == [lane.name for lane in lanes(text)]
    assert events[-1]["event"] == "again" and events[-1]["identical"] and "identical, 3 tokens" in events[-1]["sentence"]


@pytest.mark.parametrize("text", ["", None, "nonsense", '{"event": "verdict"}\n'])
def test_without_a_run_there_is_nothing_to_do(workbench: Workbench, text: Any) -> None:
    acts = Acts(workbench)
    for call in (
        lambda: acts.offer("", text, ""),
        lambda: acts.publish("", text, ""),
        lambda: acts.take("", text, "csv"),
        lambda: acts.again(TAB, "", text),
    ):
        with pytest.raises(WorkbenchError, match="no run"):
            call()


def test_nobody_acts_on_another_visitors_run(data_dir: Path) -> None:
    workbench = fake_workbench(data_dir, public=True)
    ann, ben = mint(""), mint("")
    try:
        acts, past = Acts(workbench), Past(workbench)
        text = ran(workbench, "one two", token=ann)
        run = run_in(text)
        for call in (lambda: acts.offer(ben, text, ""), lambda: acts.publish(ben, text, ""), lambda: acts.revoke(ben, text),
                     lambda: acts.take(ben, text, "jsonl"), lambda: acts.take(ben, text, "html"), lambda: acts.take(ben, text, "csv"),
                     lambda: acts.again(TAB, ben, text), lambda: past.pin(ben, run, True), lambda: past.forget(ben, run),
                     lambda: past.change(ben, {"run": run, "title": "t", "note": "", "tags": ""}), lambda: past.open(ben, run)):  # fmt: skip
            with pytest.raises(WorkbenchError, match="no run"):
                call()
        assert listed(past, token=ben)["rows"] == [] and past.choices(ben) == ([], [])
        assert listed(past, token=ann)["rows"][0]["title"] == "" and not listed(past, token=ann)["rows"][0]["pinned"]
    finally:
        workbench.close()
