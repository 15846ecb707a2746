"""Which tokens matter: the large model's answers, what the small one would have said at each place, and what would have come of it.

Goes in: a pair of loaded models and some problems. Comes out: a `Chunk` of labelled positions. Always judged on the large model's own greedy
path (Fu et al. 2025, R2R): `identical` where both choose the same token; where they differ, `divergent` if the small one's token, with the
large one going on from it greedily, turns a right answer into a wrong one, else `neutral`; `ungraded` where the large one was wrong itself. The
decision to end is a position like any other. Knows nothing of files, routers or runs; yields wherever others may go first.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from backend.errors import WorkbenchError
from backend.models import LoadedModel
from backend.pairs import PairReport, require_pair, same_law
from backend.prompt import render
from backend.routing.features import law_features, spread_free
from backend.routing.rectangles import batches, forced, greedy
from backend.routing.tasks import Problem
from backend.types import Prompt

CLASSES = ("identical", "neutral", "divergent", "ungraded")
IDENTICAL, NEUTRAL, DIVERGENT, UNGRADED = range(4)
HARDLY = 60.0  # nats; further apart is all the same, and keeps a masked id out of sums
BRANCHES = 96  # rows of one rectangle
COLUMNS = {"law": torch.float16, "hidden": torch.float16, "small": torch.int32, "large": torch.int32, "kl": torch.float16,
           "disagreement": torch.float16, "position": torch.int32, "prompt": torch.int32}  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """Two models that may go on where the other left off; `report` says which ids they share and where answers end."""

    small: LoadedModel
    large: LoadedModel
    report: PairReport

    @classmethod
    def of(cls, small: LoadedModel, large: LoadedModel) -> Pair:
        """`InvalidRequest` when they are no pair."""
        return cls(small, large, require_pair(small, large, "models"))

    @property
    def stop_ids(self) -> tuple[int, ...]:
        return self.report.stop_ids

    @property
    def context(self) -> int:
        return self.report.max_positions or 1 << 30

    def law_small(self, logits: Tensor) -> Tensor:
        return same_law(self.report, logits)

    def law_large(self, logits: Tensor) -> Tensor:
        return same_law(self.report, logits, leads=True)

    def text(self, ids: Sequence[int]) -> str:
        """The answer without its stop id."""
        return self.large.tokenizer.decode([i for i in ids if i not in self.stop_ids])

    def prompt_ids(self, problem: Problem) -> list[int]:
        """As a routed run renders it."""
        leads = self.large if self.report.template == self.large.id else self.small
        ids = render(Prompt.user(problem.prompt), leads.tokenizer).ids
        if len(ids) >= self.context:
            raise WorkbenchError(f"A prompt has {len(ids)} tokens, the pair reads {self.context}: {problem.prompt[:60]!r}…", "options.data")
        return ids


@dataclass(frozen=True)
class Branch:
    """One mismatch: the small model's token in the place of the large one's, and how the large one goes on from it."""

    row: int
    prompt: int
    position: int
    small: int
    ids: list[int]


@dataclass(frozen=True)
class Chunk:
    """Labelled positions in columns (`COLUMNS`, and `label` (n,) uint8 of `CLASSES`), the answers, whether each was right (None: no grader)."""

    columns: dict[str, Tensor]
    answers: list[list[int]]
    right: list[bool | None]
    branches: list[Branch]


@dataclass(frozen=True)
class Rule:
    """How to judge. `outcome`: by the answer's grader; without one `kl`: divergent where the small model's law is at least `kl_nats` from the
    large one's, or `mismatch`: wherever the choices differ; `none`: only note where they differ, all positions are `ungraded`."""

    kind: str
    kl_nats: float
    max_new_tokens: int


def label(pair: Pair, problems: Sequence[Problem], rule: Rule, first: int) -> Generator[None, None, Chunk]:
    """All positions of the answers to `problems`, whose prompts are numbered from `first` on."""
    prompts = [pair.prompt_ids(p) for p in problems]
    room = [min(rule.max_new_tokens, pair.context - len(ids)) for ids in prompts]
    answers = yield from greedy(pair.large, prompts, room, pair.stop_ids, pair.law_large)
    columns = yield from _columns(pair, prompts, answers, rule.kind != "none")
    right = [p.right(pair.text(a)) if p.answer is not None else None for p, a in zip(problems, answers, strict=True)]
    differ = (columns["small"] != columns["large"]).nonzero().flatten().tolist()
    branches: list[Branch] = []
    if rule.kind == "outcome":
        places = [(row, int(columns["prompt"][row]), int(columns["position"][row]), int(columns["small"][row])) for row in differ]
        branches = yield from _branch(pair, prompts, answers, room, [p for p in places if right[p[1]]])
    columns["label"] = _labels(columns, rule, problems, right, branches, pair)
    columns["prompt"] += first
    return Chunk(columns, answers, right, branches)


