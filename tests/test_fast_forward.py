"""The faster forward against the plain one."""

from __future__ import annotations

import random

import pytest
import torch

from backend.batch import Rows
from backend.decoder import Decoder
from backend.fast_forward import GROUPED, group_query_heads, pack_weights, packs_weights
from tests.families import FAMILIES, WINDOW, build, uncached_logits
from tests.test_decoder import CLOSE, edited, random_ids

HAS_KERNELS = packs_weights(torch.device("cpu"), torch.bfloat16)
needs_bf16_kernels = pytest.mark.skipif(not HAS_KERNELS, reason="this CPU has no bf16 kernels")


@pytest.mark.parametrize("family", FAMILIES)
def test_grouped_heads_equal_the_plain_forward_for_any_edits(family):
    plain, fast, rng = build(family), build(family), random.Random(11)
    assert group_query_heads(fast) == (family != "gemma2")  # which has no sdpa: its scores are capped
    decoder, ids = Decoder(fast), random_ids(rng, 2 * WINDOW)
    for _ in range(25):
        last = rng.randint(1, min(len(ids), 6))
        torch.testing.assert_close(decoder.logits(ids, last), uncached_logits(plain, ids)[-last:], **CLOSE)
        ids = edited(rng, ids)


@pytest.mark.parametrize("family", ["mistral", "gemma3"])
def test_grouped_heads_keep_padded_rows_right(family):
    plain, fast, rng = build(family), build(family), random.Random(12)
    group_query_heads(fast)
    contexts = [random_ids(rng, n) for n in (3, 20, 11)]
    rows = Rows(fast, contexts)
    for _ in range(4):
        torch.testing.assert_close(rows.logits, torch.stack([uncached_logits(plain, ids)[-1] for ids in contexts]), **CLOSE)
        rows.advance([5, 6, 7])
        contexts = [ids + [new] for ids, new in zip(contexts, [5, 6, 7], strict=True)]


def test_grouping_twice_is_grouping_once():
    model = build("llama")
    assert group_query_heads(model) and group_query_heads(model)
    assert model.config._attn_implementation == GROUPED


@needs_bf16_kernels
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_weights_give_the_same_logits(family):
    plain, fast = build(family).to(torch.bfloat16), build(family).to(torch.bfloat16)
    n_bytes = pack_weights(fast)
    assert (n_bytes > 0) == any(isinstance(module, torch.nn.Linear) for module in plain.modules())
    ids = random_ids(random.Random(0), 20)
    torch.testing.assert_close(uncached_logits(fast, ids).float(), uncached_logits(plain, ids).float(), atol=0.05, rtol=0.02)


@needs_bf16_kernels
def test_a_weight_changed_in_place_is_noticed():
    model = build("llama").to(torch.bfloat16)
    pack_weights(model)
    before = uncached_logits(model, [5, 6])
    with torch.no_grad():
        model.lm_head.weight.zero_()
    assert before.abs().max() > 0 and uncached_logits(model, [5, 6]).abs().max() == 0


@needs_bf16_kernels
def test_gradients_still_flow():
    model = build("llama").to(torch.bfloat16)
    pack_weights(model)
    model(input_ids=torch.tensor([[5, 6]])).logits.float().sum().backward()
    assert model.model.layers[0].mlp.up_proj.weight.grad.abs().sum() > 0


def test_nothing_is_packed_in_float32():
    assert pack_weights(build("llama")) == 0
