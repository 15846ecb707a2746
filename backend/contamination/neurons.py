"""A list of neurons: what a search finds, a patch takes, a report names. With the lists that chance would have given.

Goes in: layers and numbers of neurons. Comes out: `Neurons`, its hash, its JSON with the hashes of models and items; control lists drawn with
a seed. Knows nothing of how neurons are found or patched.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backend.contamination.taps import Columns, Sites
from backend.errors import InvalidRequest
from backend.model_files import read_json, write_json

KIND = "neurons"  # of artifact
FILE = "neurons.json"


@dataclass(frozen=True)
class Neurons:
    """`layers` maps a layer to the ids of its chosen neurons, ascending. `ordered` are the same, best first, as `(layer, id)`, where known."""

    layers: Mapping[int, tuple[int, ...]]
    ordered: tuple[tuple[int, int], ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        clean = {layer: tuple(sorted(set(ids))) for layer, ids in sorted(self.layers.items()) if ids}
        object.__setattr__(self, "layers", clean)

    @classmethod
    def of(cls, ordered: Sequence[tuple[int, int]]) -> Neurons:
        """From `(layer, id)`, best first."""
        layers: dict[int, list[int]] = {}
        for layer, neuron in ordered:
            layers.setdefault(layer, []).append(neuron)
        return cls({layer: tuple(ids) for layer, ids in layers.items()}, tuple((layer, neuron) for layer, neuron in ordered))

    @classmethod
    def every(cls, sites: Sites) -> Neurons:
        return cls({layer: tuple(range(width)) for layer, width in enumerate(sites.widths)})

    def __len__(self) -> int:
        return sum(len(ids) for ids in self.layers.values())

    @property
    def hash(self) -> str:
        """The same for the same neurons, however they were found."""
        whole = json.dumps([[layer, list(ids)] for layer, ids in self.layers.items()])
        return hashlib.sha256(whole.encode()).hexdigest()[:16]

    def first(self, k: int) -> Neurons:
        """The best k; raises `InvalidRequest` when the list is shorter, or when nobody knows its order."""
        if k == len(self):
            return self
        if k > len(self) or not self.ordered:
            why = f"the list has {len(self)} neurons" if k > len(self) else "the list says nothing of their order"
            raise InvalidRequest(f"options.k must be between 1 and the list's length, got {k}: {why}.", "options.k")
        return Neurons.of(self.ordered[:k])

    def columns(self, sites: Sites, device: torch.device) -> Columns:
        """What the taps take; a layer that is wanted whole is None. Raises `InvalidRequest` for neurons that the model lacks."""
        self.check(sites)
        whole = {layer for layer, ids in self.layers.items() if len(ids) == sites.widths[layer]}
        return {layer: None if layer in whole else torch.tensor(ids, device=device) for layer, ids in self.layers.items()}

    def check(self, sites: Sites) -> None:
        """Raise `InvalidRequest` unless every neuron exists in a model with these sites."""
        for layer, ids in self.layers.items():
            if not 0 <= layer < len(sites.widths) or ids[0] < 0 or ids[-1] >= sites.widths[layer]:
                shape = f"{len(sites.widths)} layers of up to {max(sites.widths)} neurons"
                told = f"This list names neuron {ids[-1]} of layer {layer}; the model has {shape}. It was made for another model."
                raise InvalidRequest(told, "options.neurons")

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"n": len(self), "hash": self.hash, "layers": {str(layer): list(ids) for layer, ids in self.layers.items()}}
        return data | ({"ordered": [list(pair) for pair in self.ordered]} if self.ordered else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Neurons:
        """Raises `InvalidRequest` for JSON of another shape, or whose hash is not that of its neurons."""
        try:
            layers = {int(layer): tuple(int(i) for i in ids) for layer, ids in data["layers"].items()}
            found = cls(layers, tuple((int(layer), int(i)) for layer, i in data.get("ordered", ())))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidRequest(f"This is no list of neurons ({type(error).__name__}: {error}).", "options.neurons") from error
        if data.get("hash", found.hash) != found.hash:
            raise InvalidRequest(f"This list of neurons was changed: its hash is {found.hash}, it says {data['hash']}.", "options.neurons")
        return found


def save(folder: Path, neurons: Neurons, made: Mapping[str, Any]) -> None:
    """Write the list into an artifact's folder; `made` says from what: hashes of models and items, the search's options."""
    write_json(folder / FILE, {**neurons.to_json(), "made": dict(made)})


def load(folder: Path) -> tuple[Neurons, Mapping[str, Any]]:
    """The list in a folder and what it was made from; raises `InvalidRequest` when there is none."""
    data = read_json(folder / FILE)
    if not data:
        raise InvalidRequest(f"{folder.name} holds no list of neurons.", "options.neurons")
    return Neurons.from_json(data), data.get("made", {})


def require_count(k: int, available: int, where: str = "options.k") -> None:
    """Raise `InvalidRequest` unless `k` neurons can be had."""
    if not 1 <= k <= available:
        raise InvalidRequest(f"{where} must be between 1 and {available:,} (the neurons that can be chosen here), got {k:,}.", where)


def random_neurons(sites: Sites, k: int, seed: int) -> Neurons:
    """The control: k neurons of the whole model by chance."""
    require_count(k, sites.n_neurons)
    drawn = random.Random(seed).sample(range(sites.n_neurons), k)
    return Neurons.of([sites.place(flat) for flat in drawn])


def matched_neurons(neurons: Neurons, sites: Sites, magnitude: Tensor, seed: int) -> Neurons:
    """The stricter control: for each chosen neuron another one of its layer whose activations are about as large, none of them chosen.

    `magnitude` `(n_neurons,)`: root mean square of each. One of the 8 free neighbours in size is drawn. Raises `InvalidRequest` where more than
    half of a layer is chosen, so that no free ones are left."""
    chance, found = random.Random(seed), []
    for layer, ids in neurons.layers.items():
        if 2 * len(ids) > sites.widths[layer]:
            told = f"Layer {layer} has {sites.widths[layer]} neurons and {len(ids)} are chosen: no other set of equal size is left."
            raise InvalidRequest(told, "options.k")
        sizes = magnitude[sites.starts[layer] : sites.starts[layer] + sites.widths[layer]].tolist()
        free = sorted((sizes[i], i) for i in set(range(sites.widths[layer])) - set(ids))
        for neuron in chance.sample(ids, len(ids)):
            at = bisect.bisect_left(free, (sizes[neuron], -1))
            low = max(0, min(at - 4, len(free) - 8))
            found.append((layer, free.pop(chance.randrange(low, min(low + 8, len(free))))[1]))
    return Neurons.of(found)
