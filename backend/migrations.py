"""The database's shape, as a list of small steps; each runs once, in one transaction, and is never edited after it shipped.

Goes in: a sqlite-utils database. Comes out: the tables the store works on. Knows nothing of requests or events.
"""

from __future__ import annotations

from sqlite_utils import Database, Migrations


def migrations() -> Migrations:
    """The whole list, in order."""
    steps = Migrations("loupe")
    for step in (m001_owners_and_sessions, m002_runs, m003_lines, m004_artifacts, m005_search):
        steps()(step)
    return steps


def m001_owners_and_sessions(db: Database) -> None:
    db["owners"].create({"id": str, "kind": str, "created_at": str}, pk="id", not_null={"kind", "created_at"}, strict=True)
    db["sessions"].create(
        {"id": str, "owner_id": str, "process_id": str, "started_at": str},
        pk="id",
        not_null={"owner_id", "started_at"},
        foreign_keys=[("owner_id", "owners", "id")],
        strict=True,
    )


def m002_runs(db: Database) -> None:
    db["groups"].create({"id": str, "owner_id": str, "created_at": str, "verdict": str}, pk="id", not_null={"owner_id"}, strict=True)
    db["runs"].create(
        {
            "id": str, "owner_id": str, "session_id": str, "process_id": str, "group_id": str, "lane": str, "parent_run_id": str,
            "method": str, "status": str, "request": str, "models": str, "versions": str, "device": str,
            "prompt": str, "text": str, "stats": str, "error": str, "n_tokens": int,
            "created_at": str, "finished_at": str, "duration_ms": float,
        },
        pk="id",
        not_null={"owner_id", "process_id", "method", "status", "request", "created_at"},
        foreign_keys=[("owner_id", "owners", "id"), ("session_id", "sessions", "id"), ("group_id", "groups", "id")],
        strict=True,
    )  # fmt: skip
    db["runs"].create_index(["owner_id", "created_at"])
    db["runs"].create_index(["group_id"])
    db["runs"].create_index(["status"])


def m003_lines(db: Database) -> None:
    """Lines come in chunks, one a checkpoint, so that a long job never rewrites what it has."""
    db.execute(
        "CREATE TABLE run_lines (run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE, chunk INTEGER NOT NULL, n INTEGER NOT NULL,"
        " codec TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (run_id, chunk)) STRICT"
    )


def m004_artifacts(db: Database) -> None:
    db.execute(
        "CREATE TABLE artifacts (id TEXT PRIMARY KEY, run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE, kind TEXT NOT NULL,"
        " summary TEXT NOT NULL, created_at TEXT NOT NULL) STRICT"
    )


def m005_search(db: Database) -> None:
    """An integer key of its own feeds the index: implicit row ids may change under VACUUM."""
    db.execute(
        "CREATE TABLE run_search (id INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE REFERENCES runs(id) ON DELETE CASCADE,"
        " prompt TEXT NOT NULL, output TEXT NOT NULL) STRICT"
    )
    db["run_search"].enable_fts(["prompt", "output"], create_triggers=True)
