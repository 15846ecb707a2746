"""`python -m backend history compare RUN RUN […]`: runs of this machine, shared ones and recordings beside each other, in a terminal.

Goes in: arguments, an open store. Comes out: texts to print: the sentence, the figures, the settings that differ, the places where the
tokens part; or the whole comparison as one JSON object. Knows no models and prints nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from backend import commands
from backend.compare import Comparison, compare, comparison_json
from backend.compare_runs import chosen
from backend.compare_settings import excerpts
from backend.options import default_of
from backend.store import Store
from backend.types import RunRecord

OWNER = "local"
MOST_PLACES = 20  # differing columns in the terminal; --json has them all
MOST_CHARS = 60


def add(history: Any) -> None:
    """The action's arguments."""
    compared = history.add_parser("compare", help="two to four runs beside each other: tokens, settings, figures")
    compared.add_argument("runs", nargs="+", metavar="RUN", help="a run, a share id (s-…), a recording's id; one alone: with its other lanes")
    compared.add_argument("--json", action="store_true", help="the whole comparison as one JSON object")


def run(args: argparse.Namespace, store: Store) -> Iterator[str]:
    """The texts of one comparison; raises `WorkbenchError` for a run that is not here."""
    records = chosen(store, OWNER, args.runs)
    compared = compare(records, defaults_for(records, store.path.parent))
    yield json.dumps(comparison_json(compared), ensure_ascii=False) if args.json else text_of(compared)


def defaults_for(records: Sequence[RunRecord], data_dir: Path) -> Mapping[str, Mapping[str, Any]]:
    """The default options of the runs' methods, where some run leaves out an option that another names."""
    named = {record.request.method: [set(r.request.options) for r in records if r.request.method == record.request.method] for record in records}
    if all(names == sets[0] for sets in named.values() for names in sets):
        return {}
    from backend.house import methods  # torch and transformers load only now

    return option_defaults({name: method.Options for name, method in methods(data_dir).items() if name in named})


def option_defaults(options: Mapping[str, type]) -> dict[str, dict[str, Any]]:
    """Each method's default options, of its dataclass."""
    return {name: {spec.name: default_of(spec) for spec in fields(cls)} for name, cls in options.items()}


def text_of(compared: Comparison) -> str:
    """The comparison for a terminal."""
    parts = [_plain(compared.sentence), commands.table([_side_row(i, side) for i, side in enumerate(compared.sides, start=1)])]
    parts.append(commands.table([_row("figure", row.name, row.values) for row in compared.figures]))
    if compared.settings:
        parts.append("Set differently:\n" + commands.table([_row("setting", row.name, row.values) for row in compared.settings]))
    if compared.findings:
        parts.append("Findings:\n" + commands.table([_row("kind", row.kind, row.counts) for row in compared.findings]))
    if compared.differences:
        shown = compared.differences[:MOST_PLACES]
        more = len(compared.differences) - len(shown)
        rows = commands.table([_place_row(compared, i) for i in shown])
        parts.append(f"Tokens that differ:\n{rows}" + (f"\nand {more} more; --json has them all" if more else ""))
    return "\n\n".join(parts)


def _side_row(i: int, side: Any) -> dict[str, Any]:
    return {"": i, "run": side.run, "when": side.at[:19].replace("T", " "), "method": side.method, "lane": _plain(side.lane) or "–",
            "models": _plain(side.models), "status": side.status, "device": side.device or "–"}  # fmt: skip


def _row(head: str, name: str, values: Sequence[Any]) -> dict[str, Any]:
    return {head: name, **{f"run {i}": _plain(text) for i, text in enumerate(excerpts([_short(v) for v in values], MOST_CHARS), start=1)}}


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


def _plain(text: str) -> str:
    """On one line; what a terminal would act on is escaped."""
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _place_row(compared: Comparison, i: int) -> dict[str, Any]:
    """A differing column by the reference's position; what only others have stands between two of those."""
    cells = compared.columns[i].cells
    said = {f"run {k}": "–" if cell is None else f'"{_plain(cell.text)}"' for k, cell in enumerate(cells, start=1)}
    return {"token": "" if cells[0] is None else cells[0].position, **said}
