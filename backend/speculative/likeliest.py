"""The likeliest ids of many rows of logits, with their probabilities, on the host.

Goes in: logits `(n, V)`. Comes out: two numpy arrays that crossed from the device in one copy. Knows nothing of drafters.
"""

from __future__ import annotations

import numpy as np
import torch

from backend.speculative.rows import ranked


def likeliest(rows: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The min(k, V) likeliest ids of each row, likeliest first, `(n, k)` int64, and their probabilities at temperature 1, float64.

    `rows` are float32, on any device. Rows that are not numbers give anything: the law refuses them before a drafter sees them.
    """
    _, ids = ranked(rows, k)
    probs = rows.softmax(-1).gather(-1, ids)  # half as dear as logsumexp: 0.8 ms for 17 rows of 49,152 ids, the ranking included
    packed = torch.cat([ids.double(), probs.double()], -1).cpu().numpy()  # float64 holds every id exactly
    ids_there, probs_there = np.split(packed, 2, axis=1)
    return ids_there.astype(np.int64), probs_there
