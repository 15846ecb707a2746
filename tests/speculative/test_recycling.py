"""The matrix and its tree, held against a dictionary and a walk node by node."""

from __future__ import annotations

import random

import pytest
import torch

from backend.speculative.draft import ROOT, Outcome, chain, nothing
from backend.speculative.recycling import Recycling, template

V, K = 40, 8
EXTRA = 11


def random_rows(seed, n, width=V):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed)) * 3


def best(row):
    """The k likeliest ids of one row with their probabilities."""
    probs = torch.softmax(row.double(), 0)
    ids = sorted(range(len(row)), key=lambda i: -row[i].item())[:K]
    return ids, [probs[i].item() for i in ids]


def rank_paths(shape):
    found = []
    for rank, parent in zip(shape.ranks.tolist(), shape.parents.tolist(), strict=True):
        found.append((*found[parent], rank) if parent != ROOT else (rank,))
    return found


def node_by_node(matrix, root, shape):
    """The oracle: tokens, parents and confidence of the template's nodes, those below unknown tokens left out."""
    tokens, parents, confidence, new = [], [], [], {ROOT: ROOT}
    for node, (rank, parent) in enumerate(zip(shape.ranks.tolist(), shape.parents.tolist(), strict=True)):
        above = root if parent == ROOT else tokens[new[parent]] if parent in new else None
        if above in matrix:
            new[node] = len(tokens)
            tokens.append(matrix[above][0][rank])
            confidence.append(matrix[above][1][rank])
            parents.append(new[parent])
    return tokens, tuple(parents), confidence


@pytest.mark.parametrize("nodes", [1, 2, 16, 32, 60, 80])
def test_a_template_is_a_tree_of_its_size_that_prefers_low_ranks(nodes):
    shape = template(nodes, K)
    paths = rank_paths(shape)
    assert len(set(paths)) == nodes and paths == sorted(paths), "depth first, lower rank first"
    assert all((*path[:-1], path[-1] - 1) in paths for path in paths if path[-1])
    assert sorted(node for level in shape.levels for node in level) == list(range(nodes))
    assert all(len(paths[node]) == depth for depth, level in enumerate(shape.levels, 1) for node in level)


def test_a_larger_template_holds_the_smaller_one():
    assert set(rank_paths(template(16, K))) < set(rank_paths(template(32, K))) < set(rank_paths(template(80, K)))


def seeded(prompt, rows, nodes=32):
    recycling = Recycling(nodes, K)
    recycling.begin(prompt, rows)
    return recycling


def test_the_tree_is_what_a_walk_node_by_node_finds_and_unknown_tokens_propose_nothing():
    rng = random.Random(0)
    for seed in range(6):
        prompt = [rng.randrange(V) for _ in range(30)]
        rows = random_rows(seed, 25)
        matrix = {token_id: best(row) for token_id, row in zip(prompt[-25:], rows, strict=True)}
        draft = seeded(prompt, rows).propose(prompt, 0, 100)
        tokens, parents, confidence = node_by_node(matrix, prompt[-1], template(32, K))
        assert 0 < len(draft) < 32, "some rows must be unknown or the test shows nothing"
        assert (draft.tokens.tolist(), draft.parents) == (tokens, parents)
        assert draft.confidence.tolist() == pytest.approx(confidence, rel=2e-3, abs=1e-6)
        assert draft.tokens.dtype == torch.int64 and set(draft.by) == {"recycling"} and draft.q is None


def test_a_token_without_a_row_ends_the_draft_and_a_fresh_run_knows_nothing():
    recycling = seeded([1, 2, 3], random_rows(0, 3))
    assert len(recycling.propose([1, 2, 3, 4], 0, 16)) == 0 and len(recycling.propose([3], 0, 16)) > 0
    recycling.begin([5], random_rows(1, 1))
    assert len(recycling.propose([3], 0, 16)) == 0 and recycling.successors(3) == []
    recycling.begin([5], None)
    assert len(recycling.propose([5], 0, 16)) == 0


def test_the_limit_cuts_the_tree():
    recycling = seeded(list(range(V)), random_rows(2, V))
    for limit in (1, 3, 31, 32, 50):
        draft = recycling.propose([7], 0, limit)
        assert len(draft) == min(limit, 32)
        assert draft.tokens[0] == best(random_rows(2, V)[7])[0][0]


def outcome(draft, ids, rows, path):
    return Outcome(draft, tuple(ids), rows, tuple(path), (*(ids[i] for i in path), EXTRA))


def test_every_verified_row_enters_the_matrix_refused_nodes_included():
    recycling = seeded([1], random_rows(0, 1))
    draft = recycling.propose([1], 0, 6)
    ids, rows = draft.tokens.tolist(), random_rows(5, len(draft) + 1)
    recycling.observe(outcome(draft, ids, rows, []))
    for token_id, row in zip([1, *ids], rows, strict=True):
        expected = best(row)
        found = recycling.successors(token_id)
        assert [i for i, _, _ in found] == expected[0] and [by for _, _, by in found] == ["recycling"] * K
        assert [p for _, p, _ in found] == pytest.approx(expected[1], rel=2e-3, abs=1e-6)


def test_of_a_tokens_several_rows_the_accepted_one_wins_then_the_later():
    rows = random_rows(6, 6)
    recycling = seeded([9], random_rows(0, 1))
    recycling.propose([9], 0, 5)
    # node:            0  1  2  3  4; accepted: 0 and 1
    recycling.observe(outcome(chain([4, 5, 5, 6, 6], "recycling"), [4, 5, 5, 6, 6], rows, [0, 1]))
    winners = {9: 0, 4: 1, 5: 2, 6: 5}
    assert {i: [s for s, _, _ in recycling.successors(i)] for i in winners} == {i: best(rows[row])[0] for i, row in winners.items()}


def test_a_cold_matrix_learns_from_plain_rounds():
    recycling = Recycling(4, K)
    recycling.begin([3], None)
    assert len(recycling.propose([3], 0, 4)) == 0
    row = random_rows(8, 1)
    recycling.observe(outcome(nothing(), [], row, []))
    assert recycling.propose([3], 0, 4).tokens[0] == best(row[0])[0][0]
    recycling.observe(outcome(nothing(), [], random_rows(9, 1), []))
    recycling.observe(outcome(nothing(), [], random_rows(10, 1), []))
    expected = [best(random_rows(seed, 1)[0])[0] for seed in (9, 10)]
    assert [[i for i, _, _ in recycling.successors(token_id)] for token_id in (3, EXTRA)] == expected, "a round may come without a proposal"


def test_the_matrix_of_32000_ids_stays_below_two_megabytes():
    recycling = seeded([1], random_rows(0, 1, width=32_000))
    assert 32_000 * K * 4 < recycling.nbytes < 2e6


def test_impossible_sizes_are_named():
    with pytest.raises(ValueError, match="k between 1 and 8, got 16 and 9"):
        Recycling(16, 9)
    with pytest.raises(ValueError, match=r"number of ids \(5\), got 8"):
        seeded([1], random_rows(0, 1, width=5))
