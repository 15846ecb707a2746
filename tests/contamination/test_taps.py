"""Neurons are found by rule in every dense family, refused with the reason elsewhere, and a hook never stays behind."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from backend.contamination.taps import captured, find_sites, hooked, patched, shape_of
from backend.errors import ModelError
from tests.families_ffn import DENSE, HYBRID, MOE, N_LAYERS, build

IDS = torch.tensor([[5, 9, 11, 3, 8, 2, 7]])


def hooks_of(model):
    return [name for name, module in model.named_modules() if module._forward_pre_hooks or module._forward_hooks]


def logits(model, ids=IDS):
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


def keep(given, layer, module, inputs, output):
    given[layer] = output.clone()  # Falcon adds to it in place


@pytest.mark.parametrize("family", DENSE)
def test_there_is_one_site_a_layer_and_it_holds_what_the_block_hands_back(family):
    """The oracle: the site's weight times what was captured there is what the module gave."""
    model = build(family)
    sites = find_sites(model)
    assert len(sites.names) == N_LAYERS and len(set(sites.names)) == N_LAYERS
    given, handles = {}, []
    for layer, name in enumerate(sites.names):
        handles.append(model.get_submodule(name).register_forward_hook(partial(keep, given, layer)))
    with captured(model, sites, sites.whole()) as taken:
        logits(model)
    for handle in handles:
        handle.remove()
    for layer, name in enumerate(sites.names):
        module, vector = model.get_submodule(name), taken[layer][0]
        weight = module.weight if type(module).__name__ == "Conv1D" else module.weight.T
        assert vector.shape[-1] == sites.widths[layer] == weight.shape[0] and sites.hidden_size == weight.shape[1]
        bias = 0 if getattr(module, "bias", None) is None else module.bias
        torch.testing.assert_close(given[layer].view(-1, sites.hidden_size), (vector @ weight + bias).view(-1, sites.hidden_size))


def test_the_eighteen_families_are_eighteen():
    assert len(DENSE) == 18


@pytest.mark.parametrize("family", MOE)
def test_experts_are_refused_with_the_reason_even_when_some_layers_are_dense(family):
    with pytest.raises(ModelError, match="can't be reached: layer [01] is a mixture of experts"):
        find_sites(build(family))


@pytest.mark.parametrize("family", HYBRID)
def test_recurrent_layers_are_refused_with_the_reason(family):
    with pytest.raises(ModelError, match="can't be reached: some of its layers fold what they read into a state"):
        find_sites(build(family))


def test_an_unknown_shape_is_refused_with_what_was_seen():
    model = build("llama")
    for layer in model.model.layers:
        layer.mlp = nn.Identity()
    with pytest.raises(ModelError, match="layer 0 has no map to the hidden size"):
        find_sites(model)
    model = build("llama")
    model.model.layers[1].mlp.other = nn.Linear(48, 32)
    assert len(find_sites(model).names) == 2  # the usual name decides where shapes leave a choice
    model.model.layers[1].mlp.another_down_proj = nn.Module()
    model.model.layers[1].mlp.another_down_proj.down_proj = nn.Linear(48, 32)
    with pytest.raises(ModelError, match="layer 1 has 2 maps to the hidden size"):
        find_sites(model)


def test_a_site_that_no_forward_passes_is_refused_by_the_probe():
    model = build("llama")
    model.model.layers[1].mlp.forward = lambda hidden: hidden
    with pytest.raises(ModelError, match=r"layers\.1\.mlp\.down_proj passed nothing in a probe"):
        find_sites(model)
    model = build("bloom")
    model.config.pretraining_tp = 2
    for layer in model.transformer.h:
        layer.mlp.pretraining_tp, layer.mlp.slow_but_exact = 2, True  # multiplies slices itself, past the module
    with pytest.raises(ModelError, match="passed nothing in a probe"):
        find_sites(model)


