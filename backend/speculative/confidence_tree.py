"""A smaller model drafts a tree, as long as it is sure of itself (LLMCad, the journal version is EdgeLLM).

Goes in: a decoder of the draft model, thresholds. Comes out: a tree of its likeliest tokens, deep where it is sure, branched where it
hesitates, and a threshold that follows what the target accepted. Knows nothing of the target but how many ids it has.
Source: Xu et al., "LLMCad" (arXiv 2309.04255), sections 3.2 (branches, pacing) and 3.3 (fallback).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from backend.decoder import Decoder
from backend.speculative.draft import ROOT, Draft, Outcome, nothing
from backend.speculative.draft_model import check_rolls_back, fitted, room
from backend.speculative.grow import walk_order
from backend.speculative.likeliest import likeliest

LOWEST_ALPHA, HIGHEST_ALPHA = 1e-6, 0.9
SURELY = 1e-12  # a cumulative confidence that underflowed still divides
MOST_CANDIDATES = 8


@dataclass(frozen=True)
class Drafted:
    """A drafted token: its node above (-1: the last committed token), its confidence given that, the product along its branch, its depth."""

    token: int
    parent: int
    confidence: float
    path: float
    depth: int


class ConfidenceTree:
    """Drafts with a second model, by confidence instead of by count.

    A round: the draft's likeliest token after the last committed one, and each other one above `branch`, begin a branch each. Every
    forward then feeds the ends of all branches that lag behind their fair share (of the tokens spent so far, in proportion to their
    cumulative confidence; LLMCad's max-min fairness takes one branch a step, but several rows cost hardly more than one). Drafting
    stops when no branch's cumulative confidence reaches alpha; the tokens that fell below are kept, so that stopping doesn't change
    the law. Candidates are taken by probability, never drawn: q is one-hot, whatever the temperature.
    """

    name = "tree"
    reads_prompt_rows = False

    def __init__(
        self, decoder: Decoder, branch: float = 0.3, alpha: float = 0.01, size: int = 16, n_ids: int | None = None,
    ) -> None:  # fmt: skip
        """`branch`: confidence above which a candidate opens a branch (at most 8 of a node; 1: never, the draft is a chain); `alpha`: the
        threshold of the first round (0: never stop before `size`); `size`: most nodes; `n_ids`: width of the target's logits. Raises
        `ModelError` for a model that can't roll back; one that can't hold trees drafts a chain."""
        if not 0 < branch <= 1 or not 0 <= alpha <= HIGHEST_ALPHA or size < 1:
            raise ValueError(f"branch must be in (0, 1], alpha in [0, {HIGHEST_ALPHA}], size at least 1, got {branch}, {alpha}, {size}.")
        check_rolls_back(decoder)
        self._decoder, self._size, self._n_ids = decoder, size, n_ids
        self._branch = branch if decoder.capabilities.trees else 1.0
        self._most = min(MOST_CANDIDATES, int(1 / self._branch))  # of probabilities above 0.3 there are at most 3
        self.alpha = alpha
        self._stopped_at = 1.0
        self._grown: Growing | None = None

    def begin(self, prompt_ids: Sequence[int], rows: torch.Tensor | None) -> None:
        if room(self._decoder.model, prompt_ids) > 0:
            self._decoder.hold(prompt_ids)

    def propose(self, ids: Sequence[int], position: int, limit: int) -> Draft:
        limit = min(limit, self._size)
        if min(limit, room(self._decoder.model, ids)) < 1:
            return nothing(self._decoder.model.device)
        grown = Growing(self._decoder, ids, room(self._decoder.model, ids))
        self._open(grown, [ROOT], self._decoder.logits(ids), limit)
        while len(grown.nodes) < limit and max(grown.nodes[i].path for i in grown.leaves) >= self.alpha:
            ends = grown.lagging()[: limit - len(grown.nodes)]
            if not ends:
                break
            self._open(grown, ends, grown.feed(ends), limit)
        self._stopped_at = max(grown.nodes[i].path for i in grown.leaves)
        self._grown = grown
        return grown.draft(self.name)

    def observe(self, outcome: Outcome) -> None:
        """Move alpha (LLMCad, section 3.3): half of it when all that was verified along the branch was right; after an error divided by
        T_c^((N_all - N_correct) / N_all), T_c the best cumulative confidence when drafting stopped, N_all the length of the longest
        drafted branch through the accepted path, N_correct the path's own."""
        if self._grown is not None:
            self._grown.keep([outcome.draft_ids[node] for node in outcome.path])
            self._grown = None
        n_all = deepest(outcome.draft.parents, outcome.path)
        if self.alpha == 0 or n_all == 0:
            return
        wrong = (n_all - len(outcome.path)) / n_all
        alpha = self.alpha * 0.5 if wrong == 0 else self.alpha / max(self._stopped_at, SURELY) ** wrong
        self.alpha = min(max(alpha, LOWEST_ALPHA), HIGHEST_ALPHA)

    def _open(self, grown: Growing, ends: Sequence[int], rows: torch.Tensor, limit: int) -> None:
        """Give each end its likeliest next token and every other one above the branch threshold, while there is room for nodes."""
        ids, probs = likeliest(fitted(rows, self._n_ids), self._most)  # the step's one copy
        for end, tokens, confidences in zip(ends, ids.tolist(), probs.tolist(), strict=True):
            for rank, (token, confidence) in enumerate(zip(tokens, confidences, strict=True)):
                if (rank == 0 or confidence > self._branch) and len(grown.nodes) < limit:
                    grown.add(token, end, confidence)


class Growing:
    """One round's tree while it grows, and which part of it the draft's decoder holds.

    The decoder takes one block of branches behind what it holds, so a later forward feeds the branched part again; the part before the
    first fork is a chain that stays in the cache. A node that has children was fed; the leaves were not.
    """

    def __init__(self, decoder: Decoder, ids: Sequence[int], room: int) -> None:
        self.nodes: list[Drafted] = []
        self.leaves: list[int] = []
        self._decoder, self._ids, self._room = decoder, list(ids), room
        self._fed: list[int] = []
        self._held: list[int] = []  # the nodes of `_fed` that stay in the cache: a path from the root
        self._branched: list[int] = []  # the nodes of the last block, if it branched

    def add(self, token: int, parent: int, confidence: float) -> None:
        above = self.nodes[parent] if parent != ROOT else Drafted(0, ROOT, 1.0, 1.0, 0)
        if parent in self.leaves:
            self.leaves.remove(parent)
        self.leaves.append(len(self.nodes))
        self.nodes.append(Drafted(token, parent, confidence, above.path * confidence, above.depth + 1))

    def lagging(self) -> list[int]:
        """The leaves with fewer tokens than their fair share of what all branches will have when each gets one more. At least one has,
        as the shares add up to more than the tokens. Surest first; a leaf at the end of the model's context counts for nothing."""
        leaves = sorted((i for i in self.leaves if self.nodes[i].depth < self._room), key=lambda i: -self.nodes[i].path)
        total = sum(self.nodes[i].path for i in leaves)
        if total <= 0:
            return []
        budget = sum(self.nodes[i].depth + 1 for i in leaves)
        return [i for i in leaves if budget * self.nodes[i].path / total > self.nodes[i].depth]

    def feed(self, ends: Sequence[int]) -> torch.Tensor:
        """The draft's logits `(n, V)` after each of these leaves."""
        self._fed = sorted({*self._fed, *ends})
        trunk = self._trunk()
        n_same = sum(1 for a, b in zip(self._held, trunk, strict=False) if a == b)
        if n_same < len(self._held):
            self._held = self._held[:n_same]
            self._decoder.hold([*self._ids, *(self.nodes[i].token for i in self._held)])
        held = set(self._held)
        block = [i for i in self._fed if i not in held]
        places = {node: at for at, node in enumerate(block)}
        parents = [places.get(self.nodes[i].parent, ROOT) for i in block]
        rows = self._decoder.append([self.nodes[i].token for i in block], parents)
        if len(trunk) == len(self._fed):
            self._held, self._branched = trunk, []
        else:
            self._branched = block
        return rows[[places[i] for i in ends]]

    def keep(self, accepted: Sequence[int]) -> None:
        """Let the decoder keep what these ids have in common with the last block it read, if that one branched (a chain stays anyway)."""
        path, at = [], ROOT
        for token in accepted:
            at = next(i for i, node in enumerate(self.nodes) if node.parent == at and node.token == token)
            path.append(at)
        n_held = len(self._held)
        if self._branched and path[:n_held] == self._held:
            kept = [i for i in path[n_held:] if i in self._branched]
            self._decoder.commit([self._branched.index(i) for i in kept], [self.nodes[i].token for i in kept])

    def _trunk(self) -> list[int]:
        """The fed nodes from the root to the first fork among them."""
        trunk, at = [], ROOT
        while True:
            children = [i for i in self._fed if self.nodes[i].parent == at]
            if len(children) != 1:
                return trunk
            at = children[0]
            trunk.append(at)

    def draft(self, by: str) -> Draft:
        """All nodes, depth first, likeliest child first."""
        families: dict[int, list[int]] = {}
        for i, node in enumerate(self.nodes):
            families.setdefault(node.parent, []).append(i)
        order = walk_order(families, [node.confidence for node in self.nodes])
        new = {ROOT: ROOT, **{old: i for i, old in enumerate(order)}}
        device = self._decoder.model.device
        tokens = torch.tensor([self.nodes[i].token for i in order], device=device)
        confidence = torch.tensor([self.nodes[i].confidence for i in order], device=device)
        return Draft(tokens, tuple(new[self.nodes[i].parent] for i in order), (by,) * len(order), confidence)


def deepest(parents: Sequence[int], path: Sequence[int]) -> int:
    """Length of the longest branch that goes through all nodes of `path`."""
    below = {path[-1] if path else ROOT: len(path)}
    for node, parent in enumerate(parents):
        if parent in below:
            below[node] = below[parent] + 1
    return max(below.values())
