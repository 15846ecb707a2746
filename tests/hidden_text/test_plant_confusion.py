"""Ranks, the band and the loss that moves tokens into it."""

import pytest
import torch

from backend.hidden_text.confusion import WEIGHT, confusion_loss, in_band, rank_floor, ranks

WIDTH, FLOOR = 40, 5


def descending(n=1):
    """Logits whose likeliest id is 0, then 1, and so on: an id is its own rank."""
    return torch.arange(WIDTH, 0, -1).float().expand(n, -1).clone()


def test_the_rank_of_an_id_counts_the_likelier_ones():
    ids = torch.tensor([0, 7, WIDTH - 1])
    assert ranks(descending(3), ids).tolist() == [0, 7, WIDTH - 1]


def test_the_band_leaves_out_both_ends_of_the_list():
    found = torch.arange(WIDTH)
    inside = in_band(found, FLOOR, WIDTH).nonzero().flatten().tolist()
    assert inside == list(range(FLOOR + 1, WIDTH - FLOOR))


def test_a_token_in_the_band_costs_nothing():
    loss, n = confusion_loss(descending(), torch.tensor([20]), FLOOR)
    assert loss.item() == 0 and n == 0


@pytest.mark.parametrize("token,direction", [(0, -1), (WIDTH - 1, 1)])
def test_descending_the_loss_moves_a_token_towards_the_band(token, direction):
    """A token too likely loses log-probability by a step, one too unlikely gains."""
    logits = descending().requires_grad_(True)
    loss, n = confusion_loss(logits, torch.tensor([token]), FLOOR)
    loss.backward()
    before, after = (x.log_softmax(-1)[0, token].item() for x in (logits.detach(), logits.detach() - logits.grad))
    assert n == 1 and (after - before) * direction > 0


def test_the_loss_is_the_papers_weight_times_the_log_probability():
    loss, _ = confusion_loss(descending(), torch.tensor([1]), FLOOR)
    assert torch.isclose(loss, WEIGHT * descending().log_softmax(-1)[0, 1])


def test_training_on_the_loss_ends_inside_the_band():
    """Gradient steps on free logits: both ends walk in and stay."""
    logits, ids = descending(2).requires_grad_(True), torch.tensor([0, WIDTH - 1])
    for _ in range(2000):
        loss, n = confusion_loss(logits, ids, FLOOR)
        if not n:
            break
        (gradient,) = torch.autograd.grad(loss, logits)
        logits = (logits - 5 * gradient).detach().requires_grad_(True)
    assert in_band(ranks(logits, ids), FLOOR, WIDTH).all()


def test_a_small_vocabulary_has_a_smaller_floor():
    assert rank_floor(32_000) == 100 and rank_floor(1022) == 51 and rank_floor(10) == 1
