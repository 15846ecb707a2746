"""Answers of many rows: the same as one by one, the same as plain decoding, and no hook stays."""

from __future__ import annotations

import pytest
import torch

from backend.batch import generate
from backend.contamination import evaluation
from backend.contamination.controls import constant_base_error, control_lists, mean_error, outside
from backend.contamination.evaluation import Arm, answer_all, decode
from backend.contamination.neurons import Neurons
from backend.contamination.taps import sites_of
from backend.types import SamplingParams
from tests.contamination.cases import STOP, encoded, handle, items, result_of

NEW = 6


@pytest.fixture(scope="module")
def suspect():
    return handle(1)


@pytest.fixture(scope="module")
def source():
    return handle(2)


def hooks_of(loaded):
    return [name for name, module in loaded.model.named_modules() if module._forward_pre_hooks or module._forward_hooks]


def prompts(loaded):
    return [list(e.prompt_ids) for e in encoded(items(5), loaded)]


def test_without_neurons_the_answers_are_those_of_plain_decoding(suspect):
    rows = prompts(suspect)
    found, _ = result_of(decode(Arm(suspect), rows, NEW))
    assert [ids for ids, _ in found] == generate(suspect.model, rows, SamplingParams(max_new_tokens=NEW), [STOP], [0] * len(rows))


def test_the_entropy_is_the_mean_over_the_answers_own_steps(suspect):
    row = prompts(suspect)[1]
    ((ids, spread),), _ = result_of(decode(Arm(suspect), [row], NEW))
    with torch.no_grad():
        logits = suspect.model(torch.tensor([row + ids])).logits[0, len(row) - 1 : -1]
    by_hand = torch.distributions.Categorical(logits=logits).entropy().mean().item()
    assert spread == pytest.approx(by_hand, abs=1e-4)


def test_all_items_together_say_what_each_says_alone(suspect, source, monkeypatch):
    some, arm = encoded(items(7), suspect), Arm(suspect, source, Neurons({0: tuple(range(24)), 1: (3, 5)}))
    together, steps = result_of(answer_all(arm, some, NEW))
    monkeypatch.setattr(evaluation, "ROWS", 2)
    by_two, _ = result_of(answer_all(arm, some, NEW))
    alone = [result_of(answer_all(arm, [one], NEW))[0][0] for one in some]
    assert [one.text for one in together] == [one.text for one in by_two] == [one.text for one in alone]
    assert sum(steps) == pytest.approx(len(some))


def test_a_model_patched_with_all_of_its_twins_neurons_is_no_longer_itself(suspect, source):
    some = encoded(items(6), suspect)
    plain, _ = result_of(answer_all(Arm(suspect), some, NEW))
    own, _ = result_of(answer_all(Arm(suspect, handle(1), Neurons.every(sites_of(suspect))), some, NEW))
    other, _ = result_of(answer_all(Arm(suspect, source, Neurons.every(sites_of(suspect))), some, NEW))
    assert [one.text for one in own] == [one.text for one in plain] != [one.text for one in other]


def test_an_answer_is_graded_without_its_stop_token(suspect):
    (plain,), _ = result_of(decode(Arm(suspect), [prompts(suspect)[0]], NEW))
    at = max(i for i in range(NEW) if plain[0].index(plain[0][i]) == i)  # the last token that is a new one
    stopping = handle(1, stop_ids=(plain[0][at],))
    answer = suspect.tokenizer.decode(plain[0][:at])
    (said,), _ = result_of(answer_all(Arm(stopping), encoded([items(1)[0]], stopping), NEW))
    assert at > 0 and (said.text, said.n_tokens) == (answer, at + 1) and not said.right


def test_stopping_half_way_leaves_no_hook(suspect, source):
    steps = answer_all(Arm(suspect, source, Neurons.every(sites_of(suspect))), encoded(items(4), suspect), NEW)
    next(steps)
    assert not hooks_of(suspect) and not hooks_of(source)  # nor while it waits
    steps.close()
    assert not hooks_of(suspect) and not hooks_of(source)


def test_what_was_said_survives_a_file(suspect):
    said, _ = result_of(answer_all(Arm(suspect), encoded(items(3), suspect), NEW))
    assert evaluation.from_json(evaluation.to_json(said)) == said


def test_controls_have_as_many_neurons_as_the_chosen_and_share_none_when_matched(suspect):
    sites = sites_of(suspect)
    chosen = Neurons.of([(0, 1), (0, 7), (1, 4)])
    lists = control_lists(chosen, sites, torch.arange(float(sites.n_neurons)), 5)
    assert [*lists] == [*(f"random {i}" for i in range(1, 6)), "as loud", "all"]
    assert all(len(found) == 3 for name, found in lists.items() if name != "all") and len(lists["all"]) == sites.n_neurons
    assert len({lists[f"random {i}"].hash for i in range(1, 6)}) == 5
    assert not any(set(lists["as loud"].layers[layer]) & set(ids) for layer, ids in chosen.layers.items())
    assert "as loud" not in control_lists(Neurons({0: tuple(range(40))}), sites, torch.ones(sites.n_neurons), 5)


def test_a_score_is_outside_chance_only_well_below_it():
    draws = [0.70, 0.72, 0.74, 0.71, 0.73]
    assert outside(0.60, draws) and not outside(0.70, draws) and not outside(0.90, draws) and not outside(0.1, [0.5])
    scattered = [0.95, 0.96, 0.97, 0.49, 0.90]  # one draw happened on a neuron that matters
    assert outside(0.44, scattered) and not outside(0.50, scattered)


def test_the_constant_predictor_is_right_only_where_tuning_taught_nothing():
    assert constant_base_error(0.4, [0.4, 0.4]) == 0 and constant_base_error(0.4, [0.4, 0.6, 0.8]) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="same models"):
        mean_error([0.1], [])
