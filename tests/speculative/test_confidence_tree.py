"""The tree is what the same rules give with one forward over the whole text for every step; alpha follows the method's rule."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch

from backend.decoder import Decoder
from backend.errors import ModelError
from backend.speculative.confidence_tree import ConfidenceTree, Growing, deepest
from backend.speculative.draft import ROOT, Outcome, chain
from tests.families import POSITIONS, VOCAB, build, uncached_logits

PROMPT = [3, 9, 27, 4, 12]


def law(model, ids):
    return torch.softmax(uncached_logits(model, ids)[-1].float(), 0).tolist()


def by_hand(model, ids, branch, alpha, size):
    """The oracle: paths → confidence, grown by the rules of the class with a forward over everything for each step."""
    tree, leaves = {}, []

    def open_(path):
        probs = law(model, [*ids, *path])
        order = sorted(range(len(probs)), key=lambda i: -probs[i])
        for rank, token in enumerate(order):
            if (rank == 0 or probs[token] > branch) and len(tree) < size:
                tree[(*path, token)] = probs[token]
                leaves.append((*path, token))

    def cumulative(path):
        return torch.tensor([tree[path[: i + 1]] for i in range(len(path))], dtype=torch.float64).prod().item()

    open_(())
    while len(tree) < size and max(map(cumulative, leaves)) >= alpha:
        total, budget = sum(map(cumulative, leaves)), sum(len(path) + 1 for path in leaves)
        lag = sorted((path for path in leaves if budget * cumulative(path) / total > len(path)), key=lambda path: -cumulative(path))
        for path in lag[: size - len(tree)]:
            open_(path)
            leaves.remove(path)
    return tree


def paths(draft):
    found = []
    for token, parent in zip(draft.tokens.tolist(), draft.parents, strict=True):
        found.append((*found[parent], token) if parent != ROOT else (token,))
    return found


def outcome(draft, path, extra=5):
    ids = tuple(draft.tokens.tolist())
    return Outcome(draft, ids, torch.empty(0), tuple(path), (*(ids[i] for i in path), extra))


def random_path(rng, parents):
    path, at = [], ROOT
    while True:
        children = [i for i, parent in enumerate(parents) if parent == at]
        if not children or rng.random() < 0.3:
            return path
        at = rng.choice(children)
        path.append(at)


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt_neox"])
@pytest.mark.parametrize(("branch", "alpha"), [(0.15, 0.0), (0.1, 0.05), (1.0, 0.02)])
def test_every_rounds_tree_is_the_one_grown_by_hand(family, branch, alpha):
    model, rng = build(family), random.Random(2)
    tree = ConfidenceTree(Decoder(model), branch, alpha, size=12)
    ids, branched = list(PROMPT), False
    tree.begin(ids, None)
    for _ in range(6):
        ids.append(rng.randrange(3, VOCAB))
        expected = by_hand(model, ids, branch, tree.alpha, 12)
        draft = tree.propose(ids, 0, 50)
        found = paths(draft)
        assert set(found) == set(expected) and len(found) == len(expected)
        assert draft.confidence.tolist() == pytest.approx([expected[path] for path in found], abs=1e-4)
        branched |= not draft.is_chain
        result = outcome(draft, random_path(rng, draft.parents))
        tree.observe(result)
        ids += result.emitted[:-1]
    assert branched == (branch < 1), "a threshold of 1 never branches, a low one must or the test shows nothing"


def test_nodes_stand_depth_first_and_the_likeliest_child_first():
    draft = ConfidenceTree(Decoder(build("llama")), 0.1, 0.0, 16).propose(PROMPT, 0, 50)
    for parent in range(-1, len(draft)):
        family = [draft.confidence[i].item() for i in range(len(draft)) if draft.parents[i] == parent]
        assert family == sorted(family, reverse=True)
    assert draft.q is None and set(draft.by) == {"tree"}
    assert all(parent == i - 1 or parent in path_to(draft, i - 1) for i, parent in enumerate(draft.parents))


def path_to(draft, node):
    above = [ROOT]
    while node != ROOT:
        above.append(node)
        node = draft.parents[node]
    return above


def test_without_branches_and_fallback_it_is_a_greedy_chain_of_fixed_size():
    model, ids = build("llama"), list(PROMPT)
    draft = ConfidenceTree(Decoder(model), branch=1.0, alpha=0.0, size=7).propose(ids, 0, 50)
    for token in draft.tokens.tolist():
        assert token == max(range(VOCAB), key=law(model, ids).__getitem__)
        ids.append(token)
    assert draft.is_chain and len(draft) == 7


def test_the_token_that_falls_below_the_threshold_is_kept():
    model = build("llama")
    top = max(law(model, PROMPT))
    assert top < 0.9
    draft = ConfidenceTree(Decoder(model), branch=1.0, alpha=0.9, size=9).propose(PROMPT, 0, 50)
    assert len(draft) == 1 and draft.confidence.item() == pytest.approx(top, abs=1e-4)


@pytest.mark.parametrize("n_accepted", [0, 1, 2, 99])
def test_after_a_round_only_what_is_new_is_read(n_accepted):
    """Walks down the likeliest branch of a tree that branches; 99 stands for all of it, whose last token was never read."""
    decoder = Decoder(build("llama"))
    tree = ConfidenceTree(decoder, 0.1, 0.0, 14)
    draft = tree.propose(PROMPT, 0, 50)
    assert not draft.is_chain
    path = []
    while len(path) < n_accepted:
        children = [i for i, parent in enumerate(draft.parents) if parent == (path[-1] if path else ROOT)]
        if not children:
            break
        path.append(children[0])
    result = outcome(draft, path)
    tree.observe(result)
    before = decoder.n_computed
    decoder.logits([*PROMPT, *result.emitted])
    assert decoder.n_computed - before == (2 if n_accepted == 99 else 1)


def test_branches_that_lag_behind_their_share_are_fed_surest_first():
    growing = Growing(Decoder(build("llama")), PROMPT, 100)
    for token, parent, confidence in ((1, ROOT, 0.6), (2, ROOT, 0.3), (3, 0, 0.9)):
        growing.add(token, parent, confidence)
    # leaves: 3 with 0.54 and two tokens, 2 with 0.3 and one; 5 tokens to share: 3.2 and 1.8
    assert growing.lagging() == [2, 1]
    growing.add(4, 2, 0.1)
    # 4 with 0.054 and three tokens, 2 with 0.3 and one; 6 to share: 0.9 and 5.1
    assert growing.lagging() == [1]


def test_a_draft_ends_with_the_models_context():
    tree = ConfidenceTree(Decoder(build("llama")), 1.0, 0.0, 20)
    ids = [3 + i % 40 for i in range(POSITIONS + 1)]
    tree.begin(ids, None)
    assert [len(tree.propose(ids[:n], 0, 50)) for n in (POSITIONS - 3, POSITIONS, POSITIONS + 1)] == [4, 1, 0]
    assert len(tree.propose(ids[:9], 0, 3)) == 3


def adjusted(stopped_at, accepted, alpha=0.01, length=4):
    tree = ConfidenceTree(Decoder(build("llama")), alpha=alpha)
    tree._stopped_at = stopped_at
    tree.observe(outcome(chain(list(range(length)), "tree"), range(accepted)))
    return tree.alpha


def test_alpha_halves_when_all_was_right_and_rises_with_the_share_that_was_wrong():
    assert adjusted(0.5, 4) == pytest.approx(0.005)
    assert adjusted(0.25, 2) == pytest.approx(0.01 / 0.25**0.5)
    assert adjusted(0.25, 0) == pytest.approx(0.01 / 0.25)
    assert adjusted(0.0, 0) == 0.9 and adjusted(0.5, 4, alpha=1e-6) == 1e-6, "clamped"
    assert adjusted(0.5, 0, alpha=0.0) == 0.0, "without fallback nothing moves"
    assert adjusted(0.5, 0, length=0) == 0.01, "an empty draft says nothing"


def test_the_verified_length_is_the_deepest_branch_through_the_accepted_path():
    #        0
    #      1   3 - 4 - 5
    #      2
    parents = (-1, 0, 1, 0, 3, 4)
    assert [deepest(parents, path) for path in ([], [0], [0, 1], [0, 1, 2], [0, 3])] == [4, 4, 3, 3, 4]
    assert deepest((), []) == 0


def test_a_model_without_trees_drafts_a_chain_and_one_without_rollback_nothing():
    decoder = Decoder(build("llama"))
    decoder.capabilities = SimpleNamespace(rollback=True, trees=False)
    assert ConfidenceTree(decoder, 0.05, 0.0, 9).propose(PROMPT, 0, 50).is_chain
    with pytest.raises(ModelError, match="can't draft"):
        ConfidenceTree(Decoder(build("mamba")))


def test_impossible_thresholds_are_named():
    with pytest.raises(ValueError, match=r"branch must be in \(0, 1\].*got 0, 0.01, 16"):
        ConfidenceTree(Decoder(build("llama")), branch=0)
