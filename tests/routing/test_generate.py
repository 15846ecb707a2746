"""The routed loop against slow oracles: the library's `generate`, a full recomputation at every token, the large model teacher-forced."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest
import torch

import backend.routing
from backend.errors import InvalidRequest
from backend.routing.request import LARGE, SMALL, replay
from backend.routing.strategies import seeded
from backend.sampling import choose
from backend.types import Control, Finding, RunContext
from tests.families import POSITIONS, uncached_logits
from tests.routing.pair import STOP, done, events, handle, ids, long_llama, opinions, pair, request, tokens, word, word_tokenizer

PROMPT = [5, 9, 11]
PAIRS = [("llama", "qwen3"), ("gpt2", "gemma3"), ("mistral", "llama")]
RECURRENT = [("mamba", "llama"), ("llama", "qwen3_5")]  # nothing is ever rolled back, so these may take part
TIMES = {"spans", "ms_per_token", "tokens_per_s", "ttft_ms", "predicted_speedup", "predicted_from"}


def library(model, n, stop_ids=(STOP,)):
    with torch.inference_mode():
        out = model.generate(torch.tensor([PROMPT]), max_new_tokens=n, do_sample=False, pad_token_id=0, eos_token_id=list(stop_ids))
    return out[0, len(PROMPT) :].tolist()


def plain(found):
    """Everything that a repeated run must repeat: all but the times."""
    rows = [(t.id, t.text, t.logprob, t.source, {k: v for k, v in t.detail.items() if k != "spans"}) for t in tokens(found)]
    return rows, opinions(found), {k: v for k, v in done(found).stats.items() if k not in TIMES}


@pytest.mark.parametrize(("small", "large"), PAIRS)
def test_always_is_the_librarys_large_and_never_its_small(small, large):
    models = pair(small, large)
    assert ids(events(models, request("always"))) == library(models[LARGE].model, 40)
    assert ids(events(models, request("never"))) == library(models[SMALL].model, 40)
    assert ids(events(models, request("entropy", threshold=0.0))) == library(models[LARGE].model, 40)
    assert ids(events(models, request("entropy", threshold=15.0))) == library(models[SMALL].model, 40)


@pytest.mark.parametrize(("small", "large"), PAIRS + RECURRENT)
@pytest.mark.parametrize("share", [0.13, 0.5, 1.0])
@pytest.mark.parametrize("temperature", [0.0, 1.2])
def test_the_cached_run_is_a_full_recomputation_at_every_token(small, large, share, temperature):
    """Random routing, decided again here from the same seed; every token chosen again from uncached logits with the same draws."""
    models, asked = pair(small, large), request("random", threshold=1 - share, temperature=temperature)
    found = events(models, asked)
    chance = {role: torch.Generator().manual_seed(seeded(3, role)) for role in (SMALL, LARGE)}
    lots, seq = random.Random(seeded(3, "random routing")), list(PROMPT)
    for token in tokens(found):
        rows = {role: uncached_logits(models[role].model, seq)[-1] for role in models}
        proposal = choose(rows[SMALL], asked.sampling, None, chance[SMALL])
        to_large = lots.random() >= 1 - share
        expected = choose(rows[LARGE], asked.sampling, None, chance[LARGE]) if to_large else proposal
        assert (token.id, token.source) == (expected, LARGE if to_large else SMALL)
        law = torch.log_softmax(rows[token.source], 0)
        assert token.logprob == pytest.approx(law[token.id].item(), abs=2e-4)
        assert token.detail["entropy"] == pytest.approx(torch.distributions.Categorical(logits=rows[SMALL]).entropy().item(), abs=2e-4)
        assert token.detail.get("proposal", [token.id])[0] == proposal and ("proposal" in token.detail) == (proposal != token.id)
        seq.append(token.id)
    said = [i for i in seq[len(PROMPT) :] if i != STOP]  # a stop id has no text
    assert done(found).text == models[LARGE].tokenizer.decode(said)


@pytest.mark.parametrize("strategy", ["entropy", "margin", "top1", "random", "oracle", "every_k"])
def test_with_one_model_twice_the_text_does_not_depend_on_who_is_asked(strategy):
    one = handle("llama", 1)
    found = events({SMALL: one, LARGE: one}, request(strategy, every=3))
    assert ids(found) == library(one.model, 40)
    assert all(o["agree"] for o in opinions(found)) and done(found).stats["agreement"] in (1.0, None)
    warnings = [e.data["text"] for e in found if isinstance(e, Finding) and e.kind == "warning"]
    assert len(warnings) == 1 and "same one" in warnings[0]


@pytest.mark.parametrize("strategy", ["random", "entropy"])
def test_a_sampled_run_repeats_with_its_seed_and_not_with_another(strategy):
    models, asked = pair(), request(strategy, temperature=1.0, threshold=0.6)
    assert plain(events(models, asked)) == plain(events(models, asked))
    other = replace(asked, sampling=replace(asked.sampling, seed=4))
    assert ids(events(models, asked)) != ids(events(models, other))


@pytest.mark.parametrize("strategy", ["entropy", "random", "never", "oracle", "every_k"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_small_token_gets_the_opinion_of_the_large_model_teacher_forced(strategy, temperature):
    models = pair("mistral", "gemma3")
    found = events(models, request(strategy, temperature=temperature, threshold=0.7 if strategy == "random" else 2.5))
    said, answer = {o["position"]: o for o in opinions(found)}, ids(found)
    assert len(said) == len(opinions(found)) and set(said) == {t.position for t in tokens(found) if t.source == SMALL}
    rows = uncached_logits(models[LARGE].model, PROMPT + answer)
    for position, told in said.items():
        law = torch.log_softmax(rows[len(PROMPT) + position - 1], 0)
        assert told["id"] == int(law.argmax()) and told["text"] == word(told["id"])
        assert told["p_small_token"] == pytest.approx(law[answer[position]].exp().item(), abs=1e-4)
        assert told["agree"] == (told["id"] == answer[position])
    stats = done(found).stats
    assert stats["n_opinions"] == len(said)
    assert stats["agreement"] == (pytest.approx(sum(o["agree"] for o in said.values()) / len(said), abs=1e-4) if said else None)


def test_opinions_of_a_gap_longer_than_one_piece_are_the_same(monkeypatch):
    models = pair()
    whole = opinions(events(models, request("never")))
    monkeypatch.setattr("backend.routing.sides.CHUNK", 7)
    monkeypatch.setattr("backend.routing.generate.CHUNK", 7)
    assert whole and opinions(events(models, request("never"))) == whole
    assert plain(events(models, request("every_k", every=18)))[0] == plain(events(models, request("every_k", every=18, opinions=False)))[0]


def test_without_opinions_nothing_is_read_after_the_answer():
    models = pair()
    with_them, without = events(models, request("entropy")), events(models, request("entropy", opinions=False))
    assert plain(with_them)[0] == plain(without)[0] and not opinions(without)
    assert done(without).stats["agreement"] is None and done(without).stats["spans"]["opinions"] == 0


@pytest.mark.parametrize("strategy", ["entropy", "random", "every_k", "oracle", "always", "never"])
def test_the_figures_are_those_of_the_tokens(strategy):
    found = events(pair(), request(strategy, threshold=0.5 if strategy == "random" else 2.0, every=3))
    stats, large = done(found).stats, [t for t in tokens(found) if t.source == LARGE]
    assert (stats["n_tokens"], stats["large_tokens"]) == (len(tokens(found)), len(large))
    assert stats["share"] == pytest.approx(len(large) / len(tokens(found)), abs=1e-4)
    gaps = [t.detail["gap"] for t in large]
    assert stats["gaps"] == {"mean": round(sum(gaps) / len(gaps), 2), "max": max(gaps)} if gaps else {"mean": None, "max": None}
    params = stats["params"]
    assert stats["activated_params"]["paper"] == pytest.approx(params["small"] + stats["share"] * params["large"], rel=1e-3)
    assert stats["activated_params"]["recorder"] == pytest.approx((1 - stats["share"]) * params["small"] + stats["share"] * params["large"], rel=1e-3)


def test_the_gap_is_what_the_large_model_had_not_read():
    """After the prefill every id is read once, in the forwards of the large tokens."""
    found = events(pair(), request("every_k", every=5, n=30))
    large = [t for t in tokens(found) if t.source == LARGE]
    assert [t.position for t in large] == list(range(4, 30, 5))[: len(large)]
    assert [t.detail["gap"] for t in large] == [4] + [5] * (len(large) - 1)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_oracle_asks_the_large_model_exactly_where_their_favourites_differ(temperature):
    models = pair()
    found, seq = events(models, request("oracle", temperature=temperature)), list(PROMPT)
    for token in tokens(found):
        small, large = (int(uncached_logits(models[role].model, seq)[-1].argmax()) for role in (SMALL, LARGE))
        assert token.source == (LARGE if small != large else SMALL) and (token.id == large or temperature)
        seq.append(token.id)
    assert temperature or ids(found) == library(models[LARGE].model, 40)


class Mailbox:
    """A page that moves the threshold before the given tokens."""

    def __init__(self, moves):
        self.moves, self.calls = moves, -1

    def __call__(self):
        self.calls += 1
        return {"threshold": self.moves[self.calls]} if self.calls in self.moves else {}


@pytest.mark.parametrize("options", [{"threshold": 2.0}, {"target_fraction": 0.3}])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_threshold_moved_while_it_runs_is_recorded_and_replays_identically(options, temperature):
    models, asked = pair(), request("entropy", temperature=temperature, **options)
    still = events(models, asked)
    moved = events(models, asked, RunContext(control=Mailbox({6: 0.0, 13: 15.0})))
    controls = [e for e in moved if isinstance(e, Control)]
    assert [(e.name, e.value, e.position) for e in controls] == [("threshold", 0.0, 6), ("threshold", 15.0, 13)]
    assert ids(moved)[:6] == ids(still)[:6]
    assert [t.source for t in tokens(moved)][6:] == [LARGE] * 7 + [SMALL] * (len(tokens(moved)) - 13)
    lines = [{"event": e.tag, "name": getattr(e, "name", ""), "value": getattr(e, "value", 0), "position": getattr(e, "position", 0)} for e in moved]
    again = events(models, replay(asked, lines), RunContext(control=Mailbox({2: 0.0})))
    assert plain(again) == plain(moved) and [e for e in again if isinstance(e, Control)] == controls
    assert done(moved).stats["threshold"] == 15.0
    branch = replace(replay(asked, lines), answer_prefix=tuple(ids(moved)[:10]))
    assert [t.source for t in tokens(events(models, branch))][10:16] == [LARGE] * 3 + [SMALL] * 3


def test_a_control_that_makes_no_sense_is_told_and_changes_nothing():
    models = pair()
    still = plain(events(models, request("entropy")))
    for mail in ({"threshold": -1.0}, {"threshold": "high"}, {"colour": 3}):
        found = events(models, request("entropy"), RunContext(control=lambda mail=mail: mail))
        assert plain(found) == still and any(isinstance(e, Finding) and e.kind == "warning" for e in found)
        assert not any(isinstance(e, Control) for e in found)
    same = events(models, request("entropy"), RunContext(control=lambda: {"threshold": 0.5}))
    assert not any(isinstance(e, (Control,)) for e in same) and plain(same) == still


def test_a_forced_token_is_said_by_whom_it_was_asked_and_the_rest_follows():
    models = pair()
    base = events(models, request("entropy", threshold=2.5))
    sources = [t.source for t in tokens(base)]
    at = {SMALL: sources.index(SMALL), LARGE: sources.index(LARGE)}
    for was, role in ((SMALL, LARGE), (LARGE, SMALL)):
        found = events(models, request("entropy", threshold=2.5, force=[[at[was], role]]))
        token = tokens(found)[at[was]]
        assert ids(found)[: at[was]] == ids(base)[: at[was]] and token.source == role
        assert token.detail["forced"] is True and token.detail["routed"] == (was == LARGE)
        row = uncached_logits(models[role].model, PROMPT + ids(found)[: at[was]])[-1]
        assert token.id == int(row.argmax())
        branched = events(models, request("entropy", threshold=2.5, force=[[at[was], role]], prefix=tuple(ids(base)[: at[was]])))
        assert ids(branched)[:40] == ids(found)


@pytest.mark.parametrize("strategy", ["always", "never"])
def test_a_lane_of_one_model_can_be_forced_to_the_other(strategy):
    models, other = pair(), SMALL if strategy == "always" else LARGE
    found = events(models, request(strategy, n=12, force=[[4, other]]))
    seq = list(PROMPT)
    for token in tokens(found):
        role = other if token.position == 4 else (LARGE if strategy == "always" else SMALL)
        assert token.source == role and token.id == int(uncached_logits(models[role].model, seq)[-1].argmax())
        seq.append(token.id)


@pytest.mark.parametrize(("small", "large"), [PAIRS[0], *RECURRENT])
@pytest.mark.parametrize("strategy", ["entropy", "every_k", "oracle", "always", "never"])
def test_going_on_from_any_token_gives_the_same_rest(strategy, small, large):
    models = pair(small, large)
    whole = events(models, request(strategy, n=30, threshold=2.5))
    answer = ids(whole)
    for cut in (1, len(answer) // 2, len(answer) - 1):
        found = events(models, request(strategy, n=30 - cut, threshold=2.5, prefix=tuple(answer[:cut])))
        assert ids(found) == answer and [t.source for t in tokens(found)][:cut] == ["prefix"] * cut
        assert [t.source for t in tokens(found)][cut:] == [t.source for t in tokens(whole)][cut:]
        assert done(found).stats["n_tokens"] == len(answer) - cut and done(found).text == done(whole).text
        for before, after in zip(tokens(whole)[:cut], tokens(found)[:cut], strict=True):
            assert before.detail.get("entropy", 0) == pytest.approx(after.detail.get("entropy", 0), abs=2e-4)
            assert before.source == LARGE and strategy != "always" or after.logprob == pytest.approx(before.logprob, abs=2e-4)
        if strategy != "always":
            known = {o["position"]: o["p_small_token"] for o in opinions(whole)}
            again = {o["position"]: o["p_small_token"] for o in opinions(found)}
            assert set(again) >= set(range(cut)) and all(again[p] == pytest.approx(known[p], abs=1e-4) for p in known)


def test_with_no_new_tokens_the_prefix_is_only_read():
    found = events(pair(), request("entropy", n=0, prefix=(7, 8, 9)))
    assert ids(found) == [7, 8, 9] and done(found).finish_reason == "length" and done(found).stats["n_tokens"] == 0
    assert [o["position"] for o in opinions(found)] == [0, 1, 2]


def test_a_stop_id_of_either_model_ends_the_answer():
    free = events(pair(stop_ids=()), request("every_k", every=4))
    assert done(free).finish_reason == "length" and len(ids(free)) == 40
    for role in (SMALL, LARGE):
        token = next(t for t in tokens(free)[5:] if t.source == role and t.id not in ids(free)[: t.position])
        models = pair(stop_ids=())
        models[LARGE if role == SMALL else SMALL].stop_ids = (token.id,)
        found = events(models, request("every_k", every=4))
        assert ids(found) == ids(free)[: token.position + 1] and done(found).finish_reason == "stop"
        assert tokens(found)[-1].detail["end"] is True
        stopped = events(models, request("every_k", prefix=tuple(ids(found))))
        assert done(stopped).finish_reason == "stop" and len(tokens(stopped)) == len(tokens(found))


def test_ids_that_only_padding_has_are_never_said_and_never_anyones_favourite():
    """Half of both heads is padding; random rows there would win about every second token."""
    models = {SMALL: handle("s", model=long_llama(1, 1, rows=122)), LARGE: handle("l", model=long_llama(2, 2, rows=100))}
    for temperature in (0.0, 1.0):
        found = events(models, request("every_k", every=2, temperature=temperature))
        assert max(ids(found)) < 61 and max(o["id"] for o in opinions(found)) < 61
        assert all(t.detail.get("proposal", [0])[0] < 61 for t in tokens(found))
    bare = uncached_logits(models[SMALL].model, PROMPT + ids(found))
    assert int(bare.argmax(-1).max()) >= 61


def test_an_id_that_only_one_of_them_knows_is_said_by_nobody_or_by_its_owner_as_a_stop():
    """The large model's commonest word means something else to the small one; it is a stop id of the small one at most."""
    models = pair(stop_ids=())
    answer = ids(events(models, request("always")))
    common = max(set(answer), key=answer.count)
    models[SMALL].tokenizer = word_tokenizer(renamed=common)
    for stops in ((), (common,)):
        models[SMALL].stop_ids = stops
        for strategy in ("always", "every_k", "oracle"):
            found = events(models, request(strategy, every=2))
            assert all(t.id != common for t in tokens(found) if t.source == LARGE or not stops)
            assert all(o["id"] != common for o in opinions(found))
    assert any(isinstance(e, Finding) and "known to" in e.data.get("text", "") for e in found)


