"""Runs that may be read by whoever has their link.

Goes in: a run and its owner, a share id. Comes out: share ids (random, revocable, one an entry), and the records behind one, without
anything that says whose they are. Knows the store's tables, not pages or addresses.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import replace

from backend.errors import WorkbenchError
from backend.store import RUNS, Store, now, verdict_of
from backend.types import RunRecord, Verdict

SHARE_ID = re.compile(r"s-[0-9a-f]{32}")
NOBODY = ""


def is_share_id(text: str) -> bool:
    return SHARE_ID.fullmatch(text) is not None


class Shares:
    """One store as the owners of links see it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def share(self, run_id: str, owner: str) -> str:
        """The id under which the run, with all lanes of its group, can be read from now on; the same one again if there is one."""
        with self._store.write() as db:
            lead = self._store.lead(db, run_id, owner)
            under_way = "SELECT 1 FROM runs WHERE entry = (SELECT entry FROM runs WHERE id = ?) AND status IN ('queued', 'running')"
            if db.execute(under_way, [lead]).fetchone():
                raise WorkbenchError("This run is under way. Share it when it has ended.")
            db.execute("INSERT OR IGNORE INTO shares (id, run_id, created_at) VALUES (?, ?, ?)", [f"s-{secrets.token_hex(16)}", lead, now()])
            return str(db.execute("SELECT id FROM shares WHERE run_id = ?", [lead]).fetchone()[0])

    def revoke(self, run_id: str, owner: str) -> None:
        """The link leads nowhere from now on."""
        with self._store.write() as db:
            db.execute("DELETE FROM shares WHERE run_id = ?", [self._store.lead(db, run_id, owner)])

    def share_id(self, run_id: str, owner: str) -> str | None:
        """The share id of a run of one's own, or None."""
        with self._store.open() as db:
            found = db.execute("SELECT id FROM shares WHERE run_id = ?", [self._store.lead(db, run_id, owner)]).fetchone()
        return str(found[0]) if found else None

    def open(self, share_id: str) -> tuple[list[RunRecord], Verdict | None]:
        """The lanes behind a share id, with lines, and what was concluded; nothing that says whose they are."""
        if not is_share_id(share_id):
            raise WorkbenchError("This is no link to a shared run.")
        with self._store.open() as db:
            entry = db.execute("SELECT entry, group_id FROM runs JOIN shares ON run_id = runs.id WHERE shares.id = ?", [share_id]).fetchone()
            if entry is None:
                raise WorkbenchError("This run is not shared, or no longer.")
            rows = list(db.query(f"SELECT * FROM {RUNS} WHERE entry = ? ORDER BY created_at, id", [entry[0]]))
            records = [self._store.record(db, row) for row in rows]
            verdict = verdict_of(db, entry[1])
        return [_anonymous(record) for record in records], verdict


def _anonymous(record: RunRecord) -> RunRecord:
    return replace(record, owner=NOBODY, session=None, parent_run_id=None, title="", note="", tags=(), pinned=False)
