"""The database's shape, as a list of small steps; each runs once, in one transaction, and is never edited after it shipped.

Goes in: a sqlite-utils database. Comes out: the tables the store works on. Knows nothing of requests or events.
"""

from __future__ import annotations

import json

from sqlite_utils import Database, Migrations

from backend.searching import add_to_index


def migrations() -> Migrations:
    """The whole list, in order."""
    steps = Migrations("loupe")
    for step in (m001_owners_and_sessions, m002_runs, m003_lines, m004_artifacts, m005_search, m006_entries, m007_lean_search, m008_shares,
                 m009_unkept):  # fmt: skip
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


def m006_entries(db: Database) -> None:
    """What a person sees as one run is a group of lanes: `entry` names it, its first lane stands for it (`lead`) and carries what a person
    adds to it. Facts that many runs share (packages, weights) are kept once."""
    db.execute("CREATE TABLE facts (id INTEGER PRIMARY KEY, data TEXT NOT NULL UNIQUE) STRICT")
    for column in ("entry TEXT", "lead INTEGER NOT NULL DEFAULT 1", "model TEXT NOT NULL DEFAULT ''", "title TEXT NOT NULL DEFAULT ''",
                   "note TEXT NOT NULL DEFAULT ''", "pinned INTEGER NOT NULL DEFAULT 0", "models_fact INTEGER REFERENCES facts(id)",
                   "versions_fact INTEGER REFERENCES facts(id)"):  # fmt: skip
        db.execute(f"ALTER TABLE runs ADD COLUMN {column}")
    db.execute("UPDATE runs SET entry = coalesce(group_id, id)")
    db.execute("UPDATE runs SET lead = (id = (SELECT min(first.id) FROM runs first WHERE first.entry = runs.entry))")
    for run in list(db.query("SELECT id, request FROM runs")):
        models = sorted(set(json.loads(run["request"])["models"].values()))
        db.execute("UPDATE runs SET model = ? WHERE id = ?", [", ".join(models), run["id"]])
    db.execute("CREATE INDEX idx_runs_entry ON runs(entry)")
    db.execute("CREATE INDEX idx_runs_listed ON runs(owner_id, lead, pinned, created_at)")
    db.execute("CREATE TABLE run_tags (run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE, tag TEXT NOT NULL, PRIMARY KEY (run_id, tag))"
               " STRICT, WITHOUT ROWID")  # fmt: skip
    db.execute("CREATE INDEX idx_run_tags_tag ON run_tags(tag)")


def m007_lean_search(db: Database) -> None:
    """The index no longer keeps the texts a second time: they stand in the request and in the lines."""
    old = list(db.query("SELECT runs.id AS id, request, text FROM runs"))
    db.execute("DROP TABLE run_search_fts")
    db.execute("DROP TABLE run_search")
    db.execute("CREATE TABLE run_search (id INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE REFERENCES runs(id) ON DELETE CASCADE) STRICT")
    db.execute("CREATE VIRTUAL TABLE run_index USING fts5(prompt, output, title, note, content='')")
    for run in old:
        prompt = json.loads(run["request"])["prompt"]["messages"][-1]["content"]
        add_to_index(db, run["id"], (prompt, run["text"] or "", "", ""))


def m008_shares(db: Database) -> None:
    """A share id is all that a visitor needs; it covers the run's whole group and goes when it is revoked."""
    db.execute(
        "CREATE TABLE shares (id TEXT PRIMARY KEY, run_id TEXT NOT NULL UNIQUE REFERENCES runs(id) ON DELETE CASCADE,"
        " created_at TEXT NOT NULL) STRICT"
    )


def m009_unkept(db: Database) -> None:
    """A run that was not to be kept must not stay because its process was killed."""
    db.execute("ALTER TABLE runs ADD COLUMN kept INTEGER NOT NULL DEFAULT 1")
    db.execute("CREATE INDEX idx_runs_unkept ON runs(process_id) WHERE kept = 0")
