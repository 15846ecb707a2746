"""What a person finds again: entries, filters, pins, tags, notes.

Goes in: an owner, wishes. Comes out: records without lines, one an entry (a press of Run: the first lane of a group stands for it).
Every statement asks for the owner. Knows the store's tables, not models or pages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from backend.errors import InvalidRequest, WorkbenchError
from backend.searching import change_index, matching, purge
from backend.store import RUNS, Store, record
from backend.types import RunRecord

MOST_TITLE, MOST_NOTE, MOST_TAG, MOST_TAGS = 200, 10_000, 40, 20


@dataclass(frozen=True)
class Wanted:
    """Which entries; an empty field asks for nothing. `text` is searched in prompt, answer, title and note of every lane; `model` is part of
    a model's id; `since` and `until` are ISO dates or times (UTC), `until` a date includes that day."""

    text: str = ""
    method: str = ""
    status: str = ""
    model: str = ""
    tag: str = ""
    since: str = ""
    until: str = ""
    pinned: bool = False

    def clause(self, owner: str) -> tuple[str, list[Any]]:
        """SQL of the conditions, and its values."""
        parts: list[tuple[str, Sequence[Any]]] = [("owner_id = ? AND lead = 1", [owner])]
        parts += [(f"{column} = ?", [value]) for column, value in (("method", self.method), ("status", self.status)) if value]
        if self.model:
            parts.append(("entry IN (SELECT entry FROM runs WHERE owner_id = ? AND instr(model, ?))", [owner, self.model]))
        if self.tag:
            parts.append(("id IN (SELECT run_id FROM run_tags WHERE tag = ?)", [self.tag]))
        if self.since:
            parts.append(("created_at >= ?", [self.since]))
        if self.until:
            parts.append(("created_at < ?", [f"{self.until}T~" if len(self.until) == 10 else self.until]))
        if self.pinned:
            parts.append(("pinned = 1", []))
        if self.text.strip():
            found, words = matching(self.text)
            parts.append((f"entry IN (SELECT entry FROM runs WHERE owner_id = ? AND id IN ({found}))", [owner, *words]))
        return " AND ".join(sql for sql, _ in parts), [value for _, values in parts for value in values]


class History:
    """One store as its owners look through it. `going` is told which runs are about to be deleted."""

    def __init__(self, store: Store, going: Callable[[list[str]], None] | None = None) -> None:
        self._store, self._going = store, going

    def entries(self, owner: str, wanted: Wanted | None = None, limit: int = 25, offset: int = 0) -> list[RunRecord]:
        """Pinned ones first, then the newest first; `lanes` says how many runs an entry has."""
        where, values = (wanted or Wanted()).clause(owner)
        sql = (
            "SELECT *, (SELECT count(*) FROM runs lane WHERE lane.entry = run.entry) AS lanes,"
            f" (SELECT group_concat(tag, char(10)) FROM run_tags WHERE run_id = run.id) AS tag_list FROM {RUNS} WHERE {where}"
            " ORDER BY pinned DESC, created_at DESC, id DESC LIMIT ? OFFSET ?"
        )
        with self._store.open() as db:
            return [record(row, (), sorted((row["tag_list"] or "").split())) for row in db.query(sql, [*values, limit, offset])]

    def count(self, owner: str, wanted: Wanted | None = None) -> int:
        where, values = (wanted or Wanted()).clause(owner)
        with self._store.open() as db:
            return int(db.execute(f"SELECT count(*) FROM runs WHERE {where}", values).fetchone()[0])

    def tags(self, owner: str) -> list[str]:
        """The owner's tags, the most used first."""
        sql = "SELECT tag FROM run_tags JOIN runs ON id = run_id WHERE owner_id = ? GROUP BY tag ORDER BY count(*) DESC, tag"
        return self._column(sql, owner)

    def models(self, owner: str) -> list[str]:
        """The models that the owner's runs used."""
        used = self._column("SELECT DISTINCT model FROM runs WHERE owner_id = ?", owner)
        return sorted({model for names in used for model in names.split(", ") if model})

    def _column(self, sql: str, owner: str) -> list[str]:
        with self._store.open() as db:
            return [value for (value,) in db.execute(sql, [owner])]

    # What a person adds -------------------------------------------------------------------------------------------------------

    def rename(self, run_id: str, owner: str, title: str) -> None:
        self._say(run_id, owner, "title", _within("title", title.strip(), MOST_TITLE))

    def annotate(self, run_id: str, owner: str, note: str) -> None:
        self._say(run_id, owner, "note", _within("note", note, MOST_NOTE))

    def _say(self, run_id: str, owner: str, column: str, text: str) -> None:
        """Set title or note, and have it found."""
        with self._store.write() as db:
            lead = self._store.lead(db, run_id, owner)
            before = self._store.indexed(db, lead)
            db.execute(f"UPDATE runs SET {column} = ? WHERE id = ?", [text, lead])
            change_index(db, lead, before, self._store.indexed(db, lead))

    def pin(self, run_id: str, owner: str, on: bool) -> None:
        with self._store.write() as db:
            db.execute("UPDATE runs SET pinned = ? WHERE id = ?", [int(on), self._store.lead(db, run_id, owner)])

    def tag(self, run_id: str, owner: str, tags: Sequence[str]) -> None:
        """The entry has these tags and no others; a tag is one word."""
        words = sorted({_within("tag", word, MOST_TAG) for tag in tags for word in tag.lower().split()})
        if len(words) > MOST_TAGS:
            raise InvalidRequest(f"A run may have at most {MOST_TAGS} tags, got {len(words)}.", "tags")
        with self._store.write() as db:
            lead = self._store.lead(db, run_id, owner)
            db.execute("DELETE FROM run_tags WHERE run_id = ?", [lead])
            for word in words:
                db.execute("INSERT INTO run_tags (run_id, tag) VALUES (?, ?)", [lead, word])

    # Forgetting ---------------------------------------------------------------------------------------------------------------

    def forget(self, run_id: str, owner: str) -> int:
        """Delete the entry, all its lanes; returns how many runs that were. Refused while one of them is under way."""
        with self._store.write() as db:
            self._store.lead(db, run_id, owner)
            return self._erase(db, "entry = (SELECT entry FROM runs WHERE id = ?)", [run_id], refuse=True)

    def forget_all(self, owner: str) -> int:
        """Delete all that the owner has, except what is under way; returns how many runs that were."""
        with self._store.write() as db:
            return self._erase(db, "owner_id = ?", [owner], refuse=False)

    def _erase(self, db: Database, where: str, values: Sequence[str], refuse: bool) -> int:
        open_runs = db.execute(f"SELECT count(*) FROM runs WHERE {where} AND status IN ('queued', 'running')", values).fetchone()[0]
        if open_runs and refuse:
            raise WorkbenchError("This run is under way. Stop it first.")
        ended = db.execute(f"SELECT id FROM runs WHERE {where} AND status NOT IN ('queued', 'running')", values).fetchall()
        if self._going is not None:
            self._going([run_id for (run_id,) in ended])
        for (run_id,) in ended:
            self._store.erase(db, run_id)
        if ended:
            purge(db)
        return len(ended)


def _within(name: str, text: str, most: int) -> str:
    if len(text) > most:
        raise InvalidRequest(f"A {name} may have at most {most:,} characters, got {len(text):,}.", name)
    return text
