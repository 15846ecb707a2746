"""The loop gives the target's own text, whoever drafts, on every family; a baseline is the same loop with an empty draft."""

from __future__ import annotations

import itertools

import pytest
import torch

from backend.decoder import Decoder
from backend.speculative.auto import Auto
from backend.speculative.confidence_tree import ConfidenceTree
from backend.speculative.costs import Costs
from backend.speculative.draft import Draft, Silent
from backend.speculative.draft_model import DraftModel
from backend.speculative.law import make_law
from backend.speculative.lookup import Lookup
from backend.speculative.loop import Loop, best_chain, head_of
from backend.speculative.recycling import Recycling
from backend.types import SamplingParams
from tests.families import FAMILIES, build

PROMPT = [5, 9, 14, 5, 9, 31, 7, 5, 9]
N = 40
FREE = Costs(100.0, (1, 65), (1.0, 1.0), 0.0)  # verifying costs nothing here, so drafts are as large as they may be


def drafters(sampling: SamplingParams, law, draft_model):
    """One of each kind."""
    return {
        "lookup": Lookup(3, 5),
        "recycling": Recycling(12),
        "auto": Auto(FREE),
        "model": DraftModel(Decoder(draft_model), law, 4, sampling),
        "tree": ConfidenceTree(Decoder(draft_model), branch=0.1, alpha=0.0, size=9),
    }


def decode(model, drafter, law, n=N, width=None):
    room = len(PROMPT) + n + 40 if width else None
    loop = Loop(Decoder(model, width=width, room=room), drafter, law, itertools.count().__next__, width)
    rows = loop.prefill(PROMPT)
    loop.first(rows[-1])
    accepted = 0
    while len(loop.ids) < len(PROMPT) + n:
        accepted += len(loop.round(min(20, len(PROMPT) + n - len(loop.ids) - 1)).walk.path)
    return loop.ids[len(PROMPT) :][:n], accepted


def noisy_copy(model, family):
    """A draft model that often agrees: the target with a little noise on its weights."""
    draft = build(family)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in draft.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.03 * parameter.std())
    return draft


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sampling", [SamplingParams(), SamplingParams(temperature=0.9, top_k=20, seed=3)], ids=["greedy", "coupled"])
def test_every_drafter_gives_the_plain_text(family, sampling):
    model = build(family)
    plain, _ = decode(model, Silent(), make_law(sampling, "coupled"))
    for name, drafter in drafters(sampling, make_law(sampling, "coupled"), noisy_copy(model, family)).items():
        if not Decoder(model).capabilities.trees and name in ("recycling", "auto", "tree"):
            drafter = drafters(sampling, make_law(sampling, "coupled"), noisy_copy(model, family))[name]
        text, accepted = decode(model, drafter, make_law(sampling, "coupled"))
        assert text == plain, name
        assert accepted > 0 or name in ("lookup", "recycling", "auto"), f"{name} never had a token accepted: nothing was tested"


def test_plain_is_the_librarys_greedy_text():
    model = build("llama")
    plain, _ = decode(model, Silent(), make_law(SamplingParams(), "coupled"))
    block = torch.tensor([PROMPT])
    with torch.inference_mode():
        theirs = model.generate(block, attention_mask=torch.ones_like(block), do_sample=False, max_new_tokens=N, eos_token_id=None, pad_token_id=0)
    assert plain == theirs[0, len(PROMPT) :].tolist()


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_reproducible_mode_gives_one_text_in_bf16(family):
    model, sampling = build(family).bfloat16(), SamplingParams()
    plain, _ = decode(model, Silent(), make_law(sampling, "coupled"), width=6)
    for name, drafter in drafters(sampling, make_law(sampling, "coupled"), noisy_copy(model, family).bfloat16()).items():
        assert decode(model, drafter, make_law(sampling, "coupled"), width=6)[0] == plain, name


def test_a_round_never_emits_more_than_it_was_given_room_for():
    model, law = build("llama"), make_law(SamplingParams(), "coupled")
    loop = Loop(Decoder(model), DraftModel(Decoder(model), law, 8, SamplingParams()), law, itertools.count().__next__)
    loop.first(loop.prefill(PROMPT)[-1])
    for limit in (0, 1, 2, 5):
        assert len(loop.round(limit).walk.emitted) == limit + 1  # the model agrees with itself: everything is accepted


def test_the_prefixs_rows_are_the_logits_after_each_of_its_tokens():
    model, law = build("llama"), make_law(SamplingParams(), "coupled")
    rows = Loop(Decoder(model), Silent(), law, itertools.count().__next__).prefill(PROMPT, [3, 4, 5])
    torch.testing.assert_close(rows, Decoder(model).logits([*PROMPT, 3, 4, 5], last=4))
    seeded = Loop(Decoder(model), Recycling(4), law, itertools.count().__next__).prefill(PROMPT, [3, 4, 5])
    torch.testing.assert_close(seeded, rows)


def test_a_tree_is_cut_to_the_chain_of_first_children():
    tree = Draft(torch.tensor([4, 5, 6, 7, 8]), (-1, 0, 0, 2, -1), ("a", "b", "c", "d", "e"), torch.tensor([0.9, 0.8, 0.1, 0.1, 0.05]))
    cut = best_chain(tree)
    assert (cut.tokens.tolist(), cut.parents, cut.by) == ([4, 5], (-1, 0), ("a", "b"))
    assert cut.confidence.tolist() == pytest.approx([0.9, 0.8])
    assert head_of(cut, 1).tokens.tolist() == [4] and head_of(cut, 2) is cut
