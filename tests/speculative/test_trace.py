"""What rounds add up to, against counting by hand."""

from __future__ import annotations

import random

import pytest

from backend.speculative.trace import calibration, expected_tokens, per_position, second_choice, speed_up, summarize


def line(parents, path, confidence=None):
    drafted = [[i, "x", None if confidence is None else confidence[i], 0.5, "a"] for i in range(len(parents))]
    return {"event": "round", "drafted": drafted, "parents": parents, "path": path, "accepted": len(path)}


CHAIN = [line([-1, 0, 1], [0, 1]), line([-1, 0, 1], []), line([-1], [0]), line([], []), line([-1, 0, 1], [0, 1, 2])]


def test_counts_follow_from_the_rounds():
    stats = summarize(CHAIN)
    assert (stats["rounds"], stats["drafted"], stats["accepted"]) == (5, 10, 6)
    assert stats["tokens_per_round"] == (5 + 6) / 5 and stats["acceptance"] == 6 / 10 and stats["coverage"] == 4 / 5
    assert stats["run_lengths"] == [2, 1, 1, 1]
    # the first was offered in four rounds and taken in three; the second in two of the three; the third in two
    assert stats["per_position"] == [[4, 3], [2, 2], [2, 1]]


def test_a_tree_offers_a_position_where_the_last_accepted_node_has_a_child():
    rounds = [line([-1, -1, 1, 2], [1, 2]), line([-1, 0], [0])]
    assert per_position(rounds) == [[2, 2], [2, 1], [1, 0]]
    assert second_choice(rounds) == pytest.approx(1 / 3)  # node 1 was its parent's second child, the other two were first


def test_the_identities_hold_for_any_rounds():
    rng = random.Random(0)
    rounds = []
    for _ in range(50):
        n = rng.randrange(6)
        parents = [rng.randrange(-1, i) for i in range(n)]
        path, at = [], -1
        while (children := [i for i, p in enumerate(parents) if p == at]) and rng.random() < 0.6:
            at = rng.choice(children)
            path.append(at)
        rounds.append(line(parents, path))
    stats = summarize(rounds)
    assert sum(stats["run_lengths"]) == stats["rounds"]
    assert sum(i * n for i, n in enumerate(stats["run_lengths"])) == stats["accepted"]
    assert sum(accepted for _, accepted in stats["per_position"]) == stats["accepted"]


def test_calibration_counts_only_nodes_that_were_reached():
    rounds = [line([-1, 0, -1], [0], [0.95, 0.25, 0.05]), line([-1, 0], [], [0.92, 0.3])]
    bins = {round(b["low"], 1): (b["tried"], b["accepted"]) for b in calibration(rounds)}
    assert bins == {0.9: (2, 1), 0.2: (1, 0), 0.0: (1, 0)}


def test_no_rounds_claim_nothing():
    stats = summarize([])
    assert (stats["tokens_per_round"], stats["acceptance"], stats["coverage"], stats["run_lengths"]) == (None, None, None, [])


def test_the_formulas():
    assert expected_tokens(0.5, 2) == 1.75 and expected_tokens(1.0, 4) == 5 and expected_tokens(0.0, 7) == 1
    assert speed_up(3.0, 4, 0.2, 1.2) == pytest.approx(3.0 / 2.0)
