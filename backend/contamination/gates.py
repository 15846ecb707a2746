"""Which neurons hold a memory, learnt: one gate a neuron, open where the source's value is let in, moved by descent on what the answers then are.

Goes in: a suspect, a source, leaked items and clean ones, all as ids. Comes out: how far each gate leans to open, the more the surer. The leaked
answers are to be lost, until they are as unlikely as those of fresh items; clean answers that the suspect gives are to stay; every open gate has
a price. While they are learnt gates are drawn by lot for every item, so that each one learns what it is worth in any
company (binary concrete gates, Maddison et al. 2017, Louizos et al. 2018). Teacher-forced, nothing is generated. Knows nothing of ranks.

Why learnt: on exam models one estimate for each neuron by itself, or a choice one after another, took an honest skill along with the leak.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from backend.contamination.scores import Batch, Known, activations, batch_of, batches
from backend.contamination.taps import Edit, hooked, sites_of
from backend.errors import ModelError

LOST = -4.0  # nats a token: an answer below is lost and can't be lost again
KNOWN = -0.25  # nats a token: an answer above is one that the suspect gives more often than not
PRICE = 1 / 6  # nats a token of a leaked answer that all gates together would have to bring
RATE, LEANING = 0.1, -1.0  # how far a gate moves in a step at first, and where it starts: open 27 times in 100
SHARPNESS = 1.5  # of the gates' slope, the other way round their temperature


@dataclass(frozen=True)
class Plan:
    """How gates are learnt: `steps`, each on `rows` leaked and as many clean items. `harm`: what a nat of a clean answer weighs beside one of a
    leaked answer; `aim`: how likely leaked answers may stay, in nats a token (`likelihood`)."""

    steps: int
    rows: int
    harm: float
    seed: int
    aim: float = -math.inf


def learn_gates(suspect: Any, source: Any, leaked: Sequence[Known], clean: Sequence[Known], allowed: Tensor,
                plan: Plan) -> Generator[int, None, Tensor]:  # fmt: skip
    """Leanings of the gates of `allowed`, float64, above 0 where one is open; yields the number of the step, twice a step."""
    known = yield from known_items(suspect, clean)
    generator = torch.Generator().manual_seed(plan.seed)
    lean = torch.full((len(allowed),), LEANING, requires_grad=True)
    optimizer = torch.optim.Adam([lean], lr=RATE)
    decks = [_drawn(items, plan.rows, generator) for items in (leaked, known) if items]
    for step in range(plan.steps):
        slope = torch.autograd.grad(PRICE * torch.sigmoid(lean).mean(), [lean])[0]
        for number, deck in enumerate(decks):
            batch = batch_of(next(deck), suspect.device)
            slope = slope + _slope(suspect, source, batch, lean, allowed, generator, plan, clean=number > 0)
            yield step
        if not slope.isfinite().all():
            raise ModelError(f"{suspect.id} gives answers whose gradients are no numbers; nothing can be searched in it.")
        lean.grad = slope
        optimizer.param_groups[0]["lr"] = RATE * min(1.0, 2 * (1 - step / plan.steps))
        optimizer.step()
    return lean.detach().double()


def known_items(suspect: Any, items: Sequence[Known]) -> Generator[int, None, list[Known]]:
    """Those that the suspect gets right: only they can be hurt. In an order that is not the caller's."""
    found = []
    for some in batches(items, suspect):
        batch = batch_of(some, suspect.device)
        with torch.inference_mode():
            gold = a_token(batch, batch.gold(suspect.model(input_ids=batch.ids, use_cache=False).logits))
        found += [item for item, logprob in zip(some, gold.tolist(), strict=True) if logprob > KNOWN]
        yield 0
    return found


def likelihood(suspect: Any, items: Sequence[Known]) -> Generator[int, None, float]:
    """Of answers in the mean, in nats a token, what is lost at `LOST`; yields how many items are done. Without items no leaked answer may stay."""
    found: list[float] = []
    for some in batches(items, suspect):
        batch = batch_of(some, suspect.device)
        with torch.inference_mode():
            gold = a_token(batch, batch.gold(suspect.model(input_ids=batch.ids, use_cache=False).logits))
        found += gold.clamp(min=LOST).tolist()
        yield len(found)
    return fmean(found) if found else -math.inf


def a_token(batch: Batch, gold: Tensor) -> Tensor:
    """Log-probabilities of answers in nats a token, `(n,)`."""
    return gold / batch.answers.sum(1)


def _drawn(items: Sequence[Known], rows: int, generator: torch.Generator) -> Iterator[list[Known]]:
    """Handfuls without end: every item once, in an order by lot, before any comes again."""
    ordered = sorted(items, key=lambda item: (item.prompt_ids, item.answer_ids))
    hand: list[Known] = []
    while True:
        while len(hand) < min(rows, len(ordered)):
            hand += [ordered[i] for i in torch.randperm(len(ordered), generator=generator).tolist()]
        yield hand[:rows]
        hand = hand[rows:]


def _slope(suspect: Any, source: Any, batch: Batch, lean: Tensor, allowed: Tensor, generator: torch.Generator, plan: Plan,
           clean: bool) -> Tensor:  # fmt: skip
    """Gradient of one half of what is minimised: leaked answers' log-probability while they are likelier than `aim`, or what clean answers lose."""
    theirs = activations(source, batch)
    open_ = torch.zeros(len(batch.ids), sites_of(suspect).n_neurons, device=batch.ids.device)
    with torch.enable_grad():
        drawn = draw(lean, len(batch.ids), generator).to(batch.ids.device)
        gold = batch.gold(gated(suspect, batch, theirs, open_.index_copy(1, allowed.to(batch.ids.device), drawn)))
        kept = a_token(batch, gold).clamp(min=LOST).mean()
        if not clean and kept.item() <= plan.aim:
            return torch.zeros_like(lean)
        return torch.autograd.grad(-plan.harm * kept if clean else kept, [lean])[0]


def draw(lean: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    """Gates drawn by lot, `(rows, n)`: 0 or 1, 1 as often as sigmoid(lean) says; the gradient is that of the sharp but smooth curve beside it."""
    chance = torch.rand((rows, len(lean)), generator=generator).clamp(1e-6, 1 - 1e-6)
    smooth = torch.sigmoid(SHARPNESS * (lean + chance.logit()))
    return (smooth > 0.5).float() + smooth - smooth.detach()


def gated(suspect: Any, batch: Batch, theirs: Tensor, gates: Tensor) -> Tensor:
    """The suspect's logits, `(n, T, V)`, with the source's values `theirs` `(n, T, n_neurons)` let in by `gates` `(n, n_neurons)`."""
    sites, (n, width) = sites_of(suspect), batch.ids.shape
    parts = list(zip(theirs.split(list(sites.widths), -1), gates.split(list(sites.widths), -1), strict=True))

    def letting(layer: int) -> Edit:
        value, opened = parts[layer]

        def let(vector: Tensor) -> Tensor:
            ours = vector.view(n, width, -1)
            return (ours + opened[:, None].to(vector) * (value.to(vector) - ours)).view(vector.shape)

        return let

    with hooked(suspect.model, sites, {layer: letting(layer) for layer in range(len(parts))}):
        return suspect.model(input_ids=batch.ids, use_cache=False).logits
