"""The job `routing.sweep`: points, prices, and going on after a stop."""

from __future__ import annotations

import json

import pytest

from backend import artifacts
from backend.errors import InvalidRequest
from backend.resources import Resources
from backend.routing import sweep
from backend.routing.costs import Costs
from backend.routing.lockstep import Arm
from backend.routing.price import Price
from backend.routing.sweep import check, sweep_request
from backend.routing.tasks import pocket_problems
from backend.types import Artifact, Done, Finding, RunContext

PRICE = Price(Costs((1, 8), (1.0, 2.0)), Costs((1, 8), (10.0, 17.0)), 0.5, 100, 2000, 30)


@pytest.fixture
def made(chance_router, data_dir):
    """A data directory with a router in it; its id."""
    router_id, folder = artifacts.create(data_dir, "router")
    chance_router.save(folder)
    return data_dir, router_id


def request(router, **options):
    given = {"router": router, "n_prompts": 10, "seed": 31, "budgets": [0.1, 0.5], "strategies": ["random", "entropy"], "max_new_tokens": 60}
    return sweep_request("pocket/small", "pocket/large", **(given | options))


def run(asked, pocket, data_dir, context=None):
    return list(sweep.run(asked, context or RunContext(), pocket, data_dir))


def points(events):
    return [e.data for e in events if isinstance(e, Finding) and e.kind == "point"]


def test_points_add_up_and_a_stopped_sweep_goes_on_with_the_arms_that_are_left(made, pocket):
    data_dir, router = made
    whole = run(request(router), pocket, data_dir)
    rows = points(whole)
    assert [(p["strategy"], p["budget"]) for p in rows] == [
        ("small", 0.0), ("large", 1.0), ("random", 0.1), ("random", 0.5), ("entropy", 0.1), ("entropy", 0.5)]  # fmt: skip
    for p in rows:
        assert p["share"] == p["large_tokens"] / p["tokens"] and p["accuracy"] == p["right"] / p["n"] and p["n"] == 10
        assert p["low"] <= p["accuracy"] <= p["high"] and p["seconds_predicted"] > 0
    assert (rows[0]["share"], rows[1]["share"]) == (0, 1) and whole[-1].stats["large"] == rows[1]["accuracy"]

    there = {p.name for p in (data_dir / "artifacts").iterdir()}
    stop = RunContext(cancelled=lambda: len([f for f in (data_dir / "artifacts").glob("*/arm-*") if f.parent.name not in there]) >= 3)
    stopped = run(request(router), pocket, data_dir, stop)
    assert isinstance(stopped[-1], Done) and stopped[-1].finish_reason == "cancelled" and len(points(stopped)) == 3
    again = run(request(router), pocket, data_dir, RunContext(earlier=tuple(e.to_line() for e in stopped if e.stored)))
    untimed = [{k: v for k, v in p.items() if k != "seconds_predicted"} for p in rows]
    assert [{k: v for k, v in p.items() if k != "seconds_predicted"} for p in points(stopped) + points(again)] == untimed
    assert again[-1].stats["areas"] == whole[-1].stats["areas"]
    assert {e.id for e in stopped + again if isinstance(e, Artifact)} == {again[-1].stats["sweep"]}


def test_problems_that_the_router_has_seen_are_left_out(made, pocket, chance_router):
    data_dir, router = made
    seen = pocket_problems(4, 31)
    chance_router.marks = frozenset(p.mark for p in seen)
    chance_router.save(artifacts.resolve(data_dir, router))
    lines = "\n".join(json.dumps({"prompt": p.prompt, "answer": p.answer, "grader": "pocket"}) for p in pocket_problems(7, 31))
    events = run(request(router, data=lines, strategies=["random"], budgets=[0.5]), pocket, data_dir)
    assert {p["n"] for p in points(events)} == {3}
    lines = "\n".join(lines.splitlines()[:4])
    with pytest.raises(InvalidRequest, match="trained on every problem"):
        run(request(router, data=lines), pocket, data_dir)


@pytest.mark.parametrize(
    ("options", "where"),
    [({"budgets": [1.5]}, "options.budgets"), ({"budgets": []}, "options.budgets"), ({"strategies": ["psychic"]}, "options.strategies"),
     ({"data": '{"prompt": "x"}'}, "options.data"), ({"n_prompts": 5}, "options.n_prompts")],
)  # fmt: skip
def test_a_sweep_that_can_not_be_is_refused_before_it_runs(made, options, where):
    data_dir, router = made
    with pytest.raises(InvalidRequest) as error:
        check(request(router, **options), Resources(), data_dir)
    assert error.value.where == where


def test_a_router_that_is_not_there_is_refused(data_dir):
    with pytest.raises(InvalidRequest, match="shipped/none"):
        check(request("shipped/none"), Resources(), data_dir)


def test_the_price_of_an_answer_is_what_each_forward_costs():
    """Two large tokens after 1 and 8 unread ones and one out of the prompt's own forward, among ten."""
    gaps = [1, 1, 0, 0, 0, 0, 0, 0, 1]
    assert PRICE.seconds(Arm("small"), 10, []) == pytest.approx(0.010) and PRICE.seconds(Arm("large"), 10, []) == pytest.approx(0.100)
    assert PRICE.seconds(Arm("entropy", 0.3), 10, gaps) == pytest.approx((10 * 1.0 + 10 + 17) / 1000)
    assert PRICE.seconds(Arm("neural", 0.3), 10, gaps) == pytest.approx((10 * 1.5 + 10 + 17) / 1000)


def test_parameters_a_token_follow_both_formulas():
    assert PRICE.params(Arm("neural", 0.1), 0.1) == {"params_paper": 100 + 30 + 200, "params_recorder": pytest.approx(90 + 200)}
    assert PRICE.params(Arm("random", 0.1), 0.1)["params_paper"] == 300
    assert PRICE.params(Arm("large"), 1.0) == {"params_paper": 2000.0, "params_recorder": 2000.0}
