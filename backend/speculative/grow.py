"""Growing a tree of drafts: the likeliest paths first, and how many of them pay.

Goes in: a callback that names a node's children with their probabilities, a limit; or probabilities and what a round of each size costs.
Comes out: a tree in depth-first order, likeliest child first; or a size. Pure; knows no model, no matrix, no text.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from backend.speculative.draft import ROOT, Draft

Candidate = tuple[int, float, Any]  # token id, probability given the parent, who proposes it (or a tag of the caller's)


class Node(NamedTuple):
    """One node while the tree grows. `parent` is the node above it, None for a child of the root; `path` the product of probabilities.

    A tuple and not a dataclass: hundreds are made in a round, and they are four times cheaper.
    """

    token: int
    prob: float
    by: Any
    parent: Node | None
    path: float
    depth: int


@dataclass(frozen=True)
class Tree:
    """Nodes in depth-first order, a node's likeliest child first. `parents` as in `Draft`; `probs` given the parent, `paths` from the
    root; `ranks`: when each node was taken while the tree grew (0 first), so that `ranks < n` is the best tree of n nodes."""

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    by: tuple[Any, ...]
    probs: tuple[float, ...]
    paths: tuple[float, ...]
    ranks: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    def cut(self, size: int) -> Tree:
        """The tree as it was when it had `size` nodes."""
        kept = [i for i, rank in enumerate(self.ranks) if rank < size]
        new = {ROOT: ROOT, **{old: i for i, old in enumerate(kept)}}
        columns = (self.tokens, self.by, self.probs, self.paths, self.ranks)
        tokens, by, probs, paths, ranks = (tuple(column[i] for i in kept) for column in columns)
        return Tree(tokens, tuple(new[self.parents[i]] for i in kept), by, probs, paths, ranks)

    def draft(self, device: torch.device | str = "cpu") -> Draft:
        """The same as a proposal, with `probs` as its confidence."""
        confidence = torch.tensor(self.probs, dtype=torch.float32, device=device)
        return Draft(torch.tensor(self.tokens, dtype=torch.long, device=device), self.parents, self.by, confidence)


def best_first(children: Callable[[Node | None], Iterable[Candidate]], limit: int) -> Tree:
    """The `limit` nodes of highest path probability (fewer if there are no more), by growing the likeliest leaf each time.

    `children(None)` are the root's, `children(node)` are asked for once, when the node was taken. Of two children with one token the
    likelier stays; of equally likely nodes the one that was seen first is taken first. Probabilities must be between 0 and 1.
    """
    taken: list[Node] = []
    heap: list[tuple[float, int, Node, list[Candidate]]] = []  # a node and the siblings that wait behind it
    _push(heap, None, _ordered(children(None)), 0)
    n_seen = 1
    while heap and len(taken) < limit:
        _, _, node, siblings = heapq.heappop(heap)
        taken.append(node)
        _push(heap, node.parent, siblings, n_seen)
        if len(taken) < limit:
            _push(heap, node, _ordered(children(node)), n_seen + 1)
        n_seen += 2
    return depth_first(taken)


def _push(heap: list[tuple[float, int, Node, list[Candidate]]], parent: Node | None, candidates: list[Candidate], seen: int) -> None:
    """Only the likeliest of a family stands in the heap: its siblings can't be taken before it."""
    if not candidates:
        return
    token, prob, by = candidates[0]
    path, depth = (prob, 1) if parent is None else (parent.path * prob, parent.depth + 1)
    heapq.heappush(heap, (-path, seen, Node(token, prob, by, parent, path, depth), candidates[1:]))


def _ordered(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Likeliest first, each token once."""
    ordered = sorted(candidates, key=lambda candidate: -candidate[1])
    if any(not 0 <= prob <= 1 for _, prob, _ in ordered):
        raise ValueError(f"probabilities must be between 0 and 1, got {[prob for _, prob, _ in ordered]}.")
    return list({token: (token, prob, by) for token, prob, by in reversed(ordered)}.values())[::-1]


def depth_first(taken: Sequence[Node]) -> Tree:
    """Nodes, each after its parent, as a tree in depth-first order, likeliest child first (of equals the one taken first)."""
    families: dict[int, list[int]] = {}
    places = {id(node): i for i, node in enumerate(taken)}
    for i, node in enumerate(taken):
        families.setdefault(ROOT if node.parent is None else places[id(node.parent)], []).append(i)
    order = walk_order(families, [node.prob for node in taken])
    new = {ROOT: ROOT, **{old: i for i, old in enumerate(order)}}
    parents = tuple(new[ROOT if taken[i].parent is None else places[id(taken[i].parent)]] for i in order)
    tokens, by, probs, paths = (tuple(getattr(taken[i], name) for i in order) for name in ("token", "by", "prob", "path"))
    return Tree(tokens, parents, by, probs, paths, tuple(order))


def walk_order(families: dict[int, list[int]], probs: Sequence[float]) -> list[int]:
    """Node numbers depth first; `families` maps a node (-1: the root) to its children, which are visited likeliest first."""
    order, stack = [], [ROOT]
    while stack:
        node = stack.pop()
        if node != ROOT:
            order.append(node)
        stack += sorted(families.get(node, ()), key=lambda i: -probs[i])[::-1]
    return order


def best_size(paths: Sequence[float], cost: Callable[[int], float]) -> int:
    """How many of the likeliest nodes to draft: the size that maximises expected tokens per unit of time.

    `paths` are path probabilities, largest first; `cost(n)` is what a round of n drafted nodes costs, n = 0 the plain step. The expected
    tokens of a round are 1 + the sum of path probabilities. Of equal sizes the smallest.
    """
    best, best_rate, expected = 0, 1 / cost(0), 1.0
    for size, path in enumerate(paths, 1):
        expected += path
        rate = expected / cost(size)
        if rate > best_rate:
            best, best_rate = size, rate
    return best
