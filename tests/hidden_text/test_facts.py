"""The reduction of logits to columns, against the plain formulas in double precision."""

from __future__ import annotations

import pytest
import torch

from backend.hidden_text import facts as module
from backend.hidden_text.facts import facts, logprobs_of
from backend.pairs import NEVER


@pytest.fixture(params=[1 << 20, 50])
def logits(request, monkeypatch):
    """Nine rows, in one tile or one row a tile; one id can never be said."""
    monkeypatch.setattr(module, "CPU_TILE", request.param)
    rows = 4 * torch.randn(9, 40, generator=torch.Generator().manual_seed(0))
    rows[:, 7] = NEVER
    return rows


def law(logits):
    logprobs = torch.log_softmax(logits.double(), -1)
    return logprobs, logprobs.exp()


def test_every_column_is_its_formula(logits):
    logprobs, probs = law(logits)
    known = probs > 0
    safe = torch.where(known, logprobs, 0.0)
    entropy = -(probs * safe).sum(-1)
    spread = ((probs * (safe + entropy[:, None]).square()).sum(-1)).sqrt()
    found, ordered = facts(logits), logprobs.sort(-1, descending=True).values
    assert torch.equal(found.best, logprobs.argmax(-1))
    for column, expected in ((found.logprob, ordered[:, 0]), (found.margin, ordered[:, 0] - ordered[:, 1]), (found.entropy, entropy),
                             (found.spread, spread)):  # fmt: skip
        torch.testing.assert_close(column, expected.float(), atol=1e-4, rtol=1e-4)


def test_a_chosen_id_has_its_own_logprob(logits):
    chosen = torch.arange(9) + 10
    expected = law(logits)[0].gather(1, chosen[:, None])[:, 0].float()
    torch.testing.assert_close(facts(logits, chosen).logprob, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logprobs_of(logits, chosen), expected, atol=1e-4, rtol=1e-4)


def test_sums_are_made_in_float32_whatever_the_logits_are():
    rows = torch.zeros(2, 3000, dtype=torch.bfloat16)
    torch.testing.assert_close(facts(rows).entropy, torch.full((2,), 3000.0).log(), atol=1e-3, rtol=0)
