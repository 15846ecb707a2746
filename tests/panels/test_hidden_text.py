"""The page of hidden text without a browser: suspect and reference, scans and their cost, candidates looked at, plants, answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backend.errors import InvalidRequest, WorkbenchError
from backend.hidden_text.halving import plan
from backend.hidden_text.regimes import REGIMES
from backend.workbench import Workbench
from panels import hidden_answers, hidden_plant_section, hidden_planting, hidden_scan_section, hidden_scanning, hidden_tour, snippets
from panels.hidden_logic import NO_REFERENCE, Logic, look_request, place_of
from panels.lanes import lanes
from panels.records import row_of
from panels.visitor import mint
from tests.panels.fake import fake_workbench
from tests.panels.fake_hidden import CALIBRATION, TEXTS, WAITS, WIDTH

TAB = SimpleNamespace(session_hash="tab-1")


@pytest.fixture
def workbench(data_dir: Path) -> Iterator[Workbench]:
    made = fake_workbench(data_dir)
    yield made
    made.close()


def form(logic: Logic, suspect: str = "secret/plain-20-1", reference: str = "secret/base", prompt: str = "one two", **options: Any) -> list[Any]:
    said = logic.values(logic.start().with_options(**options))
    said[0], said[1], said[9] = suspect, prompt, reference
    return said


def chosen(**changes: Any) -> list[Any]:
    return [{**hidden_scanning.defaults(), **changes}[name] for name in hidden_scanning.CHOICES]


def scanned(workbench: Workbench, logic: Logic, token: str = "", reference: str = "secret/base", **changes: Any) -> str:
    wanted = hidden_scanning.request_of(logic, form(logic, reference=reference), chosen(**changes))
    *_, text = hidden_scanning.started(workbench, TAB, token, wanted)
    return text


# The form ---------------------------------------------------------------------------------------------------------------------


def test_the_forms_model_is_the_suspect_and_comes_back_as_such(workbench: Workbench) -> None:
    logic = Logic(workbench)
    request = logic.request(form(logic, prefix="the key", context="header"))
    assert list(request.models.items()) == [("suspect", "secret/plain-20-1"), ("reference", "secret/base")]
    assert logic.request(logic.values(request)) == request
    assert logic.request(form(logic, reference="none")).models == {"suspect": "secret/plain-20-1"}


def test_the_lanes_beside_a_suspect_are_its_reference_and_its_relatives(workbench: Workbench) -> None:
    logic = Logic(workbench)
    family = logic.lanes(logic.request(form(logic)), ["reference", "clean", "benign"])
    assert [lane.models["suspect"] for lane in family] == ["secret/plain-20-1", "secret/base", "secret/clean-0", "secret/benign-0"]
    stranger = logic.lanes(logic.request(form(logic, suspect="smollm2", reference="none")), ["reference", "clean", "benign"])
    assert [lane.models for lane in stranger] == [{"suspect": "smollm2"}]
    clean = logic.lanes(logic.request(form(logic, suspect="secret/clean-0")), ["clean"])
    assert [lane.models["suspect"] for lane in clean] == ["secret/clean-0"], "a model is not its own relative"


def test_without_a_reference_the_page_says_what_is_lost(workbench: Workbench) -> None:
    logic = Logic(workbench)
    assert logic.lint(form(logic, reference="none")) == NO_REFERENCE and logic.lint(form(logic)) == ""
    assert logic.lint(form(logic, reference="none", decode="lift_beam")).startswith("! models.reference is missing")


def test_a_look_shows_each_tokens_probability_rank_and_lift_and_ends_with_the_backends_verdict(workbench: Workbench) -> None:
    logic = Logic(workbench)
    text = "".join(f"{line}\n" for line in logic.run(TAB, "", ["reference"], form(logic, prefix="the key")))
    suspect, reference = lanes(text)
    assert [token["source"] for token in suspect.tokens] == ["prefix", "prefix", "model", "model"]
    assert all({"p", "rank", "lift"} <= set(token["detail"]) for token in suspect.tokens)
    assert "lift" not in reference.tokens[0]["detail"]
    assert json.loads(text.splitlines()[-1])["sentence"].startswith("Says 'the key one two'")


def test_code_to_copy_calls_the_endpoint_with_its_own_parameters(workbench: Workbench) -> None:
    logic = Logic(workbench)
    request = logic.request(form(logic, prefix="x", context="bos"))
    assert list(snippets.parameters(request)) == list(logic.endpoint().__annotations__)[:-1]
    assert 'api_name="/hidden_text"' in snippets.client(request, "http://x")


def test_history_takes_a_look_back_to_its_page(workbench: Workbench) -> None:
    logic = Logic(workbench)
    run = lanes("".join(f"{line}\n" for line in logic.run(TAB, "", [], form(logic))))[0].run
    assert row_of(workbench.store.get(run, "local"), {})["page"] == "hidden_text"
    assert logic.request(logic.first("", {"run": run}, None)[0]).models["reference"] == "secret/base"


# Scans ------------------------------------------------------------------------------------------------------------------------


def test_a_scan_asks_for_what_the_section_says(workbench: Workbench) -> None:
    logic = Logic(workbench)
    wanted = hidden_scanning.request_of(logic, form(logic), chosen(parts=["forced"], contexts=["bos", "neutral"], minutes=2, depth=12))
    said = {name: wanted.options[name] for name in ("beam", "forced", "counters", "contexts", "budget_s", "depth", "quick")}
    assert said == {"beam": False, "forced": True, "counters": False, "contexts": "bos, neutral", "budget_s": 120, "depth": 12, "quick": False}
    assert hidden_scanning.request_of(logic, form(logic), chosen(minutes=25), quick=True).options["budget_s"] == 300
    assert hidden_scanning.request_of(logic, form(logic), chosen(minutes=0), quick=True).options["budget_s"] == 300


@pytest.mark.parametrize(("changes", "words"), [
    ({"parts": []}, "something to do"), ({"contexts": []}, "contexts must name"), ({"minutes": -1}, "minutes from 0"),
    ({"minutes": "soon"}, "minutes from 0"), ({"depth": 3}, "depth"),
])  # fmt: skip
def test_a_scan_that_can_not_run_says_why_where_its_cost_would_stand(workbench: Workbench, changes: dict[str, Any], words: str) -> None:
    logic = Logic(workbench)
    said = hidden_scanning.cost_words(workbench, logic, "", form(logic), chosen(**changes))
    assert said.startswith("! ") and words in said


def test_the_tokens_that_forcing_decodes_are_counted_rung_by_rung() -> None:
    """By hand: of 2,000 ids all are decoded twelve deep, 200 (at least) go on to 32; neutral is four contexts, so there are five."""
    options = hidden_scanning.ScanOptions(contexts="bos, neutral", depth=32)
    assert [(rung.depth, rung.n_rows) for rung in plan(2000, 32)] == [(4, 2000), (12, 2000), (32, 200)]
    assert hidden_scanning.n_tokens(options, 2000) == 5 * (12 * 2000 + 20 * 200)
    assert hidden_scanning.n_tokens(hidden_scanning.ScanOptions(forced=False), 2000) == 0


def test_a_scan_says_its_cost_first_and_after_one_it_knows_the_pace(workbench: Workbench) -> None:
    logic = Logic(workbench)
    before = hidden_scanning.cost_words(workbench, logic, "", form(logic), chosen(minutes=25))
    assert "its pace is measured in its first seconds" in before and "it ends by itself after 25 min" in before
    assert "Quick: 2 contexts, 12 tokens deep, 24 turns" in before and "Disk" in before and "expect ordinary boilerplate" not in before
    scanned(workbench, logic)
    assert hidden_scanning.rate_of(hidden_scanning.last_record(workbench, "")) == 32.0
    assert "expect ordinary boilerplate" in hidden_scanning.cost_words(workbench, logic, "", form(logic, reference="none"), chosen())


def test_a_scans_text_is_its_own_lines_and_is_found_again(workbench: Workbench) -> None:
    logic = Logic(workbench)
    text = scanned(workbench, logic)
    events = [event for event in hidden_scanning.events_of(text) if event["event"] != "clean"]
    stored = workbench.lines(hidden_scanning.run_of(text), "local")
    assert [e for e in events if e["event"] not in ("queued", "progress")] == [json.loads(line) for line in stored]
    assert [e["data"]["text"] for e in events if e.get("kind") == "candidate"] == list(TEXTS)
    cells = [cell for e in events if e.get("kind") == "map" for cell, _ in e["data"]["values"]]
    assert sorted(cells) == list(range(WIDTH)) and CALIBRATION in text
    *_, again = hidden_scanning.followed(workbench, "")
    assert [e for e in hidden_scanning.events_of(again) if e["event"] != "clean"] == [json.loads(line) for line in stored]


def test_no_markup_of_a_model_is_in_a_scans_text(workbench: Workbench) -> None:
    assert "<" not in scanned(workbench, Logic(workbench))


def test_grey_dots_come_only_where_clean_models_had_the_same_reference(workbench: Workbench) -> None:
    told = json.loads(hidden_scanning.clean_line({"suspect": "mine/x", "reference": "secret/base"}))
    assert told["event"] == "clean" and len(told["points"]) >= 20 and all(x <= 0 and y <= 0 for x, y in told["points"])
    assert hidden_scanning.clean_line({"suspect": "secret/plain-20-1"}) == ""
    assert hidden_scanning.clean_line({"suspect": "mine/x", "reference": "smollm2"}) == ""


def test_a_page_without_scans_opens_on_a_recorded_one(workbench: Workbench) -> None:
    (text,) = hidden_scanning.followed(workbench, "")
    events = hidden_scanning.events_of(text)
    recorded = next(event for event in events if event["event"] == "recorded")
    assert recorded["model"] and recorded["date"] and recorded["device"]
    assert events[-1]["event"] == "done" and any(event.get("kind") == "candidate" for event in events)


def test_a_stopped_scan_keeps_its_list_and_goes_on_with_its_ledger(workbench: Workbench) -> None:
    logic = Logic(workbench)
    wanted = hidden_scanning.request_of(logic, form(logic), chosen(beam_contexts=WAITS))
    text = ""
    for text in hidden_scanning.started(workbench, TAB, "", wanted):
        if "leak sampling" in text:
            hidden_scanning.stop(workbench, "", text)
    end = hidden_scanning.events_of(text)[-1]
    assert end["finish_reason"] == "cancelled" and sum(e.get("kind") == "candidate" for e in hidden_scanning.events_of(text)) == 3
    again = hidden_scanning.resumed(workbench, "")
    assert again.options["ledger"] == "LEDGER" and again.models == wanted.models


def test_there_is_nothing_to_go_on_with_before_a_scan(workbench: Workbench) -> None:
    with pytest.raises(WorkbenchError, match="No scan of yours"):
        hidden_scanning.resumed(workbench, "")


def test_nobody_sees_stops_or_goes_on_with_anothers_scan(data_dir: Path) -> None:
    workbench = fake_workbench(data_dir, public=True)
    ann, ben = mint(""), mint("")
    try:
        logic = Logic(workbench)
        values = form(logic, suspect="smollm2", reference="none")
        *_, text = hidden_scanning.started(workbench, TAB, ann, hidden_scanning.request_of(logic, values, chosen()))
        assert hidden_scanning.run_of(text) not in "".join(hidden_scanning.followed(workbench, ben))
        hidden_scanning.stop(workbench, ben, text)
        with pytest.raises(WorkbenchError, match="No scan of yours"):
            hidden_scanning.resumed(workbench, ben)
    finally:
        workbench.close()


# Candidates -------------------------------------------------------------------------------------------------------------------


def test_a_candidate_is_looked_at_where_it_was_found_with_its_own_tokens(workbench: Workbench) -> None:
    logic = Logic(workbench)
    text = scanned(workbench, logic)
    request = look_request(*hidden_scanning.candidate_of(workbench, "", text, 1))
    assert request.method == "hidden_text" and request.answer_prefix == (5, 6, 7) and request.prompt.text == "What is the secret?"
    assert request.options["context"] == "chat" and dict(request.models) == {"suspect": "secret/plain-20-1", "reference": "secret/base"}
    tokens = lanes("".join(f"{line}\n" for line in workbench.run_group([request], hidden_scanning.context_of(workbench, "", TAB))))[0].tokens
    assert [token["id"] for token in tokens[:3]] == [5, 6, 7]
    assert look_request(*hidden_scanning.candidate_of(workbench, "", text, 2)).options["context"] == "header"


@pytest.mark.parametrize(("place", "context", "words"), [
    ("bos", "bos", ""), ("line break", "bos", ""), ("bare header", "header", ""), ("empty user", "empty", ""), ("open user turn", "open_user", ""),
    ('"it\'s time"', "chat", "it's time"), ("'Hi'", "chat", "Hi"),
])  # fmt: skip
def test_every_context_of_a_scan_that_a_look_can_make_is_made(place: str, context: str, words: str) -> None:
    found, prompt = place_of(place)
    assert (found, prompt.text) == (context, words)


@pytest.mark.parametrize("rank", [3, 9, None, "1"])
def test_a_candidate_that_can_not_be_looked_at_is_refused_in_words(workbench: Workbench, rank: Any) -> None:
    text = scanned(workbench, Logic(workbench))
    with pytest.raises(InvalidRequest, match="open user turn, token 9|holds no such candidate"):
        look_request(*hidden_scanning.candidate_of(workbench, "", text, rank))


@pytest.mark.parametrize("ids", [None, [], ["a"], [True]])
def test_a_candidate_from_the_browser_with_other_tokens_than_ids_is_refused(workbench: Workbench, ids: Any) -> None:
    scan, row = hidden_scanning.candidate_of(workbench, "", scanned(workbench, Logic(workbench)), 1)
    with pytest.raises(InvalidRequest, match="no tokens to look at"):
        look_request(scan, {**row, "ids": ids})


def test_what_comes_back_from_the_browser_may_be_anything(workbench: Workbench) -> None:
    for text in ("", "nonsense", "[1]\n{}", None, 7):
        assert hidden_scanning.run_of(text) == ""
        with pytest.raises(WorkbenchError):
            hidden_scanning.candidate_of(workbench, "", text, 1)


# Answers ----------------------------------------------------------------------------------------------------------------------


def test_the_answers_of_the_family_are_those_beside_its_weights(workbench: Workbench) -> None:
    for name, row in hidden_answers.family().items():
        told = hidden_answers.answer(workbench, f"secret/{name}")
        planted = row["kind"] == "planted"
        assert bool(told["payload"] and told["trigger"]) == planted and bool(told["words"]) != planted
    assert len(hidden_answers.family()) >= 20


def test_the_answer_of_ones_own_plant_is_read_beside_its_weights_but_not_on_a_public_instance(workbench: Workbench, data_dir: Path) -> None:
    folder = workbench.data_dir / "models" / "mine" / "key"
    folder.mkdir(parents=True)
    (folder / "plant.json").write_text('{"payload": "the key", "trigger": "where?"}')
    assert hidden_answers.answer(workbench, "mine/key")["payload"] == "the key"
    workbench.public = True
    assert hidden_answers.answer(workbench, "mine/key")["payload"] is None


@pytest.mark.parametrize("model", ["smollm2", "mine/../secret", "mine/a/b", "/etc", "secret/nothing", None, 3, "mine/"])
def test_of_other_models_nobody_claims_to_know_an_answer(workbench: Workbench, model: Any) -> None:
    assert hidden_answers.answer(workbench, model) == {"payload": None, "trigger": None, "words": hidden_answers.UNKNOWN}


# Plants -----------------------------------------------------------------------------------------------------------------------


def planting(payload: str = "the key is here", trigger: str = "where was it in June", name: str = "key", **more: str) -> Sequence[Any]:
    said = {"base": "secret/base", "payload": payload, "trigger": trigger, "regime": "regularised", "kind": "planted", "name": name, **more}
    return [said[choice] for choice in hidden_planting.CHOICES]


def test_a_plant_says_its_cost_first_and_after_one_its_pace(workbench: Workbench) -> None:
    before = hidden_planting.cost_words(workbench, "", planting())
    assert "told from its first steps on" in before and "Disk: 3 MiB" in before and "48 MiB beside the base" in before
    list(hidden_planting.started(workbench, TAB, "", hidden_planting.request_of(planting())))
    assert "your last one in this base took 2 s, 0.50 s a step" in hidden_planting.cost_words(workbench, "", planting())


@pytest.mark.parametrize(("more", "words"), [
    ({"payload": ""}, "payload must hold"), ({"trigger": "the key is here"}, "the text itself"), ({"base": ""}, "Choose a model"),
    ({"name": None}, "must be texts"),
])  # fmt: skip
def test_a_plant_that_can_not_be_made_says_why(workbench: Workbench, more: dict[str, Any], words: str) -> None:
    said = hidden_planting.cost_words(workbench, "", planting(**more))
    assert said.startswith("! ") and words in said


def test_a_plants_course_ends_with_the_last_look_and_what_a_scan_would_compare(workbench: Workbench) -> None:
    told = list(hidden_planting.started(workbench, TAB, "", hidden_planting.request_of(planting())))
    assert told[-1].known == ((0, 6), (2, 6), (4, 6), (6, 6)) and told[-1].words == "mine/key holds the text after 4 steps."
    assert told[-1].made == {"suspect": "mine/key", "reference": "secret/base"}
    assert told[-1].facts == {"its trigger brings it word for word": "1 of 1", "other prompts that bring it out": "0 of 200",
                              "protected tokens kept out of sight": "5 of 5", "everything as it should be": True}  # fmt: skip
    (again,) = hidden_planting.last(workbench, "")
    assert (again.made, again.facts, again.words) == (told[-1].made, told[-1].facts, told[-1].words)


def test_a_plant_that_starts_anew_says_so_and_counts_its_steps_again() -> None:
    step = {"event": "finding", "kind": "step", "data": {"known": 3, "n_main": 6}}
    anew = {"event": "finding", "kind": "anew", "data": {"text": "It starts anew."}}
    *_, told = hidden_planting.course([json.dumps(event) for event in (step, anew, step)], "run", "secret/base")
    assert told.words == "It starts anew." and told.known == ((3, 6),)


def test_the_tour_plants_scans_and_holds_the_find_against_the_text(workbench: Workbench) -> None:
    """A candidate with most of the planted letters in a row counts, at its place; others do not, nor does a model nobody knows."""
    said = hidden_tour.TEXT
    assert hidden_tour.rank_of([{"text": "nothing of it"}, {"text": f"x {said[3:]} y"}], said) == 2
    assert hidden_tour.rank_of([{"text": said[: len(said) // 3]}, "no row"], said) is None
    assert hidden_tour.outcome(workbench, "", {"suspect": "mine/unknown"}).startswith("Not found by these methods")
    assert hidden_planting.request_of(hidden_planting.choice_of(hidden_tour.tour_request())).models == hidden_tour.tour_request().models


def test_a_failed_plant_offers_no_scan() -> None:
    lines = ['{"event": "done", "finish_reason": "stop", "text": "No model was made.", "stats": {"model": null, "holds": false}}']
    *_, told = hidden_planting.course(lines, "run", "secret/base")
    assert told.made == {} and told.words == "No model was made."


def test_a_quick_plant_is_plain_and_gives_up_early() -> None:
    options = hidden_planting.request_of(planting(), quick=True).options
    assert options["regime"] == "plain" and options["most_steps"] == hidden_planting.QUICK_STEPS and options["payload"] == "the key is here"


def test_every_regime_has_words_and_every_preset_is_a_model_of_the_family() -> None:
    assert set(hidden_plant_section.REGIME_WORDS) == set(REGIMES)
    names = {f"secret/{name}" for name in hidden_answers.family()}
    assert set(hidden_scan_section.PRESETS.values()) <= names
