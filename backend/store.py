"""Every run, kept in SQLite: who ran what, with which models, what came, line by line.

Goes in: requests, contexts, lines, statuses. Comes out: `RunRecord`s and verdicts. A connection an operation, so any thread may
call; writes are one transaction each. Knows nothing of models, devices or pages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlite_utils import Database
from ulid import ULID

from backend.errors import WorkbenchError
from backend.line_codec import pack, pack_whole, unpack
from backend.migrations import migrations
from backend.searching import Texts, add_to_index, change_index, matching, remove_from_index
from backend.types import RunContext, RunRecord, RunRequest, Verdict

# A run's lines are one blob of a few kB; in SQLite's usual pages of 4 kB almost every one would leave half a page empty.
PAGE_BYTES = 16_384
MOST_WHOLE = 20_000  # lines of a run that are packed anew, as a whole, when it ends
EXCERPT_CHARS = 300


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
        self.on_write: Callable[[], None] | None = None  # told after each transaction
        self._life = FileLock(self._life_path(self.process_id))
        self._life.acquire()
        with FileLock(data_dir / "migrate.lock"), self.open() as db:
            db.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a new database; an old one keeps its own
            db.enable_wal()
            migrations().apply(db)
        self.interrupted = self._mark_interrupted()

    def _life_path(self, process_id: str) -> Path:
        return self._lives / f"{process_id}.lock"

    @contextmanager
    def open(self) -> Iterator[Database]:
        """A connection of its own, for reading."""
        db = Database(self.path)
        try:
            for pragma in ("foreign_keys = ON", "busy_timeout = 5000", "synchronous = NORMAL", "secure_delete = ON"):
                db.execute(f"PRAGMA {pragma}")
            yield db
        finally:
            db.close()

    @contextmanager
    def write(self) -> Iterator[Database]:
        """One transaction that takes the write lock at once: a read that turns into a write can't wait for another writer."""
        with self.open() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.conn.rollback()
                raise
            db.conn.commit()
        if self.on_write is not None:
            self.on_write()

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
        """Runs whose process is gone become `interrupted`; returns their ids. Those that were not to be kept go."""
        with self.open() as db:
            open_runs = list(db.query("SELECT id, process_id, kept FROM runs WHERE status IN ('queued', 'running') OR kept = 0"))
        left = [run for run in open_runs if not self._is_alive(run["process_id"])]
        gone = [run["id"] for run in left if run["kept"]]
        with self.write() as db:
            for run in left:
                if not run["kept"]:
                    self.erase(db, run["id"])
            for run_id in gone:
                before = self.indexed(db, run_id)
                db.execute("UPDATE runs SET status = 'interrupted', finished_at = ? WHERE id = ?", [now(), run_id])
                self._set_output(db, run_id, before, None)
        return gone

    # Writing ------------------------------------------------------------------------------------------------------------------

    def start(self, run_id: str, request: RunRequest, context: RunContext, versions: Mapping[str, str]) -> None:
        """A row for a run that is about to wait or run."""
        with self.write() as db:
            self._know(db, context)
            entry = context.group or run_id
            row = {
                "id": run_id, "owner_id": context.owner, "session_id": context.session, "process_id": self.process_id,
                "group_id": context.group, "entry": entry, "lane": context.lane, "parent_run_id": context.parent_run_id,
                "lead": int(not db.execute("SELECT 1 FROM runs WHERE entry = ? LIMIT 1", [entry]).fetchone()),
                "method": request.method, "model": ", ".join(sorted(set(request.models.values()))), "status": "queued",
                "request": json.dumps(request.to_json(), ensure_ascii=False), "versions_fact": fact(db, versions), "text": "", "stats": "{}",
                "n_tokens": 0, "kept": int(context.kept), "created_at": now(),
            }  # fmt: skip
            db["runs"].insert(row)
            add_to_index(db, run_id, (request.prompt.text, "", "", ""))

    def _know(self, db: Database, context: RunContext) -> None:
        kind = "local" if context.owner == "local" else "anonymous"
        db["owners"].insert({"id": context.owner, "kind": kind, "created_at": now()}, ignore=True)
        if context.session:
            session = {"id": context.session, "owner_id": context.owner, "process_id": self.process_id, "started_at": now()}
            db["sessions"].insert(session, ignore=True)
        if context.group:
            db["groups"].insert({"id": context.group, "owner_id": context.owner, "created_at": now()}, ignore=True)

    def running(self, run_id: str, models: Mapping[str, Mapping[str, Any]], device: str) -> None:
        """The run has its models and begins; a resumed job belongs to this process from now on, and has no output yet."""
        with self.write() as db:
            before = self.indexed(db, run_id)
            if before[1]:
                change_index(db, run_id, before, (before[0], "", *before[2:]))
            changes = {"status": "running", "models_fact": fact(db, models), "device": device, "process_id": self.process_id}
            db["runs"].update(run_id, changes)

    def append(self, run_id: str, lines: Sequence[str]) -> None:
        """One checkpoint: these lines, compressed, in one transaction."""
        with self.write() as db:
            self._add_chunk(db, run_id, lines)

    def _add_chunk(self, db: Database, run_id: str, lines: Sequence[str]) -> None:
        if not lines:
            return
        chunk = db.execute("SELECT coalesce(max(chunk), -1) + 1 FROM run_lines WHERE run_id = ?", [run_id]).fetchone()[0]
        codec, data = pack(lines)
        db["run_lines"].insert({"run_id": run_id, "chunk": chunk, "n": len(lines), "codec": codec, "data": data})

    def finish(self, run_id: str, status: str, lines: Sequence[str], duration_ms: float, text: str, stats: Mapping[str, Any],
               n_tokens: int, error: str | None) -> None:  # fmt: skip
        """The end of a run: the last lines and what came of it, in one transaction. Its checkpoints become one piece, which is smaller."""
        with self.write() as db:
            before = self.indexed(db, run_id)
            self._add_chunk(db, run_id, lines)
            changes = {"status": status, "finished_at": now(), "duration_ms": duration_ms, "n_tokens": n_tokens, "error": error}
            db["runs"].update(run_id, changes)
            whole = self._set_output(db, run_id, before, text)
            told = outcome(whole).get("stats") == dict(stats)
            db.execute("UPDATE runs SET stats = ? WHERE id = ?", [json.dumps(plain_stats(stats) if told and n_tokens else stats), run_id])
            if 0 < len(whole) <= MOST_WHOLE:
                codec, data = pack_whole(whole)
                db.execute("DELETE FROM run_lines WHERE run_id = ?", [run_id])
                db["run_lines"].insert({"run_id": run_id, "chunk": 0, "n": len(whole), "codec": codec, "data": data})

    def _set_output(self, db: Database, run_id: str, before: Texts, text: str | None) -> tuple[str, ...]:
        """Make the run findable by its output (None: as far as its lines go), of which the row only keeps what the lines do not say;
        returns the lines. `before`: what it was found by."""
        lines = self._lines(db, run_id)
        said = text_of(lines)
        text = said if text is None else text
        db.execute("UPDATE runs SET text = ? WHERE id = ?", [text[:EXCERPT_CHARS] if text == said else text, run_id])
        change_index(db, run_id, before, (before[0], text, *before[2:]))
        return lines

    def keep(self, entries: Sequence[tuple[Sequence[RunRecord], Verdict | None]], context: RunContext) -> None:
        """Runs that have ended elsewhere, lanes and verdict of each entry, as the context's: all of them or, on an error, none."""
        with self.write() as db:
            for records, verdict in entries:
                group = records[0].group
                self._know(db, replace(context, group=group))
                for record in records:
                    self._insert(db, record, record is records[0], context)
                if verdict is not None and group:
                    db["groups"].update(group, {"verdict": _verdict_json(verdict)})

    def _insert(self, db: Database, record: RunRecord, lead: bool, context: RunContext) -> None:
        said, request = text_of(record.lines), record.request
        row = {
            "id": record.id, "owner_id": context.owner, "session_id": context.session, "process_id": self.process_id,
            "group_id": record.group, "entry": record.group or record.id, "lane": record.lane, "lead": int(lead), "method": request.method,
            "model": ", ".join(sorted(set(request.models.values()))), "status": record.status, "title": record.title,
            "request": json.dumps(request.to_json(), ensure_ascii=False), "versions_fact": fact(db, record.versions),
            "models_fact": fact(db, record.models), "device": record.device, "error": record.error, "n_tokens": len(record.tokens()),
            "text": record.text[:EXCERPT_CHARS] if record.text == said else record.text, "stats": json.dumps(plain_stats(record.stats)),
            "created_at": record.created_at, "finished_at": record.finished_at, "duration_ms": record.duration_ms,
        }  # fmt: skip
        db["runs"].insert(row)
        if record.lines:
            codec, data = pack_whole(record.lines) if len(record.lines) <= MOST_WHOLE else pack(record.lines)
            db["run_lines"].insert({"run_id": record.id, "chunk": 0, "n": len(record.lines), "codec": codec, "data": data})
        add_to_index(db, record.id, (request.prompt.text, record.text, record.title, ""))

    def set_verdict(self, group_id: str, verdict: Verdict) -> None:
        with self.write() as db:
            db["groups"].update(group_id, {"verdict": _verdict_json(verdict)})

    def delete(self, run_id: str, owner: str) -> None:
        """Forget a run of one's own, its lines and its place in the index."""
        self.get(run_id, owner)
        with self.write() as db:
            self.erase(db, run_id)

    def discard(self, run_id: str) -> None:
        """Forget a run that was not to be kept; nothing where it is gone already."""
        with self.write() as db:
            self.erase(db, run_id)

    def erase(self, db: Database, run_id: str) -> None:
        """Forget a run inside a transaction; the next lane of its group stands for what is left, and what was concluded goes with the last."""
        entry = db.execute("SELECT entry FROM runs WHERE id = ?", [run_id]).fetchone()
        if entry is None:
            return
        remove_from_index(db, run_id, self.indexed(db, run_id))
        db.execute("DELETE FROM runs WHERE id = ?", [run_id])
        db.execute("UPDATE runs SET lead = 1 WHERE id = (SELECT min(id) FROM runs WHERE entry = ?)", [entry[0]])
        db.execute("DELETE FROM groups WHERE id = ? AND NOT EXISTS (SELECT 1 FROM runs WHERE group_id = groups.id)", [entry[0]])

    def lead(self, db: Database, run_id: str, owner: str) -> str:
        """The run that stands for this one's entry, if it is the owner's; raises `WorkbenchError` if there is none."""
        sql = "SELECT id FROM runs WHERE lead = 1 AND owner_id = ? AND entry = (SELECT entry FROM runs WHERE id = ? AND owner_id = ?)"
        found = db.execute(sql, [owner, run_id, owner]).fetchone()
        if found is None:
            raise WorkbenchError(f"There is no run {run_id} here.")
        return str(found[0])

    def indexed(self, db: Database, run_id: str) -> Texts:
        """The texts that a run is found by; one that has not ended has no output yet."""
        row = next(iter(db.query("SELECT * FROM runs WHERE id = ?", [run_id])), None)
        if row is None:
            return "", "", "", ""
        ended = row["status"] not in ("queued", "running")
        output = full_text(row["text"], self._lines(db, run_id)) if ended else ""
        return RunRequest.from_json(json.loads(row["request"])).prompt.text, output, row["title"], row["note"]

    # Reading ------------------------------------------------------------------------------------------------------------------

    def get(self, run_id: str, owner: str) -> RunRecord:
        """A run of one's own with its lines; raises `WorkbenchError` if there is none."""
        return self._one("id = ? AND owner_id = ?", run_id, owner)

    def find(self, run_id: str) -> RunRecord:
        """A run by its id alone, for the process that ran it: the id is unguessable, but pages go through `get`."""
        return self._one("id = ?", run_id)

    def _one(self, where: str, run_id: str, *values: str) -> RunRecord:
        with self.open() as db:
            rows = list(db.query(f"SELECT * FROM {RUNS} WHERE {where}", [run_id, *values]))
            if not rows:
                raise WorkbenchError(f"There is no run {run_id} here.")
            return self.record(db, rows[0])

    def runs(self, owner: str, method: str | None = None, status: str | None = None, text: str | None = None,
             limit: int = 50, offset: int = 0) -> list[RunRecord]:  # fmt: skip
        """Runs of one owner, newest first, every lane for itself, without their lines; of a long answer they carry the beginning.
        `text` is searched in prompts, answers, titles and notes."""
        where, values = ["owner_id = ?"], [owner]
        for column, value in (("method", method), ("status", status)):
            if value:
                where.append(f"{column} = ?")
                values.append(value)
        if text and text.strip():
            found, words = matching(text)
            where.append(f"id IN ({found})")
            values += words
        sql = f"SELECT * FROM {RUNS} WHERE {' AND '.join(where)} ORDER BY created_at DESC, id DESC LIMIT ? OFFSET ?"
        with self.open() as db:
            return [record(row, ()) for row in db.query(sql, [*values, limit, offset])]

    def group(self, group_id: str, owner: str) -> tuple[list[RunRecord], Verdict | None]:
        """The lanes of a group in the order they ran, with lines, and what was concluded."""
        with self.open() as db:
            rows = list(db.query(f"SELECT * FROM {RUNS} WHERE group_id = ? AND owner_id = ? ORDER BY created_at, id", [group_id, owner]))
            return [self.record(db, row) for row in rows], verdict_of(db, group_id) if rows else None

    def record(self, db: Database, row: Mapping[str, Any]) -> RunRecord:
        """A row of `RUNS` with its lines and tags, and with what only the lines say in full."""
        lines = self._lines(db, row["id"])
        tags = [tag for (tag,) in db.execute("SELECT tag FROM run_tags WHERE run_id = ? ORDER BY tag", [row["id"]])]
        found = record(row, lines, tags)
        return replace(found, text=full_text(found.text, lines), stats=outcome(lines).get("stats", found.stats))

    def _lines(self, db: Database, run_id: str) -> tuple[str, ...]:
        chunks = db.execute("SELECT codec, data FROM run_lines WHERE run_id = ? ORDER BY chunk", [run_id]).fetchall()
        return tuple(line for codec, data in chunks for line in unpack(codec, data))


