"""The full-text index of the runs.

Goes in: a database, texts. Comes out: an FTS5 index without a copy of the texts: whoever changes or removes an entry says what was
indexed. Knows neither requests nor lines.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlite_utils import Database

# prompt, output, title, note, as the index has them
Texts = tuple[str, str, str, str]
MOST_CHARS = 50_000


def add_to_index(db: Database, run_id: str, texts: Texts) -> None:
    """Make a run findable by these texts."""
    db.execute("INSERT INTO run_search (run_id) VALUES (?)", [run_id])
    row = db.execute("SELECT id FROM run_search WHERE run_id = ?", [run_id]).fetchone()[0]
    db.execute("INSERT INTO run_index (rowid, prompt, output, title, note) VALUES (?, ?, ?, ?, ?)", [row, *_cut(texts)])


def change_index(db: Database, run_id: str, before: Texts, after: Texts) -> None:
    """The same run, found by other texts from now on."""
    remove_from_index(db, run_id, before)
    add_to_index(db, run_id, after)


def remove_from_index(db: Database, run_id: str, texts: Texts) -> None:
    """Forget a run; `texts` are those it was indexed by."""
    found = db.execute("SELECT id FROM run_search WHERE run_id = ?", [run_id]).fetchone()
    if found is None:
        return
    delete = "INSERT INTO run_index (run_index, rowid, prompt, output, title, note) VALUES ('delete', ?, ?, ?, ?, ?)"
    db.execute(delete, [found[0], *_cut(texts)])
    db.execute("DELETE FROM run_search WHERE id = ?", [found[0]])


def purge(db: Database) -> None:
    """Rewrite the index without the words of what was removed; until then FTS5 only marks them."""
    db.execute("INSERT INTO run_index (run_index) VALUES ('optimize')")


def matching(text: str) -> tuple[str, Sequence[str]]:
    """SQL that lists the ids of the runs in which this text is found, and its values."""
    return (
        "SELECT run_id FROM run_search WHERE id IN (SELECT rowid FROM run_index WHERE run_index MATCH ?)",
        [quoted(text)],
    )


def quoted(text: str) -> str:
    """User text as an FTS5 query: each word a string, the last one a prefix, so no syntax can leak in."""
    words = ['"' + word.replace('"', '""') + '"' for word in text.split()]
    return " ".join(words) + "*"


def _cut(texts: Texts) -> list[str]:
    return [text[:MOST_CHARS] for text in texts]
