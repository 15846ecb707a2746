"""Noise that belongs to a seed and a place in the answer, whoever asks for it.

Goes in: a seed, an answer position, a vocabulary size. Comes out: a row of independent exponentials. Knows no model, no law, no draft.

The Gumbel-max trick takes argmax(log p + g); with g = -log e and e exponential that is argmax(p / e), which needs no logarithm.
"""

from __future__ import annotations

import numpy as np
import torch

TINY = float(np.finfo(np.float32).tiny)


class Noise:
    """Rows of exponentials by position, each made once and kept until it lies behind.

    A row is a function of seed, position and id alone: of two vocabulary sizes the smaller row is the start of the larger. NumPy's
    `SeedSequence` mixes seed and position into 128 bits (torch's CPU generator would take 32), and its ziggurat takes a fifth of the time.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rows: dict[int, torch.Tensor] = {}

    def row(self, position: int, size: int, device: torch.device | str = "cpu") -> torch.Tensor:
        """`(size,)` float32 on `device`, above 0. Raises `ValueError` for a negative position."""
        if position < 0:
            raise ValueError(f"position must be at least 0, got {position}.")
        held = self._rows.get(position)
        if held is None or len(held) < size or held.device.type != torch.device(device).type:
            self._rows[position] = held = exponentials(self._seed, position, size).to(device)
        return held[:size]

    def forget_before(self, position: int) -> None:
        """Drop the rows of positions that are committed."""
        self._rows = {at: row for at, row in self._rows.items() if at >= position}


def exponentials(seed: int, position: int, size: int) -> torch.Tensor:
    """`(size,)` float32, independent and exponential with mean 1. Drawn in float64: the winner is among the smallest ones, where float32
    would lie on a grid."""
    # a spawn key is mixed in behind the whole seed; one list of both would give seed 2**32 at 0 and seed 0 at 1 the same words
    stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(position,))))
    return torch.from_numpy(stream.standard_exponential(size).astype(np.float32)).clamp_(min=TINY)
