"""What a router sees: the same numbers by hand, and nothing that has a scale."""

from __future__ import annotations

import math

import pytest
import torch

from backend.routing.features import entropy, law_features, of_step, spread_free

LOGITS = torch.tensor([[2.0, 0.0, 1.0, -1.0], [0.0, 0.0, 0.0, 0.0]])


def test_the_law_is_told_in_nats():
    row = law_features(LOGITS, torch.tensor([2, 3]), k=3)
    for got, logits, token in zip(row.tolist(), LOGITS.tolist(), (2, 3), strict=True):
        total = math.log(sum(math.exp(x) for x in logits))
        logprobs = sorted((x - total for x in logits), reverse=True)
        spread = -sum(math.exp(x) * x for x in logprobs)
        assert got == pytest.approx([*logprobs[:3], spread, logprobs[0] - logprobs[1], logits[token] - total], abs=1e-5)


def test_a_shift_of_all_logits_and_a_scale_of_states_change_nothing():
    hidden, table, ids = torch.randn(2, 8), torch.randn(4, 8), torch.tensor([1, 3])
    plain = of_step(LOGITS, hidden, ids, table, k=4)
    torch.testing.assert_close(of_step(LOGITS + 7, hidden * 30 + 2, ids, table * 0.5 - 1, k=4), plain, atol=1e-3, rtol=1e-3)
    assert plain.shape == (2, 4 + 3 + 16)


def test_masked_ids_leave_no_holes():
    masked = LOGITS.clone()
    masked[:, 3] = -torch.inf
    assert law_features(masked, torch.tensor([0, 1]), k=4).isfinite().all()
    torch.testing.assert_close(entropy(masked), entropy(LOGITS[:, :3]))


def test_a_row_does_not_depend_on_its_neighbours():
    hidden, table, ids = torch.randn(2, 8), torch.randn(4, 8), torch.tensor([1, 3])
    both = of_step(LOGITS, hidden, ids, table, k=2)
    torch.testing.assert_close(of_step(LOGITS[1:], hidden[1:], ids[1:], table, k=2), both[1:])


def test_half_precision_states_become_plain_numbers():
    states = torch.randn(3, 16)
    free = spread_free(states.bfloat16())
    assert free.dtype == torch.float32
    torch.testing.assert_close(free.mean(1), torch.zeros(3), atol=1e-5, rtol=0)


def test_too_few_ids_are_named():
    with pytest.raises(ValueError, match="at least 32 columns, got 4"):
        law_features(LOGITS, torch.tensor([0, 1]))
