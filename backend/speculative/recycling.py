"""Token Recycling: what the model thought after a token the last time is a draft for the next time.

Goes in: the target's logits, of the prompt and of every verified node. Comes out: a tree of ids read from a matrix of each token's k
likeliest successors. Knows no model. Source: Luo et al., "Turning Trash into Treasure" (ACL 2025), sections 3.1-3.3. Other than there
the matrix is fresh in every run, seeded from the prompt's own logits, and a token that it doesn't know yet proposes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from backend.speculative.draft import ROOT, Draft, Outcome, nothing
from backend.speculative.grow import Candidate, best_first
from backend.speculative.likeliest import likeliest

SEED_BLOCK = 64  # prompt rows looked at together: 64 rows of 50,000 float32 are 13 MB
# How often the i-th successor that a token had the last time is the next token: over 293 tokens of eight prompts by SmolLM2-135M, greedy,
# smoothed. The template's shape follows from these odds.
RANK_ODDS = (0.41, 0.13, 0.055, 0.035, 0.02, 0.017, 0.015, 0.007)


@dataclass(frozen=True)
class Template:
    """A tree of ranks: node i is the `ranks[i]`-th successor of node `parents[i]` (-1: of the last committed token), depth first.
    `levels`: the nodes of each depth, `(n,)` int arrays."""

    ranks: np.ndarray
    parents: np.ndarray
    levels: tuple[np.ndarray, ...]


def template(nodes: int, k: int) -> Template:
    """The tree of `nodes` nodes that is likeliest to hold the next tokens if ranks come true with `RANK_ODDS`."""
    tree = best_first(lambda node: [(rank, odds, "") for rank, odds in enumerate(RANK_ODDS[:k])], nodes)
    depths: list[int] = []
    for parent in tree.parents:
        depths.append(0 if parent == ROOT else depths[parent] + 1)
    levels = tuple(np.flatnonzero(np.array(depths) == depth) for depth in range(max(depths) + 1))
    return Template(np.array(tree.tokens), np.array(tree.parents), levels)


class Recycling:
    """Drafts from the adjacency matrix. It lies on the host, where each round's tokens are read anyway; only the top-k of the rows is
    taken on the device, and fetched in one copy."""

    name = "recycling"
    reads_prompt_rows = True

    def __init__(self, nodes: int = 16, k: int = 8, device: torch.device | str = "cpu") -> None:
        """`nodes`: size of the tree; `k`: successors remembered for each token; `device`: where the draft is wanted."""
        if nodes < 1 or not 1 <= k <= len(RANK_ODDS):
            raise ValueError(f"nodes must be at least 1 and k between 1 and {len(RANK_ODDS)}, got {nodes} and {k}.")
        self._nodes, self._k, self._device = nodes, k, device
        self._shape = template(nodes, k)
        self._allocate(0)
        self._last = 0

    @property
    def nbytes(self) -> int:
        """Size of the matrix: ids, probabilities, which rows are known."""
        return self._ids.nbytes + self._probs.nbytes + self._known.nbytes

    def begin(self, prompt_ids: Sequence[int], rows: torch.Tensor | None) -> None:
        """Start afresh; seed the matrix from the prompt's rows, of a token that comes twice from the later one."""
        self._allocate(0 if rows is None else rows.shape[1])
        if rows is None or not len(rows):
            return
        winners = {token_id: row for row, token_id in enumerate(prompt_ids[-len(rows) :])}
        tokens, places = list(winners), list(winners.values())
        for start in range(0, len(tokens), SEED_BLOCK):
            block = torch.tensor(places[start : start + SEED_BLOCK], device=rows.device)
            self._store(tokens[start : start + SEED_BLOCK], rows[block])

    def propose(self, ids: Sequence[int], position: int, limit: int) -> Draft:
        self._last = ids[-1]
        if not self.knows(self._last):
            return nothing(self._device)
        return self._filled(self._shape if limit >= self._nodes else template(limit, self._k), self._last)

    def observe(self, outcome: Outcome) -> None:
        """Every row is news about its token, refused nodes' included. Of a token's several rows one on the accepted path wins (the last
        committed token's counts as such), then the one further back in the tree."""
        path = set(outcome.path)
        off = [(token_id, i + 1) for i, token_id in enumerate(outcome.draft_ids) if i not in path]
        on = [(self._last, 0), *((outcome.draft_ids[i], i + 1) for i in outcome.path)]
        winners = dict(off + on)
        if len(self._known) < outcome.rows.shape[1]:
            self._allocate(outcome.rows.shape[1])
        self._store(list(winners), outcome.rows, list(winners.values()))
        self._last = outcome.emitted[-1]  # a round without a proposal may follow

    def knows(self, token_id: int) -> bool:
        return token_id < len(self._known) and bool(self._known[token_id])

    def successors(self, token_id: int) -> list[Candidate]:
        """The k ids that the model liked best after this token the last time, with their probabilities then; [] if it was never seen."""
        if not self.knows(token_id):
            return []
        return [(i, p, self.name) for i, p in zip(self._ids[token_id].tolist(), self._probs[token_id].tolist(), strict=True)]

    def _allocate(self, n_ids: int) -> None:
        if 0 < n_ids < self._k:
            raise ValueError(f"k must be at most the number of ids ({n_ids}), got {self._k}.")
        self._ids = np.zeros((n_ids, self._k), np.int32)
        self._probs = np.zeros((n_ids, self._k), np.float16)
        self._known = np.zeros(n_ids, bool)

    def _store(self, tokens: list[int], rows: torch.Tensor, places: list[int] | None = None) -> None:
        """Take up `rows` (those at `places`) as what follows `tokens`, each of which comes once."""
        ids, probs = likeliest(rows, self._k)
        self._ids[tokens], self._probs[tokens] = (ids, probs) if places is None else (ids[places], probs[places])
        self._known[tokens] = True

    def _filled(self, shape: Template, root: int) -> Draft:
        """The template's ranks turned into ids, a level at a time; what hangs below an unknown token is left out."""
        n = len(shape.ranks)
        tokens = np.full(n + 1, root, np.int64)  # the last place is the root's, so that parent -1 finds it
        probs, alive = np.zeros(n, np.float32), np.ones(n + 1, bool)
        for level in shape.levels:
            above, ranks = shape.parents[level], shape.ranks[level]
            parents = tokens[above]
            tokens[level], probs[level] = self._ids[parents, ranks], self._probs[parents, ranks]
            alive[level] = alive[above] & self._known[parents]
        kept = np.flatnonzero(alive[:-1])
        places = np.append(np.cumsum(alive[:-1]) - 1, ROOT)  # where a node stands now; the root stays -1
        parents = tuple(places[shape.parents[kept]].tolist())
        drafted, confidence = (torch.from_numpy(column[kept]).to(self._device) for column in (tokens, probs))
        return Draft(drafted, parents, (self.name,) * len(kept), confidence)
