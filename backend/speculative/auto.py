"""The drafter that decides for itself: lookup grafted onto a recycling tree, no larger than has paid in this text.

Goes in: the text so far, the target's logits of the prompt and of every verified node, what forwards of each width cost. Comes out: the
tree with the most expected tokens per unit of time; none where a plain step is better. Knows no model.

A node's odds come from what speaks for it: how long a match the lookup's copy continues, and at which rank the model had this token after
the same two tokens, or the same one, the last time. Each combination starts from a prior and learns from the nodes that were really tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from backend.speculative.costs import Costs
from backend.speculative.draft import ROOT, Draft, Outcome, nothing
from backend.speculative.grow import Candidate, Node, Tree, best_first, best_size
from backend.speculative.lookup import Lookup
from backend.speculative.rows import ranked

KEPT = 8  # successors remembered of a context
MOST_NODES = 32
LONGEST_COPY = 24
SEED_BLOCK = 64
COPY_PRIOR = (0.0, 0.2, 0.42, 0.75, 0.8, 0.88, 0.88)  # by length of the match that the copy continues
PAIR_PRIOR = (0.0, 0.5, 0.15, 0.08, 0.05, 0.03, 0.03, 0.02, 0.02)  # by rank after the same two tokens (0: not there)
SINGLE_PRIOR = (0.0, 0.3, 0.12, 0.07, 0.05, 0.03, 0.03, 0.02, 0.02)  # after the same one
PRIORS = (COPY_PRIOR, PAIR_PRIOR, SINGLE_PRIOR)
KIND_WEIGHT, JOINT_WEIGHT = 8.0, 8.0
TRUST_WEIGHT = 1.0  # tokens; how soon a text whose drafts fail more often than their odds say is drafted for less
FORGET = 0.95
SURPLUS = 1.04  # a draft must promise this much more than it costs: growing it, ranking its rows and being wrong about its odds cost too
HOST_MS = 0.6  # growing a tree and ranking its rows: nothing to a large model, much to a pocket one
NOTICED = 0.03
PATIENCE, PROBE = 16, 8
NO_TREE = Tree((), (), (), (), (), ())

LONGEST_MATCH = len(COPY_PRIOR) - 1

Evidence = tuple[int, int, int]  # length of the match; rank after two tokens; rank after one


class Tag(NamedTuple):
    """What a node carries while the tree grows: who speaks for it, on what evidence, and which token of the copy comes next."""

    by: str
    evidence: Evidence
    at: int


class Odds:
    """How often a node with this evidence was accepted, when it was tried.

    What speaks loudest gives the estimate to start from, and that is itself learned: from the nodes for which it spoke loudest.
    """

    def __init__(self) -> None:
        self._counts: dict[Any, list[float]] = {}

    def __getitem__(self, evidence: Evidence) -> float:
        return self._learned(evidence, self._loudest(evidence)[0], JOINT_WEIGHT)

    def observe(self, evidence: Evidence, accepted: bool) -> None:
        for key in (evidence, self._loudest(evidence)[1]):
            counts = self._counts.setdefault(key, [0.0, 0.0])
            counts[0] += 1
            counts[1] += accepted

    def _loudest(self, evidence: Evidence) -> tuple[float, tuple[int, int]]:
        """The highest estimate from one kind of evidence, and which (kind, class) it is."""
        kinds = enumerate(zip(evidence, PRIORS, strict=True))
        return max((self._learned((kind, at), prior[at], KIND_WEIGHT), (kind, at)) for kind, (at, prior) in kinds)

    def _learned(self, key: Any, prior: float, weight: float) -> float:
        tried, accepted = self._counts.get(key, (0.0, 0.0))
        return (accepted + prior * weight) / (tried + weight)


class Contexts:
    """The likeliest successors after a context of one or two tokens, as of its last appearance, each with its rank (1: the first)."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, ...], dict[int, int]] = {}

    def store(self, keys: Sequence[Sequence[tuple[int, ...]]], rows: torch.Tensor) -> None:
        """Take up one row for each entry of `keys`; an entry lists the contexts that this row follows."""
        for start in range(0, len(keys), SEED_BLOCK):
            ids = ranked(rows[start : start + SEED_BLOCK], min(KEPT, rows.shape[-1]))[1].tolist()
            for contexts, row in zip(keys[start : start + SEED_BLOCK], ids, strict=True):
                self._seen |= dict.fromkeys(contexts, {token: rank + 1 for rank, token in enumerate(row)})

    def after(self, *context: int) -> dict[int, int]:
        return self._seen.get(context, {})


