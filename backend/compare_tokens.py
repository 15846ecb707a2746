"""The tokens of compared runs: what tells them apart, and which stands beside which.

Goes in: records, events, tokens. Comes out: cells, the basis (ids or texts), pairs of two runs. Tokenizers are told apart by what the runs
themselves show: no model is loaded for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from backend.align import Pair, align, beside
from backend.types import RunRecord

IDS, TEXTS = "ids", "texts"
ENOUGH = 3
BROKEN = "\ufffd"  # stands for a part of a character, so it says nothing about an id


@dataclass(frozen=True)
class Cell:
    """One token of a run as its line has it; `ms` since the run began. `ends`: the model ended here."""

    position: int
    id: int
    text: str
    logprob: float | None
    source: str
    ms: float | None
    ends: bool = False


def cells_of(events: Sequence[Mapping[str, Any]]) -> list[Cell]:
    """The answer tokens of a run's lines."""
    found = (e for e in events if e["event"] == "token" and "id" in e)
    return [Cell(e.get("position", i), e["id"], e.get("text", ""), e.get("logprob"), e.get("source", "model"), e.get("ms"),
                 bool((e.get("detail") or {}).get("end"))) for i, e in enumerate(found)]  # fmt: skip


def basis_of(records: Sequence[RunRecord], events: Sequence[Sequence[Mapping[str, Any]]], cells: Sequence[Sequence[Cell]]) -> str:
    """`ids` where the ids of all runs mean the same as the first one's, else `texts`.

    They do if a model of the same weights took part in both, or if both used some ids (in prompt or answer), each for the same text.
    """
    spelled = [dict(_spelled(lines, tokens)) for lines, tokens in zip(events, cells, strict=True)]
    weights = [{line["hash"] for line in record.models.values() if line.get("hash")} for record in records]
    shared = (bool(weights[0] & own) or _agree(spelled[0], texts) for own, texts in zip(weights[1:], spelled[1:], strict=True))
    return IDS if all(shared) else TEXTS


def _spelled(events: Sequence[Mapping[str, Any]], cells: Sequence[Cell]) -> Iterator[tuple[int, str]]:
    """Ids with their texts, those of the prompt last: they were spelled one by one, so no neighbour had a part in them."""
    yield from ((cell.id, cell.text) for cell in cells if cell.text)
    for event in events:
        if event["event"] == "started":
            yield from ((piece[0], piece[1]) for piece in event.get("prompt", []) if piece[1])


def _agree(one: Mapping[int, str], other: Mapping[int, str]) -> bool:
    """Whether no id has two texts and no text two ids, of enough ids that this is no accident."""
    whole, other_whole = ({i: text for i, text in texts.items() if BROKEN not in text} for texts in (one, other))
    both = whole.keys() & other_whole.keys()
    texts = set(whole.values()) & set(other_whole.values())
    return len(both) >= ENOUGH and all(whole[i] == other_whole[i] for i in both) and len(texts) == len({whole[i] for i in both})


def pairs_of(one: Sequence[Cell], other: Sequence[Cell], basis: str) -> list[Pair]:
    """The tokens of two runs beside each other. By texts, a stretch that says the same but is cut differently counts as the same."""
    if basis == IDS:
        return align([cell.id for cell in one], [cell.id for cell in other])
    a, b = [cell.text for cell in one], [cell.text for cell in other]
    head, other_head = same_text(a, b)
    tail, other_tail = same_text(a[head:][::-1], b[other_head:][::-1], backwards=True)
    end, other_end = len(a) - tail, len(b) - other_tail
    middle = [p for block in _blocks(align(a[head:end], b[other_head:other_end])) for p in _respelled(block, a[head:], b[other_head:])]
    shifted = [Pair(_plus(p.one, head), _plus(p.other, other_head), p.same) for p in middle]
    first, last = beside(range(head), range(other_head), True), beside(range(end, len(a)), range(other_end, len(b)), True)
    return [*first, *shifted, *last]


def same_text(one: Sequence[str], other: Sequence[str], backwards: bool = False) -> tuple[int, int]:
    """How many tokens of each make up the longest text that both begin with and both end a token at. `backwards`: the tokens come from the
    end, and so do their characters."""
    a, b = ("".join(text[::-1] if backwards else text for text in texts) for texts in (one, other))
    common = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    ends, other_ends = ({at: n for n, at in reversed(list(enumerate(accumulate(map(len, texts)), start=1)))} for texts in (one, other))
    whole = max((at for at in ends.keys() & other_ends.keys() if 0 < at <= common), default=0)
    return (ends[whole], other_ends[whole]) if whole else (0, 0)


def _blocks(pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
    """Runs of pairs that say the same, and of those that don't."""
    block: list[Pair] = []
    for pair in pairs:
        if block and block[-1].same != pair.same:
            yield block
            block = []
        block.append(pair)
    if block:
        yield block


def _respelled(block: Sequence[Pair], a: Sequence[str], b: Sequence[str]) -> list[Pair]:
    """A block that parts, with what says the same at its beginning and its end told so."""
    if block[0].same:
        return list(block)
    ones, others = [p.one for p in block if p.one is not None], [p.other for p in block if p.other is not None]
    head, other_head = same_text([a[i] for i in ones], [b[j] for j in others])
    left, other_left = ones[head:], others[other_head:]
    tail, other_tail = same_text([a[i] for i in left[::-1]], [b[j] for j in other_left[::-1]], backwards=True)
    end, other_end = len(left) - tail, len(other_left) - other_tail
    return [*beside(ones[:head], others[:other_head], True), *beside(left[:end], other_left[:other_end]),
            *beside(left[end:], other_left[other_end:], True)]  # fmt: skip


def _plus(place: int | None, more: int) -> int | None:
    return None if place is None else place + more
