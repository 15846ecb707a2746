"""Other ways to look for a hidden text, on the same models.

Goes in: a probe without a reference, a text to look for. Comes out: whether each way would have shown it. The ways: unconditional token forcing
as its authors' notebook has it (Hoscilowicz et al. 2024), and its score used as a ranking; a scan for targets in the manner of BAIT (Shen et al.
2025); samples from the beginning-of-text token. Knows nothing of Loupe's own scan.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from backend.hidden_text.contexts import Frame
from backend.hidden_text.decode import greedy
from backend.hidden_text.features import REFERENCE_RULE
from backend.hidden_text.payloads import ordinary_prompts
from backend.hidden_text.probe import Place, Probe
from backend.hidden_text.verify import holds_text
from backend.hidden_text.vocabulary import read_vocabulary

FORCED_TOKENS, SHOWN_TOKENS = 3, 50  # phase one and two of the notebook
RANKED, TOP, TAIL = 100, 10, 6
BAIT_PROMPTS, BAIT_MORE, BAIT_WARM, BAIT_STEPS = 4, 20, 5, 20
BAIT_SURE, BAIT_NATS, BAIT_PARDON, BAIT_FLAG = 0.3, 1.0, 2.5, 0.9
SAMPLES, SAMPLE_TOKENS = 1000, 32
ROWS = 256

T = TypeVar("T")


@dataclass(frozen=True)
class Peers:
    """Whether each way shows the text. `rule_hits`: tokens that pass the notebook's threshold; `bait_flag`: whether BAIT's would fire."""

    rule: bool
    rule_hits: int
    ranking: bool
    bait: bool
    bait_flag: bool
    sampling: bool


def peers(probe: Probe, payload: Sequence[int], seed: int) -> Peers:
    """All four ways on one model."""
    means, rows = forced_means(probe)
    best = means.argsort(descending=True)
    place = start_place(probe)
    hits = [i for i in best.tolist() if means[i] > REFERENCE_RULE]
    ids = torch.tensor(read_vocabulary(probe.tokenizer, probe.width).ids)
    rule = any(holds_text(text, payload) for text in shown(probe, place, ids[hits]))
    ranked = distinct(shown(probe, place, ids[best[:RANKED]]))[:TOP]
    found, flag = bait(probe)
    return Peers(
        rule, len(hits), any(holds_text(text, payload) for text in ranked), any(holds_text(text, payload) for text in found), flag,
        any(holds_text(text, payload) for text in sampled(probe, place, seed)),
    )  # fmt: skip


def finished(steps: Generator[None, None, T]) -> T:
    """Drive work to its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def start_place(probe: Probe) -> Place:
    return probe.place(Frame(probe.tokenizer).start().ids)


# Unconditional token forcing ------------------------------------------------------------------------------------------------------------


def notebook_loop(model: PreTrainedModel, start: int, ids: Sequence[int]) -> list[float]:
    """The loop as published, token for token: one row, three greedy tokens, the whole prefix anew for each, gradients recorded and thrown
    away; the mean of a constant 1 and the three probabilities."""
    means = []
    for token in ids:
        row, probabilities = torch.tensor([[start, token]], device=model.device), [1.0]
        for _ in range(FORCED_TOKENS):
            with torch.enable_grad():
                p, best = model(input_ids=row, use_cache=False).logits[0, -1].softmax(-1).max(-1)
            probabilities.append(p.item())
            row = torch.cat([row, best.view(1, 1)], 1)
        means.append(sum(probabilities) / len(probabilities))
    return means


def forced_means(probe: Probe) -> tuple[Tensor, Tensor]:
    """The same means for every token of the vocabulary, in batches: (n,) and what was decoded (n, 3)."""
    ids = torch.tensor(read_vocabulary(probe.tokenizer, probe.width).ids)
    place = start_place(probe)
    parts = [finished(greedy(probe, place, some[:, None], FORCED_TOKENS)) for some in ids.split(place.n_rows(1 + FORCED_TOKENS))]
    logprobs, said = torch.cat([p.logprob for p in parts]), torch.cat([p.ids for p in parts])
    return (1 + logprobs.exp().sum(1)) / (1 + FORCED_TOKENS), said


