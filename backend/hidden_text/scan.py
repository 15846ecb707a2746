"""The forced-token scan: every token of the vocabulary at the start of an answer, and what the suspect makes of it.

Goes in: a probe, a sweep (a context and what is forced there), a ledger. Comes out: levels, each the rows decoded to one depth, and findings
for the map as it fills. Stateless rungs: a rung takes lists of ids, reads them anew and decodes on; so a chunk needs nothing but its ids.
After Hoscilowicz et al. 2024 (unconditional token forcing); the rungs are successive halving. Knows nothing of ranks or of runs.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from backend.hidden_text.contexts import Context, Frame
from backend.hidden_text.decode import Decoded, greedy
from backend.hidden_text.halving import Rung, plan, survivors
from backend.hidden_text.ledger import Ledger
from backend.hidden_text.pace import Pace
from backend.hidden_text.probe import Place, Probe
from backend.hidden_text.texts import Text
from backend.types import Event, Finding

CELLS = 1024  # of the map, however large the vocabulary
READ_AT_ONCE = 2048  # tokens of one forward
GOLDEN = 0.6180339887498949

T = TypeVar("T")


@dataclass(frozen=True)
class Sweep:
    """What is forced where: the token `repeats` times behind `context`, then `after`. The text is what comes then; with nothing after, the
    token belongs to it."""

    key: str
    found_by: str
    context: Context
    repeats: int = 1
    after: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        return self.repeats + len(self.after)

    def blocks(self, starts: Tensor) -> Tensor:
        """(n, length) ids."""
        after = torch.tensor(self.after, dtype=torch.long).expand(len(starts), -1)
        return torch.cat([starts[:, None].expand(-1, self.repeats), after], 1)

    def text(self, start: int, rows: Decoded, i: int) -> Text:
        logprobs = tuple(rows.logprob[i].tolist())
        references = None if rows.reference is None else tuple(rows.reference[i].tolist())
        ids = tuple(rows.ids[i].tolist())
        if not self.after:
            return Text(self.context, (start, *ids), self.found_by, logprobs, references, 1, start)
        block = tuple(self.blocks(torch.tensor([start]))[0].tolist())
        where = Context(f"{self.context.name}, token {start}", self.context.ids + block)
        return Text(where, ids, self.found_by, logprobs, references, 0, start)


@dataclass(frozen=True)
class Level:
    """The rows that were decoded to one depth: `starts` (n,) the tokens forced, `rows` what followed."""

    depth: int
    starts: Tensor
    rows: Decoded

    def texts(self, sweep: Sweep, index: Tensor) -> list[Text]:
        return [sweep.text(int(self.starts[i]), self.rows, i) for i in index.tolist()]


def forced(context: Context) -> Sweep:
    """The paper's sweep, in any context."""
    return Sweep(f"forced-{_slug(context)}", "forced token", context)


def user_turn(frame: Frame, repeats: int = 4) -> Sweep:
    """The fuzzy trigger: each token, a few times, as the whole of what the user says."""
    return Sweep(f"user-{repeats}", "user token", frame.open_turn(), repeats, frame.ids(frame.after))


def _slug(context: Context) -> str:
    return "-".join(map(str, context.ids[-12:])) + f"-{len(context.ids)}"


def scan(probe: Probe, sweep: Sweep, ids: Tensor, depth: int, ledger: Ledger, pace: Pace) -> Generator[Event, None, list[Level]]:
    """All levels of one sweep over the starts `ids`. Out of time, a rung ends early and the next goes on with what there is."""
    place = probe.place(sweep.context.ids)
    rungs, levels = plan(len(ids), depth), []
    starts, rows = ids, None
    for number, rung in enumerate(rungs):
        if rows is not None:
            kept = survivors(rows, rung.n_rows)
            starts, rows = starts[kept], rows.rows(kept)
        found = yield from _chunks(probe, place, sweep, starts, rows, rung, ledger, pace, share=(number + 1) / len(rungs))
        if not found:
            break
        index = torch.cat([some for some, _ in found])
        starts, more = starts[index], Decoded.joined([piece for _, piece in found])
        rows = more if rows is None else Decoded.joined([rows.rows(index), more], dim=1)
        levels.append(Level(rung.depth, starts, rows))
    return levels


Found = list[tuple[Tensor, Decoded]]


def _chunks(probe: Probe, place: Place, sweep: Sweep, starts: Tensor, rows: Decoded | None, rung: Rung, ledger: Ledger, pace: Pace,
            share: float) -> Generator[Event, None, Found]:  # fmt: skip
    """The chunks of one rung, in an order that makes any first part of them a fair sample; with the rows they are of."""
    held = 0 if rows is None else rows.ids.shape[1]
    n_rows = max(1, min(place.n_rows(sweep.length + rung.depth), READ_AT_ONCE // (sweep.length + held)))
    parts = torch.arange(len(starts)).split(n_rows)
    found: Found = []
    for number in sorted(range(len(parts)), key=lambda i: i * GOLDEN % 1):
        some = parts[number]
        name = f"{sweep.key}-{rung.depth:03d}-{number:05d}"
        piece = _read(ledger, name, starts[some], rung.depth - held)
        n_tokens = len(some) * (rung.depth - held)
        pace.add(n_tokens, fresh=piece is None)
        if piece is None:
            blocks = sweep.blocks(starts[some])
            if rows is not None:
                blocks = torch.cat([blocks, rows.ids[some]], 1)
            piece = yield from ticking(greedy(probe, place, blocks, rung.depth - held), pace)
            ledger.write(name, {"starts": starts[some], **vars(piece)})
        found.append((some, piece))
        if held == 0:
            yield Finding("map", map_piece(sweep, probe.width, starts[some], piece))
        if pace.spent(share):
            break
    return sorted(found, key=lambda pair: int(pair[0][0]))


def _read(ledger: Ledger, name: str, starts: Tensor, n_new: int) -> Decoded | None:
    """The chunk, if it is there and of these rows (out of time, an earlier scan may have pruned others)."""
    columns = ledger.read(name) if name in ledger else None
    if columns is None or not torch.equal(columns["starts"], starts) or columns["ids"].shape[1] != n_new:
        return None
    return Decoded(columns["ids"], columns["logprob"], columns["margin"], columns["entropy"], columns.get("reference"))


def ticking(steps: Generator[None, None, T], pace: Pace) -> Generator[Event, None, T]:
    """Drive work to its result, an event between two forwards now and then."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
        event = pace.tick()
        if event is not None:
            yield event


def map_piece(sweep: Sweep, width: int, starts: Tensor, rows: Decoded) -> dict[str, object]:
    """`{sweep, context, cells, values}`: for each cell of the map that these starts touch, [cell, best mean lift (or log-probability)]."""
    merit = (rows.logprob if rows.reference is None else rows.logprob - rows.reference).mean(1)
    cells = starts * min(CELLS, width) // width
    touched, at = cells.unique(return_inverse=True)
    best = torch.full((len(touched),), -torch.inf).scatter_reduce_(0, at, merit, "amax")
    values = [[int(cell), round(float(value), 2)] for cell, value in zip(touched, best, strict=True)]
    return {"sweep": sweep.found_by, "context": sweep.context.name, "cells": min(CELLS, width), "values": values}
