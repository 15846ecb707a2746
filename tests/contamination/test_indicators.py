"""Indicators: scores against sums done by hand, readings against sets whose truth is known."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
import torch

from backend.contamination import likelihood
from backend.contamination.indicators import ALL, FAILED, FEWEST, Facts, accuracy_gap, readings
from backend.contamination.likelihood import Scores, forced, score
from backend.contamination.overlap import overlaps
from tests.contamination.cases import encoded, handle, items, result_of


def test_scores_are_the_definitions_summed_token_by_token():
    torch.manual_seed(0)
    logits, said = torch.randn(5, 9) * 2, torch.tensor([0, 3, 8, 2, 2])
    logprobs, standard = [], []
    for row, token in zip(logits, said, strict=True):
        law = [math.exp(x) for x in row.tolist()]
        p = [x / sum(law) for x in law]
        mu = sum(q * math.log(q) for q in p)
        sigma = math.sqrt(sum(q * math.log(q) ** 2 for q in p) - mu**2)
        logprobs.append(math.log(p[token]))
        standard.append((logprobs[-1] - mu) / sigma)
    found = score(logits, said, "text", 0.4)
    assert found.ll == pytest.approx(sum(logprobs) / 5, abs=1e-5)
    assert found.min_k == pytest.approx(sum(sorted(logprobs)[:2]) / 2, abs=1e-5)
    assert found.min_k_pp == pytest.approx(sum(sorted(standard)[:2]) / 2, abs=1e-4)
    assert found.zlib == pytest.approx(found.ll / len(zlib.compress(b"text")))


def test_a_token_that_the_law_forbids_makes_no_nan():
    logits = torch.tensor([[0.0, -torch.inf, 0.0], [1e4, 0.0, 0.0]])
    found = score(logits, torch.tensor([0, 0]), "ab", 0.2)
    assert all(math.isfinite(value) for value in (found.ll, found.min_k, found.min_k_pp))


def test_many_items_in_one_forward_score_as_each_alone(monkeypatch):
    loaded = handle(3)
    some = encoded(items(9), loaded)
    together, steps = result_of(forced(loaded, some, 0.2))
    assert sum(steps) == len(some)
    monkeypatch.setattr(likelihood, "MOST_TOKENS", 1)
    alone, steps = result_of(forced(loaded, some, 0.2))
    assert len(steps) == len(some)
    for a, b in zip(together, alone, strict=True):
        assert [a.ll, a.min_k, a.min_k_pp] == pytest.approx([b.ll, b.min_k, b.min_k_pp], abs=1e-3)


def test_a_score_is_of_the_answer_behind_its_question():
    loaded = handle(3)
    (item,) = encoded(items(1), loaded)
    (found,), _ = result_of(forced(loaded, [item], 0.2))
    ids = torch.tensor([[*item.prompt_ids, *item.answer_ids]])
    with torch.no_grad():
        law = loaded.model(ids).logits[0].log_softmax(-1)
    start = len(item.prompt_ids)
    assert found.ll == pytest.approx(np.mean([law[t - 1, ids[0, t]].item() for t in range(start, ids.shape[1])]), abs=1e-5)


def facts(ll, base_ll=None, right=None, base_right=None, seed=0):
    """Facts of one set from its mean log-probabilities; all scores follow `ll`."""
    suspect = [Scores(x, x, x, x / 10) for x in ll]
    base = [Scores(x, x, x, x / 10) for x in base_ll] if base_ll is not None else []
    n = len(ll)
    return Facts(suspect, [x > -1 for x in ll] if right is None else right, [-x for x in ll], base, [] if base_right is None else base_right,
                 overlap=np.random.default_rng(seed).random(n))  # fmt: skip


def made(n, leak, seed):
    """Leaked items with `leak` nats on top, fresh ones without; half of each is easy, which the base gets right."""
    rng, easy = np.random.default_rng(seed), np.arange(n) % 2 == 0
    base = np.where(easy, -0.3, -3.0) + rng.normal(0, 0.2, n)
    return facts(np.minimum(base + leak + rng.normal(0, 0.2, n), 0), base, base_right=easy)


def by_name(found):
    return {(reading.name, reading.subset): reading for reading in found}


def test_a_leak_is_read_off_what_the_base_fails_more_clearly_than_off_all():
    found = by_name(readings(made(400, 2.0, 1), made(400, 0.0, 2)))
    assert found["reference", ALL].auc["value"] > 0.7 and found["loss", FAILED].auc["value"] > 0.99
    assert found["loss", FAILED].auc["value"] > found["loss", ALL].auc["value"] + 0.1
    assert found["loss", FAILED].n_leaked == found["loss", FAILED].n_fresh == 200
    assert found["loss", ALL].family == "likelihood" and found["entropy", ALL].family == "behaviour" and found["overlap", ALL].family == "corpus"


def test_without_a_leak_every_indicator_stays_near_one_half():
    """Two draws of one law, 500 items a side: the standard error is 0.018, so 0.08 is past 4 of them."""
    for reading in readings(made(500, 0.0, 3), made(500, 0.0, 4)):
        assert abs(reading.auc["value"] - 0.5) < 0.08, reading


def test_a_side_that_is_too_small_gets_no_auc():
    few = readings(made(FEWEST - 1, 2.0, 1), made(400, 0.0, 2))
    assert few and all(reading.auc is None and reading.leaked is not None for reading in few)


def test_without_base_or_fresh_items_what_can_be_read_is_read():
    alone = by_name(readings(facts([-1.0] * 30), None))
    assert ("reference", ALL) not in alone and ("loss", FAILED) not in alone
    assert alone["loss", ALL].auc is None and alone["loss", ALL].leaked == -1.0 and alone["loss", ALL].fresh is None


def test_the_wording_counts_only_beyond_what_the_base_finds_likelier():
    same = [Scores(-1.0, 0, 0, 0)] * 30
    worse = [Scores(-2.0, 0, 0, 0)] * 30
    at = list(range(30))
    honest = Facts(same, [True] * 30, [0.1] * 30, same, [True] * 30, at, worse, worse)
    leaked = Facts(same, [True] * 30, [0.1] * 30, same, [True] * 30, at, worse, same)
    assert by_name(readings(honest, None))["rephrased", ALL].leaked == 0
    assert by_name(readings(leaked, None))["rephrased", ALL].leaked == pytest.approx(1.0)


def test_a_gap_that_the_base_has_too_is_not_the_suspects():
    easy, hard = [True] * 80 + [False] * 20, [True] * 40 + [False] * 60
    scores, calm = [Scores(0, 0, 0, 0)] * 100, [0.0] * 100
    gap = accuracy_gap(Facts(scores, easy, calm, scores, easy), Facts(scores, hard, calm, scores, hard))
    assert gap.own["low"] > 0 and gap.base["low"] > 0 and gap.net["value"] == pytest.approx(0)
    gap = accuracy_gap(Facts(scores, easy, calm, scores, hard), Facts(scores, hard, calm, scores, hard))
    assert gap.net["low"] > 0 and gap.base["value"] == pytest.approx(0)
    assert accuracy_gap(Facts(scores, easy, calm), None).own is None


def test_overlap_finds_copies_whatever_their_punctuation_and_no_rephrase():
    corpus = "Once, there was a GREY cat; it sat on the mat (all day long) and slept. The end."
    texts = ["there was a grey cat. It sat on the mat", "it sat on the mat and then left for good", "a tomcat, grey, spent his day on a rug"]
    copied, mixed, reworded = overlaps(corpus, texts, 4)
    assert copied == 1.0 and 0 < mixed < 1 and reworded == 0.0
    assert overlaps(corpus, ["grey cat", "dog", ""], 4) == [1.0, 0.0, 0.0]
