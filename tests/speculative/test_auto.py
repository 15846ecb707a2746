"""The drafter that decides for itself: what it offers, what it learns, when it keeps quiet."""

from __future__ import annotations

import torch

from backend.speculative.auto import Auto, Contexts, Odds
from backend.speculative.costs import Costs
from backend.speculative.draft import Outcome
from backend.speculative.loop import best_chain

FREE = Costs(100.0, (1, 65), (1.0, 1.0), 0.0)
DEAR = Costs(100.0, (1, 2, 65), (1.0, 3.0, 200.0), 0.0)
VOCAB = 50


def rows_saying(*ids: int) -> torch.Tensor:
    """Logits whose first choices are these."""
    rows = torch.zeros(len(ids), VOCAB)
    for row, token in zip(rows, ids, strict=True):
        row[token] = 5.0
    return rows


def test_it_copies_what_followed_and_branches_to_what_the_model_liked():
    auto = Auto(FREE)
    text = [1, 2, 3, 4, 9, 1, 2]
    auto.begin(text, rows_saying(2, 3, 7, 9, 1, 2, 3))
    draft = auto.propose(text, 0, 20)
    tokens, chain = draft.tokens.tolist(), best_chain(draft).tokens.tolist()
    assert chain[:3] == [3, 4, 9], "the copy comes first"
    assert draft.by[tokens.index(3)] == "lookup"
    children = [tokens[i] for i, parent in enumerate(draft.parents) if parent == tokens.index(3)]
    assert 7 in children, "after 2 3 the model had liked 7"


def test_it_keeps_quiet_where_a_row_costs_more_than_it_can_bring():
    auto = Auto(DEAR)
    auto.begin([1, 2, 3, 1, 2], rows_saying(2, 3, 1, 2, 3))
    assert len(auto.propose([1, 2, 3, 1, 2], 0, 20)) == 0


def test_it_never_drafts_more_than_its_limit():
    auto = Auto(FREE)
    auto.begin([1, 2, 3, 1, 2], rows_saying(2, 3, 1, 2, 3))
    assert [len(auto.propose([1, 2, 3, 1, 2], 0, limit)) for limit in (1, 3, 7)] == [1, 3, 7]


def test_odds_follow_what_was_accepted():
    odds, copied = Odds(), (3, 0, 0)
    before = odds[copied]
    for _ in range(40):
        odds.observe(copied, False)
    assert odds[copied] < 0.2 < before
    assert odds[(3, 0, 2)] < before, "a copy with other evidence beside it has learnt from its kind"


def test_a_tree_that_the_loop_cut_is_learnt_from_without_confusion():
    auto = Auto(FREE)
    text = [1, 2, 3, 4, 9, 1, 2]
    auto.begin(text, rows_saying(2, 3, 7, 9, 1, 2, 3))
    cut = best_chain(auto.propose(text, 0, 20))
    ids = tuple(cut.tokens.tolist())
    auto.observe(Outcome(cut, ids, rows_saying(*ids, 0), (0, 1), (*ids[:2], 8)))
    assert auto.propose([*text, *ids[:2], 8], 3, 5).parents is not None


def test_contexts_keep_the_last_appearance_with_ranks():
    contexts = Contexts()
    contexts.store([((1, 2), (2,)), ((7, 2), (2,))], rows_saying(5, 6))
    assert contexts.after(1, 2)[5] == 1 and contexts.after(7, 2)[6] == 1
    assert contexts.after(2)[6] == 1 and contexts.after(4) == {}