def test_the_answer_ends_where_the_shorter_context_does():
    models = {SMALL: handle("llama", 1, ()), LARGE: handle("l", 2, (), long_llama(2, 2))}
    found = events(models, request("every_k", n=400))
    assert len(ids(found)) == POSITIONS + 1 - len(PROMPT) and done(found).finish_reason == "length"
    assert any("end of the context" in e.data.get("text", "") for e in found if isinstance(e, Finding))
    with pytest.raises(InvalidRequest, match="at most 128 tokens"):
        events(models, request("every_k", prefix=(5,) * POSITIONS))


def test_a_cancelled_run_says_so_keeps_its_text_and_reads_nothing_more():
    seen = []

    def cancelled():
        seen.append(1)
        return len(seen) > 4

    found = events(pair(), request("never"), RunContext(cancelled=cancelled))
    assert done(found).finish_reason == "cancelled" and len(tokens(found)) == 4 and not opinions(found)
    assert done(found).text == " ".join(t.text.strip() for t in tokens(found))


@pytest.mark.parametrize("strategy", ["entropy", "random"])
@pytest.mark.parametrize("target", [0.05, 0.3])
def test_a_target_is_met_within_two_points_over_five_hundred_tokens(strategy, target):
    models = {SMALL: handle("s", 1, (), long_llama(1, 1)), LARGE: handle("l", 2, (), long_llama(2, 1))}
    asked = request(strategy, n=520, temperature=1.0, target_fraction=target, opinions=False)
    stats = done(events(models, asked)).stats
    assert stats["n_tokens"] == 520 and abs(stats["share"] - target) <= 0.02 and "threshold" not in stats


