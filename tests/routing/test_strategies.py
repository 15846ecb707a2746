"""Scores against the library's distributions; thresholds and budgets on streams of scores of every shape."""

from __future__ import annotations

import math
import random

import pytest
import torch

from backend.routing.request import SCORED, Options
from backend.routing.strategies import Budget, Proposal, Strategy, propose, seeded
from backend.sampling import choose
from backend.types import SamplingParams

GREEDY = SamplingParams()


def step(**facts):
    return Proposal(**{"token_id": 4, "logprob": -1.0, "entropy": 1.5, "best": 0.6, "second": 0.25, "router": 0.3, **facts})


@pytest.mark.parametrize("width", [2, 61, 5000])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_what_is_known_of_a_step_agrees_with_the_library(width, temperature):
    params = SamplingParams(temperature=temperature, top_p=0.9)
    for seed in range(5):
        row = torch.randn(1, width, generator=torch.Generator().manual_seed(seed)) * 3
        told = propose(row, params, torch.Generator().manual_seed(7), None, None)
        law = torch.distributions.Categorical(logits=row[0].double())
        best = law.probs.sort(descending=True).values.tolist()
        assert told.token_id == choose(row[0], params, None, torch.Generator().manual_seed(7))
        assert told.entropy == pytest.approx(law.entropy().item(), abs=1e-4)
        assert (told.best, told.second) == (pytest.approx(best[0], rel=1e-4), pytest.approx(best[1], rel=1e-4))
        assert told.logprob == pytest.approx(law.log_prob(torch.tensor(told.token_id)).item(), abs=1e-4)
        given = propose(row, params, torch.Generator(), None, None, token_id=1)
        assert given.token_id == 1 and given.logprob == pytest.approx(law.logits[1].item(), abs=1e-4)


def test_the_first_of_equal_favourites_is_proposed_as_the_library_does():
    row = torch.zeros(1, 61)
    row[0, [7, 20, 40]] = 5.0
    assert propose(row, GREEDY, torch.Generator(), None, None).token_id == int(row[0].argmax()) == 7


def test_masked_ids_and_certainty_leave_numbers():
    row = torch.full((1, 10), -1e30)
    row[0, 3] = 50.0
    told = propose(row, GREEDY, torch.Generator(), None, None)
    assert (told.token_id, told.entropy, told.best, told.second, told.logprob) == (3, 0.0, 1.0, 0.0, 0.0)


@pytest.mark.parametrize("bad", ["logits", "router"])
def test_what_is_not_a_number_is_refused(bad):
    row = torch.zeros(1, 8)
    if bad == "logits":
        row[0, 2] = math.nan
    with pytest.raises(ValueError, match="must be numbers"):
        propose(row, GREEDY, torch.Generator(), lambda *_: torch.tensor([math.nan]), torch.zeros(1, 2))


def test_every_score_rises_with_doubt():
    sure, unsure = step(entropy=0.1, best=0.97, second=0.02, router=0.01), step(entropy=2.0, best=0.3, second=0.29, router=0.8)
    for name in ("neural", "entropy", "margin", "top1"):
        strategy = Strategy(Options(strategy=name), 0)
        assert strategy.score(sure) < strategy.score(unsure)
    assert Strategy(Options(strategy="margin"), 0).score(step()) == pytest.approx(0.65)
    assert Strategy(Options(strategy="top1"), 0).score(step()) == pytest.approx(0.4)
    assert all(Strategy(Options(strategy=name), 0).score(step()) is None for name in ("oracle", "every_k", "always", "never"))


@pytest.mark.parametrize("name", list(SCORED))
def test_the_share_falls_with_the_threshold_from_all_to_hardly_any(name):
    rng = random.Random(5)
    steps = [step(entropy=rng.expovariate(1), best=0.5 + rng.random() / 2, second=rng.random() / 4, router=rng.random()) for _ in range(400)]
    shares = []
    for i in range(9):
        strategy = Strategy(Options(strategy=name, threshold=SCORED[name] * i / 8), 1)
        shares.append(sum(strategy.wants_large(p, strategy.score(s), False) for p, s in enumerate(steps)) / 400)
    assert shares[0] == 1.0 and shares == sorted(shares, reverse=True) and shares[-1] <= 0.01


