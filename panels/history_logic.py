"""Past runs as the history page asks for them: filters, pages of entries, changes to one entry.

Goes in: the visitor's token, values of filters, what the list's buttons send (all client input). Comes out: JSON for the list, the strip's text of
a run. Reads and writes by owner only; knows no components.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from backend.errors import InvalidRequest, WorkbenchError
from backend.history import Wanted
from backend.workbench import Workbench
from panels.records import opened, row_of
from panels.said import shown
from panels.visitor import context_of, owner_of

PAGE_ROWS = 25
FILTERS = ("text", "method", "status", "model", "tag", "pinned", "since", "until")
DAY = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d{3})?Z)?")


class Past:
    """One workbench's history, seen from its page."""

    def __init__(self, workbench: Workbench) -> None:
        self.workbench, self.history = workbench, workbench.history
        self.titles = {name: method.title for name, method in workbench.methods.items()}

    def rows(self, token: Any, values: Sequence[Any], start: Any = 0) -> str:
        """A page of entries from the one numbered `start`; the first page says how many there are."""
        owner, wanted = self._owner(token), wanted_of(values)
        if type(start) is not int or not 0 <= start <= 10_000_000:
            raise InvalidRequest(f"The list begins at a whole number from 0, got {start!r}.", "start")
        records = self.history.entries(owner, wanted, limit=PAGE_ROWS + 1, offset=start)
        told = {"rows": [row_of(record, self.titles) for record in records[:PAGE_ROWS]], "from": start, "more": len(records) > PAGE_ROWS}
        return shown(told if start else {**told, "count": self.history.count(owner, wanted), "filtered": wanted != Wanted()})

    def open(self, token: Any, run_id: Any) -> str:
        """The strip's text of a run of one's own, or of a shared one, the other lanes of its group beside it."""
        return opened(self.workbench, self._owner(token), _run(run_id))[1]

    def branch(self, request: gr.Request, token: Any, event: Any) -> Iterator[str]:
        """The lines of a run that goes another way at one token; `event` is what the strip's card sent."""
        match event:
            case {"run": str(run), "position": int(position), "token_id": int(token_id)}:
                context = replace(context_of(self.workbench, token, request), parent_run_id=run)
                return self.workbench.run(self.workbench.branch(run, position, token_id, context.owner), context)
            case _:
                raise WorkbenchError("The card sent no token to go on from.")

    def pin(self, token: Any, run_id: Any, on: Any) -> None:
        self.history.pin(_run(run_id), self._owner(token), on is True)

    def change(self, token: Any, data: Mapping[str, Any]) -> str:
        """Title, tags and note of an entry as its owner wants them; what is kept of them goes back to the list."""
        run_id, owner = _run(data.get("run")), self._owner(token)
        title, note, tags = (data.get(name) for name in ("title", "note", "tags"))
        if not all(isinstance(text, str) for text in (title, note, tags)):
            raise InvalidRequest("Title, note and tags must be texts.", "title")
        self.history.tag(run_id, owner, tags.replace(",", " ").split())
        self.history.rename(run_id, owner, title)
        self.history.annotate(run_id, owner, note)
        kept = self.workbench.store.get(run_id, owner)
        return shown({"changed": {"run": run_id, "title": kept.title, "note": kept.note, "tags": list(kept.tags)}})

    def forget(self, token: Any, run_id: Any) -> str:
        """Delete an entry with all its lanes."""
        self.history.forget(_run(run_id), self._owner(token))
        return shown({"gone": run_id})

    def choices(self, token: Any) -> tuple[list[str], list[str]]:
        """The owner's models and tags, to choose from."""
        owner = self._owner(token)
        return self.history.models(owner), self.history.tags(owner)

    def _owner(self, token: Any) -> str:
        return owner_of(self.workbench.public, token)


def wanted_of(values: Sequence[Any]) -> Wanted:
    """The filters' values, in the order of `FILTERS`, as the store takes them; raises `InvalidRequest` for what no filter gives."""
    said = {name: value for name, value in zip(FILTERS, values, strict=True) if value not in (None, "", False)}
    for name, value in said.items():
        if name == "pinned":
            continue
        if not isinstance(value, str):
            raise InvalidRequest(f"{name} must be a text, got {type(value).__name__}.", name)
        if name in ("since", "until") and not DAY.fullmatch(value):
            raise InvalidRequest(f"{name} must be a day like 2026-11-25, got {value!r}.", name)
    return Wanted(**{**said, "pinned": said.get("pinned") is True})


def _run(run_id: Any) -> str:
    if not isinstance(run_id, str) or not run_id:
        raise WorkbenchError("The list sent no run.")
    return run_id
