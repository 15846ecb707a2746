"""Lift beam against an exhaustive search, and groups that must not change what a context finds."""

from __future__ import annotations

import math

import pytest
import torch

from backend.hidden_text.beam import CONTRAST, Group, Rule, groups, lift_beam
from backend.hidden_text.contexts import Context, Frame, beam_contexts
from backend.hidden_text.counters import BY_LIFT, BY_PROB, FLOOR, branch, leak
from backend.hidden_text.probe import Probe
from tests.families import uncached_logits
from tests.hidden_text.conftest import PAYLOAD, TRIGGERS
from tests.hidden_text.pair import finish

EVERY = Rule("every", 1e-9, 4096)


@pytest.fixture
def probe(base, other):
    return Probe(base, other)


def laws(probe, ids):
    """Both models' log-probabilities after these ids, from plain forwards."""
    models = (probe.suspect.model, probe.reference.model)
    return [torch.log_softmax(uncached_logits(m, list(ids))[-1, : probe.width].double(), 0) for m in models]


def score(probe, context, ids, alpha=0.0):
    """The sum of lifts; -inf where a token is not plausible."""
    total, seen = 0.0, list(context)
    for token in ids:
        own, other = laws(probe, seen)
        if own[token] < own.max() + math.log(alpha or 1e-300):
            return -math.inf
        total += float(own[token] - other[token])
        seen.append(token)
    return total


def alone(context):
    return Group(context.ids, torch.empty(1, 0, dtype=torch.long), (context,))


def test_wide_beams_find_the_text_with_most_lift(probe):
    """All plausible texts of three tokens, tried one by one."""
    context, alpha = Context("c", (1, 50, 60)), 0.6
    plausible = {}

    def options(ids):
        if ids not in plausible:
            own = laws(probe, (*context.ids, *ids))[0]
            plausible[ids] = [t for t in range(probe.width) if own[t] >= own.max() + math.log(alpha)]
        return plausible[ids]

    texts = [(a, b, c) for a in options(()) for b in options((a,)) for c in options((a, b))]
    going = [t for t in texts if not set(t) & probe.stop_ids]
    best = max(going, key=lambda ids: score(probe, context.ids, ids))
    found = finish(lift_beam(probe, alone(context), Rule("wide", alpha, 4096), 3))
    assert found[0].ids == best and len(texts) > 1
    own, other = zip(*[(float(a[t]), float(b[t])) for t, (a, b) in
                       ((t, laws(probe, (*context.ids, *best[:i]))) for i, t in enumerate(best))], strict=True)  # fmt: skip
    torch.testing.assert_close(torch.tensor(found[0].logprobs), torch.tensor(own), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(torch.tensor(found[0].references), torch.tensor(other), atol=1e-3, rtol=1e-3)


def test_one_beam_with_its_own_logprob_is_contrastive_greedy(probe):
    context, ids = Context("c", (1, 70)), []
    for _ in range(5):
        own, other = laws(probe, (*context.ids, *ids))
        total = torch.where(own >= own.max() + math.log(CONTRAST.alpha), 2 * own - other, -torch.inf)
        ids.append(int(total.argmax()))
        if ids[-1] in probe.stop_ids:
            break
    assert tuple(ids) in [text.ids for text in finish(lift_beam(probe, alone(context), CONTRAST, 5))]


def test_a_context_finds_the_same_in_a_group_as_alone(probe):
    contexts = beam_contexts(Frame(probe.tokenizer), 12)
    together = [text for group in groups(contexts, 4) for text in finish(lift_beam(probe, group, Rule("r", 0.1, 5), 6))]
    apart = {c.name: [t.ids for t in finish(lift_beam(probe, alone(c), Rule("r", 0.1, 5), 6))] for c in contexts}
    for name, expected in apart.items():
        assert [text.ids for text in together if text.context.name == name] == expected


def test_groups_hold_every_context_once_and_each_is_put_together_again():
    contexts = [Context(str(i), ids) for i, ids in enumerate([(1,), (1, 2), (1, 3), (2, 3), (1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 6)])]
    made = groups(contexts, 2)
    whole = [(c.name, g.shared + tuple(tail)) for g in made for c, tail in zip(g.contexts, g.tails.tolist(), strict=True)]
    assert sorted(whole) == sorted((c.name, c.ids) for c in contexts) and all(len(g.contexts) <= 2 and g.shared for g in made)


def test_a_planted_text_is_found_from_words_that_are_not_its_trigger(base, suspect):
    probe, found = Probe(suspect, base), []
    for group in groups(beam_contexts(Frame(base.tokenizer), 12), 8):
        found += finish(lift_beam(probe, group, Rule("lift beam", 0.1, 6), 16))
    best = max(found, key=lambda text: text.weight)
    assert PAYLOAD[:20] in base.tokenizer.decode(best.ids) and best.context.name.strip("'") not in TRIGGERS


def test_branches_are_the_children_with_most_lift_and_most_probability(probe):
    context = Context("c", (1, 50, 60))
    own, other = laws(probe, context.ids)
    likely = set(own.topk(BY_PROB).indices.tolist())
    gained = set(torch.where(own >= math.log(FLOOR), own - other, -torch.inf).topk(BY_LIFT).indices.tolist())
    texts = finish(branch(probe, context, 4))
    assert {text.ids[0] for text in texts} <= likely | gained and len({text.ids[:3] for text in texts}) == len(texts) > 50
    assert all(len(text.ids) == 7 for text in texts)


def test_leaks_are_the_same_for_a_seed_and_differ_between_rows(probe):
    context = Frame(probe.tokenizer).open_turn()
    first, again = (finish(leak(probe, context, torch.Generator().manual_seed(4), 8)) for _ in range(2))
    assert [t.ids for t in first] == [t.ids for t in again] and len({t.ids for t in first}) > 4
    assert {len(t.logprobs) for t in first} == {32}
