"""What a visitor can do with all of her runs, without the page: bring one in, take all out, delete all.

Goes in: her token (client input), an uploaded file. Comes out: JSON for the section, a database file. Everything is read and written by owner.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from backend.errors import InvalidRequest, WorkbenchError
from backend.exchange import export_database, export_history
from backend.imports import import_runs
from backend.workbench import Workbench
from panels.said import shown
from panels.visitor import context_of, owner_of


class Takeout:
    """One workbench, as this section asks it. `folder`: where databases wait until they are fetched."""

    def __init__(self, workbench: Workbench, folder: Path) -> None:
        self.workbench, self.folder = workbench, folder

    def bring(self, request: gr.Request, token: Any, path: Any) -> str:
        """The runs of an exported file become hers; raises `WorkbenchError` naming the line that is at fault."""
        context = context_of(self.workbench, token, request)
        ids = import_runs(self.workbench, self._text(path), context)
        if self.workbench.public:
            self.workbench.guard.make_room(context.owner)
        n = "1 run is" if len(ids) == 1 else f"{len(ids)} runs are"
        return answer({"words": f"{n} in your history now.", "run": ids[0]})

    def _text(self, path: Any) -> str:
        file = Path(str(path))
        most = self.workbench.guard.limits.upload_bytes
        if self.workbench.public and file.stat().st_size > most:
            raise InvalidRequest(f"The file may have at most {most / 1e6:.0f} MB here, it has {file.stat().st_size / 1e6:.1f}.", "file")
        try:
            return file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise WorkbenchError(f"This file is no text of an exported run ({error.reason} at byte {error.start}).") from error

    def listing(self, token: Any) -> str:
        """The list of her runs as a CSV file."""
        text = export_history(self.workbench, self._owner(token))
        return answer({"words": f"{text.count(chr(10)) - 1:,} lines.", "file": {"name": "loupe-runs.csv", "text": text, "type": "text/csv"}})

    def database(self, token: Any) -> Path:
        """Her runs as a SQLite file of its own; the one she asked for before is deleted. Its folder's name can't be guessed."""
        owner = self._owner(token)
        place = self.folder / "takeout" / hashlib.sha256(owner.encode()).hexdigest()[:32]
        shutil.rmtree(place, ignore_errors=True)
        room = place / secrets.token_hex(16)
        room.mkdir(parents=True)
        return export_database(self.workbench, owner, room / "loupe.db")

    def forget(self, token: Any) -> str:
        """Delete all that is hers and not under way."""
        n = self.workbench.history.forget_all(self._owner(token))
        shutil.rmtree(self.folder / "takeout" / hashlib.sha256(self._owner(token).encode()).hexdigest()[:32], ignore_errors=True)
        return answer({"words": f"{n:,} {'lane' if n == 1 else 'lanes'} deleted." if n else "There was nothing to delete."})

    def _owner(self, token: Any) -> str:
        return owner_of(self.workbench.public, token)


def answer(data: Mapping[str, Any]) -> str:
    """The section's value; the same answer twice must still be a new one, or the page would not see it."""
    return shown({**data, "n": secrets.token_hex(4)})
