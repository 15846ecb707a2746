"""How much is drafted follows what pays."""

from __future__ import annotations

from itertools import product

import pytest

from backend.speculative.costs import Costs
from backend.speculative.sizes import Gamma, Positions, best_gamma

STEEP = Costs(1.0, (1, 2, 5, 9), (1.0, 1.5, 3.0, 5.0), 0.0, 0.5)
FLAT = Costs(1.0, (1, 2, 5, 9), (1.0, 1.02, 1.05, 1.1), 0.0, 0.02)


@pytest.mark.parametrize(("costs", "alpha"), list(product((STEEP, FLAT), (0.1, 0.5, 0.9))))
def test_the_best_gamma_is_the_one_an_exhaustive_search_finds(costs, alpha):
    def rate(gamma):
        return sum(alpha**i for i in range(gamma + 1)) / (gamma * costs.c + costs.rows(gamma + 1))

    assert best_gamma([alpha] * 8, costs, 8) == max(range(9), key=lambda gamma: (rate(gamma), -gamma))


def test_nothing_is_drafted_where_nothing_pays_but_it_is_tried_again_now_and_then():
    gamma = Gamma(0, STEEP, 8)
    for _ in range(20):
        gamma.observe(1, 0)
    asked = [gamma.next() for _ in range(2 * Gamma.PROBE)]
    assert asked.count(1) == 2 and asked.count(0) == len(asked) - 2


def test_drafts_grow_when_all_is_accepted():
    gamma = Gamma(0, FLAT, 8)
    before = gamma.next()
    for _ in range(30):
        gamma.observe(8, 8)
    assert gamma.next() == 8 >= before


def test_a_given_gamma_stays():
    gamma = Gamma(3, STEEP, 8)
    gamma.observe(3, 0)
    assert gamma.next() == 3


def test_rates_tend_to_the_shares_that_were_seen():
    positions = Positions(3)
    for i in range(4000):
        positions.observe(3, (0, 1, 3, 3)[i % 4])
    rates = positions.rates()
    assert rates[0] == pytest.approx(3 / 4, abs=0.06) and rates[1] == pytest.approx(2 / 3, abs=0.06) and rates[2] > 0.85


def test_costs_are_interpolated_and_go_on_beyond_the_last_width():
    assert STEEP.rows(2) == 1.5 and STEEP.rows(3) == 2.0 and STEEP.rows(7) == 4.0 and STEEP.rows(11) == 6.0
    assert Costs(1.0, (1,), (1.0,), 0.0).rows(4) == 4.0 and STEEP.c == 0.5 and Costs(1.0, (1,), (1.0,), 0.0).c == 0
