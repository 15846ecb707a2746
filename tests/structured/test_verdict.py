"""What came out, in plain words; and the words of a measurement claim no more than its interval."""

from __future__ import annotations

import json
import math
import random

import pytest

from backend.measure import interval, words
from backend.structured.verdict import verdict
from backend.types import Prompt, RunRecord, RunRequest


def lane(constrain="grammar", state="valid", status="completed", lines=(), **stats):
    request = RunRequest("structured", Prompt.user("x"), {"target": "m"}, options={"constrain": constrain})
    stats = {"valid": state == "valid", "state": state, "message": stats.pop("message", ""), "n_tokens": 50, **stats}
    return RunRecord("id", request, status, lane=constrain, stats=stats, lines=tuple(json.dumps(line) for line in lines))


def wanted(text):
    return {"event": "token", "detail": {"wanted": [1, text]}}


def test_it_says_valid_how_often_overruled_where_mostly_and_what_came_without():
    first = lane(overridden=3, taken_nats=9.0, lines=[wanted("\n "), wanted("\n"), wanted("country")])
    free = lane("none", "truncated", n_tokens=90)
    told = lane("prompt", "invalid", message="'age' is a required property")
    said = verdict([first, free, told])
    assert said.holds is True
    assert said.sentence == (
        "Valid. The grammar overruled the model at 3 of 50 tokens, mostly where it wanted a line break. Without it: not finished after 90 "
        "tokens. Asked for in the prompt instead: not valid ('age' is a required property)."
    )


def test_a_grammar_that_changed_nothing_gets_no_credit():
    assert "never overruled" in verdict([lane(overridden=0, taken_nats=0.31)]).sentence


@pytest.mark.parametrize(("state", "holds"), [("valid", True), ("invalid", False), ("not_json", False), ("truncated", None), ("dead_end", None)])
def test_it_holds_only_for_a_finished_valid_answer(state, holds):
    assert verdict([lane(state=state, overridden=1, taken_nats=1.0, message="no token can follow")]).holds is holds


def test_what_the_grammar_does_not_enforce_is_repeated():
    note = {"event": "finding", "kind": "lint", "data": {"path": "$.a", "keyword": "uniqueItems", "effect": "not enforced", "message": ""}}
    assert "Not enforced by the grammar: uniqueItems at $.a." in verdict([lane(overridden=0, taken_nats=0.0, lines=[note])]).sentence


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """400 experiments of 8 pairs with a true ratio of 1.1: coverage 95 % ± 4 standard errors (odds of a false alarm below 1 in 10,000)."""
    rng, covered = random.Random(7), 0
    for _ in range(400):
        middle, low, high = interval([1.1 * math.exp(rng.gauss(0, 0.05)) for _ in range(8)])
        assert low < middle < high
        covered += low <= 1.1 <= high
    assert abs(covered / 400 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 400)


def test_an_interval_that_holds_one_makes_no_claim():
    assert "no measurable difference" in words("a", "b", 1.02, 0.99, 1.05)
    assert words("a", "b", 0.5, 0.48, 0.52).startswith("a is 2.00 × faster a token than b")
    assert words("a", "b", 1.1, 1.05, 1.15).startswith("a costs 10.0 % more")
