"""The check before every patched run: a model patched with its own activations is bit by bit itself, and a foreign source is not nothing.

Goes in: a suspect, a source, prompts, a list of neurons. Comes out: an `Identity` with what was compared and the measured differences. The first
half finds wrong caches, padding or swallowed errors; the second finds hooks that do nothing, with which the first would pass. Knows nothing of
what the patch is for.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from backend.contamination.lockstep import PatchedRows, context_of
from backend.contamination.neurons import Neurons
from backend.contamination.taps import sites_of
from backend.errors import WorkbenchError
from backend.types import Finding

KIND = "identity"  # of finding
STEPS = 32
ROWS = 3
LONGEST = 64  # tokens of a prompt that is compared


@dataclass(frozen=True)
class Identity:
    """What was compared: `rows` prompts of different length, padded on the left, their prefill and `steps` cached tokens. `own_equal`: logits of
    the self-patched model (all neurons, and the run's `neurons`) are bit-identical; `foreign_changed`: the source's values change them."""

    sites: int
    rows: int
    steps: int
    neurons: int
    own_equal: bool
    tokens_equal: bool
    own_difference: float
    foreign_changed: bool
    foreign_difference: float
    dtype: str
    device: str

    @property
    def holds(self) -> bool:
        return self.own_equal and self.tokens_equal and self.foreign_changed

    @property
    def sentence(self) -> str:
        where = f"{self.rows} prompts, {self.steps} cached steps, {self.sites} layers, {self.dtype} on {self.device}"
        if not (self.own_equal and self.tokens_equal):
            told = f"logits differ by up to {self.own_difference:.3g}; {where}"
            return f"Patched with its own activations the model is not itself ({told}). Nothing measured with this patch would mean anything."
        if not self.foreign_changed:
            return f"The source's activations change nothing ({where}): both models have the same weights, or the patch does not reach them."
        moved = f"the source moves its logits by up to {self.foreign_difference:.3g}"
        return f"Patched with its own activations the model is bit by bit itself; {moved} ({where})."

    def finding(self) -> Finding:
        return Finding(KIND, {**asdict(self), "holds": self.holds, "sentence": self.sentence})

    def require(self) -> None:
        """Raise `WorkbenchError` unless the check holds."""
        if not self.holds:
            raise WorkbenchError(self.sentence, "models.source")


def check_identity(
    suspect: Any, source: Any, prompts: Sequence[Sequence[int]], neurons: Neurons, steps: int = STEPS
) -> Generator[int, None, Identity]:
    """Compares step by step, giving way after each; returns the `Identity`. The first steps are the suspect's own greedy tokens.

    `prompts`: some of the run's; the longest are cut, and one of them stands in for several of different length."""
    rows = staggered(prompts)
    steps = min(steps, context_of(suspect, source) - max(map(len, rows)))
    whole = Neurons.every(sites_of(suspect))
    plain = PatchedRows(suspect, None, rows, Neurons({}))
    selves = [PatchedRows(suspect, suspect, rows, chosen) for chosen in ([whole, neurons] if 0 < len(neurons) < len(whole) else [whole])]
    yield 0
    foreign = _largest(plain.logits, PatchedRows(suspect, source, rows, whole).logits)
    own, tokens_equal, equal = 0.0, True, True
    for step in range(steps + 1):
        ids = plain.logits.argmax(-1)
        for other in selves:
            equal &= torch.equal(plain.logits, other.logits)
            own = max(own, _largest(plain.logits, other.logits))
            tokens_equal &= torch.equal(ids, other.logits.argmax(-1))
        yield step + 1
        if step < steps:
            for other in (plain, *selves):
                other.advance(ids)
    dtype = str(suspect.model.dtype).removeprefix("torch.")
    n_sites = len(sites_of(suspect).names)
    return Identity(n_sites, len(rows), steps, len(neurons), equal, tokens_equal, own, foreign > 0, foreign, dtype, str(suspect.device))


def staggered(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """A few rows of different length, so that there is padding: whole prompts, and ends of the first where there are too few."""
    rows = [list(prompt[-LONGEST:]) for prompt in list(prompts)[:ROWS]]
    first = rows[0]
    while len(rows) < ROWS:
        rows.append(first[-max(1, len(first) * (ROWS - len(rows)) // (ROWS + 1)) :])
    return rows


def _largest(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()
