"""Votes: how many rows share a run of six, counted by hand and by a plain loop."""

from __future__ import annotations

import torch

from backend.hidden_text.decode import Decoded
from backend.hidden_text.grams import LIFTED, count, grams, votes_of_rows


def rows(ids, lift=1.0):
    ids = torch.tensor(ids)
    zeros = torch.zeros(ids.shape)
    return Decoded(ids, zeros, zeros, zeros, zeros - lift)


def test_a_loop_is_no_run():
    assert grams([4, 4, 4, 4, 4, 4, 4]) == [] and grams([4, 5, 4, 5, 4, 5]) == []
    assert grams([1, 2, 3, 4, 5, 6, 7]) == [(1, 2, 3, 4, 5, 6), (2, 3, 4, 5, 6, 7)]


def test_votes_equal_a_plain_count():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 3, (400, 9), generator=generator).tolist()
    counted = count(ids)
    assert votes_of_rows(rows(ids)).tolist() == [max((counted[g] for g in grams(row)), default=0) for row in ids]
    assert max(counted.values()) > 2


def test_what_the_reference_says_as_readily_is_no_vote():
    ids = [[1, 2, 3, 4, 5, 6]] * 3
    assert votes_of_rows(rows(ids, lift=LIFTED / 6 + 0.01)).tolist() == [3, 3, 3]
    assert votes_of_rows(rows(ids, lift=LIFTED / 6 - 0.01)).tolist() == [0, 0, 0]
