"""A lane from request to lines, on the pocket pair: texts, budgets, ends, facts; and what a comparison says of them."""

from __future__ import annotations

import json

import pytest

from backend.errors import InvalidRequest
from backend.models import ModelPool
from backend.paths import assets_dir
from backend.pocket.corpus import held_out
from backend.speculative import evaluate
from backend.speculative.costs import Costs
from backend.speculative.generate import generate
from backend.speculative.method import inspect
from backend.speculative.trace import rounds_of, summarize
from backend.speculative.verdict import verdict
from backend.types import Done, Prompt, Round, RunContext, RunRecord, RunRequest, SamplingParams, Token

ROLES = {"target": "pocket/large", "draft": "pocket/small"}
WAYS = {
    "model": {"drafter": "model", "gamma": 4}, "auto gamma": {"drafter": "model"}, "lookup": {"drafter": "lookup"},
    "recycling": {"drafter": "recycling", "nodes": 16}, "tree": {"drafter": "tree"}, "auto": {"drafter": "auto"},
}  # fmt: skip
GREEDY = SamplingParams(max_new_tokens=64)
TEXTS = [item.prompt for item in held_out("problem", 4, seed=5)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    pool = ModelPool(tmp_path_factory.mktemp("data"), assets_dir(), dtype="float32")
    models = pool.load_all(ROLES)
    # the costs are given, so that what is drafted does not hang on the machine
    models["target"].resources.get("speculative-costs", lambda: Costs(4.0, (1, 2, 5, 9, 17, 33), (1.0, 1.1, 1.2, 1.3, 1.5, 1.9), 1e-5))
    models["draft"].resources.get("speculative-step", lambda: 0.8)
    yield models
    pool.close()


def events(models, text, sampling=GREEDY, context=None, prefix=(), **options):
    request = RunRequest("speculative", Prompt.user(text), ROLES, sampling, options, prefix)
    return list(generate(request, context or RunContext(), models))


def ids(found):
    return [e.id for e in found if isinstance(e, Token)]


def record(models, text, **options):
    request = RunRequest("speculative", Prompt.user(text), ROLES, SamplingParams(max_new_tokens=64), options)
    lines = tuple(e.to_line() for e in generate(request, RunContext(), models))
    return RunRecord("01", request, "completed", lane=options["drafter"], stats=json.loads(lines[-1])["stats"], lines=lines)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sampling", [SamplingParams(max_new_tokens=64), SamplingParams(1.0, 0.95, 0, 64, seed=9)], ids=["greedy", "sampled"])
def test_every_drafter_writes_what_plain_decoding_writes(pair, way, sampling):
    for text in TEXTS[:2]:
        assert ids(events(pair, text, sampling, **WAYS[way])) == ids(events(pair, text, sampling, drafter="none"))


@pytest.mark.parametrize("way", WAYS)
def test_lines_add_up(pair, way):
    found = events(pair, TEXTS[0], **WAYS[way])
    done, tokens, rounds = found[-1], [e for e in found if isinstance(e, Token)], [e for e in found if isinstance(e, Round)]
    assert isinstance(done, Done) and done.finish_reason == "stop" and tokens[-1].detail["end"]
    assert done.text == "".join(t.text for t in tokens)
    assert [t.position for t in tokens] == list(range(len(tokens))) and [r.index for r in rounds] == list(range(len(rounds)))
    replayed = summarize(rounds_of(json.loads(e.to_line()) for e in found))
    assert {name: done.stats[name] for name in replayed} == replayed
    for r in rounds:
        emitted = [t for t in tokens if t.detail.get("round") == r.index]
        assert emitted[0].position == r.position
        assert [t.id for t in emitted[: r.accepted]] == [r.drafted[node][0] for node in r.path][: len(emitted)]
        assert [t.source for t in emitted[: r.accepted]] == ["draft"] * min(r.accepted, len(emitted))
        if len(emitted) > r.accepted:
            has_child = (r.path[-1] if r.path else -1) in r.parents
            assert emitted[-1].source == ("model" if not r.drafted else "correction" if has_child else "bonus")
            assert (r.rejected is not None) == has_child


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_the_limit_is_met_exactly(pair, n):
    found = events(pair, TEXTS[1], SamplingParams(max_new_tokens=n), drafter="model", gamma=6)
    assert len(ids(found)) == n and found[-1].finish_reason == "length"


def test_zero_new_tokens_only_read_the_prefix(pair):
    prefix = tuple(ids(events(pair, TEXTS[0], drafter="none"))[:5])
    found = events(pair, TEXTS[0], SamplingParams(max_new_tokens=0), prefix=prefix, drafter="auto")
    assert ids(found) == list(prefix) and {t.source for t in found if isinstance(t, Token)} == {"prefix"}


def test_a_branch_goes_on_as_plain_decoding_would(pair):
    whole = ids(events(pair, TEXTS[2], drafter="none"))
    prefix = tuple(whole[:6])
    for options in WAYS.values():
        assert ids(events(pair, TEXTS[2], SamplingParams(max_new_tokens=58), prefix=prefix, **options)) == whole


def test_a_cancelled_run_keeps_its_rounds_and_says_so(pair):
    calls = iter(range(1000))
    found = events(pair, TEXTS[0], context=RunContext(cancelled=lambda: next(calls) >= 3), drafter="model", gamma=2)
    assert found[-1].finish_reason == "cancelled" and sum(isinstance(e, Round) for e in found) == 3


def test_residual_sampling_repeats_with_its_seed(pair):
    sampling = SamplingParams(3.0, max_new_tokens=30, seed=4)
    first, again = (ids(events(pair, TEXTS[0], sampling, drafter="model", gamma=3, law="residual")) for _ in range(2))
    other = ids(events(pair, TEXTS[0], SamplingParams(3.0, max_new_tokens=30, seed=5), drafter="model", gamma=3, law="residual"))
    assert first == again != other


def test_a_draft_with_other_tokens_is_refused_with_the_way_out(pair, smollm2):
    with pytest.raises(InvalidRequest, match="Prompt lookup, Token Recycling and auto") as refused:
        events({"target": smollm2, "draft": pair["draft"]}, "Hi", drafter="model")
    assert refused.value.where == "models.draft"


def test_a_draft_larger_than_its_target_is_allowed_with_a_warning(pair):
    found = events({"target": pair["draft"], "draft": pair["target"]}, TEXTS[0], drafter="model", gamma=2)
    assert "larger than its target" in found[0].data["text"]
    assert ids(found) == ids(events({"target": pair["draft"]}, TEXTS[0], drafter="none"))


def test_the_context_limit_ends_drafts_before_it_ends_the_run(pair):
    limit = pair["target"].model.config.max_position_embeddings
    long = "5 " * ((limit - 30) // 2)
    found = events(pair, long[: 4 * limit], SamplingParams(max_new_tokens=8), drafter="model", gamma=32)
    assert len(ids(found)) <= 8


def test_the_verdict_says_same_text_and_its_speed(pair):
    plain, auto = record(pair, TEXTS[0], drafter="none"), record(pair, TEXTS[0], drafter="model", gamma=4)
    said = verdict([auto, plain])
    assert said.holds is True and "the same text as plain" in said.sentence and "tokens a round" in said.sentence
    assert said.figures["lanes"][0]["identical"] and said.figures["lanes"][0]["tokens_per_round"] == auto.stats["tokens_per_round"]


def test_the_verdict_names_the_term_that_made_it_slow(pair):
    plain, lane = record(pair, TEXTS[0], drafter="none"), record(pair, TEXTS[0], drafter="model", gamma=4)
    for spans, name in (({"draft": 900.0, "verify": 100.0, "host": 1.0}, "(c)"), ({"draft": 1.0, "verify": 5000.0, "host": 1.0}, "(v)")):
        slow = RunRecord("02", lane.request, "completed", lane="draft model", lines=lane.lines,
                         stats={**lane.stats, "spans": {"prefill": 1.0, **spans}, "ms_per_token": 9 * plain.stats["ms_per_token"]})  # fmt: skip
        assert "slower than plain" in verdict([slow, plain]).sentence and name in verdict([slow, plain]).sentence


def test_the_verdict_explains_the_first_divergence(pair):
    plain, lane = record(pair, TEXTS[0], drafter="none"), record(pair, TEXTS[0], drafter="auto")
    events_ = [json.loads(line) for line in lane.lines]
    at = next(i for i, e in enumerate(events_) if e["event"] == "token" and e["position"] == 4)
    events_[at] |= {"id": 7, "detail": {**events_[at]["detail"], "margin": 0.001}}
    costs = {**lane.stats["costs"], "noise": 0.01}
    changed = RunRecord("02", lane.request, "completed", lane="auto", lines=tuple(map(json.dumps, events_)), stats={**lane.stats, "costs": costs})
    said = verdict([changed, plain])
    first = said.figures["lanes"][0]["first_divergence"]
    assert said.holds is False and first["position"] == 4 and first["cause"] == "near tie" and "token 4" in said.sentence


def test_inspect_shows_both_models(pair):
    request = RunRequest("speculative", Prompt.user(TEXTS[0]), ROLES, SamplingParams(), {"drafter": "model"})
    answer = ids(events(pair, TEXTS[0], drafter="none"))
    data = inspect(request, pair, answer, 3, 5)
    assert data["models"]["target"]["top"][0]["id"] == answer[3] and len(data["models"]["draft"]["top"]) == 5


def test_an_evaluation_gives_a_row_a_prompt_and_lane_and_goes_on_where_it_was(pair):
    request = evaluate.request(ROLES, prompts="pocket", drafters="lookup, model", most=3)
    found = list(evaluate.run(request, RunContext(), pair))
    rows = [e for e in found if e.tag == "finding" and e.kind == "row"]
    assert len(rows) == 9 and all(row.data["identical"] for row in rows)
    summaries = [e.data for e in found if e.tag == "finding" and e.kind == "summary"]
    assert {s["lane"]: s["of"] for s in summaries} == {"prompt lookup": 3, "draft model": 3, "plain": 3}
    assert next(s["speedup"] for s in summaries if s["lane"] == "plain") == 1
    earlier = tuple(e.to_line() for e in rows[:4])  # one prompt and a third of the next
    again = list(evaluate.run(request, RunContext(earlier=earlier), pair))
    assert [e.data["prompt"] for e in again if e.tag == "finding" and e.kind == "row"] == [1, 1, 1, 2, 2, 2]
    assert [e.data["of"] for e in again if e.tag == "finding" and e.kind == "summary"] == [3, 3, 3]
