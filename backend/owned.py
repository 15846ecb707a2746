"""Who made what: artifacts by id and planted models by name, each belonging to the run that told of it and so to that run's owner.

Goes in: artifact lines, requests, owners. Comes out: whose a thing is; an `InvalidRequest`, the same for what is another's and for what never was;
the folders that go with a run. Knows the store's connection, nothing of methods: whatever string in a request can name a thing is looked at.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from backend.artifacts import ID
from backend.errors import InvalidRequest
from backend.model_source import NAME
from backend.store import Store, now
from backend.types import RunRequest

BEGINS = '{"event":"artifact"'
MINE = "mine/"


class Owned:
    """The table of made things of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def note(self, run_id: str, line: str) -> None:
        """Remember what an artifact line tells of; a run that goes on with another's artifact takes it over. Other lines are passed over."""
        if not line.startswith(BEGINS):
            return
        made = json.loads(line)
        row = [made["id"], run_id, made["kind"], json.dumps(made["summary"], ensure_ascii=False), now()]
        with self._store.write() as db:
            db.execute(
                "INSERT INTO artifacts (id, run_id, kind, summary, created_at) SELECT ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM runs WHERE id = ?2)"
                " ON CONFLICT (id) DO UPDATE SET run_id = excluded.run_id, summary = excluded.summary",
                row,
            )

    def owner_of(self, made: str) -> str | None:
        """The owner of a made thing; None where nobody is known to have made it."""
        sql = "SELECT runs.owner_id FROM artifacts JOIN runs ON runs.id = artifacts.run_id WHERE artifacts.id = ?"
        with self._store.open() as db:
            row = db.execute(sql, [made]).fetchone()
        return row[0] if row else None

    def of_runs(self, run_ids: Iterable[str]) -> list[str]:
        """What these runs made."""
        with self._store.open() as db:
            return [row[0] for run_id in run_ids for row in db.execute("SELECT id FROM artifacts WHERE run_id = ?", [run_id]).fetchall()]

    def check(self, request: RunRequest, owner: str) -> None:
        """Raise unless everything that the request names by id is the owner's own; what ships is everybody's."""
        for name in named(request.options):
            if self.owner_of(name) != owner:
                raise InvalidRequest(f"There is no artifact {name} here; it was removed, or made in another data directory.", "options")


def named(value: Any) -> Iterator[str]:
    """Every made thing that a request's options could name, however deep."""
    if isinstance(value, str):
        text = value.strip()
        if ID.fullmatch(text) or (text.startswith(MINE) and NAME.fullmatch(text.removeprefix(MINE))):
            yield text
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from named(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from named(inner)


def remove(data_dir: Path, made: Iterable[str]) -> None:
    """The folders of these things."""
    for name in made:
        folder = data_dir / "models" / name if name.startswith(MINE) else data_dir / "artifacts" / name
        if ID.fullmatch(name) or NAME.fullmatch(name.removeprefix(MINE)):
            shutil.rmtree(folder, ignore_errors=True)
