"""Blocks and trees equal the path-by-path computation, whatever is appended, kept and forgotten, on every family."""

from __future__ import annotations

import random

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from backend import tree_masks
from backend.decoder import Decoder
from backend.errors import ModelError
from backend.fast_forward import group_query_heads
from backend.forward_call import capabilities
from backend.tree_check import trees_work
from tests.families import FAMILIES, POSITIONS, STATEFUL, WINDOW, build, uncached_logits
from tests.test_decoder import CLOSE, PAIRS, edited, random_ids

FINE = {"atol": 2e-5, "rtol": 1e-4}
FORK = [-1, 0, 0, 1]  # node 2 lies between the path 0, 1, 3 and its end: keeping that path moves keys


def random_parents(rng: random.Random, k: int) -> list[int]:
    return [rng.randrange(-1, i) for i in range(k)]


def path_to(parents: list[int], node: int) -> list[int]:
    return [] if node == -1 else [*path_to(parents, parents[node]), node]


def random_path(rng: random.Random, parents: list[int]) -> list[int]:
    return path_to(parents, rng.randrange(-1, len(parents)))


def path_by_path(model, held, tokens, parents):
    """The oracle: `(k, V)`, each row from one plain forward over what is held and the node's path."""
    paths = [[tokens[i] for i in path_to(parents, node)] for node in range(len(tokens))]
    return torch.stack([uncached_logits(model, held + path)[-1] for path in paths])


class Reads(TorchDispatchMode):
    """Counts how often the host asks for a number that the device has."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.n += func.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("family", "attention"), PAIRS)
def test_a_tree_equals_its_paths(family, attention):
    """Short of the sliding window of 8, across it and past it."""
    model, rng = build(family, attention), random.Random(3)
    decoder = Decoder(model)
    for n_held, k in [(1, 4), (WINDOW - 3, 9), (3 * WINDOW, 12)]:
        held, tokens, parents = random_ids(rng, n_held), random_ids(rng, k), random_parents(rng, k)
        decoder.hold(held)
        torch.testing.assert_close(decoder.append(tokens, parents), path_by_path(model, held, tokens, parents), **FINE)


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3"])
def test_a_tree_equals_its_paths_with_grouped_heads(family):
    plain, fast, rng = build(family), build(family), random.Random(4)
    group_query_heads(fast)
    decoder, held, tokens, parents = Decoder(fast), random_ids(rng, 20), random_ids(rng, 12), random_parents(rng, 12)
    decoder.hold(held)
    torch.testing.assert_close(decoder.append(tokens, parents), path_by_path(plain, held, tokens, parents), **FINE)


@pytest.mark.parametrize(("family", "attention"), [*PAIRS, ("phi3_longrope", "sdpa")])
def test_any_calls_in_any_order_equal_uncached(family, attention):
    """Blocks committed, left open or cut short, between lists that were edited; LongRoPE's border is crossed in both directions."""
    model, rng = build(family, attention), random.Random(5)
    decoder, ids = Decoder(model), random_ids(rng, 6)
    for _ in range(25):
        kind = rng.choice(["logits", "hold", "block", "block", "block"])
        if kind == "logits":
            torch.testing.assert_close(decoder.logits(ids), uncached_logits(model, ids)[-1:], **CLOSE)
        decoder.hold(ids)
        if kind == "block":
            ids = append_and_keep(rng, decoder, ids)
        ids = edited(rng, ids)[:40] if rng.random() < 0.4 or len(ids) > 40 else ids


def append_and_keep(rng, decoder, ids):
    """A random block behind `ids`, checked, then a random path of it kept; what is held afterwards."""
    k = rng.randint(1, 7)
    chain = not decoder.capabilities.trees or rng.random() < 0.5
    tokens, parents = random_ids(rng, k), list(range(-1, k - 1)) if chain else random_parents(rng, k)
    rows = decoder.append(torch.tensor(tokens) if rng.random() < 0.5 else tokens, parents)
    torch.testing.assert_close(rows, path_by_path(decoder.model, ids, tokens, parents), **CLOSE)
    if rng.random() < 0.3:
        return ids + tokens if parents == list(range(-1, k - 1)) else ids
    kept = random_path(rng, parents)
    decoder.commit(kept, [tokens[i] for i in kept])
    return ids + [tokens[i] for i in kept]


@pytest.mark.parametrize("family", FAMILIES)
def test_decoding_goes_on_behind_a_kept_path(family):
    """Without a call in between that could mend it: the next block lies right behind keys that were moved, past the window too."""
    model, rng = build(family), random.Random(6)
    for n_held in (3, 2 * WINDOW):
        decoder, held, tokens = Decoder(model), random_ids(rng, n_held), random_ids(rng, 4)
        decoder.hold(held)
        decoder.append(tokens, FORK)
        decoder.commit([0, 1, 3], [tokens[0], tokens[1], tokens[3]])
        held = [*held, tokens[0], tokens[1], tokens[3]]
        torch.testing.assert_close(decoder.append([5, 6, 7, 8], FORK), path_by_path(model, held, [5, 6, 7, 8], FORK), **FINE)
        assert decoder.n_computed == n_held + 8


