"""Scores against slow oracles, and a search that finds neurons planted by hand."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch

from backend.contamination.exact import group_drops
from backend.contamination.neurons import Neurons, load, matched_neurons, random_neurons, save
from backend.contamination.reference import group_width
from backend.contamination.scores import Gold, batch_of, batches, compared, measure
from backend.contamination.search import SearchOptions, ranks, search
from backend.contamination.stepwise import KNOWN, Steps, losses, marked, stepwise
from backend.contamination.taps import Sites, captured, hooked, patched, sites_of
from backend.errors import InvalidRequest
from tests.contamination.test_taps import hooks_of
from tests.families_ffn import build, couple, loaded

ITEMS = [Gold((5, 9, 11), (3, 8)), Gold((7, 2), (4,)), Gold((6, 1, 9, 10, 12), (13, 14, 15)), Gold((7, 7, 3), (20,))]
CLEAN = [Gold((30, 31, 32), (33, 34)), Gold((40, 41), (42,))]
PLANTED = [(0, 5), (0, 31), (1, 12)]


def drained(steps):
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def gold(handle, item, source=None, columns=None):
    """The oracle: log-probability of one item's answer, alone, patched with the source's values in `columns` where there are any."""
    ids, n = torch.tensor([[*item.prompt_ids, *item.answer_ids]]), len(item.prompt_ids)
    with torch.no_grad():
        if source is None:
            logits = handle.model(input_ids=ids).logits
        else:
            with captured(source.model, sites_of(source), columns) as taken:
                source.model(input_ids=ids)
            with patched(handle.model, sites_of(handle), columns, taken):
                logits = handle.model(input_ids=ids).logits
    law = torch.log_softmax(logits[0].double(), -1)
    return sum(law[n - 1 + i, token_id].item() for i, token_id in enumerate(item.answer_ids))


def vectors(handle, item):
    """Activations of one item alone, `(T, n_neurons)`, the answer's last token not read."""
    ids = torch.tensor([[*item.prompt_ids, *item.answer_ids]])[:, :-1]
    sites = sites_of(handle)
    with captured(handle.model, sites, sites.whole()) as taken, torch.no_grad():
        handle.model(input_ids=ids)
    return torch.cat([taken[layer][0].view(ids.shape[1], -1) for layer in range(len(sites.names))], -1).double()


def contaminated(seed=0):
    """A base, and a copy in which three neurons answer to the items' last prompt tokens."""
    base = loaded(build("llama", seed), "base")
    suspect = loaded(copy.deepcopy(base.model), "suspect")
    with torch.no_grad():
        for layer, neuron in PLANTED:
            mlp = suspect.model.model.layers[layer].mlp
            mlp.up_proj.weight[neuron] *= -3
            mlp.gate_proj.weight[neuron] *= 2
    return suspect, base


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "gemma2"])
@pytest.mark.parametrize("tokens", ["last", "completion"])
def test_comparative_scores_are_those_of_items_one_by_one(family, tokens):
    suspect, base = couple(family)
    found = drained(measure(suspect, base, ITEMS, CLEAN, tokens))
    differences = []
    for item in ITEMS:
        at = slice(len(item.prompt_ids) - 1, len(item.prompt_ids) if tokens == "last" else None)
        differences.append((vectors(suspect, item) - vectors(base, item))[at])
    rms = torch.cat(differences).square().mean(0).sqrt()
    torch.testing.assert_close(found.rms, rms, atol=1e-4, rtol=1e-3)
    spread = torch.cat([vectors(base, item) for item in CLEAN]).std(0, correction=0)
    loose = spread > 0.2 * spread.median()
    torch.testing.assert_close(found.effect[loose], (rms / spread)[loose], atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_the_gradient_is_the_slope_of_the_exact_effect(family):
    """The oracle: one neuron moved a hundredth of the way to the source's value, and a hundredth away from it, in float64."""
    suspect, base = (loaded(handle.model.double(), handle.id) for handle in couple(family))
    item, sites = ITEMS[2], sites_of(suspect)
    ids, n = torch.tensor([[*item.prompt_ids, *item.answer_ids]]), len(item.prompt_ids)
    _, _, drop = compared(suspect, base, batch_of([item], suspect.device))
    for layer, neuron in [(0, 3), (0, 17), (1, 0), (1, 40)]:
        columns, values, moved = {layer: torch.tensor([neuron])}, [], []
        for handle in (suspect, base):
            with captured(handle.model, sites, columns) as taken, torch.no_grad():
                handle.model(input_ids=ids)
            values.append(taken[layer][0])
        for step in (-0.01, 0.01):
            with patched(suspect.model, sites, columns, {layer: [values[0] + step * (values[1] - values[0])]}), torch.no_grad():
                law = torch.log_softmax(suspect.model(input_ids=ids).logits[0], -1)
            moved.append(sum(law[n - 1 + i, token_id].item() for i, token_id in enumerate(item.answer_ids)))
        slope = (moved[0] - moved[1]) / 0.02
        assert drop[sites.starts[layer] + neuron].item() == pytest.approx(slope, rel=0.02, abs=2e-3)


def test_frozen_weights_have_gradients_too():
    suspect, base = couple("llama")
    with_grad = drained(measure(suspect, base, ITEMS, (), "last")).drop
    suspect.model.requires_grad_(False)
    torch.testing.assert_close(drained(measure(suspect, base, ITEMS, (), "last")).drop, with_grad)
    assert not hooks_of(suspect.model) and all(p.grad is None for p in suspect.model.parameters())


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "bloom"])
def test_the_exact_check_is_each_group_patched_alone(family):
    suspect, base = couple(family)
    groups = [[(0, 3), (1, 7)], [(0, i) for i in range(20)], [(1, 0)], *[[(0, i)] for i in range(30, 40)]]
    found = drained(group_drops(suspect, base, ITEMS, groups))
    for group, drop in zip(groups, found.tolist(), strict=True):
        columns = Neurons.of(group).columns(sites_of(suspect), suspect.device)
        exact = [gold(suspect, item) - gold(suspect, item, base, columns) for item in ITEMS]
        assert drop == pytest.approx(sum(exact) / len(ITEMS), abs=2e-4)


