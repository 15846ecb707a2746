"""Which drafter a request asks for, made for the models at hand.

Goes in: options, loaded models, measured costs. Comes out: a `Drafter`, and what a person should know of it before it starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from backend.decoder import Decoder
from backend.errors import InvalidRequest, ModelError
from backend.forward_call import capabilities
from backend.pairs import check_pair
from backend.speculative.auto import Auto
from backend.speculative.confidence_tree import ConfidenceTree
from backend.speculative.costs import Costs
from backend.speculative.draft import Draft, Drafter, Outcome, Silent
from backend.speculative.draft_model import DraftModel
from backend.speculative.grow import best_first, best_size
from backend.speculative.law import Law
from backend.speculative.lookup import Lookup
from backend.speculative.recycling import RANK_ODDS, Recycling
from backend.speculative.request import DRAFT, WITH_MODEL, WITH_TREE, Options
from backend.speculative.sizes import Gamma
from backend.tree_check import trees_work
from backend.types import SamplingParams

MOST_GAMMA = 16
MOST_DRAFT = 32  # a chain's length is said by `Sized`; this is the options' own limit
LOOKUP_ALPHA = 0.4
DRAFT_ALPHA = 0.8
ROUND_MS = 1.2  # what a round of drafting costs beside its forwards: nothing to a large model, a third of a step to a pocket one
MOST_TREE = 32


def make_drafter(options: Options, sampling: SamplingParams, law: Law, target: Any, draft: Any | None, costs: Costs) -> Drafter:
    """The drafter; raises `InvalidRequest` or `ModelError` where it can't work with these models."""
    device = target.device
    if options.drafter == "none":
        return Silent()
    if options.drafter == "lookup":
        return Sized(Lookup(options.ngram, MOST_GAMMA if not options.gamma else options.gamma, device),
                     Gamma(options.gamma, without_draft(costs), MOST_GAMMA, LOOKUP_ALPHA))  # fmt: skip
    if options.drafter == "recycling":
        return Recycling(options.nodes or template_size(costs), device=device)
    if options.drafter == "auto":
        return Auto(costs, options.ngram, device)
    check_draft(target, draft)
    decoder = Decoder(draft.model, draft.id)
    if options.drafter == "tree":
        branch = options.branch if verifies_trees(options, draft) else 1.0
        return ConfidenceTree(decoder, branch, options.fallback, options.nodes or tree_size(costs), target.vocab_size)
    gamma = Gamma(options.gamma, costs, MOST_GAMMA, DRAFT_ALPHA, ROUND_MS / costs.step_ms)
    return Sized(DraftModel(decoder, law, MOST_DRAFT, sampling, target.vocab_size), gamma)


def check_draft(target: Any, draft: Any) -> None:
    """Raise unless the draft model's tokens mean the same as the target's."""
    report = check_pair(draft, target)
    if not report.compatible:
        others = "Prompt lookup, Token Recycling and auto need no draft model."
        raise InvalidRequest(f"{draft.id} can't draft for {target.id}: {report.reasons[0]} {others}", f"models.{DRAFT}")


def check_target(options: Options, target: Decoder) -> None:
    """Raise for a model that can't take back refused tokens."""
    if options.drafter != "none" and not target.capabilities.rollback:
        raise ModelError(f"{target.name} can't take back a refused token (it folds all it has read into one state): it decodes plainly only.")


def verifies_trees(options: Options, handle: Any) -> bool:
    """Whether this run verifies trees with this model; never in reproducible mode."""
    return options.drafter in WITH_TREE and options.mode == "fast" and takes_trees(handle)


def takes_trees(handle: Any) -> bool:
    """Whether this model gets a tree's logits right: measured once a loaded model, against its paths one by one."""
    return capabilities(handle.model).trees and handle.resources.get("trees-work", lambda: trees_work(handle.model, handle.id))


def warnings_of(options: Options, prompt_ids: Sequence[int], target: Any, draft: Any | None, trees: bool) -> list[str]:
    """What a person should know before the run."""
    found = []
    if options.drafter == "lookup" and len(prompt_ids) < 2 * options.ngram:
        found.append(f"The prompt has {len(prompt_ids)} tokens: hardly anything to look up. Lookup drafts once the answer repeats itself.")
    if not trees and options.mode == "fast" and options.drafter in WITH_TREE:
        found.append(f"{target.id} can't verify a tree in one forward; its best branch is verified instead.")
    if options.drafter in WITH_MODEL and draft is not None and draft.passport.n_parameters > target.passport.n_parameters:
        found.append(f"The draft model {draft.id} is larger than its target {target.id}: the text stays right, the speed will not.")
    return found


def without_draft(costs: Costs) -> Costs:
    """The same costs where drafting runs no model."""
    return Costs(costs.step_ms, costs.widths, costs.v, costs.noise)


def template_size(costs: Costs, odds: Sequence[float] = RANK_ODDS) -> int:
    """Token Recycling: the tree that pays most if ranks come true with their assumed odds."""
    tree = best_first(lambda node: [(rank, p, "") for rank, p in enumerate(odds)], MOST_TREE)
    return max(1, best_size(sorted(tree.paths, reverse=True), lambda n: costs.rows(n + 1)))


def tree_size(costs: Costs, alpha: float = 0.8) -> int:
    """LLMCad: as many nodes as pay if the best branch's tokens are each accepted with `alpha`."""
    paths = [alpha ** (i + 1) for i in range(MOST_TREE)]
    return max(1, best_size(paths, lambda n: costs.rows(n + 1) + n * costs.c))


class Sized:
    """A chain drafter whose length follows what was accepted."""

    def __init__(self, drafter: Lookup | DraftModel, gamma: Gamma) -> None:
        self.name, self.reads_prompt_rows = drafter.name, drafter.reads_prompt_rows
        self._drafter, self._gamma = drafter, gamma

    def begin(self, prompt_ids: Sequence[int], rows: torch.Tensor | None) -> None:
        self._drafter.begin(prompt_ids, rows)

    def propose(self, ids: Sequence[int], position: int, limit: int) -> Draft:
        n = min(limit, self._gamma.next())
        return self._drafter.propose(ids, position, n) if n else Silent().propose(ids, position, limit)

    def observe(self, outcome: Outcome) -> None:
        self._drafter.observe(outcome)
        self._gamma.observe(len(outcome.draft), len(outcome.path))
