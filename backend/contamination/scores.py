"""How much each neuron has to do with a memorised answer: sums over items, one number a neuron.

Goes in: a suspect, a reference of the same shape, items with known answers as ids. Comes out: `Scores`, each `(n_neurons,)`, in one pass:
the comparative score (root mean square of the activations' difference, Zhu et al. 2025, equation 2), its effect size, and the estimate of the
causal score by one backward pass (attribution patching). Teacher-forced, nothing is generated, nothing is kept but sums. Knows nothing of ranks.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from backend.contamination.taps import Edit, Sites, captured, hooked, sites_of

CELLS = 1 << 25  # floats of one batch's activations of one model, or of its logits, at most
WORK = 6e10  # tokens times parameters of one batch: about a second on a slow CPU
SPREAD_FLOOR = 0.05  # of the layer's median spread: below it a neuron that hardly moves would win by its quiet


class Known(Protocol):
    """An item as a model reads it: the prompt, and the answer that is scored."""

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]


@dataclass(frozen=True)
class Gold:
    """A prompt and its answer, both ids."""

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.prompt_ids or not self.answer_ids:
            raise ValueError(f"prompt_ids and answer_ids must hold at least one id, got {len(self.prompt_ids)} and {len(self.answer_ids)}.")


@dataclass(frozen=True)
class Batch:
    """Items side by side, padded on the right, where nobody looks: `ids` and `targets` `(n, T)`; `answers`, `read` and `last` `(n, T)` bool: the
    positions that predict the answer, that are no padding, that are the prompt's last."""

    ids: Tensor
    targets: Tensor
    answers: Tensor
    read: Tensor
    last: Tensor

    def gold(self, logits: Tensor) -> Tensor:
        """Log-probability of each row's answer in nats, `(n,)` float32, from logits `(n, T, V)`."""
        logprobs = torch.log_softmax(logits[self.answers].float(), -1).gather(1, self.targets[self.answers][:, None])[:, 0]
        rows = self.answers.nonzero()[:, 0]
        return torch.zeros(len(self.ids), device=logits.device).index_add(0, rows, logprobs)


def batch_of(items: Sequence[Known], device: torch.device) -> Batch:
    rows = [[*item.prompt_ids, *item.answer_ids] for item in items]
    width = max(map(len, rows)) - 1
    whole = torch.tensor([row + [0] * (width + 1 - len(row)) for row in rows], device=device)  # (n, T + 1)
    at = torch.arange(width, device=device)
    ends = torch.tensor([len(row) - 1 for row in rows], device=device)[:, None]
    lasts = torch.tensor([len(item.prompt_ids) - 1 for item in items], device=device)[:, None]
    return Batch(whole[:, :-1], whole[:, 1:], (at >= lasts) & (at < ends), at < ends, at == lasts)


def batches(items: Sequence[Known], suspect: Any, copies: int = 1) -> list[list[Known]]:
    """Items of like length, as many at once as a second's work and the memory allow; every row is there `copies` times."""
    per_token = max(sites_of(suspect).n_neurons, suspect.model.get_output_embeddings().weight.shape[0])
    tokens = min(CELLS / per_token, WORK / sum(p.numel() for p in suspect.model.parameters())) / copies
    found: list[list[Known]] = []
    for item in sorted(items, key=lambda one: (len(one.prompt_ids) + len(one.answer_ids), one.prompt_ids, one.answer_ids)):
        width = len(item.prompt_ids) + len(item.answer_ids)
        if found and (len(found[-1]) + 1) * width <= tokens:
            found[-1].append(item)
        else:
            found.append([item])
    return found


@dataclass(frozen=True)
class Scores:
    """One number a neuron, layer after layer, float64. `rms`: root mean square of suspect minus reference; `effect`: the same over the reference's
    own spread; `drop`: nats an item that its answer would lose if this neuron took the source's value; `harm`: the same on clean items, as a loss;
    `magnitude`: root mean square of the suspect's activation."""

    rms: Tensor
    effect: Tensor
    drop: Tensor
    harm: Tensor
    magnitude: Tensor