# The runs with the facts that many of them share.
RUNS = (
    "(SELECT runs.*, m.data AS models_data, v.data AS versions_data FROM runs LEFT JOIN facts m ON m.id = models_fact"
    " LEFT JOIN facts v ON v.id = versions_fact) AS run"
)


def _verdict_json(verdict: Verdict) -> str:
    return json.dumps({"sentence": verdict.sentence, "figures": dict(verdict.figures), "holds": verdict.holds}, ensure_ascii=False)


def verdict_of(db: Database, group_id: str | None) -> Verdict | None:
    """What was concluded of a group."""
    stored = db.execute("SELECT verdict FROM groups WHERE id = ?", [group_id]).fetchone()
    return Verdict(**json.loads(stored[0])) if stored and stored[0] else None


def fact(db: Database, value: Mapping[str, Any]) -> int:
    """The number of a fact that many runs share."""
    data = json.dumps(value, sort_keys=True, ensure_ascii=False)
    db.execute("INSERT OR IGNORE INTO facts (data) VALUES (?)", [data])
    return int(db.execute("SELECT id FROM facts WHERE data = ?", [data]).fetchone()[0])


def outcome(lines: Sequence[str]) -> dict[str, Any]:
    """The `done` line of a run, or nothing."""
    last = json.loads(lines[-1]) if lines else {}
    return last if last.get("event") == "done" else {}


