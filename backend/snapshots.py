"""A history that outlives its disk: copies of the live database in a folder that stays, and the way back at the next start.

Goes in: the database on local disk, a folder (`LOUPE_SNAPSHOT_DIR`, such as a mounted bucket), a process's id. Comes out: consistent
files there, the newest few of them, and what a page says about it. The live database never lies on the mount. Knows no table; artifacts,
models and a run's unsaved last seconds are not in a snapshot. A failure is said and tried again; it never reaches a run.
"""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock

from backend.errors import InvalidRequest

log = logging.getLogger("loupe")
KEPT = 3
MINUTES = 5.0
NAME = re.compile(r"loupe-(?P<line>[0-9a-z]{10})-(?P<at>\d{8}T\d{9})-(?P<process>[0-9a-z]{10})\.db")
NOT_IN_IT = "Routers, planted models and reports made here are not in it."


@dataclass(frozen=True)
class SnapshotState:
    """`last`: when the newest snapshot of this process was taken, or the one it began with (UTC); `error`: why the latest try failed."""

    last: datetime | None = None
    error: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """One file of the folder. `line` is the history that it belongs to: a restored history goes on in the line of its snapshot."""

    path: Path
    line: str
    at: str
    process: str

    @property
    def taken(self) -> datetime:
        return datetime.strptime(f"{self.at[:15]}.{self.at[15:]}", "%Y%m%dT%H%M%S.%f").replace(tzinfo=timezone.utc)


def listed(folder: Path) -> list[Snapshot]:
    """What lies there, newest first; files that are none of ours are passed over."""
    matches = [(path, NAME.fullmatch(path.name)) for path in folder.glob("loupe-*.db")]
    found = [Snapshot(path, match["line"], match["at"], match["process"]) for path, match in matches if match]
    return sorted(found, key=lambda s: (s.at, s.process), reverse=True)


def is_sound(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with a file."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as db:
            return db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    except sqlite3.Error:
        return False


def restore(folder: Path, database: Path) -> Snapshot | None:
    """Bring the newest sound snapshot to where the live database is missing; None where it is there, or where none is sound."""
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database.with_name("restore.lock")):
        if database.exists():
            return None
        for snapshot in listed(folder):
            copy = database.with_name(f"{database.name}.restoring")
            try:
                shutil.copyfile(snapshot.path, copy)
            except OSError as error:
                log.warning("the snapshot %s can't be read: %s", snapshot.path.name, error)
                continue
            if is_sound(copy):
                for rest in ("-wal", "-shm"):  # of a database that is gone; it must not be taken for this one's
                    database.with_name(database.name + rest).unlink(missing_ok=True)
                os.replace(copy, database)
                return snapshot
            log.warning("the snapshot %s is damaged; the one before it is tried", snapshot.path.name)
            copy.unlink()
    return None


class Snapshots:
    """Takes snapshots of one database for one process. Its thread starts with the first change: none may run while a Space starts."""

    def __init__(self, database: Path, folder: Path, process_id: str, minutes: float = MINUTES, began: Snapshot | None = None) -> None:
        if not math.isfinite(minutes) or minutes <= 0:
            raise InvalidRequest(f"LOUPE_SNAPSHOT_MINUTES must be a number above 0, got {minutes:g}.", "LOUPE_SNAPSHOT_MINUTES")
        self._database, self._folder, self._began, self._every_s = database, folder, began, minutes * 60
        self._process = process_id[-10:].lower()
        self._line = began.line if began else self._process
        self._changed, self._closing, self._lock = threading.Event(), threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None
        self.state = SnapshotState(began.taken if began else None)

    def changed(self) -> None:
        """The database was written to."""
        self._changed.set()
        with self._lock:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._work, name="snapshots", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """The last snapshot, if something changed since the one before."""
        self._closing.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()
        if self._changed.is_set():
            self.take()

    def _work(self) -> None:
        while not self._closing.wait(self._every_s):
            if self._changed.is_set():
                self.take()

    def take(self) -> Path | None:
        """One snapshot now; None if it failed, which `state` says."""
        self._changed.clear()  # before the copy: what is written meanwhile counts as a change again
        try:
            path = self._copied()
            self._prune()
        except (OSError, sqlite3.Error) as error:
            self._changed.set()
            self.state = SnapshotState(self.state.last, str(error))
            log.warning("no snapshot of the history could be taken: %s", error)
            return None
        return path

    def _copied(self) -> Path:
        """SQLite makes a consistent copy on local disk; only a whole one gets a name that counts."""
        self._folder.mkdir(parents=True, exist_ok=True)
        local = self._database.with_name(f"snapshot-{self._process}.db")
        local.unlink(missing_ok=True)
        moment = datetime.now(timezone.utc)
        at = moment.strftime("%Y%m%dT%H%M%S") + f"{moment.microsecond // 1000:03d}"
        path = self._folder / f"loupe-{self._line}-{at}-{self._process}.db"
        partial = path.with_suffix(".partial")
        try:
            with closing(sqlite3.connect(self._database, timeout=5)) as db:
                db.execute("VACUUM INTO ?", [str(local)])
            with local.open("rb") as source, partial.open("wb") as target:
                shutil.copyfileobj(source, target)
                target.flush()
                os.fsync(target.fileno())
            os.replace(partial, path)
        finally:
            local.unlink(missing_ok=True)
            partial.unlink(missing_ok=True)
        self.state = SnapshotState(moment)
        return path

    def _prune(self) -> None:
        """Keep the newest of this history. What another process wrote after this one began is its own and stays."""
        before = self._began.at if self._began else ""
        own = [s for s in listed(self._folder) if s.process == self._process or (s.line == self._line and s.at <= before)]
        for snapshot in own[KEPT:]:
            snapshot.path.unlink(missing_ok=True)


def minutes_of(environment: Mapping[str, str]) -> float:
    """`LOUPE_SNAPSHOT_MINUTES`; raises `InvalidRequest` if it is no number."""
    text = environment.get("LOUPE_SNAPSHOT_MINUTES", str(MINUTES))
    try:
        return float(text)
    except ValueError as error:
        raise InvalidRequest(f"LOUPE_SNAPSHOT_MINUTES must be a number above 0, got {text!r}.", "LOUPE_SNAPSHOT_MINUTES") from error


def words(snapshots: Snapshots | None, on_space: bool, now: Callable[[], float] = time.time) -> str:
    """What a list of runs says of how long it is kept; nothing on a machine whose disk stays."""
    if snapshots is None:
        return "This Space keeps its history until it restarts." if on_space else ""
    state = snapshots.state
    last = f"last snapshot {_ago(now() - state.last.timestamp())}" if state.last else "no snapshot yet"
    if state.error is not None:
        return f"History is not being kept: no snapshot could be taken ({state.error}); {last}."
    return f"{last[0].upper()}{last[1:]}. {NOT_IN_IT}"


def _ago(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute ago"
    if minutes < 120:
        return f"{minutes} minute{'s' if minutes > 1 else ''} ago"
    return f"{round(minutes / 60)} hours ago"
