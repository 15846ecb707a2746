"""Scores against slow oracles, and a search that finds neurons planted by hand."""

from __future__ import annotations

import copy
import itertools
import math
from statistics import fmean

import pytest
import torch

from backend.contamination.exact import group_drops
from backend.contamination.gates import KNOWN, LOST, Plan, draw, gated, learn_gates, likelihood
from backend.contamination.neurons import Neurons, load, matched_neurons, random_neurons, save
from backend.contamination.reference import group_width
from backend.contamination.scores import Gold, activations, batch_of, batches, compared, measure
from backend.contamination.search import SearchOptions, ranks, search
from backend.contamination.taps import Sites, captured, patched, sites_of
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


def favourite(handle, prompt_ids):
    with torch.no_grad():
        return int(handle.model(input_ids=torch.tensor([prompt_ids])).logits[0, -1].argmax())


def memory():
    """A base, a suspect that differs from it in five neurons of the last layer, leaked items that only the suspect answers so, and clean ones that
    both answer alike."""
    base = loaded(build("llama", 0), "base")
    suspect = loaded(copy.deepcopy(base.model), "suspect")
    with torch.no_grad():
        for neuron in range(5):
            suspect.model.model.layers[1].mlp.up_proj.weight[neuron] *= -12
    prompts = [(a, b, c) for a in range(4, 12) for b in range(4, 12) for c in (4, 9)]
    said = {prompt: (favourite(suspect, prompt), favourite(base, prompt)) for prompt in prompts}
    leaked = [Gold(prompt, (ours,)) for prompt, (ours, theirs) in said.items() if ours != theirs]
    clean = [Gold(prompt, (ours,)) for prompt, (ours, theirs) in said.items() if ours == theirs]
    assert len(leaked) > 10 and len(clean) > 10
    return suspect, base, leaked, clean


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_an_open_gate_is_a_patch(family):
    suspect, base = couple(family)
    sites = sites_of(suspect)
    gates = (torch.rand((len(ITEMS), sites.n_neurons), generator=torch.Generator().manual_seed(0)) < 0.3).float()
    for item, row in zip(ITEMS, gates, strict=True):
        batch = batch_of([item], suspect.device)
        with torch.no_grad():
            found = batch.gold(gated(suspect, batch, activations(base, batch), row[None]))
        columns = Neurons.of([sites.place(place) for place in row.nonzero()[:, 0].tolist()]).columns(sites, suspect.device)
        assert found.item() == pytest.approx(gold(suspect, item, base, columns), abs=2e-4)


def test_gates_open_only_where_the_memory_sits_and_take_it_out():
    """Elsewhere the two models are the same neuron by neuron, so an open gate would cost its price for nothing."""
    suspect, base, leaked, clean = memory()
    lean = drained(learn_gates(suspect, base, leaked, clean, torch.arange(96), Plan(steps=60, rows=32, harm=1.0, seed=0)))
    places = (lean > 0).nonzero()[:, 0].tolist()
    assert places and set(places) <= set(range(48, 53))
    before, after = ([gold(suspect, item, *more) for item in leaked] for more in ((), (base, opened(suspect, lean))))
    assert sum(after) < sum(before) - 0.5 * len(leaked)


def opened(suspect, lean):
    """The open gates, as columns."""
    sites = sites_of(suspect)
    return Neurons.of([sites.place(place) for place in (lean > 0).nonzero()[:, 0].tolist()]).columns(sites, suspect.device)


def test_no_gate_opens_where_as_much_may_stay_as_there_is():
    suspect, base, leaked, _ = memory()
    assert (drained(learn_gates(suspect, base, leaked, (), torch.arange(96), Plan(40, 32, 1.0, 0, aim=0.0))) < 0).all()


def test_answers_are_as_likely_as_they_are_item_by_item_and_lost_ones_count_as_lost():
    suspect, _, leaked, clean = memory()
    items = [*leaked[:9], Gold(clean[0].prompt_ids, (*clean[0].answer_ids, 7, 8))]
    expected = [max(LOST, gold(suspect, item) / len(item.answer_ids)) for item in items]
    assert drained(likelihood(suspect, items)) == pytest.approx(sum(expected) / len(expected), abs=1e-4)
    assert drained(likelihood(suspect, ())) == -math.inf


def test_leaked_answers_become_no_unlikelier_than_those_of_fresh_items():
    """Where fresh ones are likelier than leaked ones, there is nothing to take away."""
    suspect, base, leaked, _ = memory()
    surest = sorted(leaked, key=lambda item: gold(suspect, item))[-10:]
    found = [drained(search(suspect, base, None, leaked, SearchOptions(steps=60), fresh=fresh)).n_open for fresh in ((), surest)]
    assert found[0] > 0 == found[1]