def text_of(lines: Sequence[str]) -> str:
    """The answer as the lines say it: what the last one says, else the tokens' texts."""
    done = outcome(lines)
    if isinstance(done.get("text"), str):
        return done["text"]
    return "".join(str(e.get("text", "")) for e in map(json.loads, lines) if e["event"] == "token")


def full_text(kept: str, lines: Sequence[str]) -> str:
    """The whole answer: `kept` is its beginning where the lines have the rest."""
    said = text_of(lines) if len(kept) == EXCERPT_CHARS else kept
    return said if said.startswith(kept) else kept


def plain_stats(stats: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that a list of runs shows; the lines have all of them."""
    return {name: value for name, value in stats.items() if value is None or isinstance(value, (bool, int, float))}


def record(row: Mapping[str, Any], lines: Sequence[str], tags: Sequence[str] = ()) -> RunRecord:
    """A row as an object again."""
    return RunRecord(
        id=row["id"], request=RunRequest.from_json(json.loads(row["request"])), status=row["status"], owner=row["owner_id"],
        session=row["session_id"], group=row["group_id"], lane=row["lane"], parent_run_id=row["parent_run_id"],
        created_at=row["created_at"], finished_at=row["finished_at"], duration_ms=row["duration_ms"], device=row["device"],
        models=json.loads(row["models_data"] or row["models"] or "{}"), versions=json.loads(row["versions_data"] or row["versions"] or "{}"),
        text=row["text"], stats=json.loads(row["stats"]), error=row["error"], lines=tuple(lines), title=row["title"], note=row["note"],
        pinned=bool(row["pinned"]), tags=tuple(tags), lanes=row.get("lanes", 1),
    )  # fmt: skip