def test_a_site_that_is_passed_twice_is_refused():
    model = build("llama")
    model.model.layers[1].mlp = model.model.layers[0].mlp
    with pytest.raises(ModelError, match="in a probe"):
        find_sites(model)


def test_widths_are_kept_layer_by_layer():
    model = build("llama")
    mlp = model.model.layers[1].mlp
    mlp.gate_proj, mlp.up_proj, mlp.down_proj = nn.Linear(32, 96, bias=False), nn.Linear(32, 96, bias=False), nn.Linear(96, 32, bias=False)
    sites = find_sites(model)
    assert sites.widths == (48, 96) and sites.n_neurons == 144 and sites.starts == (0, 48)
    assert [sites.place(i) for i in (0, 47, 48, 143)] == [(0, 0), (0, 47), (1, 0), (1, 95)]


def test_replacing_values_is_what_the_weights_say():
    """The oracle: doubling a neuron is doubling its column of the down-projection."""
    model, column = build("llama"), torch.tensor([7])
    sites = find_sites(model)
    with captured(model, sites, {0: column}) as taken:
        plain = logits(model)
    with patched(model, sites, {0: column}, {0: [2 * taken[0][0]]}):
        doubled = logits(model)
    with torch.no_grad():
        model.get_submodule(sites.names[0]).weight[:, 7] *= 2
    torch.testing.assert_close(doubled, logits(model), atol=1e-4, rtol=1e-4)
    assert not torch.equal(doubled, plain)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_no_hook_outlives_an_error_inside(error):
    model = build("gpt2")
    sites = find_sites(model)
    with pytest.raises(error), captured(model, sites, sites.whole()):
        assert len(hooks_of(model)) == N_LAYERS
        raise error
    assert not hooks_of(model)


def test_no_hook_outlives_an_error_in_a_hook_or_while_hooking():
    model = build("llama")
    sites = find_sites(model)

    def broken(vector):
        raise RuntimeError("in the forward")

    with pytest.raises(RuntimeError, match="in the forward"), hooked(model, sites, {0: lambda vector: None, 1: broken}):
        logits(model)
    assert not hooks_of(model)
    with pytest.raises(IndexError), hooked(model, sites, {0: lambda vector: None, 9: broken}):
        raise AssertionError("never here")
    assert not hooks_of(model)


def test_values_that_do_not_fit_are_an_error_and_never_an_unpatched_forward():
    model = build("llama")
    sites = find_sites(model)
    with captured(model, sites, sites.whole()) as taken:
        logits(model)
    with pytest.raises(ValueError, match="must be of shape"), patched(model, sites, sites.whole(), taken):
        logits(model, IDS[:, :3])
    with pytest.raises(ValueError, match="ran out"), patched(model, sites, sites.whole(), taken):
        logits(model)
        logits(model)
    with pytest.raises(ValueError, match="must be used up"), patched(model, sites, sites.whole(), taken):
        pass
    assert not hooks_of(model)


def test_only_linear_maps_have_a_shape():
    assert shape_of(nn.Linear(3, 5)) == (3, 5)
    assert shape_of(build("gpt2").transformer.h[0].mlp.c_proj) == (128, 32)
    assert shape_of(nn.LayerNorm(4)) is None and shape_of(nn.Embedding(4, 5)) is None


@pytest.mark.smollm2
def test_the_pools_packed_layers_still_let_hooks_in(smollm2):
    """The pool gives each linear layer a forward of its own (packed weights)."""
    sites = find_sites(smollm2.model, smollm2.id)
    assert sites.widths == (1536,) * 30
    with captured(smollm2.model, sites, {29: torch.tensor([0, 5])}) as taken:
        plain = logits(smollm2.model)
    assert taken[29][0].shape == (1, 7, 2)
    with patched(smollm2.model, sites, {29: torch.tensor([0, 5])}, {29: [taken[29][0] + 50]}):
        assert not torch.equal(logits(smollm2.model), plain)
    assert not hooks_of(smollm2.model) and torch.equal(logits(smollm2.model), plain)
