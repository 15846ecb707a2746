"""The exact causal check of a short-list: what the memorised answers lose when a group of neurons really takes the source's values.

Goes in: a suspect, a source, items as ids, groups of neurons. Comes out: nats an item that each group costs, teacher-forced. Several groups run at
once: the batch is repeated, and every copy has its own mask. Knows nothing of how the groups were chosen.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import Tensor

from backend.contamination.scores import Batch, Known, activations, batch_of, batches
from backend.contamination.taps import Edit, Sites, hooked, sites_of

COPIES = 8  # groups at once
Group = Sequence[tuple[int, int]]  # (layer, id)


def group_drops(suspect: Any, source: Any, items: Sequence[Known], groups: Sequence[Group]) -> Generator[int, None, Tensor]:
    """Nats that the answer of an item loses on average when only this group is patched, `(len(groups),)` float64; yields how many groups of how
    many batches are done."""
    sites = sites_of(suspect)
    drops, done = torch.zeros(len(groups), dtype=torch.float64), 0
    for some in batches(items, suspect, COPIES):
        batch = batch_of(some, suspect.device)
        values = activations(source, batch)
        with torch.inference_mode():
            before = batch.gold(suspect.model(input_ids=batch.ids, use_cache=False).logits)
        for at in range(0, len(groups), COPIES):
            after = patched_gold(suspect, batch, values, masks(groups[at : at + COPIES], sites, suspect.device))
            drops[at : at + len(after)] += (before - after).double().sum(1).cpu()
            done += len(after)
            yield done
    return drops / max(len(items), 1)


def masks(groups: Sequence[Group], sites: Sites, device: torch.device) -> Tensor:
    """Which neurons each group holds, `(g, n_neurons)` bool."""
    mask = torch.zeros(len(groups), sites.n_neurons, dtype=torch.bool)
    for row, group in enumerate(groups):
        mask[row, [sites.starts[layer] + neuron for layer, neuron in group]] = True
    return mask.to(device)


def patched_gold(suspect: Any, batch: Batch, values: Tensor, mask: Tensor) -> Tensor:
    """Log-probability of every item's answer under every group's patch, `(g, n)` float32, in one forward of g copies of the batch."""
    sites, g = sites_of(suspect), len(mask)
    n, width = batch.ids.shape
    columns = list(zip(values.split(list(sites.widths), -1), mask.split(list(sites.widths), -1), strict=True))

    def writing(layer: int) -> Edit:
        theirs, chosen = columns[layer]

        def write(vector: Tensor) -> Tensor:
            ours = vector.view(g, n, width, -1)
            return torch.where(chosen[:, None, None].to(vector.device), theirs.to(vector)[None], ours).view(vector.shape)

        return write

    touched = [layer for layer, (_, chosen) in enumerate(columns) if chosen.any()]
    with hooked(suspect.model, sites, {layer: writing(layer) for layer in touched}), torch.inference_mode():
        logits = suspect.model(input_ids=batch.ids.repeat(g, 1), use_cache=False).logits
    copies = Batch(*(part.repeat(g, 1) for part in (batch.ids, batch.targets, batch.answers, batch.read, batch.last)))
    return copies.gold(logits).view(g, n)
