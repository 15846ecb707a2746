"""The audit as a job: every stage once, resumable at each, and a verdict that never says more than its evidence."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from backend import artifacts
from backend.contamination import neurons, report
from backend.contamination.audit import method
from backend.contamination.audit_request import audit_request, check, prepare
from backend.contamination.audit_verdict import CLEAN, CONTAMINATED, UNDECIDED, Evidence, Patch, conclude
from backend.contamination.curve import Point, choose, grid, noise
from backend.contamination.indicators import ALL, FAILED, Gap, Reading
from backend.contamination.items import FRESH, LEAKED
from backend.errors import InvalidRequest
from backend.resources import Resources
from backend.types import Done, Finding, Progress, RunContext
from tests.contamination.cases import handle, items

KINDS = ["set", "power", "warning", "identity", "accuracy", "indicator", "gap", "curve", "chosen", "neurons", "change", "suppression", "control",
         "constant", "diff", "vote", "verdict"]  # fmt: skip


def data(*names, n=8):
    rows = [{"question": i.question, "answer": i.answer, "set": name, "rephrased": i.rephrased} for name in names for i in items(n, name)]
    return "\n".join(json.dumps(row) for row in rows)


def models(*roles):
    return {role: handle(seed) for seed, role in enumerate(("suspect", "base", "twin"), 1) if role in ("suspect", *roles)}


def asked(roles=("base", "twin"), sets=(LEAKED, FRESH, "unrelated"), n=8, **options):
    given = {"data": data(*sets, n=n), "template": "raw", "grader": "exact", "max_new_tokens": 4, "curve": [4, 16], "draws": 2,
             "search": {"recipe": "ranks"}}  # fmt: skip
    return audit_request("mine/s", *(f"mine/{role}" if role in roles else None for role in ("base", "twin")), **{**given, **options})


def events(request, handles, folder, context=None):
    return list(method(folder).run(request, context or RunContext(), handles))


def findings(found, kind):
    return [e.data for e in found if isinstance(e, Finding) and e.kind == kind]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One audit with everything there is: its folder, its events."""
    folder = tmp_path_factory.mktemp("audit")
    return folder, events(asked(), models("base", "twin"), folder)


def test_an_audit_tells_its_kinds_in_order_and_ends_with_a_verdict(whole):
    _, found = whole
    told = list(dict.fromkeys(e.kind for e in found if isinstance(e, Finding)))
    assert told == [kind for kind in KINDS if kind in told] and {"identity", "curve", "control", "verdict"} <= set(told)
    end = found[-1]
    assert isinstance(end, Done) and end.finish_reason == "stop" and end.text == findings(found, "verdict")[0]["sentence"]
    assert {"report", "neurons", "k", "state", "cannot", "seconds", "generated_tokens"} <= set(end.stats)
    assert [e.to_line() for e in found]  # every event is one JSON line


def test_progress_ends_where_its_total_is(whole):
    _, found = whole
    last = [e for e in found if isinstance(e, Progress)][-1]
    assert 0.8 * last.total < last.done <= last.total


def test_reported_halves_are_not_those_that_chose(whole):
    folder, _ = whole
    audit = prepare(asked(), models("base", "twin"), folder)
    for part in audit.parts.values():
        assert not {one.item.question for one in part.search} & {one.item.question for one in part.report}
        assert len(part.search) == len(part.report) == 4


def test_the_neuron_list_can_be_named_by_a_run_and_says_what_it_was_made_from(whole):
    folder, found = whole
    stats = found[-1].stats
    listed, made = neurons.load(artifacts.resolve(folder, stats["neurons"], neurons.KIND))
    assert len(listed) == stats["k"] in (4, 16) and listed.hash == findings(found, "neurons")[0]["hash"]
    assert {role: line["hash"] for role, line in made["models"].items()} == {"suspect": "hash1", "base": "hash2", "twin": "hash3"}
    assert made["items"][LEAKED]["n"] == 8 and made["source"] == "twin"


