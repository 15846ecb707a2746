"""Ids and probabilities are those of a sorted softmax."""

from __future__ import annotations

import pytest
import torch

from backend.speculative.likeliest import likeliest


@pytest.mark.parametrize(("n", "size", "k"), [(1, 6, 3), (5, 300, 8), (3, 9000, 8), (2, 4, 8)])
def test_likeliest_are_the_first_of_the_sorted_law(n, size, k):
    rows = torch.randn(n, size, generator=torch.Generator().manual_seed(size)) * 3
    ids, probs = likeliest(rows, k)
    law = torch.softmax(rows.double(), -1)
    expected = [sorted(range(size), key=lambda i: -row[i].item())[:k] for row in law]
    assert ids.tolist() == expected
    for i, row in enumerate(law):
        assert probs[i].tolist() == pytest.approx(row[expected[i]].tolist(), rel=1e-4, abs=1e-7)
