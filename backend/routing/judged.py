"""Labelled positions as a router trains on them and is judged by them.

Goes in: `Labels` and the small model's embeddings. Comes out: three splits by prompt (a prompt is in one of them only), features row by row, the
scores of plain strategies, figures of a scorer. Knows nothing of files or runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backend.routing import metrics
from backend.routing.features import join, spread_free
from backend.routing.fit import Split
from backend.routing.label_files import Labels
from backend.routing.labelling import DIVERGENT, UNGRADED

SPLITS = ("train", "calibrate", "test")
SHARES = (0.6, 0.2, 0.2)
BUDGETS = (0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3)
GRID = (0.0, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2, 0.225, 0.25, 0.275,
        0.3, 0.35, 0.4, 0.5, 0.6, 0.8, 1.0)  # fmt: skip
RECALL = 0.95


@dataclass(frozen=True)
class Judged:
    """The rows of one set of labels. `k` best log-probabilities stand first in its `law` column."""

    labels: Labels
    table: Tensor
    k: int
    split: Tensor  # (rows,) which of SPLITS

    @classmethod
    def of(cls, labels: Labels, table: Tensor, k: int, seed: int) -> Judged:
        """Prompts that were not judged (no branches) can only teach: they all go to `train`."""
        return cls(labels, table.detach().cpu(), k, split_prompts(labels.n_judged, labels.n_prompts, seed)[labels.columns["prompt"].long()])

    def rows(self, split: str, graded: bool = True) -> Tensor:
        """Row numbers of a split; `graded` leaves out those of which nobody knows whether they matter."""
        inside = self.split == SPLITS.index(split)
        return (inside & self.known if graded else inside).nonzero().flatten()

    @property
    def known(self) -> Tensor:
        return self.labels.columns["label"] != UNGRADED

    @property
    def differ(self) -> Tensor:
        return self.labels.columns["small"] != self.labels.columns["large"]

    @property
    def matters(self) -> Tensor:
        return (self.labels.columns["label"] == DIVERGENT).float()

    def features(self, rows: Tensor) -> Tensor:
        """`(m, F)` float32; embeddings are looked up here and kept nowhere."""
        columns = self.labels.columns
        embedding = spread_free(self.table[columns["small"][rows].long()])
        return join(columns["law"][rows].float(), columns["hidden"][rows].float(), embedding)

    def part(self, split: str) -> Split:
        """For training: every row says whether the choices differ, some say whether it matters."""
        rows = self.rows(split, graded=False)
        differ = self.differ[rows]
        return Split(lambda some: self.features(rows[some]), differ.float(), self.matters[rows], differ & self.known[rows])

    def scores(self, rows: Tensor) -> dict[str, np.ndarray]:
        """What the strategies without training compare with a threshold; `oracle` is how much more the large model likes its own token."""
        law = self.labels.columns["law"][rows].float()
        best, second = law[:, 0].exp(), law[:, 1].exp()
        found = {"entropy": law[:, self.k], "margin": 1 - (best - second), "top1": 1 - best, "oracle": self.labels.columns["disagreement"][rows]}
        return {name: column.float().numpy() for name, column in found.items()}


def split_prompts(n_judged: int, n: int, seed: int) -> Tensor:
    """`(n,)` int64: the split of each prompt. The first `n_judged` are dealt out in the shares of `SHARES`, the others are for training."""
    cuts = (torch.tensor(SHARES).cumsum(0) * n_judged).round().long()
    split = torch.zeros(n, dtype=torch.long)
    order = torch.randperm(n_judged, generator=torch.Generator().manual_seed(seed))
    split[order] = torch.searchsorted(cuts, torch.arange(n_judged), right=True).clamp(max=len(SPLITS) - 1)
    return split


def figures(scores: np.ndarray, y: np.ndarray, probability: bool) -> dict[str, Any]:
    """All figures of one scorer on some rows; calibration only where the scores are probabilities."""
    found = {
        "auc": metrics.roc_auc(scores, y), "ap": metrics.average_precision(scores, y),
        "calls_at_recall_95": metrics.calls_at_recall(scores, y, RECALL), "base_rate": float(y.mean()), "n": len(y),
        "recall": dict(zip(map(str, BUDGETS), metrics.recall_at(scores, y, BUDGETS), strict=True)),
    }  # fmt: skip
    return {**found, "ece": metrics.calibration_error(scores, y)} if probability else found


def thresholds(scores: dict[str, np.ndarray], grid: Sequence[float] = GRID) -> dict[str, list[float]]:
    """For each share of `grid` the threshold of each strategy that takes that share of these rows, descending; `share` names the rows."""
    found: dict[str, list[float]] = {"share": list(grid)}
    for name, column in scores.items():
        ordered = np.sort(column)[::-1]
        taken = np.round(np.asarray(grid) * len(ordered)).astype(int)
        found[name] = [float(np.nextafter(ordered[0], np.inf)) if n == 0 else float(ordered[n - 1]) for n in taken]
    return found
