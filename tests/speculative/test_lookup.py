"""The index finds what a scan of the text finds."""

from __future__ import annotations

import random

import pytest
import torch

from backend.speculative.lookup import Lookup


def scan(ids, ngram, k):
    """The oracle: look through the whole text from the right for the longest n-gram."""
    for n in range(min(ngram, len(ids) - 1), 0, -1):
        for end in range(len(ids) - 1, n - 1, -1):
            if ids[end - n : end] == ids[-n:]:
                return ids[end : end + k], n
    return [], 0


@pytest.mark.parametrize(("ngram", "k"), [(1, 3), (2, 1), (3, 8), (5, 4)])
def test_a_match_is_what_a_scan_finds_while_the_text_grows(ngram, k):
    rng = random.Random(ngram)
    for letters in (2, 4, 30):
        ids = [rng.randrange(letters) for _ in range(5)]
        lookup = Lookup(ngram, k)
        lookup.begin(ids, None)
        for _ in range(60):
            ids = ids + [rng.randrange(letters) for _ in range(rng.choice([1, 1, 3]))]
            assert lookup.match(ids, 100) == scan(ids, ngram, k)


def test_a_text_that_is_no_continuation_is_read_anew():
    rng, lookup = random.Random(1), Lookup(3, 8)
    for _ in range(30):
        ids = [rng.randrange(3) for _ in range(rng.randint(1, 40))]
        assert lookup.match(ids, 8) == scan(ids, 3, 8)


def test_a_second_run_knows_nothing_of_the_first():
    lookup = Lookup(2, 4)
    lookup.begin([1, 2, 3, 4], None)
    lookup.begin([1, 2], None)
    assert lookup.match([1, 2], 4) == ([], 0)


def test_the_most_recent_place_wins_over_the_first():
    assert Lookup(2, 2).match([1, 2, 8, 8, 1, 2, 9, 9, 1, 2], 5) == ([9, 9], 2)


def test_in_a_loop_the_copy_stops_at_the_end_of_the_text():
    assert Lookup(3, 8).match([5, 6, 5, 6, 5, 6], 8) == ([5, 6], 3)


def test_a_proposal_is_a_chain_within_both_limits():
    lookup = Lookup(1, 3)
    draft = lookup.propose([1, 2, 3, 4, 5, 1], 0, 10)
    assert (draft.tokens.tolist(), draft.parents, draft.by) == ([2, 3, 4], (-1, 0, 1), ("lookup",) * 3)
    assert draft.tokens.dtype == torch.int64 and draft.confidence is None and draft.q is None
    assert lookup.propose([1, 2, 3, 4, 5, 1], 0, 2).tokens.tolist() == [2, 3]
    assert len(lookup.propose([1, 2, 3], 0, 2)) == 0 and len(lookup.propose([1], 0, 2)) == 0


def test_impossible_sizes_are_named():
    with pytest.raises(ValueError, match="at least 1, got 0 and 4"):
        Lookup(0, 4)
