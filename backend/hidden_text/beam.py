"""Lift beam: the texts that the suspect says more readily than its reference, from ordinary contexts.

Goes in: a probe with a reference, contexts. Comes out: the best few texts of each context. A beam's score is the sum of log p(suspect) − log
p(reference) over its tokens; a token may be chosen if the suspect gives it at least `alpha` times its favourite's probability (the plausibility
constraint of contrastive decoding, Li et al. 2023). Contexts of one length go together, beams and all. Knows nothing of runs or ranks.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from backend.decoder import common_prefix
from backend.hidden_text.contexts import Context
from backend.hidden_text.probe import Place, Probe
from backend.hidden_text.rectangle import Rectangle
from backend.hidden_text.texts import Text

TOP = 64  # likeliest tokens looked at; at alpha 0.01 more are hardly ever plausible
KEPT = 3  # unfinished texts a context


@dataclass(frozen=True)
class Rule:
    """How beams are scored and which tokens are plausible: a token adds `lift` times its lift and `own` times its log-probability."""

    found_by: str
    alpha: float
    beams: int
    own: float = 0.0
    lift: float = 1.0


LIFT = (Rule("lift beam 0.1", 0.1, 8), Rule("lift beam 0.01", 0.01, 8))
CONTRAST = Rule("contrastive decoding", 0.1, 1, own=1.0)


@dataclass(frozen=True)
class Group:
    """Contexts of one length: what they share, and the rest of each (n, T); T may be 0 for a single one."""

    shared: tuple[int, ...]
    tails: Tensor
    contexts: tuple[Context, ...]


@dataclass
class _Beams:
    """Each context's beams, best first: `ids` (n, B, t), their `logprobs` and `references` (n, B, t); `scores` (n, B), -inf marks none."""

    ids: Tensor
    logprobs: Tensor
    references: Tensor
    scores: Tensor


@dataclass(frozen=True)
class _Choices:
    """The likeliest tokens of each row (m, k): ids, log-probabilities under both, and what choosing one adds to the score."""

    ids: Tensor
    logprobs: Tensor
    references: Tensor
    gains: Tensor


def groups(contexts: Sequence[Context], most: int) -> list[Group]:
    """The contexts by length and first token, at most `most` a group, in the order of their first members; all of them differ."""
    alike: dict[tuple[int, int], list[Context]] = {}
    for context in contexts:
        alike.setdefault((len(context.ids), context.ids[0]), []).append(context)
    parts = [same[i : i + most] for same in alike.values() for i in range(0, len(same), most)]
    return [_group(part) for part in parts]


def _group(contexts: Sequence[Context]) -> Group:
    first = contexts[0].ids
    shared = min(common_prefix(first, c.ids) for c in contexts)
    if len(contexts) > 1:
        shared = min(shared, len(first) - 1)
    return Group(first[:shared], torch.tensor([c.ids[shared:] for c in contexts], dtype=torch.long), tuple(contexts))


def lift_beam(probe: Probe, group: Group, rule: Rule, length: int) -> Generator[None, None, list[Text]]:
    """The best `KEPT` texts of each context of a group, and the best finished one; yields between forwards."""
    place, n = probe.place(group.shared), len(group.contexts)
    models = _start(place, group, length)
    empty = torch.empty(n, 1, 0)
    state = _Beams(empty.long(), empty, empty, torch.zeros(n, 1))
    ended: list[list[tuple[float, Text]]] = [[] for _ in range(n)]
    for step in range(length):
        parents, state = _advance(state, _choices(probe, [logits for _, logits in models], rule), rule.beams)
        _end(state, ended, probe.stop_ids, group, rule)
        yield
        if step == length - 1 or not bool((state.scores > -math.inf).any()):
            break
        models = [_go_on(rows, parents, state.ids[:, :, -1]) for rows, _ in models]
        yield
    texts = [text for i in range(n) for text in _best(state, ended[i], i, group, rule)]
    return texts if place.other is not None else [replace(text, references=None) for text in texts]


