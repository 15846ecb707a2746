"""The causal score as it was published, for comparison: one generated evaluation a group of neurons, in accuracies.

Goes in: a suspect, its base, a clean twin, items as ids. Comes out: a number a neuron and how many tokens it took. As the released code does it,
the twin lends its values both to the suspect and to the base (Zhu et al. 2025, equation 4); without a twin the base lends them to the suspect, and
the second term, what an uncontaminated model loses, is left out. Knows nothing of ranks.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from typing import Any

import torch
from torch import Tensor

from backend.contamination.lockstep import lockstep_steps
from backend.contamination.neurons import Neurons
from backend.contamination.scores import Known
from backend.contamination.taps import Sites
from backend.types import Progress

GROUPS_A_LAYER = 28  # 512 of 14,336 neurons
LEAST = 8  # neurons of a group


def group_width(width: int) -> int:
    """Neurons a group: as many groups a layer as the reference has, but no smaller ones than make sense in a tiny model."""
    return max(LEAST, width // GROUPS_A_LAYER)


def reference_scores(
    suspect: Any, base: Any | None, twin: Any | None, items: Sequence[Known], stop_ids: Collection[int], sites: Sites
) -> Generator[Progress, None, tuple[Tensor, int]]:
    """`(n_neurons,)` float64, the same for all neurons of a group, and the number of generated tokens."""
    subjects = [(suspect, twin or base, 1.0)] + ([(base, twin, -1.0)] if twin is not None and base is not None else [])
    groups = [
        {layer: tuple(range(first, min(first + group_width(width), width)))} for layer, width in enumerate(sites.widths)
        for first in range(0, width, group_width(width))
    ]  # fmt: skip
    scores, tokens, done = torch.zeros(sites.n_neurons, dtype=torch.float64), 0, 0
    for subject, source, sign in subjects:
        whole, tokens = yield from _accuracy(subject, source, items, Neurons({}), stop_ids, tokens, done)
        for group in groups:
            patched, tokens = yield from _accuracy(subject, source, items, Neurons(group), stop_ids, tokens, done)
            done += 1
            ((layer, ids),) = group.items()
            start = sites.starts[layer]
            scores[start + ids[0] : start + ids[-1] + 1] += sign * (whole - patched)
    return scores, tokens


def _accuracy(subject: Any, source: Any, items: Sequence[Known], neurons: Neurons, stop_ids: Collection[int], tokens: int,
              done: int) -> Generator[Progress, None, tuple[float, int]]:  # fmt: skip
    """Share of items whose answer is generated as it is known, and `tokens` with those it took."""
    longest = max(len(item.answer_ids) for item in items)
    steps = lockstep_steps(subject, source, [item.prompt_ids for item in items], neurons, longest, stop_ids)
    while True:
        try:
            next(steps)
            yield Progress(done, None, f"groups, {tokens:,} tokens generated")
        except StopIteration as end:
            answers = end.value
            break
    right = [tuple(answer[: len(item.answer_ids)]) == tuple(item.answer_ids) for answer, item in zip(answers, items, strict=True)]
    return sum(right) / len(items), tokens + sum(map(len, answers))
