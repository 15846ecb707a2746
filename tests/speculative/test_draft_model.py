"""The draft is what the draft model itself would say next, whatever the rounds before left in its cache."""

from __future__ import annotations

import random

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from backend.decoder import Decoder
from backend.errors import ModelError
from backend.sampling import final_probs
from backend.speculative.draft import Outcome
from backend.speculative.draft_model import DraftModel, fitted
from backend.speculative.law import make_law
from backend.types import SamplingParams
from tests.families import POSITIONS, VOCAB, build, uncached_logits

GREEDY = SamplingParams()
WARM = SamplingParams(temperature=0.8, top_k=20, seed=3)


def drafter(model, gamma=4, sampling=GREEDY, kind="coupled", n_ids=None):
    return DraftModel(Decoder(model), make_law(sampling, kind), gamma, sampling, n_ids)


def continuation(model, ids, n):
    """The oracle: n greedy tokens, each from a forward over everything."""
    ids = list(ids)
    for _ in range(n):
        ids.append(int(uncached_logits(model, ids)[-1].argmax()))
    return ids[-n:]


def told(draft, n_accepted, extra):
    ids = tuple(draft.tokens.tolist())
    return Outcome(draft, ids, torch.empty(0), tuple(range(n_accepted)), (*ids[:n_accepted], extra))


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_every_round_drafts_the_models_own_next_tokens(family):
    model, rng = build(family), random.Random(1)
    drafts = drafter(model)
    ids = [rng.randrange(3, VOCAB) for _ in range(9)]
    drafts.begin(ids, None)
    ids.append(5)
    for accepted in (0, 4, 2, 3, 4, 1):
        draft = drafts.propose(ids, 0, 10)
        assert draft.tokens.tolist() == continuation(model, ids, 4)
        assert draft.is_chain and draft.q is None and set(draft.by) == {"model"}
        outcome = told(draft, accepted, rng.randrange(3, VOCAB))
        drafts.observe(outcome)
        ids += outcome.emitted


def test_a_round_computes_only_what_is_new():
    model = build("llama")
    drafts = drafter(model, gamma=4)
    decoder, ids = drafts._decoder, [3, 4, 5, 6, 7]
    drafts.begin(ids, None)
    assert decoder.n_computed == 5
    ids.append(9)
    # all accepted: the last drafted token was never read and comes along with the round's own token
    for accepted, read in ((2, 1), (4, 1), (0, 2), (1, 1)):
        before = decoder.n_computed
        draft = drafts.propose(ids, 0, 10)
        assert decoder.n_computed - before == read + 3
        ids += told(draft, accepted, 11).emitted


class Reads(TorchDispatchMode):
    """Counts reads of a number by the host."""

    def __init__(self):
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.n += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def reads(gamma):
    drafts = drafter(build("llama"), gamma)
    drafts.begin([3, 4, 5], None)
    with Reads() as counted:
        drafts.propose([3, 4, 5, 6], 0, 50)
    return counted.n


def test_no_step_of_a_draft_reads_anything_on_the_host():
    assert reads(12) == reads(1)


def test_under_the_residual_law_q_is_what_each_token_was_drawn_from():
    model = build("llama")
    draft = drafter(model, 3, WARM, "residual").propose([3, 4, 5, 6], 0, 9)
    rows = uncached_logits(model, [3, 4, 5, 6, *draft.tokens.tolist()])[3:6].float()
    laws = torch.stack([final_probs(row, WARM) for row in rows])
    torch.testing.assert_close(draft.q.float(), laws, atol=1e-4, rtol=1e-3)
    assert draft.confidence.tolist() == pytest.approx(draft.q.gather(1, draft.tokens[:, None])[:, 0].tolist())


@pytest.mark.parametrize("sampling", [GREEDY, WARM])
def test_an_undrawn_tokens_confidence_is_the_models_probability_at_the_runs_temperature(sampling):
    model = build("llama")
    draft = drafter(model, 3, sampling).propose([3, 4, 5, 6], 0, 9)
    rows = uncached_logits(model, [3, 4, 5, 6, *draft.tokens.tolist()])[3:6].float()
    probs = torch.softmax(rows / (sampling.temperature or 1), -1)
    expected = [probs[i, token].item() for i, token in enumerate(draft.tokens.tolist())]
    assert draft.confidence.tolist() == pytest.approx(expected, abs=1e-4)


def test_coupled_drafts_use_the_noise_of_their_position():
    model, ids = build("llama"), [3, 4, 5, 6]
    whole = drafter(model, 4, WARM).propose(ids, 7, 9).tokens.tolist()
    assert drafter(model, 3, WARM).propose([*ids, whole[0]], 8, 9).tokens.tolist() == whole[1:]


def test_gamma_and_limit_both_bound_a_draft():
    assert [len(drafter(build("llama"), 3).propose([3, 4, 5], 0, limit)) for limit in (2, 3, 9)] == [2, 3, 3]
    with pytest.raises(ValueError, match="gamma must be at least 1, got 0"):
        drafter(build("llama"), 0)


def test_the_draft_shrinks_and_ends_with_the_draft_models_context():
    drafts = drafter(build("llama"), 6)
    ids = [3 + i % 40 for i in range(POSITIONS + 1)]
    drafts.begin(ids, None)
    assert [len(drafts.propose(ids[:n], 0, 9)) for n in (POSITIONS - 3, POSITIONS, POSITIONS + 1)] == [4, 1, 0]


@pytest.mark.parametrize("n_ids", [VOCAB - 30, VOCAB + 4])
def test_ids_that_only_one_of_two_padded_vocabularies_has_are_never_drafted(n_ids):
    draft = drafter(build("llama"), 5, WARM, "residual", n_ids).propose([3, 4, 5], 0, 9)
    assert draft.q.shape == (5, n_ids) and int(draft.tokens.max()) < min(n_ids, VOCAB)
    assert draft.q[:, VOCAB:].sum() == 0


def test_logits_are_cut_or_padded_to_the_targets_width():
    row = torch.tensor([1.0, 2.0])
    assert fitted(row, None) is row and fitted(row, 2) is row
    assert fitted(row, 1).tolist() == [1.0] and fitted(row, 3).tolist() == [1.0, 2.0, -torch.inf]


def test_a_model_that_cannot_take_back_is_refused():
    with pytest.raises(ModelError, match="can't draft: it has no way to take back"):
        drafter(build("mamba"))