class Sums:
    """What adds up over batches, `(n_neurons,)` each."""

    def __init__(self, sites: Sites) -> None:
        self.n = 0
        self.squares = torch.zeros(sites.n_neurons, dtype=torch.float64)
        self.values = torch.zeros(sites.n_neurons, dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        """`(m, n_neurons)` more vectors."""
        rows = rows.double()
        self.n += len(rows)
        self.squares += rows.square().sum(0).cpu()
        self.values += rows.sum(0).cpu()

    @property
    def rms(self) -> Tensor:
        return (self.squares / max(self.n, 1)).sqrt()

    @property
    def spread(self) -> Tensor:
        mean = self.values / max(self.n, 1)
        return (self.squares / max(self.n, 1) - mean.square()).clamp(min=0).sqrt()


def measure(suspect: Any, reference: Any, items: Sequence[Known], clean: Sequence[Known], tokens: str) -> Generator[int, None, Scores]:
    """All scores in one pass; yields how many items are done, returns `Scores`.

    `tokens`: compare at the prompt's `last` token, or over the `completion`. `clean` items (fresh and unrelated ones) say what a neuron does else:
    the reference's spread and the harm are measured on them; without any, the spread on the items themselves, and the harm is 0."""
    sites = sites_of(suspect)
    difference, spread, magnitude = Sums(sites), Sums(sites), Sums(sites)
    drops = {"drop": torch.zeros(sites.n_neurons, dtype=torch.float64), "harm": torch.zeros(sites.n_neurons, dtype=torch.float64)}
    done = 0
    for name, group in (("drop", items), ("harm", clean)):
        for some in batches(group, suspect, copies=2):
            batch = batch_of(some, suspect.device)
            ours, theirs, drop = compared(suspect, reference, batch)
            drops[name] += drop
            if name == "drop":
                where = batch.last if tokens == "last" else batch.answers
                difference.add((ours - theirs)[where])
            if name == "harm" or not clean:
                spread.add(theirs[batch.read])
                magnitude.add(ours[batch.read])
            done += len(some)
            yield done
    effect = difference.rms / floored(spread.spread, sites)
    return Scores(difference.rms, effect, drops["drop"] / max(len(items), 1), drops["harm"] / max(len(clean), 1), magnitude.rms)


def floored(spread: Tensor, sites: Sites) -> Tensor:
    """No neuron's spread counts as less than a small part of its layer's median."""
    parts = [part.clamp(min=max(SPREAD_FLOOR * part.median().item(), 1e-12)) for part in spread.split(list(sites.widths))]
    return torch.cat(parts)


def compared(suspect: Any, reference: Any, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Activations of both models, `(n, T, n_neurons)` float32, and how many nats the suspect's answers would lose, all items together, if a neuron
    took the reference's values: minus the sum over tokens of (reference - suspect) times the gradient, `(n_neurons,)` float64."""
    theirs = activations(reference, batch)
    ours, gradients = _with_gradients(suspect, batch)
    drop = -((theirs - ours) * gradients).double().sum((0, 1)).cpu()
    return ours, theirs, drop


def activations(loaded: Any, batch: Batch) -> Tensor:
    """All neurons at every token, `(n, T, n_neurons)` float32; the head does not run."""
    sites = sites_of(loaded)
    with captured(loaded.model, sites, sites.whole()) as taken, torch.inference_mode():
        loaded.model.base_model(input_ids=batch.ids, use_cache=False)
    return joined([taken[layer][0] for layer in range(len(sites.names))], batch)


def joined(layers: Sequence[Tensor], batch: Batch) -> Tensor:
    """One vector a token from those of the layers, on the batch's device."""
    n, width = batch.ids.shape
    return torch.cat([vector.detach().reshape(n, width, -1).float().to(batch.ids.device) for vector in layers], -1)


def _with_gradients(loaded: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """The activations, and the gradient of the answers' log-probability with respect to them, both `(n, T, n_neurons)` float32."""
    sites, seen = sites_of(loaded), {}

    def watching(layer: int) -> Edit:
        def watch(vector: Tensor) -> None:
            seen[layer] = vector if vector.requires_grad else vector.requires_grad_()

        return watch

    with torch.enable_grad():
        with hooked(loaded.model, sites, {layer: watching(layer) for layer in range(len(sites.names))}):
            logits = loaded.model(input_ids=batch.ids, use_cache=False).logits
        vectors = [seen[layer] for layer in range(len(sites.names))]
        gradients = torch.autograd.grad(batch.gold(logits).sum(), vectors)
    return joined(vectors, batch), joined(gradients, batch)
