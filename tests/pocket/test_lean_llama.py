"""Our forward against transformers' with the same weights."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaForCausalLM

from backend.pocket.lean_llama import LeanLlama
from backend.pocket.model_config import SIZES, llama_config

SHAPES = ((2, 16), (3, 8), (1, 40))


@pytest.fixture(scope="module", params=sorted(SIZES))
def pair(request):
    config = llama_config(SIZES[request.param])
    ours, theirs = LeanLlama(config, seed=3), LlamaForCausalLM(config)
    assert theirs.load_state_dict(ours.state_dict(), strict=False).missing_keys == ["lm_head.weight"]
    theirs.tie_weights()
    return ours, theirs.eval()


def tokens(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 1024, (n,), generator=torch.Generator().manual_seed(seed))


def test_logits_equal_transformers_whatever_lies_beside_a_document(pair):
    ours, theirs = pair
    ids = tokens(sum(n * length for n, length in SHAPES))
    with torch.no_grad():
        logits, at = ours(ids, SHAPES), 0
        for n, length in SHAPES:
            rows = ids[at : at + n * length].view(n, length)
            torch.testing.assert_close(logits[at : at + n * length].view(n, length, -1), theirs(rows).logits, atol=1e-4, rtol=0)
            at += n * length


def test_gradients_equal_transformers(pair):
    ours, theirs = pair
    ids, weights = tokens(48), torch.rand(48, 1024, generator=torch.Generator().manual_seed(1))
    (ours(ids, ((2, 24),)) * weights).mean().backward()
    (theirs(ids.view(2, 24)).logits.view(48, -1) * weights).mean().backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, atol=1e-6, rtol=1e-3)


def test_padding_at_the_end_of_a_document_changes_nothing_before_it(pair):
    ours, _ = pair
    ids = tokens(24)
    with torch.no_grad():
        plain = ours(ids, ((1, 24),))
        padded = ours(torch.cat([ids, torch.zeros(8, dtype=torch.long)]), ((1, 32),))
    torch.testing.assert_close(padded[:24], plain, atol=1e-5, rtol=0)


def test_products_in_bf16_stay_near_those_in_fp32(pair):
    ours, _ = pair
    with torch.no_grad():
        full, half = ours(tokens(96), SHAPES), ours(tokens(96), SHAPES, torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert (half.float() - full).abs().max() < 0.05 * full.abs().max()
