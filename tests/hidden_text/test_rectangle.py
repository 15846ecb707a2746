"""A row of a rectangle equals that row alone, on every family."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch

from backend.errors import ModelError
from backend.hidden_text.rectangle import FEWEST_ROWS, Prefix
from tests.families import FAMILIES, POSITIONS, STATEFUL, VOCAB, WINDOW, build, uncached_logits
from tests.test_decoder import CLOSE, random_ids


def prefix(model, ids, name="tiny"):
    return Prefix(SimpleNamespace(model=model, id=name, vocab_size=VOCAB), ids)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shared", [1, 3, 2 * WINDOW])
def test_rows_equal_one_by_one_while_they_grow_and_change_places(family, shared):
    model, rng = build(family), random.Random(shared)
    head = random_ids(rng, shared)
    contexts = [head + random_ids(rng, 3) for _ in range(4)]
    rows = prefix(model, head).spread(4, 3 + WINDOW + 4)
    logits = rows.read(torch.tensor([c[shared:] for c in contexts]), 3)
    expected = torch.stack([uncached_logits(model, ids)[-3:] for ids in contexts])
    torch.testing.assert_close(logits, expected, **CLOSE)
    for step in range(WINDOW + 4):
        if step % 3 == 1:
            index = [rng.randrange(len(contexts)) for _ in range(rng.choice([2, 4, 5]))]
            rows.select(torch.tensor(index))
            contexts = [contexts[i] for i in index]
        ids = random_ids(rng, len(contexts))
        contexts = [context + [token] for context, token in zip(contexts, ids, strict=True)]
        expected = torch.stack([uncached_logits(model, context)[-1] for context in contexts])
        torch.testing.assert_close(rows.read(torch.tensor(ids)[:, None])[:, -1], expected, **CLOSE)


def test_a_prefix_is_read_once_for_all_rectangles():
    model, n_tokens = build("llama"), []
    model.model.layers[0].register_forward_pre_hook(lambda module, inputs: n_tokens.append(inputs[0].shape[0] * inputs[0].shape[1]))
    shared = prefix(model, [5] * 30)
    for _ in range(2):
        shared.spread(10, 1).read(torch.full((10, 1), 7))
    assert n_tokens == [30, 10, 10]


def test_the_more_tokens_a_row_has_the_fewer_rows_fit_but_some_always_do():
    shared = prefix(build("llama"), [5, 6])
    assert shared.n_rows(1) >= shared.n_rows(100) >= shared.n_rows(10**9) == FEWEST_ROWS


@pytest.mark.parametrize("family", STATEFUL)
def test_recurrent_models_are_refused_by_name(family):
    with pytest.raises(ModelError, match="my model can't run many rows"):
        prefix(build(family), [5], "my model")


def test_rows_too_long_or_without_a_prefix_are_refused():
    with pytest.raises(ModelError, match=f"tiny reads at most {POSITIONS} tokens"):
        prefix(build("gpt2"), [5]).spread(2, POSITIONS)
    with pytest.raises(ModelError, match="turns its rotary angles"):
        prefix(build("phi3_longrope"), [5] * 10).spread(2, 10)
    with pytest.raises(ValueError, match="at least one id"):
        prefix(build("llama"), [])
