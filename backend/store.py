"""Every run, kept in SQLite: who ran what, with which models, what came, line by line.

Goes in: requests, contexts, lines, statuses. Comes out: `RunRecord`s and verdicts. A connection an operation, so any thread may
call; writes are one transaction each. Knows nothing of models, devices or pages.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlite_utils import Database
from ulid import ULID

from backend.errors import WorkbenchError
from backend.migrations import migrations
from backend.types import RunContext, RunRecord, RunRequest, Verdict

CODEC = "zlib-jsonl"


def now() -> str:
    """UTC, ISO 8601, milliseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_id() -> str:
    """A ULID: sorts by time, carries 80 random bits."""
    return str(ULID())


class Store:
    """The database of one data directory, seen by one process."""

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self.path = data_dir / "loupe.db"
        self._lives = data_dir / "processes"
        self._lives.mkdir(exist_ok=True)
        self.process_id = new_id()
        self._life = FileLock(self._life_path(self.process_id))
        self._life.acquire()
        with FileLock(data_dir / "migrate.lock"), self._open() as db:
            db.enable_wal()
            migrations().apply(db)
        self.interrupted = self._mark_interrupted()

    def _life_path(self, process_id: str) -> Path:
        return self._lives / f"{process_id}.lock"

    @contextmanager
    def _open(self) -> Iterator[Database]:
        db = Database(self.path)
        try:
            for pragma in ("foreign_keys = ON", "busy_timeout = 5000", "synchronous = NORMAL"):
                db.execute(f"PRAGMA {pragma}")
            yield db
        finally:
            db.close()

    @contextmanager
    def _write(self) -> Iterator[Database]:
        """One transaction that takes the write lock at once: a read that turns into a write can't wait for another writer."""
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.conn.rollback()
                raise
            db.conn.commit()

    def close(self) -> None:
        """Give up the heartbeat; runs left `running` would now count as interrupted."""
        self._life.release()
        self._life_path(self.process_id).unlink(missing_ok=True)

    # Processes ----------------------------------------------------------------------------------------------------------------

    def _is_alive(self, process_id: str) -> bool:
        """A process holds an operating-system lock as long as it lives, however it ends."""
        if process_id == self.process_id:
            return True
        path = self._life_path(process_id)
        if not path.exists():
            return False
        try:
            with FileLock(path, timeout=0):
                pass
        except Timeout:
            return True
        path.unlink(missing_ok=True)
        return False

    def _mark_interrupted(self) -> list[str]:
        """Runs whose process is gone become `interrupted`; returns their ids."""
        with self._open() as db:
            open_runs = list(db.query("SELECT id, process_id FROM runs WHERE status IN ('queued', 'running')"))
        gone = [run["id"] for run in open_runs if not self._is_alive(run["process_id"])]
        with self._write() as db:
            for run_id in gone:
                text = "".join(e["text"] for e in map(json.loads, self._lines(db, run_id)) if e["event"] == "token")
                db.execute("UPDATE runs SET status = 'interrupted', finished_at = ?, text = ? WHERE id = ?", [now(), text, run_id])
        return gone

    # Writing ------------------------------------------------------------------------------------------------------------------

    def start(self, run_id: str, request: RunRequest, context: RunContext, versions: Mapping[str, str]) -> None:
        """A row for a run that is about to wait or run."""
        with self._write() as db:
            self._know(db, context)
            row = {
                "id": run_id, "owner_id": context.owner, "session_id": context.session, "process_id": self.process_id,
                "group_id": context.group, "lane": context.lane, "parent_run_id": context.parent_run_id, "method": request.method,
                "status": "queued", "request": json.dumps(request.to_json(), ensure_ascii=False), "models": "{}",
                "versions": json.dumps(dict(versions)), "prompt": request.prompt.text, "text": "", "stats": "{}", "n_tokens": 0,
                "created_at": now(),
            }  # fmt: skip
            db["runs"].insert(row)
            db["run_search"].insert({"run_id": run_id, "prompt": request.prompt.text, "output": ""})

    def _know(self, db: Database, context: RunContext) -> None:
        kind = "local" if context.owner == "local" else "anonymous"
        db["owners"].insert({"id": context.owner, "kind": kind, "created_at": now()}, ignore=True)
        if context.session:
            session = {"id": context.session, "owner_id": context.owner, "process_id": self.process_id, "started_at": now()}
            db["sessions"].insert(session, ignore=True)
        if context.group:
            db["groups"].insert({"id": context.group, "owner_id": context.owner, "created_at": now()}, ignore=True)

    def running(self, run_id: str, models: Mapping[str, Mapping[str, Any]], device: str) -> None:
        """The run has its models and begins; a resumed job belongs to this process from now on."""
        with self._write() as db:
            changes = {"status": "running", "models": json.dumps(models), "device": device, "process_id": self.process_id}
            db["runs"].update(run_id, changes)

    def append(self, run_id: str, lines: Sequence[str]) -> None:
        """One checkpoint: these lines, compressed, in one transaction."""
        with self._write() as db:
            self._add_chunk(db, run_id, lines)

    def _add_chunk(self, db: Database, run_id: str, lines: Sequence[str]) -> None:
        if not lines:
            return
        chunk = db.execute("SELECT coalesce(max(chunk), -1) + 1 FROM run_lines WHERE run_id = ?", [run_id]).fetchone()[0]
        data = zlib.compress("\n".join(lines).encode())
        db["run_lines"].insert({"run_id": run_id, "chunk": chunk, "n": len(lines), "codec": CODEC, "data": data})

    def finish(self, run_id: str, status: str, lines: Sequence[str], duration_ms: float, text: str, stats: Mapping[str, Any],
               n_tokens: int, error: str | None) -> None:  # fmt: skip
        """The end of a run: the last lines and what came of it, in one transaction."""
        with self._write() as db:
            self._add_chunk(db, run_id, lines)
            changes = {"status": status, "finished_at": now(), "duration_ms": duration_ms, "text": text, "stats": json.dumps(stats),
                       "n_tokens": n_tokens, "error": error}  # fmt: skip
            db["runs"].update(run_id, changes)
            db.execute("UPDATE run_search SET output = ? WHERE run_id = ?", [text, run_id])

    def set_verdict(self, group_id: str, verdict: Verdict) -> None:
        value = json.dumps({"sentence": verdict.sentence, "figures": dict(verdict.figures), "holds": verdict.holds}, ensure_ascii=False)
        with self._write() as db:
            db["groups"].update(group_id, {"verdict": value})

    def delete(self, run_id: str, owner: str) -> None:
        """Forget a run of one's own, its lines and its place in the index."""
        self.get(run_id, owner)
        with self._write() as db:
            db.execute("DELETE FROM run_search WHERE run_id = ?", [run_id])
            db.execute("DELETE FROM runs WHERE id = ?", [run_id])

    # Reading ------------------------------------------------------------------------------------------------------------------

    def get(self, run_id: str, owner: str) -> RunRecord:
        """A run of one's own with its lines; raises `WorkbenchError` if there is none."""
        with self._open() as db:
            rows = list(db.query("SELECT * FROM runs WHERE id = ? AND owner_id = ?", [run_id, owner]))
            if not rows:
                raise WorkbenchError(f"There is no run {run_id} here.")
            return record(rows[0], self._lines(db, run_id))

    def find(self, run_id: str) -> RunRecord:
        """A run by its id alone, for the process that ran it: the id is unguessable, but pages go through `get`."""
        with self._open() as db:
            rows = list(db.query("SELECT * FROM runs WHERE id = ?", [run_id]))
            if not rows:
                raise WorkbenchError(f"There is no run {run_id} here.")
            return record(rows[0], self._lines(db, run_id))

    def runs(self, owner: str, method: str | None = None, status: str | None = None, text: str | None = None,
             limit: int = 50, offset: int = 0) -> list[RunRecord]:  # fmt: skip
        """Runs of one owner, newest first, without their lines; `text` is searched in prompts and outputs."""
        where, values = ["owner_id = ?"], [owner]
        for column, value in (("method", method), ("status", status)):
            if value:
                where.append(f"{column} = ?")
                values.append(value)
        if text and text.strip():
            found = "SELECT rowid FROM run_search_fts WHERE run_search_fts MATCH ?"
            where.append(f"id IN (SELECT run_id FROM run_search WHERE id IN ({found}))")
            values.append(quoted(text))
        sql = f"SELECT * FROM runs WHERE {' AND '.join(where)} ORDER BY created_at DESC, id DESC LIMIT ? OFFSET ?"
        with self._open() as db:
            return [record(row, ()) for row in db.query(sql, [*values, limit, offset])]

    def group(self, group_id: str, owner: str) -> tuple[list[RunRecord], Verdict | None]:
        """The lanes of a group in the order they ran, with lines, and what was concluded."""
        with self._open() as db:
            rows = list(db.query("SELECT * FROM runs WHERE group_id = ? AND owner_id = ? ORDER BY created_at, id", [group_id, owner]))
            records = [record(row, self._lines(db, row["id"])) for row in rows]
            stored = db.execute("SELECT verdict FROM groups WHERE id = ? AND owner_id = ?", [group_id, owner]).fetchone()
        return records, Verdict(**json.loads(stored[0])) if stored and stored[0] else None

    def _lines(self, db: Database, run_id: str) -> tuple[str, ...]:
        chunks = db.execute("SELECT data FROM run_lines WHERE run_id = ? ORDER BY chunk", [run_id]).fetchall()
        return tuple(line for (data,) in chunks for line in zlib.decompress(data).decode().split("\n"))


def quoted(text: str) -> str:
    """User text as an FTS5 query: each word a string, the last one a prefix, so no syntax can leak in."""
    words = ['"' + word.replace('"', '""') + '"' for word in text.split()]
    return " ".join(words) + "*"


def record(row: Mapping[str, Any], lines: Sequence[str]) -> RunRecord:
    """A row as an object again."""
    return RunRecord(
        id=row["id"], request=RunRequest.from_json(json.loads(row["request"])), status=row["status"], owner=row["owner_id"],
        session=row["session_id"], group=row["group_id"], lane=row["lane"], parent_run_id=row["parent_run_id"],
        created_at=row["created_at"], finished_at=row["finished_at"], duration_ms=row["duration_ms"], device=row["device"],
        models=json.loads(row["models"]), versions=json.loads(row["versions"]), text=row["text"], stats=json.loads(row["stats"]),
        error=row["error"], lines=tuple(lines),
    )  # fmt: skip