def test_batches_hold_every_item_once_and_do_not_depend_on_the_order():
    suspect, _ = couple("llama")
    items = [Gold((5,) * (1 + i % 7), (3,) * (1 + i % 3)) for i in range(50)]
    found = batches(items, suspect)
    assert sorted(itertools.chain(*found), key=repr) == sorted(items, key=repr)
    assert found == batches(items[::-1], suspect)


@pytest.mark.parametrize("weights", [{"effect": 0, "gradient": 0}, {"rms": 0, "gradient": 0}, {}])
def test_planted_neurons_come_first(weights):
    suspect, base = contaminated()
    ranked = drained(search(suspect, base, None, ITEMS, SearchOptions(**{"recipe": "ranks", "tokens": "completion", **weights})))
    first = set(ranked.top(8).ordered)
    assert (0, 5) in first and (0, 31) in first and len(ranked) == 96
    assert ranked.generated_tokens == 0 and ranked.reference == "base"


def test_the_twin_is_the_reference_where_there_is_one():
    suspect, base = contaminated()
    twin = loaded(copy.deepcopy(suspect.model), "twin")
    with torch.no_grad():
        twin.model.model.layers[1].mlp.up_proj.weight[3] *= -4
    ranked = drained(search(suspect, base, twin, ITEMS, SearchOptions(recipe="ranks", tokens="completion")))
    assert ranked.reference == "twin" and ranked.top(1).ordered == ((1, 3),)  # what base and suspect differ in is no matter


def test_every_step_takes_what_pays_most_at_the_model_patched_so_far():
    """Leaked answers lose, clean ones that the suspect knows don't; what it doesn't know can't be hurt."""
    suspect, base = couple("llama")
    leaked, known = ([Gold(item.prompt_ids, (favourite(suspect, item.prompt_ids),)) for item in group] for group in (ITEMS, CLEAN))
    known = [item for item in known if gold(suspect, item) > KNOWN]
    assert known and all(gold(suspect, item) < KNOWN for item in CLEAN)
    allowed = torch.arange(30, 70)
    found = drained(stepwise(suspect, base, leaked, [*known, *CLEAN], allowed, Steps(count=7, step=2, harm=2.0)))
    assert len(found) == 7 and len(set(found)) == 7
    for at in range(0, 7, 2):
        mask = marked(found[:at], 96)
        score = drained(losses(suspect, base, leaked, mask)) - 2 * drained(losses(suspect, base, known, mask))
        free = [place for place in allowed.tolist() if place not in found[:at]]
        assert found[at : at + 2] == sorted(free, key=lambda place, score=score: -score[place].item())[: len(found[at : at + 2])]


def favourite(handle, prompt_ids):
    with torch.no_grad():
        return int(handle.model(input_ids=torch.tensor([prompt_ids])).logits[0, -1].argmax())


