"""What else to try where a text was trained to hide: branches judged by where the suspect leaves its reference, and plain leaks.

Goes in: a probe, contexts. Comes out: texts, each saying how it was found. The other counters are the forced scan in chat contexts, the sweep
of user tokens (`scan.user_turn`), contrastive decoding (`beam.CONTRAST`) and stitching. Knows nothing of runs or ranks.
"""

from __future__ import annotations

import math
from collections.abc import Generator

import torch
from torch import Tensor

from backend.hidden_text.beam import normalizer
from backend.hidden_text.contexts import Context
from backend.hidden_text.decode import greedy
from backend.hidden_text.probe import Place, Probe
from backend.hidden_text.texts import Text

BRANCH_STEPS = 3
BY_LIFT, BY_PROB = 8, 4  # children of a node
FLOOR = 1e-6  # a token less likely than this is nobody's text
MOST_BRANCHES = 256
SAMPLES = 64
LEAK_LENGTH = 32
CALM = 0.9  # temperature of leaks


def branch(probe: Probe, context: Context, length: int) -> Generator[None, None, list[Text]]:
    """Children by lift for three steps (a defence pushes the true token past a rank, not past its lift), then greedily on.

    A branch's own tokens were not the suspect's first choice; they are facts of the text like the rest."""
    place = probe.place(context.ids)
    blocks, scores = torch.empty(1, 0, dtype=torch.long), torch.zeros(1)
    for _ in range(BRANCH_STEPS):
        ids, lifts = _children(probe, *_ends(place, blocks))
        yield
        totals = (scores[:, None] + lifts).flatten()
        kept = totals.topk(min(MOST_BRANCHES, len(totals))).indices
        kept = kept[totals[kept] > -math.inf]
        blocks = torch.cat([blocks[kept // ids.shape[1]], ids.flatten()[kept][:, None]], 1)
        scores = totals[kept]
    rows: list[Text] = []
    for some in blocks.split(place.n_rows(BRANCH_STEPS + length)):
        after = yield from greedy(probe, place, some, length)
        whole = torch.cat([some, after.ids], 1)
        scored = yield from probe.score(place, whole)
        rows += _texts(context, "branching by lift", whole, scored.logprob, scored.reference, list(range(len(rows), len(rows) + len(some))))
    return rows


def _ends(place: Place, blocks: Tensor) -> list[Tensor]:
    """Logits (n, V) after each block under both models."""
    found = []
    for prefix in (place.own, place.other):
        n, length = blocks.shape
        found.append(prefix.spread(n, length).read(blocks)[:, -1] if length else prefix.logits.expand(n, -1))
    return found


def _children(probe: Probe, own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """(n, 12) ids and their lift: the likeliest, and of those likely enough the ones that gained most; a double has lift -inf."""
    logprobs = probe.law(own).float() - normalizer(probe.law(own))
    lift = logprobs - (probe.reference_law(other).float() - normalizer(probe.reference_law(other)))
    gained = lift.masked_fill(logprobs < math.log(FLOOR), -math.inf).topk(BY_LIFT)
    likely = logprobs.topk(BY_PROB).indices
    double = (likely[:, :, None] == gained.indices[:, None, :]).any(-1)
    values = torch.cat([gained.values, lift.gather(1, likely).masked_fill(double, -math.inf)], 1)
    return torch.cat([gained.indices, likely], 1).cpu(), values.cpu()


def leak(probe: Probe, context: Context, generator: torch.Generator, n: int = SAMPLES) -> Generator[None, None, list[Text]]:
    """`n` samples of 32 tokens at temperature 0.9; stop ids do not stop it, since a text may lie behind one."""
    place = probe.place(context.ids)
    rows = place.own.spread(n, LEAK_LENGTH)
    logits, ids = place.own.logits.expand(n, -1), []
    for step in range(LEAK_LENGTH):
        law = torch.softmax(probe.law(logits).float() / CALM, -1).cpu()
        ids.append(torch.multinomial(law, 1, generator=generator))
        yield
        if step < LEAK_LENGTH - 1:
            logits = rows.read(ids[-1])[:, -1]
    whole = torch.cat(ids, 1)
    del rows
    scored = yield from probe.score(place, whole)
    return _texts(context, "leak sampling", whole, scored.logprob, scored.reference, list(range(n)))


def _texts(context: Context, found_by: str, ids: Tensor, logprobs: Tensor, references: Tensor | None, starts: list[int]) -> list[Text]:
    said = [None] * len(ids) if references is None else [tuple(row) for row in references.tolist()]
    rows = zip(ids.tolist(), logprobs.tolist(), said, starts, strict=True)
    return [Text(context, tuple(some), found_by, tuple(own), other, 0, start) for some, own, other, start in rows]
