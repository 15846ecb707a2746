"""Cached equals uncached, for any sequence of edits, on every family."""

from __future__ import annotations

import random

import pytest
import torch

from backend import forward_call
from backend.decoder import Decoder, common_prefix
from backend.errors import ModelError
from backend.forward_call import is_stateful
from tests.families import FAMILIES, POSITIONS, STATEFUL, VOCAB, WINDOW, build, uncached_logits

CLOSE = {"atol": 1e-4, "rtol": 1e-4}
PAIRS = [(family, attention) for family in FAMILIES for attention in ("sdpa", "eager")]


def random_ids(rng: random.Random, n: int) -> list[int]:
    return [rng.randrange(3, VOCAB) for _ in range(n)]


def edited(rng: random.Random, ids: list[int]) -> list[int]:
    """Append, cut, replace in the middle, or begin anew; between 1 and 60 ids."""
    kind = rng.choice(["append", "append", "cut", "replace", "restart"])
    if kind == "append":
        ids = ids + random_ids(rng, rng.choice([1, 1, 2, WINDOW + 3]))
    elif kind == "cut":
        ids = ids[: rng.randint(1, len(ids))]
    elif kind == "replace":
        at = rng.randrange(len(ids))
        ids = ids[:at] + random_ids(rng, 1) + ids[at + 1 :]
    else:
        ids = random_ids(rng, rng.randint(1, 30))
    return ids[:60]


@pytest.mark.parametrize(("family", "attention"), [*PAIRS, ("phi3_longrope", "sdpa")])
def test_cached_equals_uncached_for_any_edits(family, attention):
    model, rng = build(family, attention), random.Random(7)
    decoder, ids = Decoder(model), random_ids(rng, 2 * WINDOW)
    for _ in range(40):
        last = rng.randint(1, min(len(ids), 6))
        torch.testing.assert_close(decoder.logits(ids, last), uncached_logits(model, ids)[-last:], **CLOSE)
        ids = edited(rng, ids)


@pytest.mark.parametrize("family", ["mistral", "gemma3"])
def test_the_models_of_these_tests_do_forget_past_their_window(family):
    """Otherwise the property above would not test windows: what lies outside all windows must change nothing, what is inside must."""
    model, ids = build(family), random_ids(random.Random(0), 40)
    if family == "mistral":
        changed = [*random_ids(random.Random(1), 8), *ids[8:]]  # two layers see at most 2 * (8 - 1) tokens back
        torch.testing.assert_close(uncached_logits(model, ids)[-1], uncached_logits(model, changed)[-1], **CLOSE)
    near = ids[:-3] + random_ids(random.Random(1), 1) + ids[-2:]
    assert (uncached_logits(model, ids)[-1] - uncached_logits(model, near)[-1]).abs().max() > 0.01


@pytest.mark.parametrize("family", [*FAMILIES, *STATEFUL])
def test_hidden_states_are_the_last_layers(family):
    model, ids = build(family), random_ids(random.Random(3), 20)
    decoder = Decoder(model)
    decoder.logits(ids[:12])
    logits, hidden = decoder.logits_and_hidden(ids, last=3)
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0, -3:]
    close = {"atol": 2e-3, "rtol": 2e-3} if family in STATEFUL else CLOSE
    torch.testing.assert_close(hidden, expected, **close)
    torch.testing.assert_close(logits, uncached_logits(model, ids)[-3:], **close)


def test_hidden_states_leave_no_hook_behind():
    model = build("llama")
    decoder = Decoder(model)
    decoder.logits_and_hidden([5, 6])
    with pytest.raises(ValueError):
        decoder.logits_and_hidden([5, 6], last=3)
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_a_context_that_crosses_the_longrope_border_is_computed_anew():
    """16 tokens are read with short angles, 17 with long ones: their keys don't mix, in either direction."""
    decoder, ids = Decoder(build("phi3_longrope")), random_ids(random.Random(0), 18)
    counts = []
    for end in (15, 16, 17, 18, 16):
        before = decoder.n_computed
        decoder.logits(ids[:end])
        counts.append(decoder.n_computed - before)
    assert counts == [15, 1, 17, 1, 16]


def test_only_what_is_new_is_computed():
    decoder, ids = Decoder(build("mistral")), random_ids(random.Random(0), 30)
    counts = []
    for call, last in [(ids, 1), (ids + [5], 1), (ids + [5], 1), (ids[:20], 1), (ids[:20] + [4, 4, 4], 1), (ids[:20] + [4, 4, 4], 3)]:
        before = decoder.n_computed
        decoder.logits(call, last)
        counts.append(decoder.n_computed - before)
    assert counts == [30, 1, 1, 1, 3, 3]