class Auto:
    """See the module's docstring."""

    name = "auto"
    reads_prompt_rows = True

    def __init__(self, costs: Costs, ngram: int = 3, device: torch.device | str = "cpu") -> None:
        host = HOST_MS / costs.step_ms
        self._counts = host > NOTICED  # where looking itself is felt
        self._cost: Callable[[int], float] = lambda n: costs.rows(n + 1) * SURPLUS + host if n else 1.0
        self._lookup = Lookup(ngram, LONGEST_COPY, device)
        self._device = device
        self._contexts, self._odds = Contexts(), Odds()
        self._before, self._last, self._idle = -1, -1, 0
        self._proposed = NO_TREE
        self._hope = self._hoped = self._got = 0.0

    def begin(self, prompt_ids: Sequence[int], rows: torch.Tensor | None) -> None:
        self._lookup.begin(prompt_ids, None)
        self._contexts, self._odds = Contexts(), Odds()
        if rows is not None:
            ids = [-1, *prompt_ids][-len(rows) - 1 :]
            self._contexts.store([((a, b), (b,)) for a, b in zip(ids, ids[1:], strict=False)], rows)

    def propose(self, ids: Sequence[int], position: int, limit: int) -> Draft:
        if self._rests():
            self._idle += 1
            self._proposed = NO_TREE
            return nothing(self._device)
        self._before, self._last = ids[-2] if len(ids) > 1 else -1, ids[-1]
        copy, n_matched = self._lookup.match(ids, limit)
        tree = best_first(lambda node: self._children(node, copy, n_matched), min(limit, MOST_NODES))
        size = self._size(tree)
        tree = tree.cut(size)
        self._proposed, self._hope = tree, sum(tree.paths)
        return replace(tree, by=tuple(tag.by for tag in tree.by)).draft(self._device) if size else nothing(self._device)

    def _size(self, tree: Tree) -> int:
        """What pays; where nothing does, now and then one node, because a text changes."""
        trust = (self._got + TRUST_WEIGHT) / (self._hoped + TRUST_WEIGHT)
        size = best_size([path * trust for path in sorted(tree.paths, reverse=True)], self._cost)
        self._idle = 0 if size else self._idle + 1
        return 1 if len(tree) and not size and self._idle % PROBE == 0 else size

    def _rests(self) -> bool:
        """Where looking is felt: after `PATIENCE` rounds in which nothing paid it looks at every `PROBE`-th only."""
        return self._counts and self._idle > PATIENCE and self._idle % PROBE != 0

    def observe(self, outcome: Outcome) -> None:
        """Learn the odds from the nodes that were reached, and remember every row."""
        if not outcome.draft.parents and self._rests():
            return
        ids, parents = outcome.draft_ids, outcome.draft.parents
        reached = {ROOT, *outcome.path}
        if parents:
            self._hoped, self._got = FORGET * self._hoped + self._hope, FORGET * self._got + len(outcome.path)
        for node, tag in enumerate(self._tags(outcome)):
            if parents[node] in reached:
                self._odds.observe(tag.evidence, node in reached)
        keys = [((self._before, self._last), (self._last,))]
        keys += [((self._last if parent == ROOT else ids[parent], ids[node]), (ids[node],)) for node, parent in enumerate(parents)]
        on_path = [0, *(node + 1 for node in outcome.path)]
        order = [i for i in range(len(keys)) if i not in on_path] + on_path  # the accepted ones last, so that they win
        self._contexts.store([keys[i] for i in order], outcome.rows[order])

    def _tags(self, outcome: Outcome) -> list[Tag]:
        """What was known of each verified node; the loop may have cut the tree that was proposed."""
        proposed = self._proposed
        places = {(parent, token): i for i, (parent, token) in enumerate(zip(proposed.parents, proposed.tokens, strict=True))}
        found: list[int] = []
        for parent, token in zip(outcome.draft.parents, outcome.draft_ids, strict=True):
            found.append(places[ROOT if parent == ROOT else found[parent], token])
        return [proposed.by[i] for i in found]

    def _children(self, node: Node | None, copy: Sequence[int], n_matched: int) -> list[Candidate]:
        """What may follow a node: the copy's next token, and what the model liked after these tokens the last time."""
        if node is None:
            before, last, at = self._before, self._last, 0
        else:
            before, last, at = self._last if node.parent is None else node.parent.token, node.token, node.by.at
        pairs, singles = self._contexts.after(before, last), self._contexts.after(last)
        copied = copy[at] if at < len(copy) else None
        found: list[Candidate] = []
        for token in dict.fromkeys([*([] if copied is None else [copied]), *pairs, *singles]):
            copies = token == copied
            evidence = (min(n_matched + at, LONGEST_MATCH) if copies else 0, pairs.get(token, 0), singles.get(token, 0))
            tag = Tag("lookup" if copies else "recycling", evidence, at + 1 if copies else len(copy))
            found.append((token, self._odds[evidence], tag))
        return found