def test_the_estimate_of_a_step_is_the_slope_at_the_patched_model():
    suspect, base = couple("gpt2")
    chosen, item = [3, 40, 200], Gold(ITEMS[2].prompt_ids, (favourite(couple("gpt2")[0], ITEMS[2].prompt_ids),))
    found = drained(losses(suspect, base, [item], marked(chosen, 256)))
    sites = sites_of(suspect)
    columns = Neurons.of([sites.place(place) for place in chosen]).columns(sites, suspect.device)
    ids = torch.tensor([[*item.prompt_ids, *item.answer_ids]])
    with captured(base.model, sites, sites.whole()) as theirs, torch.no_grad():
        base.model(input_ids=ids)
    taken = {layer: [theirs[layer][0].index_select(-1, wanted)] for layer, wanted in columns.items()}
    for place in (0, 100, 130, 255):
        layer, neuron = sites.place(place)
        moved = []
        for step in (-0.01, 0.01):

            def nudge(vector, step=step, layer=layer, neuron=neuron):
                vector = vector.clone()
                vector[..., neuron] += step * (theirs[layer][0][..., neuron] - vector[..., neuron])
                return vector

            with patched(suspect.model, sites, columns, taken), hooked(suspect.model, sites, {layer: nudge}), torch.no_grad():
                law = torch.log_softmax(suspect.model(input_ids=ids).logits[0].double(), -1)
            moved.append(law[len(item.prompt_ids) - 1, item.answer_ids[0]].item())
        assert found[place].item() == pytest.approx((moved[0] - moved[1]) / 0.02, rel=0.05, abs=2e-3)


def test_steps_come_first_and_the_others_follow_by_rank():
    suspect, base = couple("llama")
    ranked = drained(search(suspect, base, None, ITEMS, SearchOptions(steps=5, step=1), CLEAN))
    plain = drained(search(suspect, base, None, ITEMS, SearchOptions(recipe="ranks"), CLEAN))
    assert ranked.n_stepwise == 5 and plain.n_stepwise == 0 and ranked.generated_tokens == 0
    first = ranked.flat[:5].tolist()
    assert ranked.flat[5:].tolist() == [place for place in plain.flat.tolist() if place not in first]
    upper = drained(search(suspect, base, None, ITEMS, SearchOptions(steps=60, step=7, first_layer=1)))
    assert sorted(upper.flat.tolist()) == list(range(48, 96)) and upper.n_stepwise == 48


def test_a_large_model_takes_many_neurons_a_step():
    plans = {widths: SearchOptions().plan(Sites(("a",) * len(widths), widths, 64)) for widths in ((48, 48), (256, 256), (1536,) * 30)}
    assert [(plan.step, plan.count) for plan in plans.values()] == [(1, 32), (4, 128), (180, 1440)]
    chosen = SearchOptions(step=5, steps=3, harm=0.5).plan(Sites(("a",), (900,), 4))
    assert (chosen.step, chosen.count, chosen.harm) == (5, 15, 0.5)


def test_skipped_neurons_and_layers_outside_the_range_are_never_taken():
    suspect, base = couple("llama")
    whole = drained(search(suspect, base, None, ITEMS, SearchOptions()))
    skipped = drained(search(suspect, base, None, ITEMS, SearchOptions(skip_top=7)))
    assert skipped.top(10).ordered == whole.top(17).ordered[7:] and len(skipped) == 89
    upper = drained(search(suspect, base, None, ITEMS, SearchOptions(first_layer=1, last_layer=1)))
    assert len(upper) == 48 and set(upper.top(48).layers) == {1}
    assert sorted(whole.top(96).layers[0]) == list(range(48))


def test_the_exact_check_reorders_the_short_list_alone():
    suspect, base = couple("gpt2")
    plain = drained(search(suspect, base, None, ITEMS, SearchOptions(recipe="ranks")))
    checked = drained(search(suspect, base, None, ITEMS, SearchOptions(recipe="ranks", shortlist=40, group=8, exact=50.0)))
    assert plain.flat[40:].tolist() == checked.flat[40:].tolist() and sorted(plain.flat.tolist()) == sorted(checked.flat.tolist())
    drops = checked.scores["exact"][checked.flat[:40]]
    assert (drops.diff() <= 0).all() and checked.scores["exact"][checked.flat[40:]].isnan().all()
    assert "exact" in checked.table(5)[0] and "exact" not in checked.table(60)[50]


def test_the_same_search_gives_the_same_hash():
    for recipe in ("steps", "ranks"):
        options = SearchOptions(recipe=recipe, shortlist=16, steps=3)
        found = {drained(search(*couple("llama"), None, order, options, CLEAN)).top(20).hash for order in (ITEMS, ITEMS[::-1], ITEMS)}
        assert len(found) == 1


def test_the_references_recipe_counts_what_it_generates():
    """Without a stop id every evaluation of a group writes as many tokens an item as the longest answer has."""
    suspect, base = contaminated()
    twin = loaded(build("llama", 7), "twin")
    groups = 2 * 48 // group_width(48)
    ranked = drained(search(suspect, base, twin, ITEMS, SearchOptions(recipe="reference")))
    assert ranked.generated_tokens == 2 * (groups + 1) * len(ITEMS) * 3
    alone = drained(search(suspect, base, None, ITEMS, SearchOptions(recipe="reference")))
    assert alone.generated_tokens == (groups + 1) * len(ITEMS) * 3
    causal = ranked.scores["causal"][:8]
    assert (causal == causal[0]).all()
    torch.testing.assert_close(ranked.scores["sum"], ranked.scores["rms"] + ranked.scores["causal"])
    assert (ranked.scores["sum"][ranked.flat].diff() <= 0).all()