def test_blocks_left_open_one_after_another_stay():
    """A draft model's loop: each token goes from the device's argmax to the next block without the host knowing it."""
    model, held = build("llama"), [5, 6, 7]
    decoder = Decoder(model)
    decoder.hold(held)
    token = decoder.append([9])[-1].argmax()[None]
    seen = [9]
    for _ in range(3):
        seen.append(int(token))
        token = decoder.append(token)[-1].argmax()[None]
    assert int(token) == int(uncached_logits(model, held + seen)[-1].argmax())
    before = decoder.n_computed
    torch.testing.assert_close(decoder.logits(held + seen + [11]), uncached_logits(model, held + seen + [11])[-1:], **CLOSE)
    assert decoder.n_computed == before + 1


def test_a_commit_after_open_blocks_keeps_the_order():
    decoder, tokens = Decoder(build("llama")), torch.tensor([9, 10])
    decoder.hold([5, 6])
    decoder.append(tokens)
    decoder.append([11, 12, 13, 14], FORK)
    decoder.commit([0, 2], [11, 13])
    decoder.append(tokens)
    before = decoder.n_computed
    decoder.hold([5, 6, 9, 10, 11, 13, 9, 10])
    assert decoder.n_computed == before


def test_a_commit_back_over_the_longrope_border_reads_the_keys_anew():
    """18 tokens turned all keys the long way; after the commit there are 15 again, whose keys are short."""
    model, (held, block) = build("phi3_longrope"), (random_ids(random.Random(1), 14), [5, 6, 7, 8])
    for call in ("logits", "append"):
        decoder = Decoder(model)
        decoder.hold(held)
        torch.testing.assert_close(decoder.append(block), path_by_path(model, held, block, [-1, 0, 1, 2]), **CLOSE)
        decoder.commit([0], [5])
        row = decoder.logits([*held, 5, 9]) if call == "logits" else decoder.append([9])
        torch.testing.assert_close(row, uncached_logits(model, [*held, 5, 9])[-1:], **CLOSE)


def test_holding_computes_nothing_when_it_only_rolls_back():
    decoder = Decoder(build("mistral"))
    decoder.hold([5, 6, 7, 8])
    for ids in ([5, 6, 7, 8], [5, 6], [], [5]):
        decoder.hold(ids)
    assert decoder.n_computed == 4 + 1


def test_an_uncommitted_tree_is_forgotten():
    model = build("gemma3")
    decoder = Decoder(model)
    decoder.hold([5, 6, 7])
    decoder.append([8, 9, 10, 11], FORK)
    torch.testing.assert_close(decoder.append([4]), uncached_logits(model, [5, 6, 7, 4])[-1:], **CLOSE)


@pytest.mark.parametrize("family", [*FAMILIES, *STATEFUL])
def test_appending_reads_nothing_from_the_device(family):
    decoder, tokens = Decoder(build(family)), torch.tensor([5, 6, 7, 8])
    decoder.hold(random_ids(random.Random(0), 2 * WINDOW))
    with Reads() as reads:
        decoder.append(tokens)
        decoder.append(tokens[:1])
        if decoder.capabilities.trees:
            decoder.append(tokens, FORK)
            decoder.commit([0, 1, 3], [5, 6, 8])
            decoder.append(tokens, FORK)
    assert reads.n == 0
    with reads:
        tokens[0].item()
    assert reads.n == 1


def test_keys_are_moved_only_for_a_path_with_gaps(monkeypatch):
    decoder, moved = Decoder(build("llama")), []
    gather = Decoder._gather
    monkeypatch.setattr(Decoder, "_gather", lambda self, kept: (moved.append(kept), gather(self, kept)))
    decoder.hold([5, 6])
    for kept in ([0, 1], [0], [], [0, 2]):
        decoder.append([7, 8, 9, 10], FORK)
        decoder.commit(kept, [7 + i for i in kept])
    assert moved == [[0, 2]]


def test_hidden_states_of_a_tree_belong_to_its_rows():
    model, tokens = build("qwen3"), [8, 9, 10, 11]
    decoder = Decoder(model)
    decoder.hold([5, 6, 7])
    logits, hidden = decoder.append(tokens, FORK, hidden=True)
    assert hidden.shape == (4, 32)
    with torch.inference_mode():
        torch.testing.assert_close(model.get_output_embeddings()(hidden), logits, **FINE)


@pytest.mark.parametrize("parents", [None, FORK])
def test_a_block_that_breaks_off_leaves_a_usable_decoder(parents):
    model = build("llama")
    decoder = Decoder(model)
    decoder.hold([5, 6, 7])

    def fail(*_):
        raise MemoryError

    hook = model.model.layers[1].register_forward_pre_hook(fail)
    with pytest.raises(MemoryError):
        decoder.append([8, 9, 10, 11], parents)
    hook.remove()
    assert decoder.n_computed == 3
    for ids in ([5, 6, 7], [5, 6, 7, 8], [5, 3]):
        decoder.hold(ids)
        torch.testing.assert_close(decoder.append([4, 9]), uncached_logits(model, [*ids, 4, 9])[-2:], **CLOSE)


