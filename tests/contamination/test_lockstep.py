"""Patched decoding against slow oracles: everything recomputed at every token, one row at a time, with and without neurons."""

from __future__ import annotations

import pytest
import torch

from backend.batch import generate
from backend.contamination.lockstep import Headless, PatchedRows, lockstep, lockstep_steps
from backend.contamination.neurons import Neurons, random_neurons
from backend.contamination.taps import captured, patched, sites_of
from backend.errors import InvalidRequest, ModelError
from backend.types import SamplingParams
from tests.contamination.test_taps import hooks_of
from tests.families import POSITIONS, VOCAB
from tests.families_ffn import DENSE, build, couple, loaded

PROMPTS = [[5, 9, 11, 3, 8], [7, 2, 4], [6, 1, 9, 10, 12, 13, 14, 15], [7, 2, 4, 4]]
N = 20


def recomputed(suspect, source, ids, neurons):
    """The oracle: logits `(V,)` after these ids, both models over everything, no cache, no batch."""
    sites, block = sites_of(suspect), torch.tensor([ids])
    columns = neurons.columns(sites, suspect.device)
    with torch.no_grad():
        with captured(source.model, sites_of(source), columns) as taken:
            source.model(input_ids=block, use_cache=False)
        with patched(suspect.model, sites, columns, taken):
            return suspect.model(input_ids=block, use_cache=False).logits[0, -1]


@pytest.mark.parametrize("family", DENSE)
def test_cached_lockstep_is_a_full_recomputation(family):
    suspect, source = couple(family)
    neurons = random_neurons(sites_of(suspect), 30, 1)
    rows = PatchedRows(suspect, source, PROMPTS, neurons)
    texts = [list(prompt) for prompt in PROMPTS]
    for _ in range(8):
        for text, row in zip(texts, rows.logits, strict=True):
            torch.testing.assert_close(row, recomputed(suspect, source, text, neurons), atol=1e-4, rtol=1e-4)
        ids = rows.logits.argmax(-1).tolist()
        texts = [[*text, token_id] for text, token_id in zip(texts, ids, strict=True)]
        rows.advance(ids)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "opt", "bloom"])
def test_answers_are_those_of_a_recomputation_and_stop_where_they_should(family):
    suspect, source = couple(family)
    neurons, stop_ids = random_neurons(sites_of(suspect), 25, 2), {2, 17, 30, 44}
    found = lockstep(suspect, source, PROMPTS, neurons, N, stop_ids, rows=3)
    for prompt, answer in zip(PROMPTS, found, strict=True):
        expected = []
        while len(expected) < N and (not expected or expected[-1] not in stop_ids):
            expected.append(int(recomputed(suspect, source, [*prompt, *expected], neurons).argmax()))
        assert answer == expected
    assert not hooks_of(suspect.model) and not hooks_of(source.model)


def test_without_neurons_it_is_the_suspect_alone_and_the_source_is_never_asked():
    suspect, _ = couple("llama")
    plain = generate(suspect.model, PROMPTS, SamplingParams(max_new_tokens=N), (2,), [0] * 4)
    assert lockstep(suspect, None, PROMPTS, Neurons({}), N, (2,)) == plain


def test_with_every_neuron_of_a_model_that_shares_all_else_it_is_the_source():
    """A suspect that differs in its feed-forward inputs alone becomes its source when all neurons are taken from there."""
    suspect, source = loaded(build("llama", 0), "a"), loaded(build("llama", 0), "b")
    with torch.no_grad():
        for layer in source.model.model.layers:
            layer.mlp.up_proj.weight.normal_(std=0.4, generator=torch.Generator().manual_seed(4))
    every = Neurons.every(sites_of(suspect))
    own = lockstep(source, None, PROMPTS, Neurons({}), N, (2,))
    assert lockstep(suspect, source, PROMPTS, every, N, (2,)) == own != lockstep(suspect, None, PROMPTS, Neurons({}), N, (2,))


@pytest.mark.parametrize("last", [0, 1])
def test_a_source_cut_off_behind_the_last_layer_read_gives_the_same_values(last):
    suspect, source = couple("qwen3")
    sites, ids = sites_of(source), torch.tensor([[3, 4, 5]])
    with captured(source.model, sites, {last: None}) as whole, torch.no_grad():
        source.model(input_ids=ids, use_cache=False)
    ran = []
    handle = source.model.model.layers[1].self_attn.register_forward_hook(lambda *_: ran.append(1))
    with captured(source.model, sites, {last: None}) as cut, torch.no_grad():
        Headless(source, last)(ids, use_cache=False)
    handle.remove()
    assert torch.equal(whole[last][0], cut[last][0]) and len(ran) == last
    assert not hooks_of(source.model)


def test_an_error_in_the_source_is_no_early_end():
    suspect, source = couple("llama")
    source.model.model.layers[0].self_attn.forward = None
    with pytest.raises(TypeError):
        PatchedRows(suspect, source, PROMPTS, Neurons({1: (3,)}))
    assert not hooks_of(source.model) and not hooks_of(suspect.model)


def test_a_closed_run_leaves_no_hook():
    suspect, source = couple("gpt2")
    steps = lockstep_steps(suspect, source, PROMPTS, random_neurons(sites_of(suspect), 9, 0), N, ())
    assert next(steps) == 4 and next(steps) == 8
    assert not hooks_of(suspect.model) and not hooks_of(source.model)  # none between steps either
    steps.close()
    assert not hooks_of(suspect.model) and not hooks_of(source.model)


def test_an_answer_ends_where_the_context_does():
    suspect, source = couple("llama")
    prompts = [[5] * (POSITIONS - 3), [5] * POSITIONS, [5, 6]]
    lengths = [len(a) for a in lockstep(suspect, source, prompts, random_neurons(sites_of(suspect), 5, 0), 6, ())]
    assert lengths == [3, 0, 6]


def test_a_list_for_another_model_is_refused():
    suspect, source = couple("llama")
    for layers in ({5: (0,)}, {0: (48,)}, {0: (-1,)}):
        with pytest.raises(InvalidRequest, match="made for another model"):
            lockstep(suspect, source, PROMPTS, Neurons(layers), 3, ())


def test_a_model_that_cannot_be_batched_is_refused():
    with pytest.raises(ModelError, match="can't be reached"):
        PatchedRows(loaded(build("mamba")), None, PROMPTS, Neurons({}))


@pytest.mark.parametrize("seed", range(3))
def test_rows_do_not_depend_on_their_neighbours(seed):
    suspect, source = couple("mistral")
    neurons = random_neurons(sites_of(suspect), 30, seed)
    chance = torch.Generator().manual_seed(seed)
    prompts = [torch.randint(3, VOCAB, (int(n),), generator=chance).tolist() for n in torch.randint(1, 20, (7,), generator=chance)]
    together = lockstep(suspect, source, prompts, neurons, N, (2, 9, 12))
    assert together == [lockstep(suspect, source, [p], neurons, N, (2, 9, 12))[0] for p in prompts]
