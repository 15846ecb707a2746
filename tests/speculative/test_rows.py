"""Facts about many rows against a stable sort and the plain formulas."""

from __future__ import annotations

import pytest
import torch

from backend.speculative.draft import Draft, chain, nothing
from backend.speculative.rows import leaders, log_of_best, of_nodes, ranked, read, top_k

SIZES = [1, 7, 512, 2048, 2071, 8192, 9000, 20_000, 49_152]  # across every border between ways, with and without a chunk cut short


def random_rows(n: int, size: int, coarse: bool, seed: int) -> torch.Tensor:
    """Coarse rows are full of equal values."""
    rows = torch.randn(n, size, generator=torch.Generator().manual_seed(seed)) * 3
    return rows.round() if coarse else rows


def by_sorting(rows: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The oracle: a stable sort keeps equals in the order of their ids."""
    values, ids = rows.sort(dim=1, descending=True, stable=True)
    return values[:, :k], ids[:, :k]


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_the_best_ids_are_those_of_a_stable_sort(size, coarse):
    rows = random_rows(3, size, coarse, seed=size)
    for k in {min(k, size) for k in (1, 2, 8, 200)}:
        values, ids = top_k(rows, k)
        expected_values, expected_ids = by_sorting(rows, k)
        assert torch.equal(values, expected_values) and torch.equal(ids, expected_ids)


@pytest.mark.parametrize("size", [50, 2071, 20_000])
def test_rows_without_any_finite_value_but_one_still_rank_real_ids(size):
    rows = torch.full((2, size), -torch.inf)
    rows[0, size - 1] = 1.0
    ids = top_k(rows, 3)[1].tolist()
    assert ids == [[size - 1, 0, 1], [0, 1, 2]]


def test_the_two_zeros_are_equal():
    assert top_k(torch.tensor([[-1.0, -0.0, 0.0, -0.0]]), 3)[1].tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("size", SIZES)
def test_leaders_are_the_first_two_of_the_order(size):
    rows = random_rows(4, size, True, seed=1)
    best, first, second = leaders(rows)
    values, ids = by_sorting(rows, 2)
    assert torch.equal(best, ids[:, :1]) and torch.equal(first, values[:, 0])
    assert torch.equal(second, values[:, 1] if size > 1 else torch.tensor([-torch.inf] * 4))


@pytest.mark.parametrize("size", [7, 3000, 20_000])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_logit_that_is_no_number_is_an_error(size, sign):
    rows = torch.zeros(2, size)
    rows[1, size // 2] = torch.copysign(torch.tensor(torch.nan), torch.tensor(sign))
    with pytest.raises(ValueError, match="NaN"):
        top_k(rows, 2)
    with pytest.raises(ValueError, match="NaN"):
        read(rows, chain([0], "test"))


def test_a_row_with_nothing_finite_is_an_error():
    with pytest.raises(ValueError, match="finite"):
        read(torch.full((1, 5), -torch.inf), nothing())


@pytest.mark.parametrize("k", [0, 6])
def test_k_outside_the_vocabulary_is_an_error(k):
    with pytest.raises(ValueError, match=rf"between 1 and the number of ids \(5\), got {k}"):
        top_k(torch.zeros(1, 5), k)


def test_ranked_gives_all_ids_where_k_exceeds_them():
    assert ranked(torch.tensor([[1.0, 3.0, 2.0]]), 9)[1].tolist() == [[1, 2, 0]]


def test_a_row_for_each_node_and_one_more_or_an_error():
    with pytest.raises(ValueError, match=r"one more than the draft's nodes \(3\), got 2"):
        read(torch.zeros(2, 5), chain([1, 2], "test"))


TREE = Draft(torch.tensor([3, 1, 0, 2, 3]), (-1, -1, 0, 0, 1), ("test",) * 5, torch.tensor([0.5, 0.25, 1.0, 0.125, 0.75]))


@pytest.mark.parametrize("draft", [TREE, chain([4, 0, 2], "test")], ids=["tree", "chain"])
@pytest.mark.parametrize("size", [11, 60_000])
def test_facts_equal_the_plain_formulas(draft, size):
    rows = random_rows(len(draft) + 1, size, False, seed=2)
    facts = read(rows, draft, torch.tensor([0.1, 0.2]), torch.tensor([7.0]))
    logprobs = rows.double().log_softmax(1)
    assert facts.ids == tuple(draft.tokens.tolist())
    assert facts.best == tuple(rows.argmax(1).tolist())
    assert facts.value == tuple(rows.amax(1).tolist())
    assert facts.best_logprob == pytest.approx(logprobs.amax(1).tolist(), abs=1e-5)
    expected = [logprobs[parent + 1, token].item() for parent, token in zip(draft.parents, facts.ids, strict=True)]
    assert facts.logprob == pytest.approx(expected, abs=1e-5)
    first_two = rows.double().topk(2).values
    assert facts.margin == pytest.approx((first_two[:, 0] - first_two[:, 1]).tolist(), abs=1e-6)
    assert facts.confidence == (tuple(draft.confidence.tolist()) if draft.confidence is not None else (None,) * 3)
    assert [len(part) for part in facts.more] == [2, 1] and facts.more[1] == (7.0,)


def test_large_ids_cross_to_the_host_exactly():
    rows = torch.zeros(2, 300_001)
    rows[0, 299_999] = rows[1, 300_000] = 1.0
    facts = read(rows, chain([299_999], "test"))
    assert facts.best == (299_999, 300_000) and facts.ids == (299_999,)


def test_of_nodes_reads_each_parents_row():
    rows = torch.arange(24.0).reshape(6, 4)
    assert of_nodes(rows, TREE).tolist() == [3.0, 1.0, 4.0, 6.0, 11.0]


def test_many_large_rows_have_the_logprobs_of_few():
    """Past a size rows go one by one, for speed; the numbers stay the same, bit for bit."""
    rows = random_rows(5, 40_000, False, seed=3)
    best = rows.argmax(1, keepdim=True)
    assert torch.equal(log_of_best(rows, best), rows.log_softmax(1).gather(1, best)[:, 0])
