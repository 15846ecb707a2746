"""The structured lane, on a tiny random model: what it reports is what a second, slower computation says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from backend.errors import InvalidRequest
from backend.prompt import render
from backend.sampling import choose
from backend.structured.engine import GrammarEngine
from backend.structured.method import inspect, method, run
from backend.structured.request import Options, baselines
from backend.types import Done, Prompt, RunContext, RunRequest, SamplingParams, Token

GRAMMARS = {
    "regex": r"(yes|no), [0-9]{2}(th|st)?",
    "ebnf": 'root ::= "(" item ("," item)* ")"\nitem ::= [a-c]+ | "x"',
    "json_schema": '{"type":"object","properties":{"ok":{"type":"boolean"},"n":{"enum":[1,22,"three"]}},"required":["ok","n"]}',
}


def request(kind="regex", grammar=None, n=40, temperature=0.0, prefix=(), **options):
    options = {"kind": kind, "grammar": GRAMMARS.get(kind, "") if grammar is None else grammar, **options}
    sampling = SamplingParams(temperature=temperature, max_new_tokens=n, seed=3)
    return RunRequest("structured", Prompt.user("the cat"), {"target": "tiny"}, sampling, options, prefix)


def done_and_tokens(handle, asked, context=None):
    events = list(run(asked, context or RunContext(), {"target": handle}))
    assert isinstance(events[-1], Done)
    return events[-1], [e for e in events if isinstance(e, Token)]


def law(handle, ids):
    with torch.inference_mode():
        return handle.model(torch.tensor([ids])).logits[0, -1].float()


@pytest.mark.parametrize("kind", list(GRAMMARS))
@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_a_finished_answer_is_valid_by_the_judge_and_its_text_is_its_tokens(tiny_handle, kind, temperature):
    done, tokens = done_and_tokens(tiny_handle, request(kind, temperature=temperature, n=120))
    assert done.finish_reason in ("stop", "length")
    assert done.text == "".join(t.text for t in tokens)
    if done.finish_reason == "stop":
        assert done.stats["valid"], done
    assert not any(special in done.text for special in tiny_handle.tokenizer.all_special_tokens)


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_every_number_of_a_token_agrees_with_the_uncached_model_and_a_fresh_mask(tiny_handle, temperature):
    asked = request("json_schema", temperature=temperature)
    done, tokens = done_and_tokens(tiny_handle, asked)
    engine = GrammarEngine(tiny_handle.tokenizer, tiny_handle.vocab_size, tiny_handle.stop_ids)
    prompt, generator = render(asked.prompt, tiny_handle.tokenizer).ids, torch.Generator().manual_seed(3)
    taken = 0.0
    with engine.session(Options(**asked.options).to_grammar()) as session:
        for i, token in enumerate(tokens):
            before = [t.id for t in tokens[:i]]
            allowed = session.reset(before).allowed.clone()
            logits = law(tiny_handle, prompt + before)
            kept = logits.softmax(0)[allowed].sum().item()
            taken -= math.log(kept)
            assert token.id == choose(logits, asked.sampling, allowed, generator)
            assert token.detail["allowed"] == int(allowed.sum())
            assert token.detail["kept"] == pytest.approx(kept, rel=1e-3)
            assert token.logprob == pytest.approx(logits.log_softmax(0)[token.id].item(), abs=1e-4)
            refused = not bool(allowed[logits.argmax()])
            assert (token.source == "overridden") == refused == ("wanted" in token.detail)
            assert token.source != "only" or int(allowed.sum()) == 1
    engine.close()
    assert done.stats["taken_nats"] == pytest.approx(taken, rel=1e-2)
    assert done.stats["overridden"] == sum(t.source == "overridden" for t in tokens)


def test_without_a_grammar_the_lane_is_plain_greedy_decoding(tiny_handle):
    asked = request(n=12, constrain="none")
    _, tokens = done_and_tokens(tiny_handle, asked)
    ids = render(asked.prompt, tiny_handle.tokenizer).ids
    expected = tiny_handle.model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False, pad_token_id=0, eos_token_id=2)
    assert [t.id for t in tokens] == expected[0, len(ids) :].tolist()
    assert all(t.source == "model" and "allowed" not in t.detail for t in tokens)


def test_going_on_from_any_token_gives_the_same_rest(tiny_handle):
    """Greedy, so that the continuation does not depend on earlier draws."""
    done, tokens = done_and_tokens(tiny_handle, request("json_schema"))
    for cut in (1, len(tokens) // 2, len(tokens) - 1):
        prefix = tuple(t.id for t in tokens[:cut])
        again, more = done_and_tokens(tiny_handle, request("json_schema", prefix=prefix))
        assert [t.id for t in more] == [t.id for t in tokens] and again.text == done.text
        assert [t.source for t in more[:cut]] == ["prefix"] * cut and [t.source for t in more[cut:]] == [t.source for t in tokens[cut:]]
        assert again.stats["n_tokens"] == len(tokens) - cut


def test_with_no_new_tokens_the_prefix_is_only_read(tiny_handle):
    _, tokens = done_and_tokens(tiny_handle, request("json_schema"))
    done, read = done_and_tokens(tiny_handle, request("json_schema", n=0, prefix=tuple(t.id for t in tokens[:3])))
    assert [t.id for t in read] == [t.id for t in tokens[:3]] and done.finish_reason == "length" and done.stats["n_tokens"] == 0


def test_after_a_stop_token_nothing_more_comes(tiny_handle):
    whole, tokens = done_and_tokens(tiny_handle, request("regex"))
    done, read = done_and_tokens(tiny_handle, request("regex", prefix=tuple(t.id for t in tokens)))
    assert whole.finish_reason == done.finish_reason == "stop" and len(read) == len(tokens) and done.stats["valid"]


def test_a_prefix_that_the_grammar_refuses_is_refused_by_name(tiny_handle):
    with pytest.raises(InvalidRequest, match="does not allow"):
        list(run(request("regex", prefix=(tiny_handle.tokenizer.convert_tokens_to_ids("z"),)), RunContext(), {"target": tiny_handle}))


def test_a_dead_end_is_said_where_it_is_and_no_token_is_made_up(tiny_handle):
    done, tokens = done_and_tokens(tiny_handle, request("ebnf", 'root ::= "ab" loop\nloop ::= loop "c"'))
    assert done.finish_reason == "dead_end" and done.stats["state"] == "dead_end" and not done.stats["valid"]
    assert done.text == "ab"[: len(done.text)]


def test_a_cut_answer_is_truncated_and_not_called_invalid(tiny_handle):
    done, _ = done_and_tokens(tiny_handle, request("json_schema", n=3))
    assert (done.finish_reason, done.stats["state"], done.stats["valid"]) == ("length", "truncated", False)


def test_a_cancelled_run_says_so_and_keeps_its_text(tiny_handle):
    asked, seen = request("json_schema", n=50), []

    def cancelled():
        seen.append(1)
        return len(seen) > 4

    done, tokens = done_and_tokens(tiny_handle, asked, RunContext(cancelled=cancelled))
    assert done.finish_reason == "cancelled" and len(tokens) == 4 and done.text == "".join(t.text for t in tokens)


def test_looking_inside_shows_what_was_cut_and_why(tiny_handle):
    asked = request("regex", n=20)
    _, tokens = done_and_tokens(tiny_handle, asked)
    ids = [t.id for t in tokens]
    seen = inspect(asked, {"target": tiny_handle}, ids, 0, 10)
    top = seen["models"]["target"]["top"]
    assert seen["allowed"] == tokens[0].detail["allowed"] and seen["kept"] == pytest.approx(tokens[0].detail["kept"], rel=1e-3)
    assert [row["p"] for row in top[:10]] == sorted((row["p"] for row in top[:10]), reverse=True)
    assert {row["cut"] for row in top} <= {None, "grammar", "top_k", "top_p", "greedy"} and any(row["cut"] == "grammar" for row in top)
    chosen = next(row for row in top if row["id"] == ids[0])
    assert chosen["final_p"] == 1.0 and chosen["cut"] is None


def test_the_baselines_differ_in_one_thing_each():
    asked = request("json_schema")
    free, told = baselines(asked)
    assert free == replace(asked, options={**asked.options, "constrain": "none"})
    assert told.options["constrain"] == "prompt" and GRAMMARS["json_schema"] in told.prompt.text
    assert replace(told, prompt=asked.prompt, options=asked.options) == asked
    assert baselines(free) == [] and [method().lane(r) for r in (asked, free, told)] == [
        "with grammar", "without grammar", "schema in the prompt"]  # fmt: skip


def test_a_valid_answer_in_a_code_fence_counts_for_the_free_lane_only(tiny_handle):
    from backend.structured.judge import judge

    text = 'Here it is:\n```json\n{"ok": true, "n": 22}\n```'
    engine = GrammarEngine(tiny_handle.tokenizer, tiny_handle.vocab_size, tiny_handle.stop_ids)
    schema = {"kind": "json_schema", "grammar": GRAMMARS["json_schema"]}
    assert judge(Options(**schema, constrain="none"), engine, tiny_handle, text, "stop").state == "valid"
    assert judge(Options(**schema), engine, tiny_handle, text, "stop").state == "not_json"
    ebnf = Options(kind="ebnf", grammar=GRAMMARS["ebnf"])
    assert [judge(ebnf, engine, tiny_handle, t, "stop").state for t in ("(ab,x)", "(ab,", "(q)", "")] == ["valid", "invalid", "invalid", "invalid"]
    engine.close()