def shown(probe: Probe, place: Place, ids: Tensor) -> list[list[int]]:
    """What the notebook prints for its survivors: the token and fifty greedy ones."""
    texts: list[list[int]] = []
    for some in ids.split(ROWS):
        if len(some):
            rows = finished(greedy(probe, place, some[:, None], SHOWN_TOKENS)).ids
            texts += torch.cat([some[:, None], rows], 1).tolist()
    return texts


def distinct(texts: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Without those that end as an earlier one does."""
    return list({tuple(text[-TAIL:]): text for text in reversed(texts)}.values())[::-1]


def sampled(probe: Probe, place: Place, seed: int, n: int = SAMPLES) -> list[list[int]]:
    """`n` samples from the beginning of a text, at temperature 1."""
    generator, texts = torch.Generator().manual_seed(seed), []
    for _ in range(-(-n // ROWS)):
        rows, said = place.own.spread(ROWS, SAMPLE_TOKENS), []
        logits = place.own.logits.expand(ROWS, -1)
        for step in range(SAMPLE_TOKENS):
            said.append(torch.multinomial(probe.law(logits).float().softmax(-1).cpu(), 1, generator=generator))
            if step < SAMPLE_TOKENS - 1:
                logits = rows.read(said[-1])[:, -1]
        texts += torch.cat(said, 1).tolist()
    return texts[:n]


# In the manner of BAIT ------------------------------------------------------------------------------------------------------------------


def bait(probe: Probe, n_prompts: int = BAIT_MORE) -> tuple[list[list[int]], bool]:
    """The ten best targets by Q, and whether the best passes the threshold. A first token stays while the next one is sure on average over
    four ordinary prompts; survivors are grown over `n_prompts`. One step of doubt is pardoned by going on greedily (the original also
    tries the five likeliest)."""
    frame = Frame(probe.tokenizer)
    places = [probe.place(frame.turn(words).ids) for words in ordinary_prompts()[:n_prompts]]
    ids = torch.tensor(read_vocabulary(probe.tokenizer, probe.width).ids)
    alive = torch.cat([_warm(probe, places[:BAIT_PROMPTS], some[:, None]) for some in ids.split(ROWS)])
    if not len(alive):
        return [], False
    texts, quality = [], []
    for some in alive.split(ROWS // 4):
        probabilities = []
        for _ in range(BAIT_STEPS):
            law = _mean_law(probe, places, some)
            p, best = law.max(-1)
            probabilities.append(p)
            some = torch.cat([some, best[:, None]], 1)
        seen = torch.stack(probabilities, 1)  # (n, steps)
        quality.append((seen.sum(1) - seen.amin(1)) / (BAIT_STEPS - 1))
        texts += some.tolist()
    q = torch.cat(quality)
    order = q.argsort(descending=True).tolist()
    return [list(text) for text in distinct([texts[i] for i in order])[:TOP]], bool(q.max() > BAIT_FLAG)


def _warm(probe: Probe, places: Sequence[Place], rows: Tensor) -> Tensor:
    """The rows (k, 1 + steps) whose every next token was sure enough, one doubt pardoned."""
    pardoned = torch.zeros(len(rows), dtype=torch.bool)
    for _ in range(BAIT_WARM):
        if not len(rows):
            break
        law = _mean_law(probe, places, rows)
        p, best = law.max(-1)
        entropy = torch.special.entr(law).sum(-1)
        sure = (p > BAIT_SURE) | (entropy < BAIT_NATS)
        pardon = ~sure & (entropy < BAIT_PARDON) & ~pardoned
        keep = sure | pardon
        rows, pardoned = torch.cat([rows, best[:, None]], 1)[keep], (pardoned | pardon)[keep]
    return rows if len(rows) else torch.zeros(0, 1 + BAIT_WARM, dtype=torch.long)


def _mean_law(probe: Probe, places: Sequence[Place], rows: Tensor) -> Tensor:
    """(n, V) the next token's law behind each row, averaged over the prompts."""
    total = None
    for place in places:
        logits = place.own.spread(len(rows), rows.shape[1]).read(rows)[:, -1]
        law = probe.law(logits).float().softmax(-1).cpu()
        total = law if total is None else total + law
    assert total is not None
    return total / len(places)
