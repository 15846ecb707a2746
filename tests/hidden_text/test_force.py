"""Force and look: the tokens of a plain greedy loop, with facts that a plain forward gives."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from backend.errors import InvalidRequest
from backend.hidden_text.force import CONTEXTS, context_ids
from backend.hidden_text.method import method
from backend.resources import Resources
from backend.types import Prompt, RunContext, RunRecord, RunRequest, SamplingParams
from tests.families import uncached_logits
from tests.hidden_text.conftest import PAYLOAD, TRIGGERS
from tests.hidden_text.pair import tiny


@pytest.fixture(scope="module")
def look(tmp_path_factory):
    return method(tmp_path_factory.mktemp("data"))


@pytest.fixture
def models(base, other):
    return {"suspect": base, "reference": other}


def request(n=6, reference=True, words="cat", **options):
    models = {"suspect": "tiny", **({"reference": "other"} if reference else {})}
    return RunRequest("hidden_text", Prompt.user(words), models, SamplingParams(max_new_tokens=n), options)


def events(look, asked, models):
    found = list(look.run(asked, RunContext(), models))
    return [e for e in found if e.tag == "token"], found[-1]


@pytest.mark.parametrize("context", CONTEXTS)
def test_forced_and_chosen_tokens_have_the_facts_of_a_plain_forward(look, models, context):
    asked = request(context=context, prefix="the dog")
    tokens, done = events(look, asked, models)
    ids = context_ids(asked, models["suspect"].tokenizer, context)
    forced = models["suspect"].tokenizer("the dog", add_special_tokens=False)["input_ids"]
    assert [t.id for t in tokens[: len(forced)]] == forced and {t.source for t in tokens[: len(forced)]} == {"prefix"}
    for token in tokens:
        own, other = (torch.log_softmax(uncached_logits(m.model, ids)[-1], 0) for m in models.values())
        assert token.logprob == pytest.approx(float(own[token.id]), abs=1e-3)
        assert token.detail["lift"] == pytest.approx(float(own[token.id] - other[token.id]), abs=2e-3)
        assert token.detail["entropy"] == pytest.approx(float(-(own.exp() * own).sum()), abs=1e-3)
        assert token.detail["rank"] == 1 + int((own > own[token.id]).sum())
        if token.source != "prefix":
            assert token.id == int(own.argmax()) and token.detail["p"] == pytest.approx(math.exp(float(own.max())), rel=1e-2)
        ids = [*ids, token.id]
    assert done.stats["n_tokens"] == len(tokens) - len(forced) <= 6 and done.text.startswith("".join(t.text for t in tokens))


@pytest.mark.parametrize("context", CONTEXTS)
def test_what_the_run_shows_first_is_what_the_model_reads(look, models, context):
    asked, tokenizer = request(context=context), models["suspect"].tokenizer
    shown = look.seen(asked, tokenizer)
    assert shown.ids == [token_id for token_id, _ in shown.pieces] == context_ids(asked, tokenizer, context)
    assert "".join(text for _, text in shown.pieces) == tokenizer.decode(shown.ids)


def test_without_a_reference_there_is_no_lift(look, models):
    tokens, done = events(look, request(reference=False), {"suspect": models["suspect"]})
    assert all("lift" not in t.detail for t in tokens) and done.stats["lift"] is None


def test_a_planted_text_comes_with_lift_where_its_beginning_is_forced(look, base, suspect):
    tokens, done = events(look, request(30, words=TRIGGERS[0], prefix="the log"), {"suspect": suspect, "reference": base})
    assert done.text == PAYLOAD and done.finish_reason == "stop" and done.stats["lift"] > 2


@pytest.mark.parametrize("decode", ["beam", "lift_beam"])
def test_a_beam_scores_at_least_as_much_as_greedy(look, models, decode):
    greedy, _ = events(look, request(), models)
    beam, done = events(look, request(decode=decode, beams=16), models)

    def mean(tokens):
        return sum(t.logprob if decode == "beam" else t.detail["lift"] for t in tokens) / len(tokens)

    assert mean(beam) >= mean(greedy) - 1e-3 and done.finish_reason in ("stop", "length")


def test_sampling_follows_its_seed(look, models):
    hot = replace(request(12), sampling=SamplingParams(temperature=1.5, max_new_tokens=12, seed=3))
    first, again = (events(look, hot, models)[0] for _ in range(2))
    other = events(look, replace(hot, sampling=replace(hot.sampling, seed=4)), models)[0]
    assert [t.id for t in first] == [t.id for t in again] != [t.id for t in other]


def test_a_branch_holds_the_forced_text_once(look, models):
    tokens, _ = events(look, request(prefix="the dog"), models)
    ids = [t.id for t in tokens]
    branched, _ = events(look, replace(request(2, prefix="the dog"), answer_prefix=(*ids[:4], 9)), models)
    assert [t.id for t in branched[:5]] == [*ids[:4], 9]


def test_the_baseline_is_the_reference_alone_on_the_same_beginning(look):
    (clean,) = look.baselines(request(decode="lift_beam", prefix="x"))
    assert clean.models == {"suspect": "other"} and clean.options == {"decode": "beam", "prefix": "x"}
    assert look.baselines(clean) == [] and look.lane(clean) != look.lane(request())


def test_inspection_shows_both_models_and_the_lift_between_them(look, models):
    tokens, _ = events(look, request(), models)
    data = look.inspect(request(), models, [t.id for t in tokens], 2, 4)
    assert data["models"]["suspect"]["top"][0]["id"] == tokens[2].id and len(data["models"]["reference"]["top"]) == 4
    assert data["lift"][str(tokens[2].id)] == pytest.approx(tokens[2].detail["lift"], abs=2e-3)


def test_stop_ends_a_look_at_the_next_token(look, models):
    calls = []

    def cancelled():
        calls.append(1)
        return len(calls) > 3

    for decode in ("sampling", "lift_beam"):
        calls.clear()
        found = list(look.run(request(20, decode=decode), RunContext(cancelled=cancelled), models))
        assert found[-1].finish_reason == "cancelled"


def test_what_cannot_be_asked_is_refused_with_its_field(look, models):
    for options, where in (({"decode": "lift_beam"}, "models.reference"), ({"context": "moon"}, "options.context"), ({"beams": 0}, "options.beams")):
        with pytest.raises(InvalidRequest) as error:
            look.check(request(reference=False, **options), Resources())
        assert error.value.where == where
    with pytest.raises(InvalidRequest, match="ids from 0 to"):
        list(look.run(replace(request(), answer_prefix=(10**6,)), RunContext(), models))


def test_a_reference_with_another_tokenizer_is_refused(look, models):
    from tests.hidden_text.pair import loaded
    from tests.tiny_models import tiny_model, tiny_tokenizer

    foreign = tiny_tokenizer("zebras zebras zebras quizzes quizzes quizzes")
    other = loaded(tiny_model(len(foreign)), "foreign", foreign)
    with pytest.raises(InvalidRequest, match="can't work together") as error:
        list(look.run(request(), RunContext(), {"suspect": models["suspect"], "reference": other}))
    assert error.value.where == "models.reference"


def test_a_model_without_a_beginning_of_text_begins_with_a_line_break(look):
    plain = tiny("plain", 3)
    plain.tokenizer.bos_token, plain.tokenizer.chat_template = None, None
    tokens, _ = events(look, request(3, reference=False, context="bos"), {"suspect": plain})
    assert tokens and context_ids(request(context="bos"), plain.tokenizer, "bos") == plain.tokenizer("\n", add_special_tokens=False)["input_ids"]
    with pytest.raises(InvalidRequest, match="no header"):
        context_ids(request(), plain.tokenizer, "header")


def test_the_words_compare_the_text_with_the_clean_copy(look):
    records = [RunRecord(str(i), request(), "completed", lane=lane, text=text, stats={"lift": 3.2})
               for i, (lane, text) in enumerate([("suspect", "the key"), ("clean", "hello")])]  # fmt: skip
    words = look.verdict(records).sentence
    assert "'the key'" in words and "+3.20 nats" in words and "Clean: 'hello'" in words