def test_reset_starts_with_an_empty_cache():
    decoder = Decoder(build("llama"))
    decoder.logits([5, 6, 7])
    decoder.reset()
    decoder.logits([5, 6, 7])
    assert decoder.n_computed == 6


def test_a_list_that_the_caller_changes_afterwards_does_no_harm():
    model = build("llama")
    decoder, ids = Decoder(model), [5, 6, 7]
    decoder.logits(ids)
    ids[1] = 9
    torch.testing.assert_close(decoder.logits(ids), uncached_logits(model, ids)[-1:], **CLOSE)


def test_a_forward_that_breaks_off_leaves_a_usable_decoder():
    """The second layer fails once, after the first has already put its keys into the cache."""
    model = build("llama")
    decoder = Decoder(model)
    decoder.logits([5, 6, 7])

    def fail(*_):
        raise MemoryError

    hook = model.model.layers[1].register_forward_pre_hook(fail)
    with pytest.raises(MemoryError):
        decoder.logits([5, 6, 7, 8])
    hook.remove()
    for ids in ([5, 6, 7, 8], [5, 6, 7, 8, 9], [5, 6, 3]):
        torch.testing.assert_close(decoder.logits(ids), uncached_logits(model, ids)[-1:], **CLOSE)
    assert decoder.n_computed == 3 + 4 + 1 + 1


def test_logits_are_float32_without_gradient_in_any_dtype():
    model = build("llama").to(torch.bfloat16)
    logits = Decoder(model).logits([5, 6, 7], last=2)
    assert logits.shape == (2, VOCAB) and logits.dtype == torch.float32 and not logits.requires_grad
    torch.testing.assert_close(logits, uncached_logits(model, [5, 6, 7])[-2:].float(), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("last", [0, 4])
def test_a_wrong_number_of_rows_names_its_limits(last):
    with pytest.raises(ValueError, match=f"last must be between 1 and the number of ids \\(3\\), got {last}"):
        Decoder(build("llama")).logits([5, 6, 7], last)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_context_too_long_is_refused_by_name(family):
    decoder = Decoder(build(family), "tiny")
    decoder.logits([5] * POSITIONS)
    with pytest.raises(ModelError, match=f"tiny reads at most {POSITIONS} tokens, the context has {POSITIONS + 1}"):
        decoder.logits([5] * (POSITIONS + 1))


@pytest.mark.parametrize("family", STATEFUL)
def test_a_recurrent_model_appends_and_equals_uncached(family):
    model, ids = build(family), random_ids(random.Random(0), 24)
    decoder = Decoder(model)
    for end, last in [(10, 2), (11, 1), (18, 5), (24, 1)]:
        torch.testing.assert_close(decoder.logits(ids[:end], last), uncached_logits(model, ids[:end])[-last:], atol=2e-3, rtol=2e-3)
    assert decoder.n_computed == 24


@pytest.mark.parametrize("family", STATEFUL)
def test_a_recurrent_model_refuses_to_roll_back_by_name(family):
    decoder = Decoder(build(family), "my model")
    decoder.logits([5, 6, 7])
    with pytest.raises(ModelError, match="my model can't roll back"):
        decoder.logits([5, 6, 8])
    assert decoder.logits([5, 6, 7, 8]).shape == (1, VOCAB)
    decoder.reset()
    assert decoder.logits([5, 6, 8]).shape == (1, VOCAB)


def test_capabilities_tell_recurrent_models_apart():
    assert {family: is_stateful(build(family)) for family in [*FAMILIES, *STATEFUL]} == {f: f in STATEFUL for f in [*FAMILIES, *STATEFUL]}
    assert not Decoder(build("mamba")).capabilities.rollback and Decoder(build("gemma2")).capabilities.rollback


def test_a_model_with_a_cache_of_its_own_is_refused(monkeypatch):
    monkeypatch.setattr(forward_call, "takes_dynamic_cache", lambda model: False)
    with pytest.raises(ModelError, match="odd keeps its state in a form of its own"):
        Decoder(build("llama"), "odd")


def test_common_prefix_equals_the_slow_count():
    rng = random.Random(0)
    for _ in range(300):
        a = [rng.randrange(2) for _ in range(rng.randint(0, 12))]
        b = a[: rng.randint(0, 12)] + [rng.randrange(2) for _ in range(rng.randint(0, 6))]
        slow = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        assert common_prefix(a, b) == slow


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("family", FAMILIES)
def test_cached_equals_uncached_on_a_gpu(family):
    model, rng = build(family), random.Random(7)
    decoder, ids = Decoder(build(family).to("cuda")), random_ids(rng, 2 * WINDOW)
    for _ in range(20):
        logits = decoder.logits(ids, 1)
        assert logits.device.type == "cuda"
        torch.testing.assert_close(logits.cpu(), uncached_logits(model, ids)[-1:], atol=1e-3, rtol=1e-3)
        ids = edited(rng, ids)