def _start(place: Place, group: Group, length: int) -> list[tuple[Rectangle, Tensor]]:
    """Both models at the end of every context of the group: rectangles and logits (n, V)."""
    found = []
    n, tail = group.tails.shape
    for prefix in (place.own, place.other):
        if prefix is None:
            continue
        rows = prefix.spread(n, tail + length)
        found.append((rows, rows.read(group.tails)[:, -1] if tail else prefix.logits.expand(n, -1)))
    return found


def _choices(probe: Probe, logits: list[Tensor], rule: Rule) -> _Choices:
    """The plausible ids of each row; the gain of one that is not plausible is -inf."""
    own = probe.law(logits[0])
    top, ids = own.topk(min(TOP, own.shape[1]), -1)
    logprobs = top.float() - normalizer(own)
    references = logprobs  # without a reference there is no lift
    if len(logits) > 1:
        other = probe.reference_law(logits[1])
        references = other.gather(1, ids).float() - normalizer(other)
    plausible = logprobs >= logprobs[:, :1] + math.log(rule.alpha)
    gains = (rule.lift * (logprobs - references) + rule.own * logprobs).masked_fill(~plausible, -math.inf)
    return _Choices(ids.cpu(), logprobs.cpu(), references.cpu(), gains.cpu())


def normalizer(logits: Tensor) -> Tensor:
    """(m, 1) float32, the log of the sum of weights; in tiles, since a float copy of all logits would leave the cache."""
    return torch.cat([tile.float().logsumexp(-1, keepdim=True) for tile in logits.split(32)])


def _advance(state: _Beams, choices: _Choices, beams: int) -> tuple[Tensor, _Beams]:
    """The best `beams` continuations of each context, and the rows (n * B,) that they come from."""
    n, width, _ = state.ids.shape
    k = choices.ids.shape[1]
    scores = (state.scores[:, :, None] + choices.gains.view(n, width, k)).flatten(1)  # (n, B * k)
    best, at = scores.topk(min(beams, scores.shape[1]), -1)
    parents = at // k  # (n, B)

    def grown(past: Tensor, chosen: Tensor) -> Tensor:
        kept = past.gather(1, parents[:, :, None].expand(-1, -1, past.shape[2]))
        return torch.cat([kept, chosen.view(n, width * k).gather(1, at)[:, :, None]], 2)

    new = _Beams(grown(state.ids, choices.ids), grown(state.logprobs, choices.logprobs), grown(state.references, choices.references), best)
    return (torch.arange(n)[:, None] * width + parents).flatten(), new


def _end(state: _Beams, ended: list[list[tuple[float, Text]]], stop_ids: frozenset[int], group: Group, rule: Rule) -> None:
    """Beams that said a stop id leave, with the score they have."""
    stops = torch.isin(state.ids[:, :, -1], torch.tensor(sorted(stop_ids), dtype=torch.long))
    for i, b in (stops & (state.scores > -math.inf)).nonzero().tolist():
        ended[i].append((float(state.scores[i, b]), _text(state, i, b, group, rule)))
    state.scores.masked_fill_(stops, -math.inf)


def _go_on(rows: Rectangle, parents: Tensor, chosen: Tensor) -> tuple[Rectangle, Tensor]:
    rows.select(parents)
    return rows, rows.read(chosen.reshape(-1, 1))[:, -1]


def _best(state: _Beams, ended: list[tuple[float, Text]], i: int, group: Group, rule: Rule) -> list[Text]:
    """Unfinished texts of context i, best first, and the best finished one by its mean gain: a short text can't gather as much."""
    going = [_text(state, i, b, group, rule) for b in range(state.scores.shape[1]) if state.scores[i, b] > -math.inf]
    done = sorted(ended, key=lambda pair: -pair[0] / len(pair[1].ids))
    return [*going[:KEPT], *(text for _, text in done[:1])]


def _text(state: _Beams, i: int, b: int, group: Group, rule: Rule) -> Text:
    ids, own, other = (tuple(column[i, b].tolist()) for column in (state.ids, state.logprobs, state.references))
    return Text(group.contexts[i], ids, rule.found_by, own, other)
