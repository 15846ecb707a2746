"""One width for every forward: the same bits after the same tokens, however they were cut into blocks."""

from __future__ import annotations

import random

import pytest
import torch

from backend.decoder import Decoder
from backend.errors import ModelError
from backend.fast_forward import group_query_heads, pack_weights
from tests.families import FAMILIES, POSITIONS, build, uncached_logits
from tests.test_decoder import CLOSE, random_ids
from tests.test_fast_forward import needs_bf16_kernels

ANSWER = 30
KINDS = [("float32", "sdpa"), ("float32", "eager"), ("bfloat16", "sdpa"), ("bfloat16", "eager"), ("float32", "grouped"), ("bfloat16", "grouped")]


def loaded(family, dtype, kind):
    model = build(family, "eager" if kind == "eager" else "sdpa").to(getattr(torch, dtype))
    if kind == "grouped":
        group_query_heads(model)
    return model


def in_blocks(rng, model, prompt, answer, longest, **mode):
    """`(1 + len(answer), V)`: the logits after the prompt and each token, in blocks of random lengths, each with rejected junk behind it."""
    decoder, at = Decoder(model, **mode), 0
    rows = [decoder.logits(prompt, rng.randint(1, len(prompt)))[-1:]]
    while at < len(answer):
        block = answer[at : at + rng.randint(1, longest)]
        junk = random_ids(rng, rng.randint(0, 4))
        rows.append(decoder.append(block + junk)[: len(block)])
        if rng.random() < 0.2:
            decoder.hold(prompt + answer[: at + len(block)])
        else:
            decoder.commit(range(len(block)), block)
        at += len(block)
    return torch.cat(rows)


def one_by_one(model, prompt, answer, **mode):
    decoder = Decoder(model, **mode)
    return torch.cat([decoder.logits(prompt + answer[:n]) for n in range(len(answer) + 1)])


def texts(seed, n_prompt=13):
    rng = random.Random(seed)
    return rng, random_ids(rng, n_prompt), random_ids(rng, ANSWER)


def assert_reproducible(model, width):
    rng, prompt, answer = texts(width)
    mode = {"width": width, "room": len(prompt) + len(answer) + 4 + width}
    plain = one_by_one(model, prompt, answer, **mode)
    for _ in range(2):
        assert torch.equal(in_blocks(rng, model, prompt, answer, width + 3, **mode), plain)
    return plain, prompt + answer


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("dtype", "kind"), KINDS)
def test_bits_do_not_depend_on_the_blocks(family, dtype, kind):
    model = loaded(family, dtype, kind)
    plain, ids = assert_reproducible(model, 8)
    if dtype == "float32":
        torch.testing.assert_close(plain, uncached_logits(model, ids)[-len(plain) :], **CLOSE)


@pytest.mark.parametrize("width", [2, 3, 5, 11, 16])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_bits_do_not_depend_on_the_blocks_at_any_width(family, width):
    """Odd widths were different in fp32 until they were rounded up: the last few numbers of a tensor go through other code."""
    assert_reproducible(build(family), width)


@needs_bf16_kernels
@pytest.mark.parametrize("family", FAMILIES)
def test_bits_do_not_depend_on_the_blocks_with_packed_weights(family):
    model = loaded(family, "bfloat16", "grouped")
    pack_weights(model)
    assert_reproducible(model, 8)


def test_without_a_width_they_do():
    """Otherwise the tests above would say nothing."""
    model = build("llama").to(torch.bfloat16)
    rng, prompt, answer = texts(8)
    assert not torch.equal(in_blocks(rng, model, prompt, answer, 11), one_by_one(model, prompt, answer))


@pytest.mark.smollm2
def test_bits_do_not_depend_on_the_blocks_of_the_real_model(smollm2):
    rng, prompt, answer = texts(16, n_prompt=20)
    mode = {"width": 16, "room": len(prompt) + len(answer) + 4 + 16}
    plain = one_by_one(smollm2.model, prompt, answer[:12], **mode)
    assert torch.equal(in_blocks(rng, smollm2.model, prompt, answer[:12], 16, **mode), plain)


def test_a_prompt_of_one_token_is_enough():
    model = build("llama")
    rng, prompt, answer = texts(0, n_prompt=1)
    mode = {"width": 8, "room": 64}
    assert torch.equal(in_blocks(rng, model, prompt, answer, 8, **mode), one_by_one(model, prompt, answer, **mode))


