"""Noise by seed and position: the same for all who ask, and of the right law."""

from __future__ import annotations

import pytest
import torch

from backend.speculative.noise import Noise, exponentials


def test_a_row_depends_on_seed_and_position_alone():
    """Neither on what was asked for before nor on what was forgotten."""
    noise = Noise(5)
    later_first = [noise.row(9, 40).clone(), noise.row(2, 40).clone()]
    noise.forget_before(9)
    again = Noise(5)
    assert torch.equal(again.row(2, 40), later_first[1]) and torch.equal(again.row(9, 40), later_first[0])
    assert torch.equal(noise.row(2, 40), later_first[1])


def test_of_two_vocabularies_the_smaller_row_starts_the_larger():
    noise = Noise(0)
    small = noise.row(3, 10).clone()
    assert torch.equal(noise.row(3, 5000)[:10], small) and torch.equal(noise.row(3, 10), small)


def test_no_two_of_many_seeds_and_positions_share_a_row():
    """Seeds past 32 bits are several words to a mixer; joined carelessly to the position they met other pairs."""
    starts = {tuple(exponentials(seed, position, 3).tolist()) for seed in (0, 1, 2, 2**32, 2**53) for position in range(200)}
    assert len(starts) == 1000


def test_values_are_exponential_and_above_zero():
    """Chi-square over 16 cells of equal probability, 15 degrees of freedom: 60 is exceeded once in 3 million seeds."""
    values = torch.cat([exponentials(1, position, 4000) for position in range(20)])
    assert values.min() > 0
    counts = torch.histc(torch.exp(-values.double()), bins=16, min=0, max=1)
    expected = len(values) / 16
    assert ((counts - expected) ** 2 / expected).sum() < 60


def test_neighbouring_positions_do_not_go_together():
    """A correlation of 20,000 pairs is above 0.04 once in 100 million seeds."""
    rows = torch.stack([exponentials(7, position, 20_000) for position in range(4)])
    correlations = torch.corrcoef(rows) - torch.eye(4)
    assert correlations.abs().max() < 0.04


def test_the_winner_of_the_race_follows_the_law():
    """argmax(p / e) over 6,000 positions: chi-square with 4 degrees of freedom exceeds 35 once in 2 million seeds."""
    probs = torch.tensor([0.5, 0.02, 0.28, 0.15, 0.05])
    winners = torch.tensor([int((probs / exponentials(3, position, 5)).argmax()) for position in range(6000)])
    counts, expected = torch.bincount(winners, minlength=5), probs * 6000
    assert ((counts - expected) ** 2 / expected).sum() < 35


def test_a_negative_position_is_an_error():
    with pytest.raises(ValueError, match="position must be at least 0, got -1"):
        Noise(0).row(-1, 4)
