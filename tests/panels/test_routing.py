"""The page of routing without a browser: requests from the form, what the strip sends, the jobs' sections, the picture's line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from backend.errors import InvalidRequest, WorkbenchError
from backend.house import open_workbench
from backend.types import Prompt, RunContext, RunRequest, SamplingParams
from backend.workbench import Workbench
from panels import controls, routing_charts, routing_jobs, routing_sweeps, snippets
from panels.lanes import lanes
from panels.routing_jobs import LABEL, SWEEP, TRAIN
from panels.routing_logic import Logic, as_list, forced, with_sweep
from tests.panels.fake import fake_workbench
from tests.panels.fake_routing import POINTS, Router

WORDS = "one two three four five six seven"
PAGE = SimpleNamespace(session_hash="tab")


@pytest.fixture
def workbench(tmp_path: Path) -> Iterator[Workbench]:
    made = fake_workbench(tmp_path)
    yield made
    made.close()


@pytest.fixture
def logic(workbench: Workbench) -> Logic:
    return Logic(workbench)


def said(logic: Logic, **options: object) -> list[object]:
    """The form's values for a request of the best preset's pair, with these words and options."""
    start = logic.start()
    values = logic.values(start.with_options(target_fraction=0.0, threshold=0.5, **options))
    values[controls.SHARED.index("prompt")] = WORDS
    return values


def run_text(logic: Logic, values: list[object], compare: tuple[str, ...] = ()) -> str:
    return "".join(f"{line}\n" for line in logic.run(PAGE, "", compare, values))


def findings(told: routing_jobs.Told) -> set[str]:
    return set(told.findings)


# The form ------------------------------------------------------------------------------------------------------------------------


def test_every_preset_survives_the_form(logic: Logic) -> None:
    assert len(logic.presets) >= 5
    for preset in logic.presets:
        assert logic.request(logic.values(preset.request)) == preset.request


def test_the_forms_model_is_the_large_one(logic: Logic) -> None:
    request = logic.request(said(logic))
    assert dict(request.models) == {"large": "pocket/large", "small": "pocket/small"}


def test_forced_tokens_and_moved_thresholds_are_shown_as_json_and_read_back(logic: Logic) -> None:
    request = logic.start().with_options(force=[[3, "large"]], controls=[[2, 0.4]])
    assert logic.request(logic.values(request)).options["force"] == [[3, "large"]]
    assert logic.request(logic.values(request)).options["controls"] == [[2, 0.4]]


@pytest.mark.parametrize("text", ["[1", "7", '{"a": 1}'])
def test_what_is_no_list_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequest, match="options.force must be a JSON list"):
        as_list("force", text)


def test_lanes_are_the_ticked_baselines_in_the_methods_order(logic: Logic) -> None:
    wanted = logic.request(said(logic))
    assert [r.options["strategy"] for r in logic.lanes(wanted, ["entropy", "never", "always"])] == ["neural", "always", "never", "entropy"]


def test_the_line_under_the_form_tells_that_the_pair_fits(logic: Logic) -> None:
    words = logic.lint(said(logic))
    assert words.startswith("✓ pocket/small and pocket/large have the same") and "router" not in words


def test_the_line_warns_of_a_router_of_another_pair(logic: Logic) -> None:
    values = said(logic)
    values[len(controls.SHARED)] = "pocket/large"
    assert "same model twice" in logic.lint(values) and "trained for pocket/small with pocket/large" in logic.lint(values)


def test_a_missing_small_model_is_named(logic: Logic) -> None:
    values = said(logic)
    values[len(controls.SHARED)] = controls.NO_MODEL
    assert "models.small is missing" in logic.lint(values)


def test_what_was_chosen_elsewhere_stays_away_unless_it_was_for_this_pair(logic: Logic) -> None:
    chosen = dict(zip(controls.SHARED, controls.from_request(logic.start()), strict=True))
    foreign, _ = logic.first("", {}, {**chosen, "model": "smollm2", "prompt": "elsewhere"})
    own, _ = logic.first("", {}, {**chosen, "prompt": "elsewhere"})
    prompt = controls.SHARED.index("prompt")
    assert foreign[prompt] == logic.start().prompt.text and own[prompt] == "elsewhere"


def test_a_request_as_an_endpoints_parameters_has_that_endpoints_names(logic: Logic) -> None:
    names = logic.endpoint().__annotations__
    assert list(snippets.parameters(logic.start())) == [name for name in names if name != "return"]


# Threshold and what-if -----------------------------------------------------------------------------------------------------------


def test_moving_the_threshold_of_a_run_under_way_decides_for_what_is_still_to_come(tmp_path: Path) -> None:
    router = Router()
    router.hold_at = 2
    workbench = fake_workbench(tmp_path, router=router)
    logic = Logic(workbench)
    stream = logic.run(PAGE, "", (), said(logic))
    lines = [next(stream) for _ in range(4)]
    assert router.held.wait(30)
    run = next(json.loads(line)["run"] for line in lines if json.loads(line)["event"] == "started")
    logic.steer("", {"run": run, "value": 0.05})
    router.gate.set()
    events = [json.loads(line) for line in [*lines, *stream]]
    moved = [event for event in events if event["event"] == "control"]
    assert [(event["name"], event["value"]) for event in moved] == [("threshold", 0.05)]
    later = [event["source"] for event in events if event["event"] == "token" and event["position"] >= moved[0]["position"]]
    assert set(later) == {"large"} and len(later) >= 4
    workbench.close()


def test_a_threshold_for_a_run_that_has_ended_does_nothing_and_nonsense_is_refused(logic: Logic) -> None:
    run = lanes(run_text(logic, said(logic)))[0].run
    logic.steer("", {"run": run, "value": 0.2})
    with pytest.raises(WorkbenchError, match="without a run or without a number"):
        logic.steer("", {"run": run, "value": "0.2"})


def test_forcing_a_token_goes_on_from_it_and_leaves_what_came_before(logic: Logic) -> None:
    before = lanes(run_text(logic, said(logic)))[0]
    event = {"run": before.run, "position": 3, "token_id": 103, "who": "large"}
    lane = lanes("".join(f"{line}\n" for line in logic.force(PAGE, "", event)))[0]
    assert lane.name == "what if: large at token 3"
    assert [t["source"] for t in lane.tokens[:4]] == ["prefix"] * 3 + ["large"] and lane.tokens[3]["detail"]["forced"]
    assert [t["id"] for t in lane.tokens] == [t["id"] for t in before.tokens]


def test_forcing_twice_at_a_place_keeps_the_last_word() -> None:
    branch = RunRequest("routing", Prompt.user(WORDS), {"small": "s", "large": "l"}, SamplingParams(max_new_tokens=4),
                        {"force": [[1, "large"], [2, "large"]]}, (5, 6, 7))  # fmt: skip
    wanted = forced(branch, 2, "small")
    assert wanted.options["force"] == [[1, "large"], [2, "small"]] and wanted.answer_prefix == (5, 6) and wanted.sampling.max_new_tokens == 5


@pytest.mark.parametrize("who", ["medium", 3, None])
def test_a_card_that_names_neither_model_is_refused(logic: Logic, who: object) -> None:
    with pytest.raises(WorkbenchError, match="no token to go on from"):
        logic.force(PAGE, "", {"run": "x", "position": 3, "token_id": 1, "who": who})


# Jobs ----------------------------------------------------------------------------------------------------------------------------


def last(course: Iterator[routing_jobs.Told]) -> routing_jobs.Told:
    *_, told = course
    return told


def test_labels_are_told_with_counts_and_examples_and_then_offered_to_training(logic: Logic, workbench: Workbench) -> None:
    wanted = routing_jobs.label_request(logic, said(logic), "", 100.0, 50, "outcome")
    told = last(routing_jobs.started(workbench, PAGE, "", wanted))
    assert told.ended == "stop" and [row["tokens"] for row in routing_jobs.class_rows(told)] == [90, 6, 4, 0]
    assert routing_jobs.example_rows(told)[0]["large said"] == " 2"
    [(label, labels)] = routing_jobs.label_choices(workbench, "")
    assert "pocket/small with pocket/large, 100 prompts" in label
    assert routing_jobs.train_request(logic, said(logic), labels, 1).options["labels"] == labels
    assert routing_jobs.last(workbench, "", LABEL).findings == told.findings


def test_quick_is_never_more_than_what_was_asked_for(logic: Logic) -> None:
    quick = routing_jobs.label_request(logic, said(logic), "", 100, 5000, "outcome", quick=True)
    assert (quick.options["n_prompts"], quick.options["unjudged"]) == (100, routing_jobs.QUICK_UNJUDGED)


def test_a_stopped_job_goes_on_with_its_own_artifact(logic: Logic, workbench: Workbench) -> None:
    """The fake job stops itself unless it is given an artifact to go on with."""
    wanted = routing_jobs.label_request(logic, said(logic), "", 100, 50, "outcome").with_options(seed=666)
    assert last(routing_jobs.started(workbench, PAGE, "", wanted)).ended == "cancelled"
    assert last(routing_jobs.resumed(workbench, PAGE, "", LABEL)).ended == "stop"
    with pytest.raises(WorkbenchError, match="no stopped one"):
        list(routing_jobs.resumed(workbench, PAGE, "", LABEL))


def test_training_without_labels_says_where_to_make_them(logic: Logic) -> None:
    with pytest.raises(InvalidRequest, match="make some above"):
        routing_jobs.train_request(logic, said(logic), None, 1)


def test_a_training_gives_its_charts(logic: Logic, workbench: Workbench) -> None:
    told = last(routing_jobs.started(workbench, PAGE, "", routing_jobs.train_request(logic, said(logic), "x", 1)))
    assert findings(told) == {"metric", "roc", "recall", "calibration"}
    assert list(routing_charts.roc(told).data[0].y) == [0, 0.9, 1] and list(routing_charts.recall(told).data[0].x) == [0, 0.1, 1]
    assert list(routing_charts.calibration(told).data[1].text) == ["90", "10"]
    assert routing_jobs.metric_rows(told)[0]["asked to find 95 %"] == "10.0%"
    assert routing_charts.pareto(told) is None


def test_a_sweep_gives_curve_table_and_the_pages_picture(logic: Logic, workbench: Workbench) -> None:
    wanted = routing_jobs.sweep_request(logic, said(logic), "", 20, "5, 10", ["entropy", "neural"])
    assert wanted.options["budgets"] == [0.05, 0.1] and wanted.options["strategies"] == ["neural", "entropy"]
    told = last(routing_jobs.started(workbench, PAGE, "", wanted))
    figure = routing_charts.pareto(told, "seconds_predicted")
    assert {trace.name for trace in figure.data} == {"small alone", "large alone", "router", "entropy"}
    assert len(routing_jobs.point_rows(told)) == len(POINTS) and routing_jobs.area_rows(told)[0]["area"] == 0.7
    line = json.loads(routing_sweeps.newest_line(workbench, "local"))
    assert {p["strategy"]: (p["share"], p["accuracy"]) for p in line["points"]} == POINTS and "20 problems" in line["words"]
    _, text = logic.first("", {}, None)
    assert text is not None and [json.loads(row)["event"] for row in text.splitlines()].count("sweep") >= 1


def test_budgets_that_are_no_percents_are_refused(logic: Logic) -> None:
    with pytest.raises(InvalidRequest, match="percents"):
        routing_jobs.sweep_request(logic, said(logic), "", 20, "5, many", ["neural"])


def test_a_cost_is_told_from_the_last_job_of_its_kind(logic: Logic, workbench: Workbench) -> None:
    """The fake job says it took ten seconds for 150 prompts; twice as many take twenty."""
    wanted = routing_jobs.label_request(logic, said(logic), "", 100, 50, "outcome")
    assert "How long is told" in routing_jobs.cost(workbench, "", wanted, "")
    last(routing_jobs.started(workbench, PAGE, "", wanted))
    assert "about 20 s" in routing_jobs.cost(workbench, "", routing_jobs.label_request(logic, said(logic), "", 200, 100, "outcome"), "")


def test_each_job_of_the_page_is_one_of_the_house(logic: Logic, workbench: Workbench) -> None:
    assert all(workbench.methods[name].job for name in (LABEL, TRAIN, SWEEP)) and not logic.method.job


def test_a_sweep_stands_behind_a_recordings_header_and_never_among_lanes() -> None:
    recording = '{"event":"recorded"}\n{"event":"started","run":"1"}\n'
    assert [json.loads(row)["event"] for row in with_sweep(recording, '{"event":"sweep"}').splitlines()] == ["recorded", "sweep", "started"]
    assert with_sweep("", '{"event":"sweep"}') == '{"event":"sweep"}\n' and with_sweep(recording, None) == recording


# The real pair -------------------------------------------------------------------------------------------------------------------


def test_a_forced_token_of_the_shipped_pair_is_what_the_large_model_would_have_said(tmp_path: Path) -> None:
    """Its opinion of the small model's token, told in the first run, is the oracle."""
    workbench = open_workbench(tmp_path)
    logic = Logic(workbench)
    request = logic.presets[0].request.with_options(strategy="never")
    events = [json.loads(line) for line in workbench.run(request.with_options(strategy="entropy", threshold=15.0, target_fraction=0.0), RunContext())]
    run = next(e["run"] for e in events if e["event"] == "started")
    other = next(e["data"] for e in events if e["event"] == "finding" and e["kind"] == "opinion" and not e["data"]["agree"])
    event = {"run": run, "position": other["position"], "token_id": 1, "who": "large"}
    token = lanes("".join(f"{line}\n" for line in logic.force(PAGE, "", event)))[0].tokens[other["position"]]
    assert (token["id"], token["source"], token["detail"]["forced"]) == (other["id"], "large", True)
    workbench.close()