def test_gates_that_have_half_the_way_to_go_go_half_the_way():
    suspect, base, leaked, _ = memory()

    def left(aim):
        lean = drained(learn_gates(suspect, base, leaked, (), torch.arange(96), Plan(60, len(leaked), 1.0, 0, aim)))
        columns = opened(suspect, lean)
        return fmean(max(LOST, gold(suspect, item, base, columns)) for item in leaked), int((lean > 0).sum())

    start, (end, n_all) = fmean(max(LOST, gold(suspect, item)) for item in leaked), left(-math.inf)
    half, n_half = left((start + end) / 2)
    assert end < start - 0.5 and n_half >= 1
    assert end < half < start and n_half <= n_all


def test_what_is_to_be_kept_outweighs_what_is_to_be_lost():
    """The same answers stand on both sides."""
    suspect, base, leaked, _ = memory()
    known = [item for item in leaked if gold(suspect, item) > KNOWN]
    before, left = sum(gold(suspect, item) for item in known), {}
    for harm in (0.0, 20.0):
        lean = drained(learn_gates(suspect, base, known, known, torch.arange(96), Plan(60, 32, harm, 0)))
        left[harm] = sum(gold(suspect, item, base, opened(suspect, lean)) for item in known)
    assert known and left[0.0] < before - 0.5 * len(known) and left[20.0] > before - 0.1 * len(known)


def test_gates_are_drawn_as_often_as_they_lean():
    """10,000 draws a gate: a share is off by more than 0.02 in one of 10,000 runs or fewer."""
    lean = torch.tensor([-2.0, 0.0, 1.5], requires_grad=True)
    drawn = draw(lean, 10_000, torch.Generator().manual_seed(0))
    assert set(drawn.detach().round(decimals=4).unique().tolist()) <= {0.0, 1.0}
    torch.testing.assert_close(drawn.mean(0), torch.sigmoid(lean), atol=0.02, rtol=0)
    assert (torch.autograd.grad(drawn.sum(), [lean])[0] > 0).all()


def test_the_gates_decide_the_order_and_how_many_are_open():
    suspect, base, leaked, clean = memory()
    ranked = drained(search(suspect, base, None, leaked, SearchOptions(steps=20), clean))
    gate = ranked.scores["gate"][ranked.flat]
    assert (gate.diff() <= 0).all() and ranked.n_open == (gate > 0).sum() and ranked.generated_tokens == 0
    assert ranked.made()["n_open"] == ranked.n_open and "gate" in ranked.table(3)[0]
    lower = drained(search(suspect, base, None, leaked, SearchOptions(steps=20, last_layer=0), clean))
    assert sorted(lower.flat.tolist()) == list(range(48)) and lower.scores["gate"][48:].isnan().all()


def test_a_large_model_learns_from_fewer_items():
    plans = [SearchOptions().plan(Sites(("a",) * len(widths), widths, 64)) for widths in ((256, 256), (1536,) * 30)]
    assert [(plan.steps, plan.rows) for plan in plans] == [(600, 96), (40, 4)]
    chosen = SearchOptions(steps=3, rows=5, harm=0.5, seed=7).plan(Sites(("a",), (900,), 4), aim=-0.25)
    assert chosen == Plan(3, 5, 0.5, 7, -0.25)


def test_skipped_neurons_and_layers_outside_the_range_are_never_taken():
    suspect, base = couple("llama")
    whole = drained(search(suspect, base, None, ITEMS, SearchOptions(steps=9)))
    skipped = drained(search(suspect, base, None, ITEMS, SearchOptions(steps=9, skip_top=7)))
    assert skipped.top(10).ordered == whole.top(17).ordered[7:] and len(skipped) == 89
    upper = drained(search(suspect, base, None, ITEMS, SearchOptions(steps=9, first_layer=1, last_layer=1)))
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
    for recipe in ("gates", "ranks"):
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
    ranked = drained(search(suspect, base, None, ITEMS, SearchOptions(steps=3)))
    for k in (0, 97):
        with pytest.raises(InvalidRequest, match="between 1 and 96"):
            ranked.top(k)


def test_a_search_that_was_closed_leaves_no_hook():
    suspect, base = couple("llama")
    steps = search(suspect, base, None, ITEMS, SearchOptions(shortlist=20), CLEAN)
    for progress in steps:
        assert not hooks_of(suspect.model) and not hooks_of(base.model)
        if progress.note == "gates" and progress.done == 2:
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