def test_holding_the_prompt_first_is_reading_it():
    model, (_, prompt, _) = build("llama"), texts(1)
    first, second = (Decoder(model, width=8, room=64) for _ in range(2))
    first.hold(prompt)
    first.append([5, 6, 7])
    assert torch.equal(first.logits(prompt), second.logits(prompt))


@pytest.mark.parametrize("n_new", [5, 30])
def test_a_prompt_that_shares_its_beginning_is_read_like_a_first_one(n_new):
    """Shorter or longer than the one before: what is left of that one must not change the bits."""
    model, (rng, prompt, answer) = build("llama").to(torch.bfloat16), texts(2)
    mode = {"width": 8, "room": 80}
    decoder, other = Decoder(model, **mode), prompt[:6] + random_ids(rng, n_new)
    decoder.logits(prompt + answer[:5])
    for ids in (other, other + [5, 6, 7]):
        assert torch.equal(decoder.logits(ids), in_order(model, other, ids, mode))


def test_the_same_prompt_read_again_keeps_its_bits():
    """Logits inside the prompt were asked for, long after it: everything is read again, cut at the same place."""
    model, (_, prompt, answer) = build("llama").to(torch.bfloat16), texts(2)
    decoder, mode = Decoder(model, width=8, room=80), {"width": 8, "room": 80}
    decoder.hold(prompt)
    ids = prompt + answer[:20]
    before = decoder.n_computed
    again = decoder.logits(ids, last=len(ids))[-1:]
    assert decoder.n_computed == before + len(ids)
    assert torch.equal(again, in_order(model, prompt, ids, mode))


def in_order(model, prompt, ids, mode):
    """The logits after `ids`, from a decoder that read the prompt first."""
    decoder = Decoder(model, **mode)
    decoder.hold(prompt)
    return decoder.logits(ids)


def test_hidden_states_leave_the_padding_out():
    model, (_, prompt, answer) = build("qwen3"), texts(3)
    decoder = Decoder(model, width=8, room=64)
    for logits, hidden in (decoder.logits_and_hidden(prompt, 4), decoder.append(answer[:11], hidden=True)):
        assert len(logits) == len(hidden)
        with torch.inference_mode():
            torch.testing.assert_close(model.get_output_embeddings()(hidden), logits, **CLOSE)


def test_padding_may_reach_past_the_last_position():
    model = build("gpt2")
    decoder = Decoder(model, width=8, room=POSITIONS + 8)
    ids = random_ids(random.Random(0), POSITIONS)
    decoder.hold(ids[:100])
    torch.testing.assert_close(decoder.logits(ids), uncached_logits(model, ids)[-1:], **CLOSE)
    with pytest.raises(ModelError, match=f"reads at most {POSITIONS}"):
        decoder.append([5])


def test_a_block_that_breaks_off_leaves_a_usable_decoder():
    model, (_, prompt, answer) = build("llama"), texts(4)
    decoder = Decoder(model, width=8, room=64)
    expected = decoder.logits(prompt)

    def fail(*_):
        raise MemoryError

    hook = model.model.layers[1].register_forward_pre_hook(fail)
    with pytest.raises(MemoryError):
        decoder.append(answer[:3])
    hook.remove()
    assert torch.equal(decoder.logits(prompt), expected)


def test_branches_are_refused_and_the_reason_said():
    decoder = Decoder(build("llama"), width=8, room=64)
    decoder.hold([5, 6])
    with pytest.raises(ValueError, match="another order round differently.*cut the tree"):
        decoder.append([7, 8, 9], [-1, 0, 0])
    assert decoder.append([7, 8], [-1, 0]).shape[0] == 2


@pytest.mark.parametrize(("width", "room", "field"), [(1, 64, "width"), (8, 8, "room"), (8, None, "room")])
def test_a_width_or_a_room_that_cannot_be_is_named(width, room, field):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        Decoder(build("llama"), width=width, room=room)


def test_more_tokens_than_there_is_room_for_are_refused():
    decoder = Decoder(build("llama"), width=8, room=16)
    with pytest.raises(ValueError, match=r"room \(16\) must hold 18 tokens"):
        decoder.logits([5] * 11)


@pytest.mark.parametrize("family", ["mamba", "phi3_longrope"])
def test_models_that_cannot_are_refused_by_name(family):
    with pytest.raises(ModelError, match="my model"):
        Decoder(build(family), "my model", width=8, room=64)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("family", FAMILIES)
def test_bits_do_not_depend_on_the_blocks_on_a_gpu(family):
    assert_reproducible(build(family).to(torch.bfloat16).to("cuda"), 8)