def test_the_report_holds_all_that_was_found_with_hashes(whole):
    folder, found = whole
    data = report.load(artifacts.resolve(folder, found[-1].stats["report"], report.KIND))
    assert data["models"]["suspect"]["hash"] == "hash1" and data["neurons"]["hash"] and len(data["items"][FRESH]["hash"]) == 16
    assert data["verdict"]["sentence"] == found[-1].text and data["identity"]["holds"] is True
    assert data["changes"] == findings(found, "change") and data["controls"] == findings(found, "control")
    assert "data" not in data["options"]


def test_the_same_audit_finds_the_same_neurons(whole, tmp_path):
    _, found = whole
    again = events(asked(), models("base", "twin"), tmp_path)
    assert findings(again, "neurons")[0]["hash"] == findings(found, "neurons")[0]["hash"]
    assert [findings(again, kind) for kind in KINDS if kind != "neurons"] == [findings(found, kind) for kind in KINDS if kind != "neurons"]


@pytest.mark.parametrize("stop_at", [3, 9, 17])
def test_a_stopped_audit_goes_on_and_tells_nothing_twice(whole, tmp_path, stop_at):
    """The n-th look at the flag stops it; the second run begins with the lines of the first."""
    looks = iter(range(10**6))
    first = events(asked(), models("base", "twin"), tmp_path, RunContext(cancelled=lambda: next(looks) >= stop_at))
    assert first[-1].finish_reason == "cancelled" and len(list((tmp_path / "artifacts").iterdir())) == 1
    lines = tuple(e.to_line() for e in first[:-1] if e.stored)
    second = events(asked(), models("base", "twin"), tmp_path, RunContext(earlier=lines))
    assert second[-1].text == whole[1][-1].text
    together = [json.dumps(e.data, sort_keys=True) for e in (*first, *second) if isinstance(e, Finding) and e.kind != "neurons"]
    once = [json.dumps(e.data, sort_keys=True) for e in whole[1] if isinstance(e, Finding) and e.kind != "neurons"]
    assert together == once
    assert first[0].id == second[-1].stats["report"]


def test_a_finished_stage_is_not_worked_through_again(tmp_path, monkeypatch):
    found = events(asked(), models("base", "twin"), tmp_path)
    lines = tuple(e.to_line() for e in found[:-1] if e.stored)

    def never(*arguments):
        raise AssertionError("a finished stage was begun again")

    for name in ("audit_steps.answer_all", "audit_steps.forced", "audit_patch.search"):
        monkeypatch.setattr(f"backend.contamination.{name}", never)
    again = events(asked(), models("base", "twin"), tmp_path, RunContext(earlier=lines))
    assert again[-1].text == found[-1].text and not [e for e in again if isinstance(e, Finding)]


def test_without_a_base_the_indicators_run_and_the_verdict_says_what_is_missing(tmp_path):
    found = events(asked(roles=(), n=24), models(), tmp_path)
    kinds = {e.kind for e in found if isinstance(e, Finding)}
    assert {"indicator", "gap", "verdict"} <= kinds and not kinds & {"identity", "curve", "neurons", "change", "control"}
    verdict = findings(found, "verdict")[0]
    assert any("Without the base" in text for text in verdict["cannot"]) and any("no patched score" in text for text in verdict["cannot"])
    assert "neurons" not in found[-1].stats


def test_without_fresh_items_it_runs_and_the_verdict_says_so(tmp_path):
    found = events(asked(sets=(LEAKED, "unrelated"), make_fresh=False), models("base", "twin"), tmp_path)
    assert any("no fresh items" in e["text"] for e in findings(found, "warning"))
    assert any("Without fresh items" in text for text in found[-1].stats["cannot"])
    assert "nine tenths" in findings(found, "chosen")[0]["why"]


def test_fresh_items_are_made_where_the_arithmetic_allows(tmp_path):
    rows = [{"question": f"Ada has {20 + i} pears and eats {i + 2}.", "answer": f"{20 + i} - {i + 2} = {18}. The answer is 18."} for i in range(1, 9)]
    rows = [row for row in rows if " 18 " not in row["question"]]
    request = asked(data="\n".join(map(json.dumps, rows)), grader="number")
    audit = prepare(request, models("base", "twin"), tmp_path)
    assert audit.made_fresh and len(audit.parts[FRESH].all) == len(rows)


