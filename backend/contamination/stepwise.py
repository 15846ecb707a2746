"""Neurons chosen one after another, each with the former ones already patched: what is left of the memory then shows where it still sits.

Goes in: a suspect, a source, leaked items and clean ones, all as ids. Comes out: places of neurons, best first. A step estimates by one backward
pass at the patched model what each further neuron would take from the leaked answers and from the clean ones.
Teacher-forced, nothing is generated. Knows nothing of ranks.

Why steps: in models of the exam family the neurons that one estimate at the unpatched model names first bring the leaked items down to the level of
the fresh ones only together with the fresh ones; chosen in steps they leave these alone. A confident memory has hardly a gradient until it is hurt.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from backend.contamination.scores import Batch, Known, activations, batch_of, batches, joined
from backend.contamination.taps import Edit, hooked, sites_of
from backend.errors import ModelError

LOST = -4.0  # nats: an answer below is lost and can't be lost again
KNOWN = -0.7  # nats: an answer above is one that the suspect gives more often than not


@dataclass(frozen=True)
class Steps:
    """How neurons are chosen: `count` in all, `step` at once. `harm`: how much a nat of a clean answer weighs beside one of a leaked answer."""

    count: int
    step: int
    harm: float


def stepwise(suspect: Any, source: Any, leaked: Sequence[Known], clean: Sequence[Known], allowed: Tensor,
             steps: Steps) -> Generator[int, None, list[int]]:  # fmt: skip
    """Places of `steps.count` neurons among `allowed`; yields how many are chosen so far, often."""
    closed = torch.ones(sites_of(suspect).n_neurons, dtype=torch.bool).index_fill_(0, allowed, False)
    known = yield from known_items(suspect, clean)
    chosen: list[int] = []
    while len(chosen) < min(steps.count, len(allowed)):
        mask = marked(chosen, len(closed))
        score = yield from _counted(losses(suspect, source, leaked, mask), chosen)
        if known:
            score = score - steps.harm * (yield from _counted(losses(suspect, source, known, mask), chosen))
        score[mask | closed] = -torch.inf
        free = int(score.isfinite().sum())
        n = min(steps.step, steps.count - len(chosen), free)
        if not n:
            raise ModelError(f"{suspect.id} gives answers whose gradients are no numbers; nothing can be searched in it.")
        chosen += torch.argsort(score, descending=True, stable=True)[:n].tolist()
        yield len(chosen)
    return chosen


def sample(items: Sequence[Known], n: int, seed: int) -> list[Known]:
    """At most n of them, the same ones whatever their order."""
    ordered = sorted(items, key=lambda item: (item.prompt_ids, item.answer_ids))
    return ordered if len(ordered) <= n else random.Random(seed).sample(ordered, n)


def marked(places: Sequence[int], n: int) -> Tensor:
    """`(n,)` bool."""
    return torch.zeros(n, dtype=torch.bool).index_fill_(0, torch.tensor(list(places), dtype=torch.long), True)


def known_items(suspect: Any, items: Sequence[Known]) -> Generator[int, None, list[Known]]:
    """Those that the suspect gets right: only they can be hurt."""
    found = []
    for some in batches(items, suspect):
        batch = batch_of(some, suspect.device)
        with torch.inference_mode():
            gold = batch.gold(suspect.model(input_ids=batch.ids, use_cache=False).logits)
        found += [item for item, logprob in zip(some, gold.tolist(), strict=True) if logprob > KNOWN]
        yield 0
    return found


def losses(suspect: Any, source: Any, items: Sequence[Known], mask: Tensor) -> Generator[int, None, Tensor]:
    """Nats an item that the answers would lose if one more neuron took the source's value, `(n_neurons,)` float64, estimated where those of `mask`
    `(n_neurons,)` have it already."""
    total = torch.zeros(len(mask), dtype=torch.float64)
    for some in batches(items, suspect, copies=2):
        batch = batch_of(some, suspect.device)
        theirs = activations(source, batch)
        ours, gradients = _at_the_patched(suspect, batch, theirs, mask.to(suspect.device))
        total -= ((theirs - ours) * gradients).double().sum((0, 1)).cpu()
        yield 0
    return total / max(len(items), 1)


def _at_the_patched(suspect: Any, batch: Batch, theirs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Activations of the patched model, and the gradient of its answers' log-probabilities there; an answer that is lost has none."""
    sites, seen = sites_of(suspect), {}
    parts = list(zip(theirs.split(list(sites.widths), -1), mask.split(list(sites.widths)), strict=True))

    def writing(layer: int) -> Edit:
        value, chosen = parts[layer]

        def write(vector: Tensor) -> Tensor:
            patched = torch.where(chosen.to(vector.device), value.to(vector).view(vector.shape), vector)
            seen[layer] = patched if patched.requires_grad else patched.requires_grad_()
            return seen[layer]

        return write

    with torch.enable_grad():
        with hooked(suspect.model, sites, {layer: writing(layer) for layer in range(len(parts))}):
            logits = suspect.model(input_ids=batch.ids, use_cache=False).logits
        vectors = [seen[layer] for layer in range(len(parts))]
        gradients = torch.autograd.grad(batch.gold(logits).clamp(min=LOST).sum(), vectors)
    return joined(vectors, batch), joined(gradients, batch)


def _counted(steps: Generator[int, None, Any], chosen: Sequence[int]) -> Generator[int, None, Any]:
    """The inner steps, told as how many neurons are chosen."""
    while True:
        try:
            next(steps)
            yield len(chosen)
        except StopIteration as end:
            return end.value
