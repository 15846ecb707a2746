"""A model patched with its own activations is itself to the last bit, in every family and both dtypes; a broken patch is found out."""

from __future__ import annotations

import pytest
import torch

from backend.contamination import lockstep as lockstep_module
from backend.contamination.identity import STEPS, check_identity, staggered
from backend.contamination.neurons import Neurons, random_neurons
from backend.contamination.taps import captured, sites_of
from backend.errors import WorkbenchError
from tests.families_ffn import DENSE, N_LAYERS, couple, loaded

PROMPTS = [[5, 9, 11, 3, 8], [7, 2, 4], [6, 1, 9, 10, 12, 13, 14, 15]]


def identity(suspect, source, prompts=PROMPTS, k=20, steps=STEPS):
    steps = check_identity(suspect, source, prompts, random_neurons(sites_of(suspect), k, 0), steps)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", DENSE)
def test_own_activations_change_nothing_and_foreign_ones_do(family, dtype):
    found = identity(*couple(family, dtype))
    assert found.own_equal and found.tokens_equal and found.own_difference == 0
    assert found.foreign_changed and found.holds and (found.sites, found.rows, found.steps) == (N_LAYERS, 3, 32)
    found.require()
    assert found.finding().data["holds"] and "bit by bit itself" in found.finding().data["sentence"]


def test_a_source_with_the_same_weights_is_found_out():
    suspect, _ = couple("llama")
    found = identity(suspect, loaded(suspect.model, "copy"), steps=2)
    assert found.own_equal and not found.foreign_changed and not found.holds
    with pytest.raises(WorkbenchError, match="change nothing"):
        found.require()


def test_values_of_a_shifted_cache_are_found_out(monkeypatch):
    """A capture that is wrong by a rounding error, as from another batch shape, already fails."""

    def rounded(model, sites, columns):
        return _Rounded(captured(model, sites, columns))

    monkeypatch.setattr(lockstep_module, "captured", rounded)
    found = identity(*couple("llama"), steps=3)
    assert not found.own_equal and 0 < found.own_difference < 1e-3 and not found.holds
    with pytest.raises(WorkbenchError, match="is not itself"):
        found.require()


class _Rounded:
    """A capture whose values lose their last bits when it ends."""

    def __init__(self, context):
        self.context = context

    def __enter__(self):
        self.taken = self.context.__enter__()
        return self.taken

    def __exit__(self, *error):
        for values in self.taken.values():
            values[:] = [value * (1 + 1e-6) for value in values]
        return self.context.__exit__(*error)


def test_one_prompt_gives_rows_of_different_length():
    for length in (1, 2, 5, 200):
        rows = staggered([list(range(length))])
        assert len(rows) == 3 and all(rows) and max(map(len, rows)) <= 64
        assert length < 4 or len({len(row) for row in rows}) == 3


def test_an_empty_list_and_a_whole_one_can_be_checked():
    suspect, source = couple("llama")
    for neurons in (Neurons({}), Neurons.every(sites_of(suspect))):
        steps = check_identity(suspect, source, PROMPTS, neurons, 2)
        assert len(list(steps)) == 4


@pytest.mark.smollm2
def test_the_real_model_is_itself(smollm2):
    prompts = [smollm2.tokenizer(text)["input_ids"] for text in ("One, two, three,", "The capital of France", "Once upon a time there was")]
    other = _perturbed(smollm2)
    found = identity(smollm2, other, prompts, k=1000)
    assert found.holds and found.own_difference == 0 and found.sites == 30


def _perturbed(handle):
    """The same architecture with one changed layer, as a foreign source."""
    import copy

    with torch.no_grad():
        model = copy.deepcopy(handle.model)
        for module in model.modules():
            module.__dict__.pop("forward", None)  # packed forwards of the copied layers point at the original's weights
        model.model.layers[3].mlp.up_proj.weight.mul_(1.1)
    return loaded(model, "perturbed")
