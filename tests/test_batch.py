"""Batched equals one by one, on every family."""

from __future__ import annotations

import random

import pytest
import torch

from backend.batch import Rows, generate
from backend.decoder import Decoder
from backend.errors import ModelError
from backend.sampling import choose
from backend.types import SamplingParams
from tests.families import FAMILIES, POSITIONS, STATEFUL, VOCAB, WINDOW, build, uncached_logits
from tests.test_decoder import CLOSE, PAIRS, random_ids


def random_prompts(rng: random.Random, shared: int) -> list[list[int]]:
    """Three to five prompts behind `shared` common tokens; the first has 12 own ones, the second one, the others between."""
    prefix = random_ids(rng, shared)
    n_own = [12, 1, *(rng.randint(1, 12) for _ in range(rng.randint(1, 3)))]
    return [prefix + random_ids(rng, n) for n in n_own]


def one_by_one(model, prompt, sampling, stop_ids, seed):
    """The oracle: a plain loop over the whole context, without any cache."""
    ids, answer, generator = list(prompt), [], torch.Generator().manual_seed(seed)
    while len(answer) < sampling.max_new_tokens and not (answer and answer[-1] in stop_ids):
        answer.append(choose(uncached_logits(model, ids + answer)[-1], sampling, None, generator))
    return answer


@pytest.mark.parametrize(("family", "attention"), PAIRS)
@pytest.mark.parametrize("shared", [0, 3, 2 * WINDOW])
def test_logits_of_all_rows_equal_one_by_one_while_rows_drop_out(family, attention, shared):
    """Padding is at most 11 tokens, so a short row keeps some, none or most of the shared prefix in the columns laid."""
    model, rng = build(family, attention), random.Random(shared)
    contexts = random_prompts(rng, shared)
    rows = Rows(model, contexts)
    for step in range(WINDOW + 4):
        expected = torch.stack([uncached_logits(model, ids)[-1] for ids in contexts])
        torch.testing.assert_close(rows.logits, expected, **CLOSE)
        assert rows.lengths == [len(ids) for ids in contexts]
        if step % 4 == 3 and len(contexts) > 1:
            kept = rng.sample(range(len(contexts)), len(contexts) - 1)
            rows.keep(kept)
            contexts = [contexts[i] for i in kept]
        ids = random_ids(rng, len(contexts))
        rows.advance(ids)
        contexts = [context + [token_id] for context, token_id in zip(contexts, ids, strict=True)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_generated_ids_equal_one_by_one(family, temperature):
    model, rng = build(family), random.Random(3)
    prompts = random_prompts(rng, WINDOW + 2)
    sampling = SamplingParams(temperature=temperature, top_p=0.95, top_k=40, max_new_tokens=WINDOW + 4)
    seeds, stop_ids = list(range(len(prompts))), set(range(6))
    expected = [one_by_one(model, prompt, sampling, stop_ids, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
    assert generate(model, prompts, sampling, stop_ids, seeds) == expected


def test_a_stop_id_ends_its_row_and_only_it():
    model = build("llama")
    sampling = SamplingParams(max_new_tokens=10)
    prompts = [[5, 6, 7], [9, 8], [11, 12, 13, 14]]
    free = generate(model, prompts, sampling, (), [0, 0, 0])
    stop = free[0][3]
    cut = [answer[: answer.index(stop) + 1] if stop in answer else answer for answer in free]
    assert cut != free and any(len(answer) == 10 for answer in cut)
    assert generate(model, prompts, sampling, {stop}, [0, 0, 0]) == cut


def test_a_row_does_not_depend_on_its_neighbours():
    model, sampling = build("qwen3"), SamplingParams(temperature=1.0, max_new_tokens=8)
    alone = generate(model, [[5, 6, 7]], sampling, (), [4])[0]
    together = generate(model, [[8, 9, 3, 4, 5, 6], [5, 6, 7], [5]], sampling, (), [1, 4, 2])
    assert together[1] == alone


def test_equal_rows_with_different_seeds_differ():
    answers = generate(build("llama"), [[5, 6, 7]] * 3, SamplingParams(temperature=1.0, max_new_tokens=12), (), [0, 1, 0])
    assert answers[0] == answers[2] != answers[1]


def test_a_shared_prefix_is_computed_once():
    model, n_tokens = build("llama"), []
    model.model.layers[0].register_forward_pre_hook(lambda module, inputs: n_tokens.append(inputs[0].shape[0] * inputs[0].shape[1]))
    Rows(model, [[5] * 30 + [i] for i in range(10)])
    assert n_tokens == [30, 10]


def test_rows_agree_with_the_decoder_on_a_row_much_shorter_than_the_prefix_is_long():
    model, shared = build("gemma3"), random_ids(random.Random(2), 20)
    prompts = [shared + [5], shared + random_ids(random.Random(3), 30)]
    expected = torch.cat([Decoder(model).logits(prompt) for prompt in prompts])
    torch.testing.assert_close(Rows(model, prompts).logits, expected, **CLOSE)


@pytest.mark.parametrize("family", STATEFUL)
def test_recurrent_models_are_refused_by_name(family):
    with pytest.raises(ModelError, match="my model can't run many rows"):
        Rows(build(family), [[5, 6], [7]], "my model")


def test_a_length_dependent_rope_is_refused_past_its_border():
    rows = Rows(build("phi3_longrope"), [[5] * 16, [6]], "long")
    with pytest.raises(ModelError, match="long turns its rotary angles"):
        rows.advance([7, 8])


def test_rows_too_long_are_refused_by_name():
    with pytest.raises(ModelError, match=f"tiny reads at most {POSITIONS} tokens"):
        Rows(build("gpt2"), [[5], [5] * (POSITIONS + 1)], "tiny")


def test_wrong_input_names_what_is_wrong():
    model = build("llama")
    with pytest.raises(ValueError, match="got lengths \\[1, 0\\]"):
        Rows(model, [[5], []])
    with pytest.raises(ValueError, match="at least one row"):
        Rows(model, [])
    rows = Rows(model, [[5], [6]])
    with pytest.raises(ValueError, match="each of the 2 rows"):
        rows.advance([1, 2, 3])
    with pytest.raises(ValueError, match="indices"):
        rows.keep([])
    with pytest.raises(ValueError, match="one seed for each of the 1 prompts, got 2"):
        generate(model, [[5]], SamplingParams(), (), [0, 1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_gpu_generates_the_same_ids(temperature):
    prompts, sampling = random_prompts(random.Random(1), 9), SamplingParams(temperature=temperature, max_new_tokens=12)
    seeds = list(range(len(prompts)))
    expected = generate(build("llama"), prompts, sampling, (), seeds)
    assert generate(build("llama").to("cuda"), prompts, sampling, (), seeds) == expected
    assert all(0 <= token_id < VOCAB for answer in expected for token_id in answer)