def test_the_raw_base_as_source_patches_the_twin_too_and_says_what_it_costs(tmp_path):
    found = events(asked(source="base"), models("base", "twin"), tmp_path)
    assert {change["model"] for change in findings(found, "change")} == {"suspect", "twin"}
    assert "The source is the raw base" in found[-1].text


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"data": ""}, "options.data"),
        ({"data": '{"question": "q"}'}, "options.data"),
        ({"data": '{"question": "q", "answer": "a"}'}, "options.data"),
        ({"curve": [0]}, "options.curve"),
        ({"curve": ["many"]}, "options.curve"),
        ({"search": {"colour": 1}}, "options.colour"),
        ({"k": -1}, "options.k"),
        ({"columns": {"frage": "q"}}, "options.columns"),
        ({"source": "mars"}, "options.source"),
    ],
)
def test_what_cannot_be_audited_is_refused_before_it_starts(tmp_path, options, where):
    with pytest.raises(InvalidRequest) as caught:
        check(asked(roles=(), **options), Resources(), tmp_path)
    assert caught.value.where == where


def test_a_source_that_is_not_there_a_twin_that_is_the_base_and_a_base_that_is_the_suspect_are_refused(tmp_path):
    with pytest.raises(InvalidRequest, match="no model is given as models.twin"):
        check(asked(roles=(), source="twin"), Resources(), tmp_path)
    with pytest.raises(InvalidRequest, match="models.twin is the base"):
        check(audit_request("mine/s", "mine/b", "mine/b", data=data(LEAKED)), Resources(), tmp_path)
    with pytest.raises(InvalidRequest, match="suspect and comparison at once"):
        check(audit_request("mine/s", "mine/s", data=data(LEAKED)), Resources(), tmp_path)


def test_more_neurons_than_the_model_has_are_refused_with_the_number(tmp_path):
    for options in ({"k": 97, "curve": []}, {"curve": [4, 97]}):
        with pytest.raises(InvalidRequest, match="between 1 and 96"):
            prepare(asked(**options), models("base", "twin"), tmp_path)


# Choosing k -------------------------------------------------------------------------------------------------------------------------------


def test_the_grid_goes_from_one_neuron_to_all_in_even_ratios():
    assert grid(512) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512] and grid(3) == [1, 2, 3]
    assert grid(46_080)[0] == 1 and grid(46_080)[-1] == 46_080 and len(grid(46_080)) == 10


def test_the_grid_is_dense_around_the_number_that_the_search_learnt():
    assert grid(512, 80) == [1, 10, 20, 40, 60, 80, 100, 512] and grid(90, 80) == [1, 10, 20, 40, 60, 80, 90] and grid(5, 1) == [1, 5]


def test_k_is_where_leaked_items_reach_the_models_own_fresh_accuracy_and_nothing_else_moves():
    start = Point(0, {LEAKED: 1.0, FRESH: 0.5, "addition": 0.9})
    low, right = Point(8, {LEAKED: 0.8, FRESH: 0.5, "addition": 0.9}), Point(16, {LEAKED: 0.5, FRESH: 0.5, "addition": 0.9})
    same, damage = Point(32, {LEAKED: 0.5, FRESH: 0.5, "addition": 0.9}), Point(64, {LEAKED: 0.5, FRESH: 0.3, "addition": 0.4})
    assert choose([start, low, right, same, damage]).k == 16
    assert choose([start, low, damage]).k == 8


def test_a_learnt_set_is_taken_whole_unless_a_part_does_better_than_noise_explains():
    start = Point(0, {LEAKED: 1.0, FRESH: 0.4})
    part, whole, more = (Point(k, {LEAKED: leaked, FRESH: 0.4}) for k, leaked in ((20, 0.42), (80, 0.33), (100, 0.2)))
    assert choose([start, part, whole, more], 80, slack=0.06).k == 80
    assert choose([start, part, whole, more], 80, slack=0.01).k == 20
    assert choose([start, part, whole, more]).k == 20
    assert noise(0.5, 200, 200) == pytest.approx(0.1) and noise(0.0, 10, 10) == 0 and noise(0.5, 0, 50) > 1


