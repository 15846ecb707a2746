"""What the pages do, without a browser: the real workbench and store around a method that spells its prompt."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from backend.errors import WorkbenchError
from backend.jobs import JobState
from backend.measure import measure_request
from backend.model_service import ModelState
from backend.types import RunContext
from backend.workbench import Workbench
from panels import header, measuring, snippets
from panels.evidence import values
from panels.history_logic import FILTERS, Past
from panels.lanes import footing, lanes
from panels.model_note import state_words
from panels.models import facts
from panels.records import text_of
from panels.structured_logic import Logic, lint_words
from panels.visitor import mint, owner_of
from tests.panels.fake import Speller, fake_workbench

TAB = SimpleNamespace(session_hash="tab-1")
ALL = ("",) * len(FILTERS)
OTHER_TAB = SimpleNamespace(session_hash="tab-2")


@pytest.fixture
def workbench(data_dir: Path) -> Iterator[Workbench]:
    made = fake_workbench(data_dir)
    yield made
    made.close()


def form(logic: Logic, prompt: str = "one two three four five", **options: Any) -> list[Any]:
    request = logic.presets[0].request
    said = logic.values(request.with_options(**options))
    said[1] = prompt
    return said


def run_text(logic: Logic, values: Sequence[Any], compare: Sequence[str] = (), token: str = "", tab: Any = TAB) -> str:
    return "".join(f"{line}\n" for line in logic.run(tab, token, compare, values))


def test_a_run_has_its_lane_then_the_ticked_ones_then_a_verdict(workbench: Workbench) -> None:
    text = run_text(Logic(workbench), form(Logic(workbench)), ["prompt", "none"])
    assert [lane.name for lane in lanes(text)] == ["with grammar", "without grammar", "schema in the prompt"]
    assert json.loads(text.splitlines()[-1])["event"] == "verdict"


def test_lanes_pass_over_what_is_no_line(workbench: Workbench) -> None:
    logic = Logic(workbench)
    text = run_text(logic, form(logic), ["none"])
    dirty = "nonsense\n[1]\n" + text.replace("\n", '\n{"event": 3}\n{"half":\n')
    assert [(lane.run, lane.tokens, lane.end) for lane in lanes(dirty)] == [(lane.run, lane.tokens, lane.end) for lane in lanes(text)]
    assert all(dirty[lane.start :].startswith('{"event":"started"') for lane in lanes(dirty))


def test_steps_spell_the_same_text_as_one_run(workbench: Workbench) -> None:
    logic = Logic(workbench)
    text, words = "", "one two three four five"
    for _ in range(5):
        text = list(logic.step(TAB, "", text, None, form(logic, words)))[-1]
    assert len(lanes(text)) == 2, "the first step is a run of its own, the others replace one another"
    assert "".join(token["text"] for token in lanes(text)[-1].tokens) == words
    with pytest.raises(gr.Error, match="complete"):
        next(logic.step(TAB, "", text, None, form(logic, words)))


def test_a_step_goes_on_from_the_selected_token(workbench: Workbench) -> None:
    logic = Logic(workbench)
    text = run_text(logic, form(logic), ["none"])
    first = lanes(text)[0]
    stepped = list(logic.step(TAB, "", text, {"run": first.run, "position": 1}, form(logic)))[-1]
    assert stepped.startswith(text)
    assert [t["source"] for t in lanes(stepped)[-1].tokens] == ["prefix", "prefix", "overridden"]
    with pytest.raises(WorkbenchError, match="complete"):
        footing(text, {"run": "another", "position": 1})


def test_a_branch_is_a_run_with_a_parent_and_one_other_token(workbench: Workbench) -> None:
    logic = Logic(workbench)
    first = lanes(run_text(logic, form(logic)))[0]
    lines = list(logic.branch(TAB, "", {"run": first.run, "position": 2, "token_id": 7}, one=True))
    record = workbench.store.get(json.loads(lines[0])["run"], "local")
    assert record.parent_run_id == first.run and record.request.answer_prefix == (100, 101, 7)
    assert record.request.sampling.max_new_tokens == 0


@pytest.mark.parametrize("sent", [None, {}, {"run": 1, "position": 0, "token_id": 1}, {"run": "x", "position": "0", "token_id": 1}])
def test_a_branch_from_nowhere_is_refused(workbench: Workbench, sent: Any) -> None:
    with pytest.raises(WorkbenchError):
        Logic(workbench).branch(TAB, "", sent, one=False)


def test_stop_keeps_what_came_and_leaves_other_tabs_alone(data_dir: Path) -> None:
    speller = Speller(hold_at=2)
    workbench = fake_workbench(data_dir, speller)
    logic, texts = Logic(workbench), {}

    def read(tab: Any) -> None:
        texts[tab.session_hash] = run_text(logic, form(logic), tab=tab)

    try:
        readers = [threading.Thread(target=read, args=(tab,)) for tab in (TAB, OTHER_TAB)]
        readers[0].start()
        assert speller.held.wait(20)
        readers[1].start()
        logic.stop(TAB, "")
        readers[0].join(20)
        speller.gate.set()
        readers[1].join(20)
    finally:
        workbench.close()
    stopped, whole = lanes(texts["tab-1"])[0], lanes(texts["tab-2"])[0]
    assert stopped.end["finish_reason"] == "cancelled" and len(stopped.tokens) == 2
    assert whole.end["finish_reason"] == "stop" and len(whole.tokens) == 5


def test_what_was_stopped_is_in_the_store_with_the_same_tokens(data_dir: Path) -> None:
    speller = Speller(hold_at=3)
    workbench = fake_workbench(data_dir, speller)
    logic, texts = Logic(workbench), []
    try:
        reader = threading.Thread(target=lambda: texts.append(run_text(logic, form(logic))))
        reader.start()
        assert speller.held.wait(20)
        logic.stop(TAB, "")
        reader.join(20)
        shown = lanes(texts[0])[0]
        record = workbench.store.get(shown.run, "local")
    finally:
        workbench.close()
    assert record.status == "cancelled" and record.tokens() == shown.tokens


def test_two_visitors_see_neither_runs_nor_tokens_of_each_other(data_dir: Path) -> None:
    workbench = fake_workbench(data_dir, public=True)
    ann, ben = mint(""), mint("")
    try:
        logic, past = Logic(workbench), Past(workbench)
        run = lanes(run_text(logic, form(logic), token=ann))[0].run
        assert ann != ben and [row["run"] for row in json.loads(past.rows(ann, ALL))["rows"]] == [run]
        assert json.loads(past.rows(ben, ALL))["rows"] == []
        for look in (lambda: past.open(ben, run), lambda: past.forget(ben, run), lambda: logic.first(ben, {"run": run}, None),
                     lambda: logic.branch(TAB, ben, {"run": run, "position": 0, "token_id": 1}, False)):  # fmt: skip
            with pytest.raises(WorkbenchError, match="no run"):
                look()
        assert past.open(ann, run)
        assert ann not in (data_dir / "loupe.db").read_bytes().decode("latin-1")
    finally:
        workbench.close()


@pytest.mark.parametrize("token", ["", None, 7, "local", "A" * 32, "0" * 31])
def test_a_token_that_was_not_minted_here_is_nobody(token: Any) -> None:
    assert owner_of(False, token) == "local"
    with pytest.raises(WorkbenchError):
        owner_of(True, token)
    assert mint(token) != token


def test_an_opened_run_brings_its_group_and_fills_its_panel(workbench: Workbench) -> None:
    logic = Logic(workbench)
    text = run_text(logic, form(logic, "a b c", whitespace="any"), ["none"])
    second = lanes(text)[1].run
    said, opened = logic.first("", {"run": second}, None)
    assert [lane.run for lane in lanes(opened)] == [lane.run for lane in lanes(text)] and "spelled" in opened
    assert logic.request(said) == workbench.store.get(second, "local").request


def test_a_page_opens_on_the_best_preset_with_the_choices_kept(workbench: Workbench) -> None:
    logic = Logic(workbench)
    kept = dict(zip(("model", "prompt", "template", "system", "temperature", "top_p", "top_k", "max_new_tokens", "seed"),
                    ("mine/x", "hello", "raw", "", 0.7, 0.9, 40, 12, 3), strict=True))  # fmt: skip
    assert logic.request(logic.first("", {}, None)[0]) == logic.presets[0].request
    remembered = logic.request(logic.first("", {}, kept)[0])
    assert remembered.models == {"target": "mine/x"} and remembered.sampling.seed == 3
    assert remembered.options == logic.presets[0].request.options
    assert logic.request(logic.first("", {"preset": "date"}, kept)[0]).options["kind"] == "regex"


def test_the_line_under_the_grammar_says_where_and_what(workbench: Workbench) -> None:
    logic = Logic(workbench)
    assert logic.lint(form(logic)) == "✓ every keyword is enforced"
    assert logic.lint(form(logic, grammar='{"uniqueItems": true}')) == "! $.a · uniqueItems · not enforced"
    assert logic.lint(form(logic, grammar="broken")).startswith("! Line 3, column 9")
    assert lint_words([], "regex") == "✓ no complaint"


def test_measure_says_its_cost_and_compares_with_the_free_lane_last(workbench: Workbench) -> None:
    logic = Logic(workbench)
    request = logic.request(form(logic))
    for compare, lanes_ in ((["none", "prompt"], ["grammar", "prompt", "none"]), ([], ["grammar", "none"])):
        assert [r.options["constrain"] for r in measuring.lanes_to_measure(workbench, request, compare)] == lanes_
    lane = '{"event":"started","run":"a"}\n{"event":"token","position":0,"id":1,"ms":2000}\n{"event":"done","finish_reason":"stop"}\n'
    assert "8 repeats about 36 s, 3 about 16 s" in measuring.cost(lane, 2)
    assert "Run once first" in measuring.cost("", 2)


def test_measure_tells_its_course_to_the_end(workbench: Workbench) -> None:
    logic = Logic(workbench)
    told = list(logic.measure(TAB, "", ["none"], form(logic, "a b c d e f g h"), 3))
    assert "with grammar" in told[-1] and "interval" in told[-1]
    assert any("warming up" in words or "repeat" in words for words in told[:-1])


def test_an_interrupted_run_says_so(workbench: Workbench) -> None:
    record = SimpleNamespace(lines=('{"event":"started","run":"a"}',), status="interrupted", group=None, versions={})
    assert "stopped in mid-run" in lanes(text_of([record]))[0].end["error"]


def test_the_evidence_of_a_strip_is_its_first_lanes_and_never_another_visitors(data_dir: Path) -> None:
    workbench = fake_workbench(data_dir, public=True)
    ann, ben = mint(""), mint("")
    try:
        text = run_text(Logic(workbench), form(Logic(workbench)), ["none"], token=ann)
        chart, _, stats, body, *_ = values(workbench, ann, text, "http://localhost:7860")
        assert chart is not None and json.loads(body)["prompt"]["messages"][0]["content"] == "one two three four five"
        assert {"figure", "with grammar", "without grammar"} == set(json.loads(stats)[0])
        assert set(values(workbench, ben, text, "")[3:]) == {""}
    finally:
        workbench.close()


def test_code_to_copy_is_code_whatever_the_prompt_holds(workbench: Workbench) -> None:
    request = Logic(workbench).request(form(Logic(workbench), "it's \"quoted\"\n$HOME `x`"))
    compile(snippets.client(request, "http://localhost:7860"), "snippet", "exec")
    body = snippets.command_line(request).split("\n", 1)[1].rsplit("REQUEST", 1)[0]
    assert json.loads(body) == request.to_json()
    assert "it'\"'\"'s" in snippets.curl(request, "http://localhost:7860")


@pytest.mark.parametrize(("job", "said"), [
    (JobState("a", "Measure", 3, 10, "", 130.0), "Measure · 30 % · 2 min left"),
    (JobState("a", "Measure", waiting=2), "Measure · waits behind 2"),
    (JobState("a", "Measure"), "Measure"),
])  # fmt: skip
def test_the_header_says_a_job_in_a_few_words(job: JobState, said: str) -> None:
    assert header.words(job) == said


def test_the_header_shows_ones_own_jobs_only(data_dir: Path) -> None:
    workbench = fake_workbench(data_dir, speller := Speller(hold_at=0), public=True)
    ann, ben = mint(""), mint("")
    try:
        logic = Logic(workbench)
        lanes_ = measuring.lanes_to_measure(workbench, logic.request(form(logic)), ["none"])
        run_id = workbench.start_job(measure_request(lanes_, 3), RunContext(owner=owner_of(True, ann)))
        assert speller.held.wait(20)
        assert json.loads(header.job_line(workbench, ann))["run"] == run_id
        assert header.job_line(workbench, ben) == "" and header.job_line(workbench, "") == ""
        header.stop_job(workbench, ben, run_id)
        assert workbench.jobs()
        header.stop_job(workbench, ann, run_id)
        list(workbench.follow(run_id))
        assert workbench.store.find(run_id).status == "cancelled"
    finally:
        workbench.close()


def test_a_passport_is_told_in_plain_names_and_units() -> None:
    said = facts({"n_parameters": 5, "memory_bytes": {"float32": 2**30}, "file_bytes": 2**20, "licence": None})
    assert said == {"parameters": 5, "memory bytes": {"float32": "1.00 GiB"}, "file bytes": "1 MiB", "licence": None}


def test_a_model_on_its_way_says_how_far_and_what_to_look_at() -> None:
    assert state_words("smollm2", ModelState(True)) == ""
    assert "getting, 41 %" in state_words("smollm2", ModelState(False, "getting", 41, 100))
    assert "recorded" in state_words("smollm2", ModelState(False, error="No network."))
