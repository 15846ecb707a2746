"""Neurons chosen one after another, each with the former ones already patched: what is left of the memory then shows where it still sits.

Goes in: a suspect, a source, leaked items and clean ones, all as ids. Comes out: places of neurons, best first. A step estimates by one backward
pass at the patched model what each further neuron would take from the leaked answers and from the clean ones, then measures the best few exactly.
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

from backend.contamination.exact import COPIES, patched_gold
from backend.contamination.scores import Batch, Known, activations, batch_of, batches, joined
from backend.contamination.taps import Edit, hooked, sites_of

LOST = -4.0  # nats: an answer below is lost and can't be lost again
KNOWN = -0.7  # nats: an answer above is one that the suspect gives more often than not


@dataclass(frozen=True)
class Steps:
    """How neurons are chosen: `count` in all, the first `singles` one at a time (of the `candidates` best by estimate the best by measurement on
    `n_items`), the others `step` at once, by estimate. `harm`: how much a nat of a clean answer weighs beside one of a leaked answer."""

    count: int
    singles: int
    step: int
    candidates: int
    n_items: int
    harm: float
    seed: int = 0


def stepwise(suspect: Any, source: Any, leaked: Sequence[Known], clean: Sequence[Known], allowed: Tensor,
             steps: Steps) -> Generator[int, None, list[int]]:  # fmt: skip
    """Places of `steps.count` neurons among `allowed`; yields how many are chosen so far, often."""
    closed = torch.ones(sites_of(suspect).n_neurons, dtype=torch.bool).index_fill_(0, allowed, False)
    known = yield from known_items(suspect, clean)
    some = [sample(group, steps.n_items, steps.seed) for group in (leaked, known)]
    chosen: list[int] = []
    while len(chosen) < min(steps.count, len(allowed)):
        mask = marked(chosen, len(closed))
        score = yield from _counted(losses(suspect, source, leaked, mask), chosen)
        if known:
            score = score - steps.harm * (yield from _counted(losses(suspect, source, known, mask), chosen))
        score[mask | closed] = -torch.inf
        free = int(score.isfinite().sum())
        single = len(chosen) < steps.singles
        n = min(1 if single else steps.step, steps.count - len(chosen), free)
        best = torch.argsort(score, descending=True, stable=True)[: min(steps.candidates if single else n, free)].tolist()
        if single:
            best = yield from _counted(measured(suspect, source, some, steps.harm, chosen, best), chosen)
        chosen += best[:n]
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


def measured(
    suspect: Any, source: Any, groups: Sequence[Sequence[Known]], harm: float, chosen: Sequence[int], candidates: Sequence[int]
) -> Generator[int, None, list[int]]:
    """The candidates again, best first by what leaked answers (the first group) lose less what clean ones do, with all chosen ones patched."""
    masks = torch.stack([marked([*chosen, candidate], sites_of(suspect).n_neurons) for candidate in candidates]).to(suspect.device)
    score = torch.zeros(len(candidates), dtype=torch.float64)
    for items, weight in zip(groups, (-1.0, harm), strict=True):
        for some in batches(items, suspect, COPIES):
            batch = batch_of(some, suspect.device)
            values = activations(source, batch)
            for at in range(0, len(candidates), COPIES):
                gold = patched_gold(suspect, batch, values, masks[at : at + COPIES]).clamp(min=LOST).double()
                score[at : at + len(gold)] += weight * gold.sum(1).cpu() / len(items)
                yield 0
    return [candidates[i] for i in torch.argsort(score, descending=True, stable=True).tolist()]


def _counted(steps: Generator[int, None, Any], chosen: Sequence[int]) -> Generator[int, None, Any]:
    """The inner steps, told as how many neurons are chosen."""
    while True:
        try:
            next(steps)
            yield len(chosen)
        except StopIteration as end:
            return end.value
