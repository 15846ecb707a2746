"""Runs on their way out and back in: JSON lines, CSV, a visitor's own database; and a run that somebody else exported.

Goes in: a store (inside whoever keeps one), run ids and owners, the text of a file. Comes out: texts, a database file, new runs. Everything
is read by owner. Knows nothing of models or pages; a run handed over to be read is `report_html`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from sqlite_utils import Database

from backend.history import History, Wanted
from backend.migrations import migrations
from backend.searching import add_to_index
from backend.store import Store
from backend.types import RunRecord, Verdict

FORMAT = 1
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes a text that begins so for a formula
IMPORTED = "imported_"  # versions of an imported run that begin so tell where it came from
IMPORTED_RUN = f"{IMPORTED}run"
TOKEN_COLUMNS = ("lane", "position", "id", "text", "logprob", "source", "ms")
RUN_COLUMNS = ("run", "at", "title", "method", "lane", "status", "model", "seconds", "tokens", "prompt", "answer_beginning", "error", "note", "tags",
               "pinned")  # fmt: skip
PAGE = 500

MINE = "(SELECT id FROM source.runs WHERE owner_id = :owner)"
# Every table of the database and which of its rows are an owner's; the index is made anew from them.
OWNED: Mapping[str, str] = {
    "owners": "id = :owner",
    "sessions": "owner_id = :owner",
    "groups": "owner_id = :owner",
    "facts": "EXISTS (SELECT 1 FROM source.runs WHERE owner_id = :owner AND facts.id IN (models_fact, versions_fact))",
    "runs": "owner_id = :owner",
    "run_lines": f"run_id IN {MINE}",
    "run_tags": f"run_id IN {MINE}",
    "artifacts": f"run_id IN {MINE}",
    "shares": f"run_id IN {MINE}",
}


class Keeper(Protocol):
    """Whoever has a store: the workbench, or the command line."""

    store: Store


def lanes_of(store: Store, run_id: str, owner: str) -> tuple[list[RunRecord], Verdict | None]:
    """A run of one's own with the other lanes of its group, in the order they ran. Raises `WorkbenchError` if there is none."""
    record = store.get(run_id, owner)
    return store.group(record.group, owner) if record.group else ([record], None)


def digest(lines: Iterable[str]) -> str:
    """SHA-256 of these lines, each ended by a line feed."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


# JSON lines -----------------------------------------------------------------------------------------------------------------------


def export_jsonl(keeper: Keeper, run_id: str, owner: str) -> str:
    """A run and its group as one file, which `import_runs` takes back."""
    return entry_jsonl(*lanes_of(keeper.store, run_id, owner))


def entry_jsonl(records: Sequence[RunRecord], verdict: Verdict | None) -> str:
    """The same of lanes that are at hand."""
    return "".join(f"{line}\n" for line in recorded_lines(records, verdict))


def recorded_lines(records: Sequence[RunRecord], verdict: Verdict | None) -> list[str]:
    """The lines of these lanes behind a `recorded` header that holds their requests, then the verdict: the form of `assets/runs`."""
    lines = [dumped(_header(records)), *(line for record in records for line in record.lines)]
    if verdict is not None:
        lines.append(dumped({"event": "verdict", "group": records[0].group, **asdict(verdict)}))
    return lines


def _header(records: Sequence[RunRecord]) -> dict[str, Any]:
    first = as_it_ran(records[0])
    roles = [role for role in first.request.models if role in first.models] or list(first.models)
    model: dict[str, Any] = dict(first.models[roles[0]]) if roles else {}
    return {
        "event": "recorded", "format": FORMAT, "title": next((r.title for r in records if r.title), ""), "model": model.get("id"),
        "dtype": model.get("dtype"), "device": first.device, "date": first.created_at[:10], "versions": dict(first.versions),
        "requests": {r.id: r.request.to_json() for r in records}, "lanes": {r.id: _lane_facts(as_it_ran(r)) | _origin(r) for r in records},
    }  # fmt: skip


def _lane_facts(record: RunRecord) -> dict[str, Any]:
    """What the lines of a lane do not say themselves, and their hash."""
    names = ("lane", "status", "created_at", "finished_at", "duration_ms", "device")
    return {**{name: getattr(record, name) for name in names}, "lines": len(record.lines), "sha256": digest(record.lines)}


def _origin(record: RunRecord) -> dict[str, str]:
    """Under which id an imported run was made."""
    return {"origin": record.versions[IMPORTED_RUN]} if IMPORTED_RUN in record.versions else {}


def as_it_ran(record: RunRecord) -> RunRecord:
    """An imported run as the machine that ran it would tell it: its own date, and no word of the import."""
    versions = {name: value for name, value in record.versions.items() if not name.startswith(IMPORTED)}
    return replace(record, versions=versions, created_at=record.versions.get(f"{IMPORTED}date", record.created_at),
                   finished_at=record.versions.get(f"{IMPORTED}finished", record.finished_at))  # fmt: skip


def dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# A visitor's own database ------------------------------------------------------------------------------------------------------------------


def export_database(keeper: Keeper, owner: str, file: Path) -> Path:
    """A new SQLite file with all that is this owner's and nothing that is anybody else's: made empty, then filled, so that no page of it ever
    held another's row. Loupe opens it as `loupe.db` of a data directory."""
    db = Database(file)
    try:
        migrations().apply(db)
        db.execute("ATTACH DATABASE ? AS source", [str(keeper.store.path)])
        with db.atomic():
            for table, whose in OWNED.items():
                names = ", ".join(column.name for column in db[table].columns)
                db.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM source.{table} WHERE {whose}", {"owner": owner})
            for (run_id,) in db.execute("SELECT id FROM main.runs").fetchall():
                add_to_index(db, run_id, keeper.store.indexed(db, run_id))
        db.execute("DETACH DATABASE source")
    finally:
        db.close()
    return file


# CSV ------------------------------------------------------------------------------------------------------------------------------


def export_csv(keeper: Keeper, run_id: str, owner: str) -> str:
    """The tokens of a run and of the other lanes of its group, a row a token."""
    return tokens_csv(lanes_of(keeper.store, run_id, owner)[0])


def tokens_csv(records: Sequence[RunRecord]) -> str:
    rows = ([record.lane or record.id, *(token.get(name, "") for name in TOKEN_COLUMNS[1:])] for record in records for token in record.tokens())
    return _csv(TOKEN_COLUMNS, rows)


def export_history(keeper: Keeper, owner: str) -> str:
    """The list of one's runs, one row a press of Run, newest first."""
    return _csv(RUN_COLUMNS, map(_run_row, _entries(History(keeper.store), owner)))


def _entries(history: History, owner: str) -> Iterable[RunRecord]:
    offset = 0
    while page := history.entries(owner, Wanted(), limit=PAGE, offset=offset):
        yield from page
        offset += len(page)


def _run_row(record: RunRecord) -> list[Any]:
    seconds = None if record.duration_ms is None else round(record.duration_ms / 1000, 3)
    model = ", ".join(record.request.models.values())
    return [record.id, record.created_at, record.title, record.request.method, record.lane, record.status, model, seconds,
            record.stats.get("n_tokens"), record.request.prompt.text, record.text, record.error, record.note, ", ".join(record.tags),
            "yes" if record.pinned else ""]  # fmt: skip


def _csv(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(names)
    writer.writerows([harmless(value) for value in row] for row in rows)
    return file.getvalue()


def harmless(value: Any) -> Any:
    """A cell that a spreadsheet does not take for a formula: a text that begins like one gets an apostrophe; numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
