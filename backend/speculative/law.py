"""The law under which drafts are accepted, so that the text is the target's own.

Goes in: the target's logits for a verified draft, the draft, the answer position. Comes out: the accepted path, the extra token, and the
facts that are shown. Knows nothing of models or drafters.

Three laws, plain decoding being each one's empty draft. `greedy`: the argmax. `coupled`: noise that belongs to seed and position
(Daliri, Musco and Suresh 2024, arXiv 2408.07978), so the text depends on prompt, seed and target alone. `residual`: acceptance with
min(1, p/q) and the rest of p after a refusal (Leviathan et al. 2023, Chen et al. 2023): the law is the target's, the text is not fixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from backend.sampling import final_probs
from backend.speculative.draft import Draft
from backend.speculative.noise import TINY, Noise
from backend.speculative.rows import Facts, apart, of_nodes, read, step_facts
from backend.types import SamplingParams

KINDS = ("coupled", "residual")


@dataclass(frozen=True)
class Walk:
    """What the target made of a draft. `path`: accepted nodes, root to leaf. `emitted`: their ids and the extra one. `kind`: what the
    extra token is (`correction` after a refused draft, `bonus`, or `model` where nothing was drafted). `draft_ids`: the draft's tokens,
    read by the host. `logprobs` of the emitted tokens, in nats at temperature 1; `margins`: by how much a raw logit would have had to differ
    for another token to come out (greedy: first minus second; drawn by rejection: the same, though chance has the last word).
    `p`: of each node given its parent, under the law (greedy: raw). `rejected`: node index, p, q, draw of the refused draft, if any."""

    path: tuple[int, ...]
    emitted: tuple[int, ...]
    kind: str
    draft_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    margins: tuple[float, ...]
    p: tuple[float, ...]
    confidence: tuple[float | None, ...]
    rejected: dict[str, float | int] | None


class Law(Protocol):
    """One run's law with its noise."""

    name: str  # greedy | coupled | residual

    def draw(self, row: torch.Tensor, position: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """A draft model's own token at an answer position from its raw logits `(V,)`: 0-dim id on the row's device (never read by the
        host here) and the law it was drawn from `(V,)`, None where the draft is a function of the context (greedy, coupled)."""

    def walk(self, rows: torch.Tensor, draft: Draft, position: int) -> Walk:
        """Verify: `rows` `(k + 1, V)` float32 raw target logits, row 0 after the last committed token, row i + 1 after node i; `position`
        is the answer position of the first emitted token. Raises `ValueError` if a logit is not a number."""


def make_law(sampling: SamplingParams, kind: str) -> Law:
    """A run's law: `coupled` or `residual`, and `greedy` at temperature 0 whatever the kind."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}.")
    if sampling.temperature == 0:
        return Greedy()
    return Coupled(sampling) if kind == "coupled" else Residual(sampling)


class Greedy:
    """The argmax of the raw logits, the lowest id of equals. `walk` reads the device once."""

    name = "greedy"

    def draw(self, row: torch.Tensor, position: int) -> tuple[torch.Tensor, None]:
        return row.argmax(), None

    def walk(self, rows: torch.Tensor, draft: Draft, position: int) -> Walk:
        if not len(draft):
            return self._step(rows)
        facts = read(rows, draft)
        path, extra = descend(facts.ids, draft.parents, lambda row, depth: facts.best[row])
        p = tuple(math.exp(logprob) for logprob in facts.logprob)
        return _walk(facts, draft, path, extra, facts.best_logprob[path[-1] + 1 if path else 0], p)

    def _step(self, rows: torch.Tensor) -> Walk:
        """A plain step: the same facts, in a third of the time."""
        if len(rows) != 1:
            raise ValueError(f"rows must be one more than the draft's nodes (1), got {len(rows)}.")
        token, first, second, total = step_facts(rows[0])
        return Walk((), (token,), "model", (), (first - total,), (first - second,), (), (), None)


class Coupled:
    """The token at a position is argmax(p / e), e the position's own exponentials: the Gumbel-max trick with noise fixed beforehand.

    Draft and target use one row of noise, each on its own law, so they agree with probability at least (1 - TV) / (1 + TV).
    """

    name = "coupled"

    def __init__(self, sampling: SamplingParams) -> None:
        self._sampling = sampling
        self._noise = Noise(sampling.seed)

    def draw(self, row: torch.Tensor, position: int) -> tuple[torch.Tensor, None]:
        return self._winner(law_of(row, self._sampling), position)[0], None

    def walk(self, rows: torch.Tensor, draft: Draft, position: int) -> Walk:
        laws = Laws(rows, self._sampling)
        facts = read(rows, draft, laws.of_nodes(draft))
        self._noise.forget_before(position)
        extra, leads = Extra(rows, facts), []

        def wanted(row: int, depth: int) -> int:
            race = self._race(laws[row], position + depth)
            token = extra.read(row, race.argmax(0, keepdim=True), self._lead(race))
            leads.append(extra.more)
            return token

        path, token = descend(facts.ids, draft.parents, wanted)
        return replace(_walk(facts, draft, path, token, extra.logprob, facts.more[0]), margins=tuple(leads))

    def _winner(self, law: torch.Tensor, position: int) -> torch.Tensor:
        return self._race(law, position).argmax(0, keepdim=True)

    def _race(self, law: torch.Tensor, position: int) -> torch.Tensor:
        """`(V,)`: the greatest wins."""
        return law / self._noise.row(position, len(law), law.device)

    def _lead(self, race: torch.Tensor) -> torch.Tensor:
        """By how much a raw logit would have to change for another id to win, `(1,)`."""
        first, second = race.topk(min(2, len(race))).values[[0, -1]].clamp(min=TINY).log()
        return (self._sampling.temperature * (first - second))[None]


class Residual:
    """Drafts drawn from q are accepted with min(1, p/q); drafts that are a function of the text are accepted if a draw from p meets them,
    which is the same rule with a one-hot q. Every uniform number is fresh, from one CPU generator: without drafts the numbers, and so the
    ids, are those of `sampling.choose`."""

    name = "residual"

    def __init__(self, sampling: SamplingParams) -> None:
        self._sampling = sampling
        self._generator = torch.Generator().manual_seed(sampling.seed)

    def draw(self, row: torch.Tensor, position: int) -> tuple[torch.Tensor, torch.Tensor]:
        law = law_of(row, self._sampling)
        return invert(law, self._uniform())[0], law

    def walk(self, rows: torch.Tensor, draft: Draft, position: int) -> Walk:
        laws = Laws(rows, self._sampling)
        if draft.q is None or not len(draft):
            return self._match(rows, draft, laws)
        if draft.q.shape != rows[1:].shape:
            raise ValueError(f"q must have the shape of the drafted rows {tuple(rows[1:].shape)}, got {tuple(draft.q.shape)}.")
        return self._accept(rows, draft, laws)

    def _match(self, rows: torch.Tensor, draft: Draft, laws: Laws) -> Walk:
        """One-hot q: draw from p at each level, descend if a child is what came."""
        facts = read(rows, draft, laws.of_nodes(draft))
        extra = Extra(rows, facts)
        path, token = descend(facts.ids, draft.parents, lambda row, depth: extra.read(row, invert(laws[row], self._uniform())))
        return _walk(facts, draft, path, token, extra.logprob, facts.more[0])

    def _accept(self, rows: torch.Tensor, draft: Draft, laws: Laws) -> Walk:
        """A drawn chain: node by node until a uniform number says no, then what p has more of than q."""
        q_of_nodes = draft.q.gather(1, draft.tokens[:, None])[:, 0]  # (k,)
        facts = read(rows, draft, laws.of_nodes(draft), q_of_nodes)
        p, q = facts.more
        kept, rejected = 0, None
        while kept < len(draft) and rejected is None:
            draw = self._uniform().item()
            if draw * q[kept] < p[kept]:
                kept += 1
            else:
                rejected = {"node": kept, "p": p[kept], "q": q[kept], "draw": draw}
        law = laws[kept] if rejected is None else left_over(laws[kept], draft.q[kept])
        extra = Extra(rows, facts)
        token = extra.read(kept, invert(law, self._uniform()))
        return _walk(facts, draft, list(range(kept)), token, extra.logprob, p, rejected)

    def _uniform(self) -> torch.Tensor:
        return torch.rand((), dtype=torch.float64, generator=self._generator)


class Laws:
    """The final law after each row of a verified draft. Small rows without cuts go through one softmax, which gives each the bits that it
    would have alone; else a row's law is made when first asked for, since leaves are seldom reached."""

    def __init__(self, rows: torch.Tensor, sampling: SamplingParams) -> None:
        self._rows, self._sampling = rows, sampling
        self._all = None if cuts(sampling, rows.shape[1]) or apart(rows) else law_of(rows, sampling)
        self._made: dict[int, torch.Tensor] = {}

    def __getitem__(self, row: int) -> torch.Tensor:
        if self._all is not None:
            return self._all[row]
        if row not in self._made:
            self._made[row] = law_of(self._rows[row], self._sampling)
        return self._made[row]

    def of_nodes(self, draft: Draft) -> torch.Tensor:
        """Each node's probability given its parent, `(k,)`."""
        if self._all is not None or not len(draft):
            return self._rows.new_empty(0) if not len(draft) else of_nodes(self._all, draft)
        return torch.cat([self[parent + 1].gather(0, draft.tokens[node : node + 1]) for node, parent in enumerate(draft.parents)])


class Extra:
    """Reads a chosen id with its raw logit in one copy; remembers the last one's logprob."""

    def __init__(self, rows: torch.Tensor, facts: Facts) -> None:
        self._rows, self._facts = rows, facts
        self.logprob = self.more = 0.0

    def read(self, row: int, token: torch.Tensor, more: torch.Tensor | None = None) -> int:
        """The id (from a `(1,)` tensor) that the host may now know; `logprob` is then its own, in nats under the raw law; `more`, `(1,)`,
        travels along."""
        # never indexed with a 0-dim tensor: that reads the device once more
        token_id, value, *rest = torch.cat([token, self._rows[row].gather(0, token), *([] if more is None else [more])]).tolist()
        self.more = rest[0] if rest else 0.0
        self.logprob = value - self._facts.value[row] + self._facts.best_logprob[row]
        return int(token_id)


def law_of(logits: torch.Tensor, sampling: SamplingParams) -> torch.Tensor:
    """`sampling.final_probs` of raw logits `(V,)`, bit for bit, without a look at the device unless top-k or top-p cut something; without
    such cuts `(n, V)` will do too. Logits that are not numbers give no error here but a law of NaN."""
    if cuts(sampling, logits.shape[-1]):
        return final_probs(logits, sampling)
    logits = logits.float()
    return torch.softmax((logits - logits.amax(-1, keepdim=True)).div_(sampling.temperature), -1)


def cuts(sampling: SamplingParams, size: int) -> bool:
    """Whether more than the temperature shapes a law over `size` ids."""
    return sampling.top_p < 1 or 0 < sampling.top_k < size


def invert(law: torch.Tensor, draw: torch.Tensor) -> torch.Tensor:
    """The id, `(1,)`, at which a uniform number falls, as `sampling.choose` finds it: float64 on the law's device, the number from the CPU.
    `law` need not sum to 1."""
    cumulative = law.double().cumsum(0)
    total = cumulative[-1:]
    index = torch.searchsorted(cumulative, draw.to(cumulative.device) * total, right=True)
    return torch.minimum(index, torch.searchsorted(cumulative, total))


def left_over(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """max(0, p - q), which need not sum to 1. Where p and q agree up to rounding nothing is left, and p itself is as right."""
    more = (p - q).clamp_(min=0)
    return torch.where(more.any(), more, p)


def children(parents: Sequence[int]) -> list[list[int]]:
    """The children of each row: of the last committed token (row 0), then of every node (row i + 1)."""
    table: list[list[int]] = [[] for _ in range(len(parents) + 1)]
    for node, parent in enumerate(parents):
        table[parent + 1].append(node)
    return table


def descend(ids: Sequence[int], parents: Sequence[int], wanted: Callable[[int, int], int]) -> tuple[list[int], int]:
    """Follow the target's own choice `wanted(row, depth)` as long as a child has it; the accepted nodes and the first id without a child."""
    table, row, path = children(parents), 0, []
    while True:
        token = wanted(row, len(path))
        child = next((node for node in table[row] if ids[node] == token), None)
        if child is None:
            return path, token
        path.append(child)
        row = child + 1


def _walk(facts: Facts, draft: Draft, path: list[int], extra: int, extra_logprob: float, p: tuple[float, ...],
          rejected: dict[str, float | int] | None = None) -> Walk:  # fmt: skip
    rows = [0, *(node + 1 for node in path)]
    refused = next((node for node, parent in enumerate(draft.parents) if parent == rows[-1] - 1), None)
    if refused is not None and rejected is None:
        sure = facts.confidence[refused]
        rejected = {"node": refused, "p": p[refused], "q": 1.0 if sure is None else sure}
    kind = "model" if not len(draft) else "bonus" if refused is None else "correction"
    return Walk(
        path=tuple(path), emitted=(*(facts.ids[node] for node in path), extra), kind=kind, draft_ids=facts.ids,
        logprobs=(*(facts.logprob[node] for node in path), extra_logprob), margins=tuple(facts.margin[row] for row in rows),
        p=p, confidence=facts.confidence, rejected=rejected,
    )  # fmt: skip
