"""Trees grow by path probability: held against the enumeration of all paths."""

from __future__ import annotations

import random

import pytest
import torch

from backend.speculative.draft import ROOT
from backend.speculative.grow import Tree, best_first, best_size

LETTERS = 4
DEPTH = 4


def random_table(seed):
    """Probabilities of 4 letters after each path of up to 3, all different, adding up to less than 1."""
    rng = random.Random(seed)

    def after(path):
        if path not in table:
            weights = [rng.random() for _ in range(LETTERS)]
            table[path] = [weight / (sum(weights) + 0.1) for weight in weights]
        return table[path]

    table = {}
    return after


def grow(after, limit):
    def path_of(node):
        return () if node is None else (*path_of(node.parent), node.token)

    def children(node):
        path = path_of(node)
        return [(i, p, "it") for i, p in enumerate(after(path))] if len(path) < DEPTH else []

    return best_first(children, limit)


def paths(tree):
    """Each node as the tokens from the root to it."""
    found = []
    for token, parent in zip(tree.tokens, tree.parents, strict=True):
        found.append((*found[parent], token) if parent != ROOT else (token,))
    return found


def every_path(after):
    """The oracle: all paths with their probabilities, likeliest first."""
    level, everything = {(): 1.0}, {}
    for _ in range(DEPTH):
        level = {(*path, i): p * q for path, p in level.items() for i, q in enumerate(after(path))}
        everything |= level
    return sorted(everything.items(), key=lambda item: -item[1])


@pytest.mark.parametrize("limit", [1, 2, 7, 40, 10_000])
def test_the_tree_holds_the_likeliest_paths(limit):
    for seed in range(5):
        after = random_table(seed)
        tree = grow(after, limit)
        best = every_path(after)[:limit]
        assert set(paths(tree)) == {path for path, _ in best}
        assert sorted(tree.paths, reverse=True) == pytest.approx([p for _, p in best])


def test_nodes_stand_depth_first_and_the_likeliest_child_first():
    for seed in range(5):
        tree = grow(random_table(seed), 30)
        assert all(parent < i for i, parent in enumerate(tree.parents))
        for i, parent in enumerate(tree.parents[1:], 1):
            above = i - 1
            while above != parent and above != ROOT:  # the parent is the node before or one above that
                above = tree.parents[above]
            assert above == parent
        for parent in range(-1, len(tree)):
            probs = [tree.probs[i] for i in range(len(tree)) if tree.parents[i] == parent]
            assert probs == sorted(probs, reverse=True)


def test_a_cut_tree_is_the_tree_that_was_grown_so_far():
    after = random_table(3)
    tree = grow(after, 40)
    for size in (0, 1, 5, 17, 40):
        assert tree.cut(size) == grow(after, size)


def test_of_two_children_with_one_token_the_likelier_stays():
    tree = best_first(lambda node: [(5, 0.2, "faint"), (5, 0.6, "sure"), (6, 0.3, "faint")] if node is None else [], 9)
    assert (tree.tokens, tree.by, tree.probs) == ((5, 6), ("sure", "faint"), (0.6, 0.3))


def test_no_candidates_no_tree_and_an_impossible_probability_is_named():
    assert best_first(lambda node: [], 5) == Tree((), (), (), (), (), ())
    with pytest.raises(ValueError, match=r"between 0 and 1, got \[1.5\]"):
        best_first(lambda node: [(1, 1.5, "it")], 5)


def test_a_tree_becomes_a_draft_with_its_probabilities_as_confidence():
    tree = best_first(lambda node: [(7, 0.5, "a"), (8, 0.25, "b")] if node is None else [], 2)
    draft = tree.draft()
    assert (draft.tokens.tolist(), draft.parents, draft.by) == ([7, 8], (ROOT, ROOT), ("a", "b"))
    assert draft.tokens.dtype == torch.int64 and draft.confidence.tolist() == [0.5, 0.25] and draft.q is None


def test_the_best_size_is_the_one_that_trying_all_finds():
    rng = random.Random(0)
    for _ in range(50):
        probs = sorted((rng.random() ** 3 for _ in range(12)), reverse=True)
        costs = [1.0]
        for _ in probs:
            costs.append(costs[-1] + rng.random() * 0.4)
        rates = [(1 + sum(probs[:n])) / costs[n] for n in range(13)]
        assert best_size(probs, costs.__getitem__) == max(range(13), key=rates.__getitem__)


def test_nothing_is_drafted_where_nothing_pays_and_equal_sizes_give_the_smallest():
    assert best_size([0.1, 0.05], lambda n: 1 + n) == 0
    assert best_size([1.0, 0.0], lambda n: 1.0) == 1
    assert best_size([], lambda n: 1.0) == 0
