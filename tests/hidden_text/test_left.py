"""Extending to the left: the token taken is the one that a plain loop over all of them finds best."""

from __future__ import annotations

import pytest
import torch

from backend.hidden_text import left as module
from backend.hidden_text.contexts import Frame
from backend.hidden_text.left import extend_left
from backend.hidden_text.probe import Probe
from tests.families import uncached_logits
from tests.hidden_text.conftest import PAYLOAD, TRIGGERS
from tests.hidden_text.pair import finish

STARTS = torch.arange(3, 300)


def lift(probe, context, ids, start):
    """The lift of `ids` from `start` on, one forward a model."""
    total = 0.0
    for sign, handle in ((1, probe.suspect), (-1, probe.reference)):
        rows = torch.log_softmax(uncached_logits(handle.model, [*context, *ids])[:, : probe.width], -1)
        total += sign * sum(float(rows[len(context) + i - 1, ids[i]]) for i in range(start, len(ids)))
    return total


def test_the_token_put_in_front_is_the_best_of_all(base, suspect, monkeypatch):
    probe, context = Probe(suspect, base), Frame(base.tokenizer).turn(TRIGGERS[0])
    text = base.tokenizer(PAYLOAD, add_special_tokens=False)["input_ids"][4:]
    monkeypatch.setattr(module, "MOST", 1)
    monkeypatch.setattr(module, "STANDS_OUT", -9.0)
    monkeypatch.setattr(module, "GAIN", -1e9)
    best = max(STARTS[:120].tolist(), key=lambda t: lift(probe, context.ids, [t, *text[:6]], 1))
    assert finish(extend_left(probe, context, text, STARTS[:120])) == (best,)


def test_a_token_that_does_not_stand_out_is_left_out(base, suspect, monkeypatch):
    probe, context = Probe(suspect, base), Frame(base.tokenizer).turn(TRIGGERS[0])
    monkeypatch.setattr(module, "STANDS_OUT", 1e9)
    assert finish(extend_left(probe, context, list(range(20, 40)), STARTS)) == ()


@pytest.mark.parametrize("ids", [[5, 6, 7], []])
def test_too_short_a_text_and_no_reference_give_nothing(base, other, ids):
    context = Frame(base.tokenizer).start()
    assert finish(extend_left(Probe(base, other), context, ids, STARTS)) == ()
    assert finish(extend_left(Probe(base, None), context, list(range(20)), STARTS)) == ()