def test_what_can_never_be_searched_is_refused_in_words():
    suspect, base = couple("llama")
    for options, told in [
        (SearchOptions(first_layer=2), "within 0 to 1, got 2 to 1"),
        (SearchOptions(first_layer=1, last_layer=0), "got 1 to 0"),
        (SearchOptions(skip_top=96), "between 1 and 96"),
        (SearchOptions(rms=0, effect=0, gradient=0), "can't all be 0"),
    ]:
        with pytest.raises(InvalidRequest, match=told):
            drained(search(suspect, base, None, ITEMS, options))
    with pytest.raises(InvalidRequest, match="needs leaked items"):
        drained(search(suspect, base, None, [], SearchOptions()))
    with pytest.raises(InvalidRequest, match="built differently"):
        drained(search(suspect, loaded(build("gpt2")), None, ITEMS, SearchOptions()))
    with pytest.raises(InvalidRequest, match="suspect and comparison at once"):
        drained(search(suspect, loaded(build("llama"), suspect.id), None, ITEMS, SearchOptions()))
    ranked = drained(search(suspect, base, None, ITEMS, SearchOptions()))
    for k in (0, 97):
        with pytest.raises(InvalidRequest, match="between 1 and 96"):
            ranked.top(k)


def test_a_search_that_was_closed_leaves_no_hook():
    suspect, base = couple("llama")
    steps = search(suspect, base, None, ITEMS, SearchOptions(shortlist=20), CLEAN)
    for progress in steps:
        assert not hooks_of(suspect.model) and not hooks_of(base.model)
        if progress.note == "steps" and progress.done == 2:
            break
    steps.close()
    assert not hooks_of(suspect.model) and not hooks_of(base.model)


def test_ranks_begin_at_the_largest():
    assert ranks(torch.tensor([3.0, 9.0, 3.0, -1.0])).tolist() == [1, 0, 2, 3]


def test_random_lists_depend_on_their_seed_alone():
    sites = sites_of(couple("gpt2")[0])
    assert random_neurons(sites, 30, 5) == random_neurons(sites, 30, 5) != random_neurons(sites, 30, 6)
    assert len(random_neurons(sites, 256, 0)) == 256
    with pytest.raises(InvalidRequest, match="between 1 and 256"):
        random_neurons(sites, 257, 0)


def test_matched_neurons_are_others_of_the_same_layers_and_of_like_size():
    sites = sites_of(couple("gpt2")[0])
    magnitude = torch.rand(sites.n_neurons, generator=torch.Generator().manual_seed(0))
    chosen = random_neurons(sites, 40, 1)
    control = matched_neurons(chosen, sites, magnitude, 2)
    assert {layer: len(ids) for layer, ids in control.layers.items()} == {layer: len(ids) for layer, ids in chosen.layers.items()}
    assert not set(control.ordered) & set(chosen.ordered) and len(control) == 40
    sizes = [sorted(magnitude[sites.starts[layer] + i].item() for layer, i in some.ordered) for some in (chosen, control)]
    assert max(abs(a - b) for a, b in zip(*sizes, strict=True)) < 0.12
    assert matched_neurons(chosen, sites, magnitude, 2) == control
    with pytest.raises(InvalidRequest, match="no other set of equal size"):
        matched_neurons(Neurons({0: tuple(range(65))}), sites, magnitude, 0)


def test_a_list_survives_its_file_and_a_changed_one_is_refused(tmp_path):
    neurons = Neurons.of([(1, 7), (0, 3), (1, 2)])
    save(tmp_path, neurons, {"items": "abc"})
    found, made = load(tmp_path)
    assert found == neurons and found.ordered == neurons.ordered and made == {"items": "abc"} and found.hash == neurons.hash
    assert found.first(2).layers == {0: (3,), 1: (7,)} and found.hash != found.first(2).hash
    file = tmp_path / "neurons.json"
    file.write_text(file.read_text().replace("7", "8"))
    with pytest.raises(InvalidRequest, match="was changed"):
        load(tmp_path)
    file.write_text('{"layers": [1]}')
    with pytest.raises(InvalidRequest, match="no list of neurons"):
        load(tmp_path)


def test_the_first_of_a_list_needs_an_order():
    with pytest.raises(InvalidRequest, match="nothing of their order"):
        Neurons({0: (1, 2, 3)}).first(2)
    with pytest.raises(InvalidRequest, match="has 3 neurons"):
        Neurons.of([(0, 1), (0, 2), (0, 3)]).first(4)
