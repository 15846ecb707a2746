"""`python -m backend history export | import | database`: runs on their way out and back in.

Goes in: arguments, an open store. Comes out: texts to print, and files. Knows no models. Prints nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend import exchange, report_html
from backend.errors import InvalidRequest
from backend.imports import import_runs
from backend.store import Store
from backend.types import RunContext

OWNER = "local"
FORMS: Mapping[str, Callable[[exchange.Keeper, str, str], str]] = {
    "jsonl": exchange.export_jsonl, "csv": exchange.export_csv, "html": report_html.export_html,
}  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """The store of a command line that opened no workbench."""

    store: Store


def add(history: Any) -> None:
    """The arguments of these actions."""
    export = history.add_parser("export", help="a run and the lanes beside it as one file")
    export.add_argument("run")
    words = "jsonl: its lines, as in assets/runs; csv: its tokens; html: a page that opens without a network"
    export.add_argument("--form", choices=tuple(FORMS), default="jsonl", help=words)
    export.add_argument("--out", "--output", dest="output", type=Path, help="a file (default: standard output)")
    history.add_parser("import", help="an exported file of lines becomes runs of this machine").add_argument("file", type=Path)
    database = history.add_parser("database", help="all runs of this machine as one SQLite file")
    database.add_argument("--out", "--output", dest="output", type=Path, required=True, help="a file that is not there yet")


def _export(args: argparse.Namespace, store: Store) -> Iterator[str]:
    text = FORMS[args.form](Kept(store), args.run, OWNER)
    if args.output is None:
        yield text.removesuffix("\n")
        return
    args.output.write_text(text, encoding="utf-8", newline="")
    yield f"{args.output}: {len(text.encode()):,} bytes"


def _import(args: argparse.Namespace, store: Store) -> Iterator[str]:
    try:
        text = args.file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The file can't be read: {error}.", "file") from error
    yield from import_runs(Kept(store), text, RunContext(owner=OWNER))


def _database(args: argparse.Namespace, store: Store) -> Iterator[str]:
    if args.output.exists():
        raise InvalidRequest(f"{args.output} is there already.", "out")
    file = exchange.export_database(Kept(store), OWNER, args.output)
    yield f"{file}: {file.stat().st_size:,} bytes"


ACTIONS: Mapping[str, Callable[[argparse.Namespace, Store], Iterator[str]]] = {"export": _export, "import": _import, "database": _database}
