"""Makes room on a public instance: the oldest entries go, never one that is shared, pinned or under way.

Goes in: a store, whose turn it is, how much may be kept. Comes out: a smaller store, or an `InvalidRequest` where nothing may go.
An entry is a press of Run with all its lanes. Knows the store's tables, not models or pages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlite_utils import Database

from backend.errors import InvalidRequest
from backend.store import Store

# The lead of an entry stands for its lanes; a share and a pin are the lead's.
LOOSE = (
    "lead = 1 AND pinned = 0 AND id NOT IN (SELECT run_id FROM shares)"
    " AND entry NOT IN (SELECT entry FROM runs WHERE status IN ('queued', 'running'))"
)
AT_ONCE = 50  # entries that go in one transaction, so that nobody waits long for the lock


def used_bytes(db: Database) -> int:
    """What the database's rows take; pages that are free again don't count, the next rows fill them."""
    pages, size, free = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size", "freelist_count"))
    return (pages - free) * size


def database_bytes(store: Store) -> int:
    with store.open() as db:
        return used_bytes(db)


def make_room(store: Store, owner: str, most_entries: int, most_bytes: int, going: Callable[[list[str]], None]) -> None:
    """Let the owner's oldest entries go until one more fits, then anybody's until the database is within its size.

    `going(run_ids)` is told first. Raises `InvalidRequest` where all that is left is shared, pinned or under way.
    """
    while (over := entries(store, owner) - most_entries + 1) > 0:
        if not _drop_oldest(store, "owner_id = ?", [owner], min(over, AT_ONCE), going):
            raise InvalidRequest(f"You keep {most_entries} runs here, which is as many as there may be, and all are pinned, shared or under way. "
                                 "Let go of some in History.")  # fmt: skip
    while database_bytes(store) > most_bytes:
        if not _drop_oldest(store, "1 = 1", [], AT_ONCE, going):
            raise InvalidRequest("This instance's storage is full of runs that are shared or pinned. Try again later.")


def entries(store: Store, owner: str) -> int:
    """How many entries an owner has."""
    with store.open() as db:
        return int(db.execute("SELECT count(*) FROM runs WHERE owner_id = ? AND lead = 1", [owner]).fetchone()[0])


def _drop_oldest(store: Store, whose: str, values: Sequence[Any], n: int, going: Callable[[list[str]], None]) -> bool:
    """Erase the n oldest loose entries; whether there were any."""
    oldest = f"SELECT entry FROM runs WHERE {whose} AND {LOOSE} ORDER BY created_at, id LIMIT ?"
    sql = f"SELECT id FROM runs WHERE entry IN ({oldest}) ORDER BY id"
    with store.write() as db:
        runs = [row[0] for row in db.execute(sql, [*values, n]).fetchall()]
        going(runs)
        for run_id in runs:
            store.erase(db, run_id)
    return bool(runs)