class Doubtful:
    """A router that asks for the large model after every token with an even id; notes what it was given."""

    n_parameters = 7

    def __init__(self):
        self.given = []

    def score(self, logits, hidden, token_ids):
        self.given.append((logits.clone(), hidden.clone(), int(token_ids)))
        return (token_ids % 2 == 0).float() * 0.8 + 0.1


def test_the_router_sees_the_small_models_own_step_and_its_word_counts():
    models, router = pair(), Doubtful()
    found, seq = events(models, request("neural"), router=router), list(PROMPT)
    for token, (logits, hidden, proposal) in zip(tokens(found), router.given, strict=True):
        with torch.inference_mode():
            out = models[SMALL].model(torch.tensor([seq]), output_hidden_states=True)
        torch.testing.assert_close(logits, out.logits[0, -1:], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(hidden, out.hidden_states[-1][0, -1:], atol=1e-4, rtol=1e-4)
        assert proposal == int(out.logits[0, -1].argmax())
        assert token.source == (LARGE if proposal % 2 == 0 else SMALL)
        assert token.detail["score"] == pytest.approx(0.9 if proposal % 2 == 0 else 0.1)
        seq.append(token.id)
    assert done(found).stats["params"]["router"] == 7
    assert {t.source for t in tokens(found)} == {SMALL, LARGE}
    with pytest.raises(ValueError, match="router must be"):
        events(models, request("neural"))


def test_every_key_is_listed_where_the_package_says_what_it_tells():
    groups = re.findall(r"\{([\w,\s]+)\}", backend.routing.__doc__)
    listed = set(re.findall(r"`(\w+)`", backend.routing.__doc__)) | set(re.findall(r"\w+", " ".join(groups)))
    models, told = pair(), set()
    runs = [events(models, request(s, n=12, force=[[1, "large"]], prefix=(4,))) for s in ("entropy", "oracle", "always", "never")]
    runs.append(events(models, request("neural", n=12), router=Doubtful()))
    runs.append(events(models, request("random", target_fraction=0.5)))
    for found in runs:
        told |= {key for t in tokens(found) for key in t.detail} | {t.source for t in tokens(found)}
        told |= {key for t in tokens(found) for key in t.detail.get("spans", {})} | set(done(found).stats)
        told |= {key for value in done(found).stats.values() if isinstance(value, dict) for key in value}
        told |= {e.kind for e in found if isinstance(e, Finding)} | {key for o in opinions(found) for key in o}
    assert {"forced", "proposal", "gap", "score"} <= told <= listed, told - listed