def test_only_the_deepest_node_counts_for_the_context():
    decoder = Decoder(build("gpt2"), "tiny")
    decoder.hold([5] * (POSITIONS - 2))
    assert decoder.append([6, 7, 8, 9], [-1, 0, 0, -1]).shape[0] == 4
    with pytest.raises(ModelError, match=f"tiny reads at most {POSITIONS} tokens, the context has {POSITIONS + 1}"):
        decoder.append([6, 7, 8], [-1, 0, 1])


@pytest.mark.parametrize("family", STATEFUL)
def test_a_recurrent_model_appends_chains_and_refuses_the_rest(family):
    model, held = build(family), random_ids(random.Random(0), 10)
    decoder = Decoder(model, "my model")
    decoder.hold(held)
    torch.testing.assert_close(decoder.append([5, 6]), uncached_logits(model, [*held, 5, 6])[-2:], atol=2e-3, rtol=2e-3)
    with pytest.raises(ModelError, match="my model can't roll back"):
        decoder.commit([0], [5])
    decoder.commit([0, 1], [5, 6])
    with pytest.raises(ModelError, match="my model can't read a tree"):
        decoder.append([7, 8, 9, 10], FORK)
    torch.testing.assert_close(decoder.append([7]), uncached_logits(model, [*held, 5, 6, 7])[-1:], atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        ([-1, 0], "parents must name one parent for each of the 3 tokens, got 2"),
        ([-1, 1, 0], r"parents\[1\] must be between -1 and 0, got 1"),
        ([-1, 0, -2], r"parents\[2\] must be between -1 and 1, got -2"),
    ],
)
def test_parents_that_are_no_tree_name_the_limits(parents, message):
    with pytest.raises(ValueError, match=message):
        Decoder(build("llama")).append([5, 6, 7], parents)


@pytest.mark.parametrize("kept", [[1], [0, 3], [2, 1], [0, 4], [0, -1]])
def test_rows_that_are_no_path_are_refused(kept):
    decoder = Decoder(build("llama"))
    decoder.append([5, 6, 7, 8], FORK)
    with pytest.raises(ValueError, match="kept must be a path from the root of a block of 4 rows"):
        decoder.commit(kept, [5] * len(kept))
    decoder.commit([0, 2], [5, 7])


def test_a_commit_without_a_block_is_refused():
    decoder = Decoder(build("llama"))
    decoder.append([5, 6])
    decoder.hold([5, 6])
    with pytest.raises(ValueError, match="commit needs a block"):
        decoder.commit([0], [5])


def test_who_reads_trees():
    families = [*FAMILIES, *STATEFUL, "phi3_longrope"]
    assert [f for f in families if not capabilities(build(f)).trees] == [*STATEFUL, "phi3_longrope"]


@pytest.mark.parametrize(("family", "attention"), PAIRS)
def test_the_measured_check_says_yes_to_all_families(family, attention):
    assert trees_work(build(family, attention), family)


@pytest.mark.parametrize("wrong", ["siblings seen", "positions by slot", "window by slot", "a boolean mask added"])
def test_the_measured_check_notices(wrong, monkeypatch):
    """Each of the ways in which an architecture (or this code) could misread a tree."""
    model = build("mistral", "eager" if wrong == "a boolean mask added" else "sdpa")
    right = tree_masks.tree_arguments

    def broken(model, shape, held):
        arguments = right(model, shape, held)
        mask, k = arguments["attention_mask"], len(shape.parents)
        if wrong == "siblings seen":
            mask[..., held:] |= torch.ones(k, k, dtype=torch.bool).tril()
        elif wrong == "positions by slot":
            arguments["position_ids"] = torch.arange(held, held + k)[None]
        elif wrong == "window by slot":
            slots = torch.arange(held + k)
            mask &= slots > slots[held:, None] - WINDOW
        else:
            arguments["attention_mask"] = (mask == 0).float()
        return arguments

    assert trees_work(model, "mistral")
    monkeypatch.setattr("backend.decoder.tree_arguments", broken)
    assert not trees_work(model, "mistral")


def test_a_model_that_breaks_on_a_trees_mask_is_refused(monkeypatch):
    def refuse(*_):
        raise RuntimeError("The size of tensor a must match")

    monkeypatch.setattr("backend.decoder.tree_arguments", refuse)
    assert not trees_work(build("llama"), "llama")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("family", "attention"), PAIRS)
def test_a_tree_equals_its_paths_on_a_gpu(family, attention):
    model, rng = build(family, attention), random.Random(3)
    decoder, held, tokens, parents = Decoder(build(family, attention).to("cuda")), random_ids(rng, 20), random_ids(rng, 9), random_parents(rng, 9)
    decoder.hold(held)
    rows = decoder.append(torch.tensor(tokens, device="cuda"), parents)
    torch.testing.assert_close(rows.cpu(), path_by_path(model, held, tokens, parents), atol=1e-3, rtol=1e-3)