def test_without_fresh_items_k_is_at_the_knee():
    points = [Point(k, {LEAKED: a}) for k, a in ((0, 1.0), (4, 0.9), (8, 0.54), (16, 0.52), (32, 0.5))]
    assert choose(points).k == 8
    with pytest.raises(ValueError, match="k = 0"):
        choose(points[1:])


# The verdict ------------------------------------------------------------------------------------------------------------------------------


def figure(value, half=0.03):
    return {"value": value, "low": value - half, "high": value + half}


def share(before, after):
    return {"before": figure(before), "after": figure(after), "delta": figure(after - before)}


def evidence(auc=None, gap=None, base_gap=0.0, beyond=None, random=(0.9, 0.92, 0.91), **more):
    readings = [] if auc is None else [Reading("reference", "likelihood", FAILED, figure(auc), 0, 0, 100, 100)]
    gaps = Gap() if gap is None else Gap(figure(gap), figure(base_gap), figure(gap - base_gap))
    patch = None if beyond is None else Patch(16, "clean twin", share(0.9, 0.9 - beyond), share(0.5, 0.5), figure(beyond), random)
    facts = {"suspect": "s", "n_leaked": 200, "n_report": 100, "n_fresh": 100, "has_base": True, "has_twin": True, "role_of_source": "twin",
             "made_fresh": False, "power": "power"}  # fmt: skip
    return Evidence(**{**facts, **more}, readings=readings, gap=gaps, patch=patch)


@pytest.mark.parametrize(
    ("given", "state"),
    [
        ({"auc": 0.97, "gap": 0.4, "beyond": 0.4}, CONTAMINATED),
        ({"auc": 0.97, "gap": 0.4}, CONTAMINATED),
        ({"auc": 0.5, "gap": 0.4, "beyond": 0.4}, CONTAMINATED),
        ({"auc": 0.97}, UNDECIDED),
        ({"auc": 0.97, "gap": 0.0, "beyond": 0.0}, UNDECIDED),
        ({"auc": 0.5, "gap": 0.0, "beyond": 0.0}, CLEAN),
        ({"auc": 0.5, "gap": 0.0}, CLEAN),
        ({"auc": 0.5}, UNDECIDED),
        ({"gap": 0.4, "beyond": 0.4, "random": (0.5, 0.52, 0.48)}, UNDECIDED),
        ({}, UNDECIDED),
    ],
)
def test_contaminated_needs_two_families_that_agree(given, state):
    conclusion = conclude(evidence(**given))
    assert conclusion.state == state
    leaks = [vote.family for vote in conclusion.votes if vote.says == "leak"]
    assert (len(leaks) >= 2) == (state == CONTAMINATED) and all(family in conclusion.sentence for family in leaks)
    assert conclusion.holds is {CONTAMINATED: True, CLEAN: False, UNDECIDED: None}[state]


def test_a_base_that_knows_the_items_makes_a_clean_verdict_impossible():
    conclusion = conclude(evidence(auc=0.5, gap=0.5, base_gap=0.5, beyond=0.0))
    assert conclusion.state == UNDECIDED and "its base itself" in conclusion.sentence
    assert any("base that saw the items itself" in text for text in conclusion.cannot)


def test_a_certain_but_tiny_effect_is_no_leak():
    tiny = Reading("reference", "likelihood", ALL, {"value": 0.53, "low": 0.52, "high": 0.54}, 0, 0, 10**5, 10**5)
    conclusion = conclude(replace(evidence(gap=0.0), readings=[tiny]))
    assert [vote.says for vote in conclusion.votes] == ["none", "none", "open"]


def test_what_is_missing_is_listed_and_the_power_always():
    assert conclude(evidence()).cannot[-1] == "power"
    alone = conclude(evidence(has_base=False, has_twin=False, role_of_source="", n_fresh=0, made_fresh=True)).cannot
    assert len(alone) == 5
