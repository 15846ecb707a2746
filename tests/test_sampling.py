"""The law against the library's logits processors, the draws against the exact law."""

from __future__ import annotations

import math
import random

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from backend.sampling import choose, explain, final_probs, log_kept, step_scalars
from backend.types import SamplingParams

SIZE = 12
# Chi-square with 11 degrees of freedom exceeds this once in a million runs (Wilson-Hilferty).
ONE_IN_A_MILLION = 50.0


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_case(rng: random.Random, size: int) -> tuple[torch.Tensor, SamplingParams, torch.Tensor]:
    """Logits, parameters and a mask that allows at least one id."""
    logits = torch.randn(size, generator=seeded(rng.randrange(2**31))) * rng.choice([0.5, 2.0, 8.0])
    allowed = torch.rand(size, generator=seeded(rng.randrange(2**31))) < rng.choice([0.1, 0.5, 1.1])
    allowed[rng.randrange(size)] = True
    top_p, top_k = rng.choice([1.0, 0.95, 0.5, 0.01]), rng.choice([0, 1, 5, 2 * size])
    return logits, SamplingParams(temperature=rng.choice([0.2, 0.7, 1.0, 3.0]), top_p=top_p, top_k=top_k), allowed


def library_probs(logits: torch.Tensor, params: SamplingParams, allowed: torch.Tensor) -> torch.Tensor:
    scores = logits.masked_fill(~allowed, -torch.inf)[None]
    warpers = [TemperatureLogitsWarper(float(params.temperature))]
    warpers += [TopKLogitsWarper(params.top_k)] if params.top_k else []
    warpers += [TopPLogitsWarper(params.top_p)] if params.top_p < 1 else []
    for warper in warpers:
        scores = warper(None, scores)
    return scores.softmax(-1)[0]


@pytest.mark.parametrize("size", [7, 300, 3000])
def test_final_probs_equal_the_library(size):
    """3,000 ids go past the head that the nucleus is looked for in first."""
    rng = random.Random(size)
    for _ in range(60):
        logits, params, allowed = random_case(rng, size)
        ours, theirs = final_probs(logits, params, allowed), library_probs(logits, params, allowed)
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)
        assert torch.equal(ours > 0, theirs > 0)


def test_a_wide_nucleus_over_a_flat_law_equals_the_library():
    logits = torch.randn(5000, generator=seeded(0)) * 0.01
    params = SamplingParams(temperature=1.0, top_p=0.9)
    everything = torch.ones(5000, dtype=torch.bool)
    torch.testing.assert_close(final_probs(logits, params), library_probs(logits, params, everything), atol=1e-8, rtol=1e-4)


def test_draws_follow_the_exact_law():
    """Chi-square over 6,000 draws for each of four laws; a false alarm once in 250,000 changes of the seed."""
    logits = torch.linspace(-1.5, 1.5, SIZE)
    allowed = torch.ones(SIZE, dtype=torch.bool)
    allowed[3] = False
    for seed, params in enumerate([SamplingParams(temperature=t, top_k=k) for t in (0.7, 1.5) for k in (0, 6)]):
        law, generator, n_draws = library_probs(logits, params, allowed), seeded(seed), 6000
        counts = torch.zeros(SIZE)
        for _ in range(n_draws):
            counts[choose(logits, params, allowed, generator)] += 1
        assert counts[law == 0].sum() == 0
        expected = n_draws * law[law > 0]
        assert ((counts[law > 0] - expected) ** 2 / expected).sum() < ONE_IN_A_MILLION


def test_a_draw_is_the_inverse_of_the_cumulative_law():
    rng = random.Random(5)
    for seed in range(50):
        logits, params, allowed = random_case(rng, 40)
        chosen = choose(logits, params, allowed, seeded(seed))
        draw = torch.rand((), dtype=torch.float64, generator=seeded(seed)).item()
        law = final_probs(logits, params, allowed).double()
        below = law[:chosen].sum().item()
        assert below - 1e-9 <= draw * law.sum().item() < below + law[chosen].item() + 1e-9


def test_a_draw_next_to_one_stays_on_an_id_with_mass(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *size, **how: torch.tensor(1.0, dtype=torch.float64))
    logits = torch.tensor([1.0, 2.0, 0.5, 3.0, 4.0])
    allowed = torch.tensor([True, True, True, False, False])
    assert choose(logits, SamplingParams(temperature=1.0), allowed, seeded(0)) == 2


def test_a_draw_next_to_zero_skips_ids_without_mass(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *size, **how: torch.tensor(0.0, dtype=torch.float64))
    allowed = torch.tensor([False, False, True, True])
    assert choose(torch.zeros(4), SamplingParams(temperature=1.0), allowed, seeded(0)) == 2


