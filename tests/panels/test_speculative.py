"""The page of speculative decoding without a browser: lanes, charts against counting by hand, evaluation, words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backend.errors import InvalidRequest, WorkbenchError
from backend.workbench import Workbench
from panels import evaluating, snippets, speculation_charts
from panels.evidence import ROUND_CHARTS, values
from panels.lanes import Lane, lanes
from panels.records import row_of
from panels.speculative_logic import Logic, drafts_used
from panels.speed_curve import Curve, between, curve_of, measured_points
from panels.visitor import mint
from tests.panels.fake import fake_workbench
from tests.panels.fake_drafting import COSTS

TAB = SimpleNamespace(session_hash="tab-1")
WORDS = "one two three four five six seven"  # a first word, then two rounds of two right words, a wrong one, a correction


@pytest.fixture
def workbench(data_dir: Path) -> Iterator[Workbench]:
    made = fake_workbench(data_dir)
    yield made
    made.close()


def form(logic: Logic, drafter: str = "lookup", draft: str = "none", prompt: str = WORDS, **options: Any) -> list[Any]:
    said = logic.values(logic.start().with_options(drafter=drafter, **options))
    said[0], said[1], said[9] = "smollm2", prompt, draft
    return said


def run_text(logic: Logic, values: Sequence[Any], compare: Sequence[str] = ("none",), token: str = "") -> str:
    return "".join(f"{line}\n" for line in logic.run(TAB, token, compare, values))


def test_the_wanted_drafter_comes_first_the_ticked_ones_follow_and_plain_is_last(workbench: Workbench) -> None:
    logic = Logic(workbench)
    text = run_text(logic, form(logic, "recycling"), ["none", "lookup", "recycling"])
    assert [lane.name for lane in lanes(text)] == ["Token Recycling", "prompt lookup", "plain"]
    verdict = json.loads(text.splitlines()[-1])
    assert [lane["state"] for lane in verdict["figures"]["lanes"]] == ["identical", "identical", "alone"] and verdict["holds"] is True


def test_a_draft_model_goes_only_to_the_drafters_that_use_it(workbench: Workbench) -> None:
    logic = Logic(workbench)
    found = logic.lanes(logic.request(form(logic, "auto", draft="pocket/small")), ["model", "lookup", "none"])
    assert [(lane.options["drafter"], "draft" in lane.models) for lane in found] == [
        ("auto", False), ("lookup", False), ("model", True), ("none", False)]  # fmt: skip


def test_a_drafter_without_its_model_is_refused_and_the_others_are_named(workbench: Workbench) -> None:
    logic = Logic(workbench)
    with pytest.raises(InvalidRequest, match="prompt lookup, Token Recycling and auto"):
        run_text(logic, form(logic, "model"))
    assert logic.lint(form(logic, "tree")).startswith("! models.draft is missing")
    assert logic.lint(form(logic, "lookup")) == ""
    assert "needs no draft model" in logic.lint(form(logic, "lookup", draft="pocket/small"))


def test_more_than_four_drafters_are_refused_with_the_number(workbench: Workbench) -> None:
    logic = Logic(workbench)
    wanted = logic.request(form(logic, "auto", draft="pocket/small"))
    assert len(logic.lanes(wanted, ["lookup", "recycling", "model", "none"])) == 5
    with pytest.raises(InvalidRequest, match="5 are chosen"):
        logic.lanes(wanted, ["lookup", "recycling", "model", "tree", "none"])


def test_measure_always_ends_with_plain(workbench: Workbench) -> None:
    logic = Logic(workbench)
    request = logic.request(form(logic))
    for compare in ([], ["none"], ["recycling"]):
        assert logic.lanes_to_measure(request, compare)[-1].options["drafter"] == "none"


def test_the_form_keeps_every_option_and_both_models(workbench: Workbench) -> None:
    logic = Logic(workbench)
    request = logic.request(form(logic, "tree", draft="pocket/small", nodes=33, law="residual", mode="reproducible", width=4))
    assert request.models == {"target": "smollm2", "draft": "pocket/small"}
    assert logic.request(logic.values(request)) == request


def test_a_branch_goes_on_with_the_same_drafter(workbench: Workbench) -> None:
    logic = Logic(workbench)
    first = lanes(run_text(logic, form(logic)))[0]
    branched = lanes("".join(f"{line}\n" for line in logic.branch(TAB, "", {"run": first.run, "position": 2, "token_id": 7}, one=False)))[0]
    assert [token["source"] for token in branched.tokens][:3] == ["prefix"] * 3 and branched.name == "prompt lookup"


def test_charts_count_what_the_rounds_say(workbench: Workbench) -> None:
    """By hand: two rounds, each offers three words, accepts two and refuses the third."""
    logic = Logic(workbench)
    found = lanes(run_text(logic, form(logic)))
    by_position = speculation_charts.acceptance_by_position(found).data[0]
    assert list(by_position.y) == [1.0, 1.0, 0.0] and list(by_position.text) == ["2", "2", "2"]
    assert list(speculation_charts.run_lengths(found).data[0].y) == [0, 0, 2]
    confidence = speculation_charts.against_confidence(found).data[0]
    assert list(confidence.x) == pytest.approx([0.3, 0.7, 0.9]) and list(confidence.y) == [0, 1, 1] and list(confidence.text) == ["2", "2", "2"]


def test_a_run_that_drafted_nothing_has_no_charts_of_rounds(workbench: Workbench) -> None:
    logic = Logic(workbench)
    found = lanes(run_text(logic, form(logic, "none"), []))
    assert all(chart.draw(found) is None for chart in ROUND_CHARTS)
    assert speculation_charts.speed_up(found) is None and "needs a finished run" in speculation_charts.curve_note(found)


def test_names_of_lanes_are_inert_in_charts(workbench: Workbench) -> None:
    logic = Logic(workbench)
    lane = lanes(run_text(logic, form(logic)))[0]
    hostile = Lane(lane.run, "<b>x</b>", 0, lane.events)
    assert all("<b>" not in str(chart.draw([hostile])) for chart in ROUND_CHARTS)


@pytest.mark.parametrize("gamma", [1, 2, 5])
def test_the_curve_of_even_rates_is_the_formula_of_the_paper(gamma: int) -> None:
    """Leviathan et al. 2023: E = (1 − α^(γ+1)) / (1 − α), speed-up E / (γ·c + 1) where verifying costs one step."""
    alpha, c = 0.7, 0.2
    curve = Curve((alpha,) * 8, (1.0,) * 8, c)
    assert curve.speed(gamma) == pytest.approx((1 - alpha ** (gamma + 1)) / (1 - alpha) / (gamma * c + 1))


def test_rounds_without_a_draft_cost_a_step_and_give_a_token() -> None:
    """Half the rounds draft one token that is always right: 3 tokens for 1 + 1.2 steps."""
    assert Curve((1.0,), (1.2,), 0.0, coverage=0.5).speed(1) == pytest.approx(3 / 2.2)


def test_what_if_moves_costs_and_leaves_acceptance() -> None:
    curve = Curve((0.8,) * 16, tuple(1 + 0.05 * i for i in range(1, 17)), 0.1)
    moved = curve.what_if(0.4, 3.0)
    assert moved.c == 0.4 and moved.v[7] == pytest.approx(3.0) and moved.rates == curve.rates
    assert list(moved.v) == sorted(moved.v) and curve.what_if(None, None) == curve
    assert curve.what_if(None, curve.v[7]).speeds() == pytest.approx(curve.speeds())


def test_costs_between_two_measured_widths_lie_on_the_line() -> None:
    assert between([1, 5, 9], [1.0, 1.2, 2.0], 7) == pytest.approx(1.6)
    assert between([1, 5, 9], [1.0, 1.2, 2.0], 13) == pytest.approx(2.8)
    assert between([1, 5], [1.0, 1.2], 1) == 1.0


def test_a_lookup_pays_nothing_for_drafting_and_a_model_its_steps(workbench: Workbench) -> None:
    logic = Logic(workbench)
    found = lanes(run_text(logic, form(logic, "lookup", draft="pocket/small"), ["model", "tree", "none"]))
    lookup, model, tree, plain = found
    assert curve_of(lookup).c == 0 and curve_of(model).c == COSTS["c"] and curve_of(tree) is None and curve_of(plain) is None
    assert curve_of(lookup).v[0] == COSTS["v"][1]
    assert [(i, drafted, times) for i, drafted, times in measured_points(found)] == [(0, 3, 1.6), (1, 3, 1.6), (2, 3, 1.6)]


def test_the_speed_up_marks_its_best_and_the_what_if_is_one_more_curve(workbench: Workbench) -> None:
    logic = Logic(workbench)
    found = lanes(run_text(logic, form(logic)))
    plain, moved = speculation_charts.speed_up(found), speculation_charts.speed_up(found, 0.5, 4.0)
    best = next(trace.text[0] for trace in plain.data if trace.text)
    speeds = curve_of(found[0]).speeds()
    assert best == f"best at {1 + speeds.index(max(speeds))}"
    assert [t.name for t in moved.data if t.name and t.name.startswith("what if")] == ["what if · prompt lookup, predicted"]


def test_the_evidence_leaves_charts_out_that_have_nothing(workbench: Workbench) -> None:
    logic = Logic(workbench)
    found = values(workbench, "", run_text(logic, form(logic)), "http://localhost:7860", ROUND_CHARTS)
    assert all(figure is not None for figure in found[:3])
    rows = {row["figure"]: row for row in json.loads(found[4])}
    assert rows["tokens a round"]["prompt lookup"] == 3 and rows["tokens a round"]["plain"] == 1
    assert rows["c"]["prompt lookup"] == COSTS["c"] and "per_position" not in rows


def test_code_to_copy_calls_the_endpoint_with_its_own_parameters(workbench: Workbench) -> None:
    logic = Logic(workbench)
    request = logic.request(form(logic, "model", draft="pocket/small", gamma=4))
    names = list(logic.endpoint().__annotations__)[:-1]
    assert list(snippets.parameters(request)) == names
    assert snippets.parameters(request)["draft"] == "pocket/small" and 'api_name="/speculative"' in snippets.client(request, "http://x")


def test_history_takes_a_run_back_to_its_own_page(workbench: Workbench) -> None:
    logic = Logic(workbench)
    run = lanes(run_text(logic, form(logic)))[0].run
    assert row_of(workbench.store.get(run, "local"), {})["page"] == "speculative"
    said, text = logic.first("", {"run": run}, None)
    assert logic.request(said).options["drafter"] == "lookup" and len(lanes(text)) == 2


def test_an_opened_comparison_brings_back_the_draft_model_of_its_other_lanes(workbench: Workbench) -> None:
    logic = Logic(workbench)
    run = lanes(run_text(logic, form(logic, "lookup", draft="pocket/small"), ["none"]))[0].run
    assert logic.request(logic.first("", {"run": run}, None)[0]).models == {"target": "smollm2"}
    used = '{"event":"started","run":"x","models":{"draft":{"id":"pocket/small"}}}\n'
    assert drafts_used(used) == ["pocket/small"] and drafts_used("nonsense\n") == []


# Evaluation -------------------------------------------------------------------------------------------------------------------

OWN = '{"prompt": "a b c", "kind": "letters"}\n{"prompt": "d e f"}'


def evaluation(logic: Logic, prompts: str = "own", own: str = OWN, drafters: Sequence[str] = ("lookup", "recycling"), most: int = 0) -> Any:
    return evaluating.request_of(logic, form(logic, draft="pocket/small"), prompts, own, drafters, most)


def test_an_evaluation_takes_model_sampling_and_sizes_from_the_form(workbench: Workbench) -> None:
    logic = Logic(workbench)
    request = evaluation(logic)
    assert request.models == {"target": "smollm2"} and request.sampling == logic.request(form(logic)).sampling
    assert evaluation(logic, drafters=["model"]).models == {"target": "smollm2", "draft": "pocket/small"}


def test_an_evaluation_says_its_cost_before_it_starts(workbench: Workbench) -> None:
    logic = Logic(workbench)
    lane = '{"event":"started","run":"a"}\n' + "".join(f'{{"event":"token","position":{i},"id":1,"ms":{1000 * (i + 1)}}}\n' for i in range(4))
    said = evaluating.cost(workbench, evaluation(logic), lane + '{"event":"done","finish_reason":"stop"}\n')
    seconds = 3 * logic.start().sampling.max_new_tokens
    assert said.startswith(f"2 prompts × 3 lanes, at most {seconds // 3} tokens each") and f"{2 * seconds / 60:.0f} min" in said
    assert "Run once first" in evaluating.cost(workbench, evaluation(logic), "")


@pytest.mark.parametrize(("own", "drafters", "words"), [
    ("nonsense", ["lookup"], "line 1"), (OWN + '\n{"text": 1}', ["lookup"], "line 3"), ("", ["lookup"], "at least one prompt"),
    (OWN, [], "at least one drafter"),
])  # fmt: skip
def test_an_evaluation_that_can_not_run_says_where(workbench: Workbench, own: str, drafters: Sequence[str], words: str) -> None:
    with pytest.raises(WorkbenchError, match=words):
        evaluating.cost(workbench, evaluation(Logic(workbench), own=own, drafters=drafters), "")


def test_an_evaluation_tells_its_rows_as_they_come_and_is_found_again(workbench: Workbench) -> None:
    told = list(evaluating.started(workbench, TAB, "", evaluation(Logic(workbench))))
    assert [len(now.rows) for now in told] == sorted(len(now.rows) for now in told) and len(told[-1].rows) == 6
    assert [row["lane"] for row in told[-1].summary] == ["prompt lookup", "Token Recycling", "plain"]
    assert told[-1].summary[0]["speed-up"] == "2.00 ×" and told[-1].summary[0]["identical"] == "2 of 2"
    again = evaluating.last(workbench, "")
    assert (again.rows, again.summary, again.words) == (told[-1].rows, told[-1].summary, told[-1].words)
    assert [row["kind"] for row in evaluating.csv_rows(again.rows)] == ["letters"] * 3 + [""] * 3


def test_a_quick_evaluation_takes_the_first_prompts_only(workbench: Workbench) -> None:
    *_, told = evaluating.started(workbench, TAB, "", evaluation(Logic(workbench), most=1))
    assert {row["prompt"] for row in told.rows} == {0}


def test_nobody_sees_or_stops_anothers_evaluation(data_dir: Path) -> None:
    workbench = fake_workbench(data_dir, public=True)
    ann, ben = mint(""), mint("")
    try:
        logic = Logic(workbench)
        request = evaluating.request_of(logic, form(logic), "own", OWN, ["lookup"])
        *_, told = evaluating.started(workbench, TAB, ann, request)
        assert evaluating.last(workbench, ben) == evaluating.Told() and evaluating.last(workbench, ann).rows == told.rows
        evaluating.stop(workbench, ben, told.run)
    finally:
        workbench.close()
