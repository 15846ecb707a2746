"""Two to four runs beside each other: where their tokens part, what was asked differently, what the figures say.

Goes in: run records with their lines, the reference first. Comes out: a `Comparison`, and its JSON. Reads what the runs' own lines say and
works nothing out anew; one run each, so nothing is claimed about speed. Doesn't know where the records come from or how it is shown.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from backend import compare_words
from backend.align import Column, Pair, columns
from backend.compare_settings import Setting, alike, differing
from backend.compare_tokens import Cell, basis_of, cells_of, pairs_of
from backend.errors import InvalidRequest
from backend.figures import plain_figures
from backend.types import RunRecord

LEAST_RUNS, MOST_RUNS = 2, 4
MOST_TOKENS = 2_000  # of each run: four of them align in a fraction of a second, and a page can still show them


@dataclass(frozen=True)
class Side:
    """One run of a comparison. `cut`: tokens left out of the alignment because there are too many. `n_differing` columns in which it parts
    from the reference, the first after `first_difference` tokens of its own (None: it doesn't)."""

    run: str
    method: str
    lane: str
    models: str
    status: str
    at: str
    prompt: str
    error: str | None
    ended: str
    n_tokens: int
    seconds: float | None
    ms_per_token: float | None
    device: str | None
    cut: int = 0
    n_differing: int = 0
    first_difference: int | None = None

    @property
    def finished(self) -> bool:
        return self.status == "completed"


@dataclass(frozen=True)
class Aligned:
    """One aligned column: a token a run or None, and which runs part from the first one here."""

    cells: tuple[Cell | None, ...]
    parts: tuple[bool, ...]

    @property
    def differs(self) -> bool:
        return any(self.parts)


@dataclass(frozen=True)
class Figure:
    """One row of the table of figures, a value a run."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class FoundKind:
    """Findings of one kind: how many each run has, and how many of them are word for word among the reference's."""

    kind: str
    counts: tuple[int, ...]
    shared: tuple[int, ...]

    @property
    def same(self) -> bool:
        return len({*self.counts, *self.shared}) == 1


@dataclass(frozen=True)
class Comparison:
    """What comparing these runs says. `basis`: whether tokens are told apart by their ids or, for models that cut text differently, by
    their texts. `settings` differ, those in `same` don't."""

    sentence: str
    sides: tuple[Side, ...]
    basis: str
    columns: tuple[Aligned, ...]
    settings: tuple[Setting, ...]
    same: Mapping[str, Any]
    figures: tuple[Figure, ...]
    findings: tuple[FoundKind, ...]

    @property
    def differences(self) -> list[int]:
        """The columns in which a run parts from the reference."""
        return [i for i, column in enumerate(self.columns) if column.differs]


def compare(records: Sequence[RunRecord], defaults: Mapping[str, Mapping[str, Any]] | None = None) -> Comparison:
    """Compare two to four runs of any methods with the first of them; raises `InvalidRequest` for another number.

    `defaults`: by method, the options that a request leaves out; without them an option that only one run names counts as different.
    """
    if not LEAST_RUNS <= len(records) <= MOST_RUNS:
        raise InvalidRequest(f"A comparison takes between {LEAST_RUNS} and {MOST_RUNS} runs, got {len(records)}.", "runs")
    events = [record.events() for record in records]
    tokens = [cells_of(found) for found in events]
    compared = [cells[:MOST_TOKENS] for cells in tokens]
    basis = basis_of(records, events, compared)
    aligned = _aligned(compared, [pairs_of(compared[0], other, basis) for other in compared[1:]])
    ends = [next((e for e in reversed(found) if e["event"] in ("done", "failed")), {}) for found in events]
    sides = tuple(_side(i, *of_run, aligned) for i, of_run in enumerate(zip(records, tokens, ends, strict=True)))
    settings, findings = differing(records, defaults or {}), _findings(events)
    sentence = compare_words.sentence(sides, settings, findings, _same_tokens(compared))
    figures = _figures(sides, [end.get("stats") or record.stats for end, record in zip(ends, records, strict=True)])
    return Comparison(sentence, sides, basis, aligned, settings, alike(records, defaults or {}), figures, findings)


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON: what the page draws, the command line prints and the endpoint answers."""
    columns = [{"tokens": [cell and vars(cell) for cell in column.cells], "parts": list(column.parts)} for column in comparison.columns]
    rows = {name: [asdict(row) for row in getattr(comparison, name)] for name in ("sides", "settings", "figures", "findings")}
    return {"sentence": comparison.sentence, "basis": comparison.basis, **rows, "same": dict(comparison.same), "columns": columns,
            "differences": comparison.differences}  # fmt: skip


def _aligned(compared: Sequence[Sequence[Cell]], pairs: Sequence[Sequence[Pair]]) -> tuple[Aligned, ...]:
    def filled(column: Column) -> Aligned:
        cells = tuple(None if place is None else compared[k][place] for k, place in enumerate(column.places))
        return Aligned(cells, column.parts)

    return tuple(filled(column) for column in columns(len(compared[0]), pairs))


def _same_tokens(compared: Sequence[Sequence[Cell]]) -> tuple[bool, ...]:
    """Which runs have the very tokens of the first, id for id and text for text."""
    spelled = [[(cell.id, cell.text) for cell in cells] for cells in compared]
    return tuple(one == spelled[0] for one in spelled)


def _side(i: int, record: RunRecord, cells: Sequence[Cell], end: Mapping[str, Any], aligned: Sequence[Aligned]) -> Side:
    parted = [n for n, column in enumerate(aligned) if column.parts[i]]
    return Side(
        run=record.id, method=record.request.method, lane=record.lane or "", models=", ".join(record.request.models.values()),
        status=record.status, at=record.created_at, prompt=record.request.prompt.text, error=record.error,
        ended=end.get("finish_reason") or ("failed" if end else record.status), n_tokens=len(cells),
        seconds=_seconds(record, cells), ms_per_token=_ms_per_token(cells, end),
        device=record.device, cut=max(0, len(cells) - MOST_TOKENS), n_differing=len(parted),
        first_difference=sum(column.cells[i] is not None for column in aligned[: parted[0]]) if parted else None,
    )  # fmt: skip


def _seconds(record: RunRecord, cells: Sequence[Cell]) -> float | None:
    """How long it took; of a recording, which has no row, the time of its last token."""
    ms = record.duration_ms if record.duration_ms is not None else max((c.ms for c in cells if c.ms is not None), default=None)
    return None if ms is None else ms / 1000


def _ms_per_token(cells: Sequence[Cell], end: Mapping[str, Any]) -> float | None:
    """The method's own figure, else the time from the first token to the last; None where there is no such time."""
    own = (end.get("stats") or {}).get("ms_per_token")
    if isinstance(own, (int, float)):
        return own
    times = [cell.ms for cell in cells if cell.ms is not None]
    return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 and times[-1] > times[0] else None


def _figures(sides: Sequence[Side], stats: Sequence[Any]) -> tuple[Figure, ...]:
    """What every run has first, then what the methods themselves counted."""
    common = {
        "ended": [side.ended for side in sides], "tokens": [side.n_tokens for side in sides],
        "tokens that differ from run 1": [None, *(side.n_differing for side in sides[1:])],
        "first difference at token": [None, *(side.first_difference for side in sides[1:])],
        "seconds": [None if side.seconds is None else round(side.seconds, 3) for side in sides],
        "ms a token": [side.ms_per_token for side in sides],
        "tokens a second": [1000 / side.ms_per_token if side.ms_per_token else None for side in sides],
    }  # fmt: skip
    if not any(side.n_tokens for side in sides):
        common = {name: common[name] for name in ("ended", "seconds")}
    named = [plain_figures(one) for one in stats]
    own = [name for name in dict.fromkeys(name for one in named for name in one) if name not in common]
    rows = [Figure(name, tuple(values)) for name, values in common.items()]
    return (*rows, *(Figure(name, tuple(one.get(name) for one in named)) for name in own))


def _findings(events: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[FoundKind, ...]:
    """Findings by kind, compared as they were written down."""
    found = [Counter(_finding(e) for e in lines if e["event"] == "finding") for lines in events]
    kinds = dict.fromkeys(kind for counted in found for kind, _ in counted)
    made = []
    for kind in kinds:
        own = [Counter({key: n for key, n in counted.items() if key[0] == kind}) for counted in found]
        made.append(FoundKind(kind, tuple(map(Counter.total, own)), tuple((one & own[0]).total() for one in own)))
    return tuple(made)


def _finding(event: Mapping[str, Any]) -> tuple[str, str]:
    return str(event.get("kind", "")), json.dumps(event.get("data"), sort_keys=True, ensure_ascii=False)