def test_random_routing_takes_its_share_and_repeats_with_its_seed():
    """2,000 tokens at one in four: 25 % ± 4 standard errors (odds of a false alarm below 1 in 10,000)."""

    def lots(seed):
        strategy = Strategy(Options(strategy="random", threshold=0.75), seed)
        return [strategy.wants_large(p, strategy.score(step()), False) for p in range(2000)]

    assert lots(1) == lots(1) != lots(2)
    assert abs(sum(lots(1)) / 2000 - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 2000)


def test_seeds_of_different_purposes_differ_also_where_torch_reads_only_half_of_them():
    seeds = {seeded(seed, purpose) for seed in (0, 1, 2**32, 2**53) for purpose in ("small", "large", "random routing")}
    assert len(seeds) == 12 and all(0 <= s < 2**32 for s in seeds)


def test_plain_rules_do_what_their_names_say():
    def large(name, n=9, **more):
        strategy = Strategy(Options(strategy=name, **more), 0)
        return [strategy.wants_large(p, strategy.score(step()), p % 2 == 1) for p in range(n)]

    assert large("every_k", every=3) == [False, False, True] * 3
    assert large("always") == [True] * 9 and large("never") == [False] * 9
    assert large("oracle") == [p % 2 == 1 for p in range(9)]
    assert not Strategy(Options(strategy="always"), 0).needs_small and not Strategy(Options(strategy="never"), 0).needs_large
    assert Strategy(Options(strategy="never", force=[[3, "large"]]), 0).needs_large


def streams():
    """Six hundred scores each: shapes that a budget may meet."""
    rng = random.Random(11)
    flat = [rng.random() for _ in range(600)]
    return {
        "flat": flat,
        "heavy": [rng.expovariate(1) ** 3 for _ in range(600)],
        "rising": [i / 100 + rng.random() for i in range(600)],
        "falling": [(600 - i) / 100 + rng.random() for i in range(600)],
        "blocks": [rng.random() + (3 if i // 100 % 2 else 0) for i in range(600)],
        "mostly nothing": [rng.random() if rng.random() < 0.3 else 0.0 for _ in range(600)],
        "all equal": [0.5] * 600,
    }


@pytest.mark.parametrize("target", [0.02, 0.1, 0.15, 0.5, 0.9])
@pytest.mark.parametrize("shape", list(streams()))
def test_a_budget_is_met_within_two_points_whatever_the_scores_do(shape, target):
    budget, counts = Budget(target, 0.5), []
    for score in streams()[shape]:
        counts.append(score >= budget.threshold())
        budget.note(score, counts[-1])
    assert abs(sum(counts[:500]) / 500 - target) <= 0.02 and abs(sum(counts) / 600 - target) <= 0.02


@pytest.mark.parametrize("target", [0.05, 0.1, 0.5])
def test_a_random_budget_is_met_too(target):
    for seed in range(5):
        strategy, n = Strategy(Options(strategy="random", target_fraction=target), seed), 0
        for position in range(500):
            score = strategy.score(step())
            large = strategy.wants_large(position, score, False)
            strategy.note(score, large)
            n += large
        assert abs(n / 500 - target) <= 0.02


def test_a_budget_takes_the_doubtful_ones():
    """On even scores at a tenth, the tokens taken score far above the rest: nearly all of the best twentieth are among them."""
    budget, scores, taken = Budget(0.1, 0.5), streams()["flat"], []
    for score in scores:
        taken.append(score >= budget.threshold())
        budget.note(score, taken[-1])
    best = sorted(range(100, 600), key=scores.__getitem__)[-25:]
    assert sum(taken[i] for i in best) >= 22


def test_tokens_forced_to_the_large_model_count_towards_the_budget():
    budget, free = Budget(0.2, 0.5), 0
    for i, score in enumerate(streams()["flat"]):
        wants = score >= budget.threshold()
        large = wants or i % 10 == 0
        budget.note(score, large)
        free += large
    assert abs(free / 600 - 0.2) <= 0.02


def test_a_threshold_from_outside_ends_a_target():
    strategy = Strategy(Options(strategy="entropy", target_fraction=0.5), 0)
    assert strategy.threshold is None
    strategy.steer(1.0)
    assert strategy.threshold == 1.0 and strategy.wants_large(0, 1.0, False) and not strategy.wants_large(0, 0.99, False)
    assert Strategy(Options(strategy="every_k"), 0).threshold is None
