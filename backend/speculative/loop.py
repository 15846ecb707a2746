"""The loop: draft, verify in one forward, keep what the law accepts. Plain decoding is the same loop with an empty draft.

Goes in: a target's decoder, a drafter, a law, prompt ids. Comes out: one `Step` a round. Knows nothing of requests, texts or lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from backend.decoder import Decoder
from backend.speculative.draft import Draft, Drafter, Outcome, nothing
from backend.speculative.law import Law, Walk

SEED_ROWS = 512  # prompt tokens whose rows a drafter may learn from: all logits of a long prompt would cost gigabytes


@dataclass(frozen=True)
class Step:
    """One round: the draft, what the law made of it, and milliseconds of drafting, verifying (the law's walk included) and the rest."""

    draft: Draft
    walk: Walk
    draft_ms: float
    verify_ms: float
    host_ms: float


class Loop:
    """The state of one run between two rounds. `ids` is prompt and answer; the last id is never in the target's cache between rounds."""

    def __init__(
        self, target: Decoder, drafter: Drafter, law: Law, clock: Callable[[], float], width: int | None = None, trees: bool = True,
    ) -> None:  # fmt: skip
        """`width`: rows of every forward in reproducible mode; drafts are then cut to their best chain of `width - 1` tokens.
        `trees` False: cut to their best chain too, of any length (the target can't verify trees, or that has not been shown)."""
        self.target, self.drafter, self.law = target, drafter, law
        self._clock, self._width = clock, width
        self._trees = trees and width is None and target.capabilities.trees
        self.ids: list[int] = []
        self._n_prompt = 0

    def prefill(self, prompt_ids: Sequence[int], prefix: Sequence[int] = ()) -> torch.Tensor:
        """Read the prompt and the answer so far; `(len(prefix) + 1, V)` float32 logits after the prompt's last token and each prefix token."""
        ids, wanted = [*prompt_ids, *prefix], len(prefix) + 1
        asked = max(wanted, min(len(ids), SEED_ROWS)) if self.drafter.reads_prompt_rows else wanted
        rows = self._constant(prompt_ids, prefix, asked) if self._width else self.target.logits(ids, last=asked)
        self.drafter.begin(ids, rows if self.drafter.reads_prompt_rows else None)
        self.ids, self._n_prompt = ids, len(prompt_ids)
        return rows[-wanted:]

    def _constant(self, prompt_ids: Sequence[int], prefix: Sequence[int], asked: int) -> torch.Tensor:
        """The prompt as the same forwards for every drafter, the prefix in blocks of constant width, as if it had been decoded."""
        rows = self.target.logits(prompt_ids, last=min(len(prompt_ids), max(1, asked - len(prefix))))
        return torch.cat([rows, self.target.append(prefix)]) if prefix else rows

    def first(self, row: torch.Tensor) -> Walk:
        """The token after what was read, from the last row `(V,)` of the prefill; no forward is needed for it."""
        walk = self.law.walk(row[None], nothing(row.device), len(self.ids) - self._n_prompt)
        self.ids.extend(walk.emitted)
        return walk

    def round(self, limit: int) -> Step:
        """Draft at most `limit` tokens (0: a plain step), verify them behind the last id, append what came of it to `ids`."""
        start = self._clock()
        position = len(self.ids) - self._n_prompt
        draft = self._fitted(self.drafter.propose(self.ids, position, limit)) if limit > 0 else nothing(self.target.model.device)
        drafted = self._clock()
        rows = self._verify(draft)
        walk = self.law.walk(rows, draft, position)
        verified = self._clock()
        kept = [0, *(node + 1 for node in walk.path)]
        self.target.commit(kept, [self.ids[-1], *walk.emitted[: len(walk.path)]])
        self.drafter.observe(Outcome(draft, walk.draft_ids, rows, walk.path, walk.emitted))
        self.ids.extend(walk.emitted)
        return Step(draft, walk, _ms(start, drafted), _ms(drafted, verified), _ms(verified, self._clock()))

    def _verify(self, draft: Draft) -> torch.Tensor:
        """The target's rows after the last id and after each node, in one forward."""
        self.target.hold(self.ids[:-1])
        if not len(draft):
            return self.target.append(self.ids[-1:])
        last = torch.tensor(self.ids[-1:], device=draft.tokens.device)
        return self.target.append(torch.cat([last, draft.tokens]), (-1, *(parent + 1 for parent in draft.parents)))

    def _fitted(self, draft: Draft) -> Draft:
        """The draft as this target can take it: a tree cut to its best chain where trees are not to be had, a chain to the width."""
        if not self._trees and not draft.is_chain:
            draft = best_chain(draft)
        return head_of(draft, self._width - 1) if self._width else draft


def best_chain(draft: Draft) -> Draft:
    """The chain from the last committed token through each node's first, likeliest child."""
    nodes, parent = [], -1
    for node, its_parent in enumerate(draft.parents):
        if its_parent == parent:
            nodes.append(node)
            parent = node
    return _part(draft, nodes)


def head_of(draft: Draft, n: int) -> Draft:
    """A chain's first n tokens."""
    return draft if len(draft) <= n else _part(draft, list(range(n)))


def _part(draft: Draft, nodes: Sequence[int]) -> Draft:
    """The chain of these nodes."""
    index = torch.tensor(list(nodes), dtype=torch.long, device=draft.tokens.device)
    confidence = None if draft.confidence is None else draft.confidence[index]
    by = tuple(draft.by[node] for node in nodes)
    return Draft(draft.tokens[index], tuple(range(-1, len(nodes) - 1)), by, confidence, None if draft.q is None else draft.q[index])


def _ms(start: float, end: float) -> float:
    return (end - start) * 1000
