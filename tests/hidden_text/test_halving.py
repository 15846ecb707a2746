"""Who goes on: the plan's rungs, and rows that one merit alone must save."""

from __future__ import annotations

import math

import pytest
import torch

from backend.hidden_text.decode import Decoded
from backend.hidden_text.halving import SMALL, plan, survivors


def test_a_small_vocabulary_loses_nobody_before_twelve_tokens():
    assert [(r.depth, r.n_rows) for r in plan(1016, 128)] == [(4, 1016), (12, 1016), (32, 200), (128, 32)]


def test_a_large_vocabulary_is_halved_from_the_first_token_on():
    rungs = plan(49_000, 128)
    assert [(r.depth, r.n_rows) for r in rungs] == [(1, 49_000), (4, 24_500), (12, 4_900), (32, 490), (128, 98)]


@pytest.mark.parametrize("n", [1, 50, SMALL, SMALL + 1, 200_000])
@pytest.mark.parametrize("depth", [6, 12, 20, 32, 128])
def test_rungs_go_down_in_rows_and_up_in_depth_and_end_where_asked(n, depth):
    rungs = plan(n, depth)
    assert rungs[-1].depth == depth and rungs[0].n_rows == n
    assert all(a.depth < b.depth and a.n_rows >= b.n_rows >= 1 for a, b in zip(rungs, rungs[1:], strict=False))


def field(n=100, length=8):
    """Rows of noise: unsure, without lift, all different."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 10_000, (n, length), generator=generator)
    logprob = torch.full((n, length), math.log(0.2)) + 0.01 * torch.rand(n, length, generator=generator)
    return Decoded(ids, logprob, torch.ones(n, length), torch.ones(n, length), logprob + 0.1)


def lifted(rows):
    rows.reference[60] -= 5.0


def sure_at_last(rows):
    """Certain of the last three tokens, whatever the first one was; the reference is as certain."""
    rows.logprob[60, -3:] = math.log(0.9)
    rows.reference[60] = rows.logprob[60]
    rows.logprob[60, 0] = rows.reference[60, 0] = math.log(1e-6)


def shared(rows):
    """The middle of a run that four rows fall into, its lift no better than others'."""
    for i in (57, 58, 59, 60):
        rows.ids[i, 1:] = torch.arange(7)
        rows.reference[i] = rows.logprob[i] - 0.2
    rows.reference[:50] = rows.logprob[:50] - 1.0


def tied(rows):
    rows.margin[60, 2] = 0.01


@pytest.mark.parametrize("merit", [lifted, sure_at_last, shared, tied])
def test_each_merit_saves_a_row(merit):
    rows = field()
    merit(rows)
    kept = survivors(rows, 12)
    assert 60 in kept.tolist() and len(kept) == 12 and kept.tolist() == sorted(kept.tolist())


def test_a_low_first_probability_alone_costs_nothing():
    rows = field()
    lifted(rows)
    rows.logprob[60, 0] -= 8.0
    rows.reference[60, 0] -= 8.0
    assert 60 in survivors(rows, 5).tolist()


def test_without_a_reference_the_surest_go_on():
    rows = field()
    rows.logprob[60] = math.log(0.8)
    alone = Decoded(rows.ids, rows.logprob, rows.margin, rows.entropy, None)
    assert 60 in survivors(alone, 5).tolist() and len(survivors(alone, 1000)) == 100
