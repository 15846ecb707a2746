"""What came out, in plain words: from records made by hand, every figure known."""

from __future__ import annotations

import json

from backend.routing.verdict import verdict
from backend.types import Prompt, RunRecord, RunRequest


def record(strategy="neural", ids=(1, 2, 3, 4), lane="routed", status="completed", error=None, **stats):
    request = RunRequest("routing", Prompt.user("x"), {"small": "s", "large": "l"}, options={"strategy": strategy})
    lines = tuple(json.dumps({"event": "token", "position": i, "id": token_id}) for i, token_id in enumerate(ids))
    large = {"always": len(ids), "never": 0}.get(strategy, 1)
    stats = {"n_tokens": len(ids), "large_tokens": large, "share": large / len(ids), "ms_per_token": 5.0, "threshold": 0.5, **stats}
    return RunRecord(f"id {lane}", request, status, lane=lane, stats=stats, lines=lines, error=error)


def large(ids=(1, 2, 3, 4), **stats):
    return record("always", ids, "large only", **{"ms_per_token": 10.0, **stats})


def test_it_says_share_text_agreement_time_and_the_other_lanes():
    first = record(agreement=2 / 3, n_opinions=3, predicted_speedup=2.5)
    small = record("never", (1, 9, 9), "small only", ms_per_token=2.0)
    rival = record("entropy", (1, 2, 9), "entropy at the same budget")
    said = verdict([first, large(), small, rival])
    assert said.sentence == (
        "The large model wrote 1 of 4 tokens (25.0 %). The text is the large model's own, token for token. The large model would have said "
        "the same at 66.7 % of the 3 tokens that it left to the small one. In this run a token took 0.50 of the large model's time (its parts "
        "promise 0.40). Small only: departs at token 2. Entropy at the same budget, in fact 33.3 % large tokens: departs at token 3."
    )
    assert said.holds is None and said.figures["time_ratio"] == 0.5
    assert [(f["lane"], f.get("same_as_large"), f.get("common")) for f in said.figures["lanes"]] == [
        ("routed", True, 4), ("large only", None, None), ("small only", False, 1), ("entropy at the same budget", False, 2)]  # fmt: skip


def test_it_says_where_the_text_departs_and_that_a_longer_answer_is_another():
    assert "departs from the large model's own at token 3" in verdict([record(ids=(1, 2, 9)), large()]).sentence
    assert "departs from the large model's own at token 4" in verdict([record(ids=(1, 2, 3)), large()]).sentence
    stopped = verdict([record(ids=(1, 2, 3), status="cancelled"), large()]).sentence
    assert "token for token" in stopped and "; the run was stopped." in stopped


def test_when_routing_does_not_pay_it_says_so_and_why():
    slow_small = record(ms_per_token=12.0, predicted_from={"small_ms": 8.0, "router_ms": 0.5, "catch_up": 1.2})
    said = verdict([slow_small, large()]).sentence
    assert "In this run a token took 1.20 of the large model's time" in said and "does not pay on this pair" in said
    assert "a step of the small model alone takes 0.80 of a large one's" in said
    asked_often = record(ms_per_token=12.0, share=0.6, predicted_from={"small_ms": 3.0, "router_ms": 0.5, "catch_up": 1.4})
    said = verdict([asked_often, large()]).sentence
    assert "asked at 60.0 % of the tokens, and catching up took 1.4 of its steps" in said and "add 0.30, deciding 0.05" in said
    assert "does not pay" not in verdict([record(), large()]).sentence


def test_a_target_that_was_missed_is_told_and_one_that_was_met_is_not():
    stats = {"target_fraction": 0.1, "large_tokens": 1}
    missed = record(ids=(1,) * 4, **stats)
    met = record(ids=(1,) * 10, **stats)
    for r in (missed, met):
        del r.stats["threshold"]
    assert "(25.0 %), 10.0 % were asked for." in verdict([missed]).sentence and "asked for" not in verdict([met]).sentence


def test_without_the_large_lane_nothing_is_said_of_text_or_time():
    failed = record("always", (1,), "large only", "failed", "Out of memory.")
    assert verdict([record()]).sentence == "The large model wrote 1 of 4 tokens (25.0 %)."
    said = verdict([record(), failed])
    assert said.sentence.endswith("Large only: failed (Out of memory.).") and said.figures["time_ratio"] is None


def test_a_failed_run_says_what_failed_and_an_empty_one_that_it_is_empty():
    assert verdict([record(status="failed", error="The pair is none."), large()]).sentence == "Failed: The pair is none."
    assert verdict([record(ids=(1,), n_tokens=0), large()]).sentence.startswith("No token was generated.")


def test_one_model_alone_is_not_compared_with_itself():
    assert verdict([large()]).sentence == "The large model wrote 4 of 4 tokens (100.0 %)."
