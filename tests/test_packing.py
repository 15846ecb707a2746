"""Shards against the documents they were made of."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import torch

from backend.packing import LONGEST, ROUNDING, Document, Packer, Shard

SLOTS = 512


def documents(start: int) -> Iterator[Document]:
    """Number i depends on i alone; now and then one is longer than may be."""
    while True:
        rng = random.Random(start)
        n = rng.choice((2, 9, 30, 60, 120, LONGEST + 40))
        weights = [rng.choice((0.0, 0.1, 1.0)) for _ in range(n)]
        yield Document([rng.randrange(1, 50) for _ in range(n)], weights, rng.choice(("a", "b")))
        start += 1


def rows(shard: Shard, skills: dict[str, int]) -> list[tuple]:
    """Each row of each group without its padding: ids, targets, weights, skill."""
    names, found, at = list(skills), [], 0
    for n_documents, length in shard.shapes:
        for _ in range(n_documents):
            ids, targets, weights = (x[at : at + length].tolist() for x in (shard.ids, shard.targets, shard.weights))
            n = next((i for i, token in enumerate(ids) if token == 0), length)
            if n:
                found.append((tuple(ids[:n]), tuple(targets[:n]), tuple(round(w, 3) for w in weights[:n]), names[shard.skills[at]]))
            assert not any(weights[n:]), "padding weighs nothing"
            at += length
    assert at == len(shard.ids)
    return found


def expected(document: Document) -> tuple:
    n = min(len(document.ids) - 1, LONGEST)
    return tuple(document.ids[:n]), tuple(document.ids[1 : n + 1]), tuple(document.weights[1 : n + 1]), document.skill


def test_every_document_is_packed_once_and_predicts_its_own_next_token():
    packer, packed = Packer(documents, 0, SLOTS), []
    for _ in range(20):
        shard = packer.next()
        found = rows(shard, packer.skills)
        assert shard.n_tokens == sum(len(row[0]) for row in found)
        packed += found
    stream = documents(0)
    assert sorted(packed) == sorted(expected(next(stream)) for _ in range(packer.position))


def test_all_shards_have_one_size_and_lengths_in_eights():
    packer = Packer(documents, 3, SLOTS)
    for _ in range(20):
        shard = packer.next()
        assert {len(x) for x in (shard.ids, shard.targets, shard.weights, shard.skills)} == {SLOTS}
        assert all(length % ROUNDING == 0 for _, length in shard.shapes)


def test_a_packer_goes_on_where_another_stopped():
    whole, first = Packer(documents, 0, SLOTS), Packer(documents, 0, SLOTS)
    for _ in range(5):
        whole.next()
        first.next()
    second = Packer(documents, first.position, SLOTS)
    for _ in range(5):
        ours, theirs = second.next(), whole.next()
        assert torch.equal(ours.ids, theirs.ids) and ours.shapes == theirs.shapes


@pytest.mark.parametrize(("ids", "weights"), [([1], [1.0]), ([1, 2, 3], [1.0, 1.0])])
def test_a_document_without_a_prediction_or_with_too_few_weights_is_refused(ids, weights):
    with pytest.raises(ValueError, match="as many weights"):
        Document(ids, weights, "a")


@pytest.mark.parametrize("slots", [LONGEST - 8, LONGEST + 1])
def test_a_shard_too_small_for_the_longest_document_is_refused(slots):
    with pytest.raises(ValueError, match="slots"):
        Packer(documents, 0, slots)