def _columns(pair: Pair, prompts: list[list[int]], answers: list[list[int]],
             both: bool) -> Generator[None, None, dict[str, Tensor]]:  # fmt: skip
    """The models over the answers (without `both` only the small one: no distance of laws then); rows in the order of prompts and positions."""
    rows: dict[int, dict[str, Tensor]] = {}
    for some in batches(prompts, answers, max(pair.small.vocab_size, pair.large.vocab_size)):
        texts = [prompts[i] for i in some], [answers[i] for i in some]
        sizes = [len(answers[i]) for i in some]
        known = torch.log_softmax(forced(pair.large, *texts, pair.law_large)[0], -1) if both else None
        yield
        whole = _facts(*forced(pair.small, *texts, pair.law_small), known, torch.tensor([t for answer in texts[1] for t in answer]))
        whole["position"] = torch.cat([torch.arange(n) for n in sizes])
        whole["prompt"] = torch.repeat_interleave(torch.tensor(some), torch.tensor(sizes))
        for name, column in whole.items():
            for i, part in zip(some, column.split(sizes), strict=True):
                rows.setdefault(i, {})[name] = part.to(COLUMNS[name])
        yield
    return {name: torch.cat([rows[i][name] for i in sorted(rows)]) for name in COLUMNS}


def _facts(logits: Tensor, hidden: Tensor, known: Tensor | None, said: Tensor) -> dict[str, Tensor]:
    """Columns of some positions: `logits` and `hidden` of the small model, `known` (m, V) log-probabilities of the large one, `said` its ids."""
    proposed = logits.argmax(-1)
    kl = apart = torch.zeros(len(said), device=logits.device)
    if known is not None:
        known, rows = known.to(logits.device), torch.arange(len(said), device=logits.device)
        kl = (known.exp() * (known - torch.log_softmax(logits, -1)).clamp(min=-HARDLY, max=HARDLY)).sum(-1).clamp(min=0)
        apart = (known[rows, said.to(logits.device)] - known[rows, proposed]).clamp(0, HARDLY)
    found = {"law": law_features(logits, proposed), "hidden": spread_free(hidden), "small": proposed, "kl": kl, "disagreement": apart}
    return {"large": said, **{name: column.cpu() for name, column in found.items()}}


def _branch(pair: Pair, prompts: list[list[int]], answers: list[list[int]], room: list[int],
            places: list[tuple[int, int, int, int]]) -> Generator[None, None, list[Branch]]:  # fmt: skip
    """The large model from each place `(row, prompt, position, small's token)` on; places of like length go together."""
    places = sorted(places, key=lambda place: len(prompts[place[1]]) + place[2])
    found = []
    for at in range(0, len(places), BRANCHES):
        some = places[at : at + BRANCHES]
        starts = [[*prompts[i], *answers[i][:position], token] for _, i, position, token in some]
        left = [0 if token in pair.stop_ids else room[i] - position - 1 for _, i, position, token in some]
        went_on = yield from greedy(pair.large, starts, left, pair.stop_ids, pair.law_large)
        found += [Branch(*place, ids) for place, ids in zip(some, went_on, strict=True)]
    return found


def _labels(columns: dict[str, Tensor], rule: Rule, problems: Sequence[Problem], right: list[bool | None], branches: list[Branch],
            pair: Pair) -> Tensor:  # fmt: skip
    """(n,) uint8. By outcome, a prompt that the large model got wrong says nothing of what would have broken it."""
    differ = columns["small"] != columns["large"]
    if rule.kind == "none":
        return torch.full(differ.shape, UNGRADED, dtype=torch.uint8)
    if rule.kind != "outcome":
        divergent = differ if rule.kind == "mismatch" else differ & (columns["kl"] >= rule.kl_nats)
        return torch.where(differ, torch.where(divergent, DIVERGENT, NEUTRAL), IDENTICAL).to(torch.uint8)
    labels = torch.where(differ, NEUTRAL, IDENTICAL).to(torch.uint8)
    labels[torch.tensor([not r for r in right])[columns["prompt"].long()]] = UNGRADED
    for branch in branches:
        before = columns["large"][branch.row - branch.position : branch.row].tolist()  # rows of one prompt stand in order
        if not problems[branch.prompt].right(pair.text([*before, branch.small, *branch.ids])):
            labels[branch.row] = DIVERGENT
    return labels