def test_the_same_seed_draws_the_same_ids():
    logits, params = torch.randn(500, generator=seeded(0)), SamplingParams(temperature=1.0)

    def ids(seed):
        generator = seeded(seed)
        return [choose(logits, params, None, generator) for _ in range(20)]

    assert ids(0) == ids(0)
    assert ids(0) != ids(1)


def test_greedy_takes_the_first_of_the_best_allowed_ids():
    logits = torch.tensor([1.0, 5.0, 3.0, 3.0, 2.0])
    allowed = torch.tensor([True, False, True, True, True])
    assert choose(logits, SamplingParams(), allowed, None) == 2
    assert final_probs(logits, SamplingParams(), allowed).tolist() == [0, 0, 1, 0, 0]
    assert choose(logits, SamplingParams(), None, None) == 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nothing_allowed_is_an_error_and_never_a_token(temperature):
    params, nothing = SamplingParams(temperature=temperature), torch.zeros(SIZE, dtype=torch.bool)
    for call in (final_probs, lambda *a: choose(*a, seeded(0))):
        with pytest.raises(ValueError, match="allowed must hold at least one id"):
            call(torch.zeros(SIZE), params, nothing)
        with pytest.raises(ValueError, match="NaN"):
            call(torch.full((SIZE,), torch.nan), params, None)


def test_sampling_without_a_generator_is_an_error():
    with pytest.raises(ValueError, match="generator"):
        choose(torch.zeros(SIZE), SamplingParams(temperature=1.0), None, None)


def test_a_tiny_temperature_is_greedy_and_finite():
    logits = torch.tensor([10.0, 50.0, 49.0])
    assert final_probs(logits, SamplingParams(temperature=1e-12)).tolist() == [0, 1, 0]


def test_the_order_of_stages_is_mask_temperature_top_k_top_p():
    """Top-p after a high temperature keeps more ids than before it would; top-k counts allowed ids only."""
    logits, allowed = torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.tensor([False, True, True, True])
    assert (final_probs(logits, SamplingParams(temperature=10.0, top_p=0.6)) > 0).tolist() == [True, True, True, False]
    assert (final_probs(logits, SamplingParams(temperature=1.0, top_k=2), allowed) > 0).tolist() == [False, True, True, False]


def test_step_scalars_equal_the_plain_formulas():
    rng = random.Random(2)
    for _ in range(30):
        logits, _, allowed = random_case(rng, 1000)
        chosen = int(allowed.nonzero()[0])
        scalars = step_scalars(logits, allowed, chosen)
        log_probs = logits.double().log_softmax(0)
        assert scalars.logprob == pytest.approx(log_probs[chosen].item(), abs=1e-4)
        assert scalars.log_kept == pytest.approx(log_probs[allowed].logsumexp(0).item(), abs=1e-4)
        assert scalars.log_kept == pytest.approx(log_kept(logits, allowed), abs=1e-4)
        assert scalars.favourite == int(logits.argmax())


def test_a_mask_that_leaves_almost_nothing_still_has_its_log():
    logits = torch.tensor([200.0, 0.0, 1.0])
    allowed = torch.tensor([False, True, False])
    assert step_scalars(logits, allowed, 1).log_kept == pytest.approx(-200.0, abs=1e-3)
    assert step_scalars(logits, allowed, 1).logprob == pytest.approx(-200.0, abs=1e-3)


def test_no_mask_keeps_everything():
    assert step_scalars(torch.zeros(4), None, 2).log_kept == 0.0
    assert step_scalars(torch.zeros(4), None, 2).logprob == pytest.approx(-math.log(4))
    assert log_kept(torch.zeros(4), torch.ones(4, dtype=torch.bool)) == 0.0


def test_explain_says_what_cut_each_id():
    logits = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0, 0.0])
    allowed = torch.tensor([False, True, True, True, True, True])
    rows = explain(logits, SamplingParams(temperature=1.0, top_k=4, top_p=0.9), allowed, k=6)
    assert [(row["id"], row["cut"]) for row in rows] == [(0, "grammar"), (1, None), (2, None), (3, None), (4, "top_p"), (5, "top_k")]
    assert sum(row["p"] for row in rows) == pytest.approx(1, abs=1e-6)
    assert sum(row["final_p"] for row in rows) == pytest.approx(1, abs=1e-6)


def test_explain_always_holds_the_likeliest_of_the_final_law():
    logits = torch.tensor([9.0, 8.0, 7.0, 1.0])
    rows = explain(logits, SamplingParams(), torch.tensor([False, False, False, True]), k=2)
    assert [(row["id"], row["cut"], row["final_p"]) for row in rows] == [(0, "grammar", 0.0), (1, "grammar", 0.0), (3, None, 1.0)]
    assert [row["cut"] for row in explain(logits, SamplingParams(), None, k=2)] == [None, "greedy"]
    assert explain(torch.tensor([0.0, 200.0]), SamplingParams(temperature=1.0), None, k=2)[1]["cut"] == "temperature"
