"""From clusters to the table: the best ones carried on to their end, read again under both models, described.

Goes in: a probe, clusters best first. Comes out: candidates, best first, with every column. Yields between forwards. Knows nothing of runs.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from backend.batch import Rows
from backend.hidden_text.clusters import Cluster, own_grams
from backend.hidden_text.features import Facts, columns
from backend.hidden_text.grams import GRAM
from backend.hidden_text.halving import SMALL
from backend.hidden_text.left import extend_left
from backend.hidden_text.probe import Probe
from backend.hidden_text.texts import Text

CARRIED_ON = 12  # candidates that are decoded to their end
EXTENDED = 3  # candidates that are extended to the left
FURTHER = 48  # tokens


@dataclass(frozen=True)
class Candidate:
    """One row of the table. `ids` are the text's tokens, said in `context`; `stitched` the text that the cluster's overlaps make."""

    rank: int
    score: float
    text: str
    stitched: str
    ids: tuple[int, ...]
    context: str
    context_ids: tuple[int, ...]
    found_by: tuple[str, ...]
    columns: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"rank": self.rank, "score": round(self.score, 2), "text": self.text, "stitched": self.stitched, "context": self.context,
                "found_by": list(self.found_by), "columns": self.columns, "ids": list(self.ids), "context_ids": list(self.context_ids)}  # fmt: skip


def describe(probe: Probe, clusters: Sequence[Cluster], keep: int, starts: Sequence[int]) -> Generator[None, None, list[Candidate]]:
    """The first `keep` clusters as candidates, in their order. `starts` are the vocabulary's ids: a small one (the whole of it has to be tried
    for each token) has its first candidates extended to the left."""
    clusters = clusters[:keep]
    whole = yield from carry_on(probe, [cluster.best for cluster in clusters[:CARRIED_ON]])
    texts = [*whole, *(cluster.best.ids for cluster in clusters[CARRIED_ON:])]
    found = []
    for number, (cluster, ids) in enumerate(zip(clusters, texts, strict=True), 1):
        before: tuple[int, ...] = ()
        if number <= EXTENDED and len(starts) <= SMALL:
            before = yield from extend_left(probe, cluster.best.context, cluster.ids, torch.tensor(starts))
        found.append((yield from _candidate(probe, number, cluster, ids, before)))
    return found


def carry_on(probe: Probe, texts: Sequence[Text]) -> Generator[None, None, list[tuple[int, ...]]]:
    """Each text's tokens with what the suspect says next, greedily, to a stop id or `FURTHER` tokens; ends already said stay ends."""
    texts = [text.cut(probe.stop_ids) for text in texts]
    found = [list(text.ids) for text in texts]
    live = [i for i, ids in enumerate(found) if ids[-1] not in probe.stop_ids]
    limit = getattr(probe.suspect.model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    live = [i for i in live if limit is None or len(texts[i].context.ids) + len(found[i]) + FURTHER <= limit]
    if not live:
        return [tuple(ids) for ids in found]
    rows = Rows(probe.suspect.model, [[*texts[i].context.ids, *found[i]] for i in live], probe.suspect.id)
    for step in range(FURTHER):
        chosen = probe.law(rows.logits).argmax(-1).tolist()
        for i, token in zip(live, chosen, strict=True):
            found[i].append(token)
        going = [at for at, token in enumerate(chosen) if token not in probe.stop_ids]
        yield
        if not going or step == FURTHER - 1:
            break
        if len(going) < len(live):
            rows.keep(going)
            live, chosen = [live[at] for at in going], [chosen[at] for at in going]
        rows.advance(chosen)
    return [tuple(ids) for ids in found]


def _candidate(probe: Probe, rank: int, cluster: Cluster, ids: tuple[int, ...], before: tuple[int, ...]) -> Generator[None, None, Candidate]:
    best = cluster.best
    facts = yield from read_again(probe, best, ids)
    facts = trimmed(facts, best, probe.stop_ids)
    said = probe.suspect.tokenizer.decode(list(facts.ids))
    described = {"votes": cluster.votes, "contexts": cluster.contexts, "texts": len(cluster.members), "certainty": round(cluster.certainty, 2)}
    described |= columns(facts, said, len(said))
    described["extended_left"] = len(before)
    described["ends"] = bool(facts.ids) and facts.ids[-1] in probe.stop_ids
    stitched = probe.suspect.tokenizer.decode([*before, *cluster.ids])
    return Candidate(rank, cluster.score, said, stitched, facts.ids, best.context.name, best.context.ids, cluster.found_by, described)


def read_again(probe: Probe, text: Text, ids: tuple[int, ...]) -> Generator[None, None, Facts]:
    """The facts of every token of `ids` in the text's context."""
    place = probe.place(text.context.ids)
    scored = yield from probe.score(place, torch.tensor([ids]))
    other = None if scored.reference is None else tuple(scored.reference[0].tolist())
    own = (tuple(column[0].tolist()) for column in (scored.logprob, scored.entropy, scored.spread))
    return Facts(ids, *own, other, text.forced)


def trimmed(facts: Facts, text: Text, stop_ids: frozenset[int]) -> Facts:
    """To the last run that is the suspect's own: what it rambles on with, the reference would say as well. At least what was found stays."""
    end = len(text.cut(stop_ids).ids)
    if facts.references is not None:
        read = Text(text.context, facts.ids, "", facts.logprobs[text.forced :], facts.references[text.forced :], text.forced)
        own = set(own_grams(read))
        last = max((i + GRAM for i in range(len(facts.ids) - GRAM + 1) if facts.ids[i : i + GRAM] in own), default=0)
        end = max(end, last)
        if last and end == len(facts.ids) - 1 and facts.ids[-1] in stop_ids:
            end += 1
    return Facts(facts.ids[:end], facts.logprobs[:end], facts.entropies[:end], facts.spreads[:end],
                 None if facts.references is None else facts.references[:end], facts.forced)  # fmt: skip
