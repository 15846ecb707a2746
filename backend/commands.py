"""What the command line shows and understands, as pure functions.

Goes in: rows, records, `FIELD=VALUE` texts. Comes out: tables, lines, requests with one field changed. Prints nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import IO, Any

from backend.errors import InvalidRequest
from backend.exchange import lanes_of, recorded_lines
from backend.store import Store
from backend.types import RunRecord


def override(data: Any, changes: Sequence[str]) -> Any:
    """`data` with each `FIELD=VALUE` set; a dotted field goes inside, a value that is JSON is taken as such, else as text."""
    if not isinstance(data, dict):
        raise InvalidRequest(f"The request must be an object, got {type(data).__name__}.", "request")
    data = json.loads(json.dumps(data))
    for change in changes:
        field, equals, text = change.partition("=")
        if not equals or not field:
            raise InvalidRequest(f"--set takes FIELD=VALUE, got {change!r}.", "set")
        *path, last = field.split(".")
        place = data
        for name in path:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise InvalidRequest(f"--set {field}: {name} holds no fields.", "set")
        place[last] = _value(text)
    return data


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Aligned columns with a head; the column names are the rows' keys."""
    if not rows:
        return "nothing yet"
    names = list(rows[0])
    cells = [names, *([str(row[n]) for n in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def model_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"id": r["id"], "here": _yes(r["present"]), "size": f"{r['bytes'] / 1e6:.0f} MB", "origin": r["origin"] or "-"}
        for r in rows
    ]  # fmt: skip


def run_rows(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    return [
        {
            "run": r.id, "when": r.created_at[:19].replace("T", " "), "method": r.request.method,
            "lane": r.lane or "-", "status": r.status, "tokens": r.stats.get("n_tokens", "-"), "valid": _yes(r.stats.get("valid")),
            "prompt": _short(r.request.prompt.text), "answer": _short(r.text),
        }
        for r in records
    ]  # fmt: skip


def _yes(value: Any) -> str:
    return {True: "yes", False: "no"}.get(value, "-")


def _short(text: str, limit: int = 44) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def run_json(record: RunRecord) -> str:
    data = asdict(record) | {"request": record.request.to_json()}
    del data["lines"]
    return json.dumps(data, ensure_ascii=False)


def exported(store: Store, run_id: str, owner: str) -> list[str]:
    """A run with the other lanes of its group, behind a `recorded` header that holds the requests: the form of `assets/runs`."""
    return recorded_lines(*lanes_of(store, run_id, owner))


def progress_text(event: Mapping[str, Any]) -> str:
    """A `progress` or `queued` line in words."""
    if event["event"] == "queued":
        return event.get("note") or f"waiting: {event['place']} before this one"
    done, total, rate = event["done"], event.get("total"), event.get("rate")
    share = f" {100 * done / total:.0f} %" if total else ""
    left = f", {(total - done) / rate:.0f} s left" if total and rate else ""
    return f"{event.get('note', '')}{share}{left}"


class Teller:
    """Says how far a download is: on one overwritten line for a person, now and then on lines of their own in a log."""

    EVERY_S = 5.0

    def __init__(self, say: Callable[[str], None], log: IO[str], clock: Callable[[], float]) -> None:
        self._say, self._log, self._clock = say, log, clock
        self._told, self._start, self._note = -self.EVERY_S, clock(), ""

    def __call__(self, done: float, total: float | None, note: str) -> None:
        now = self._clock()
        text = progress_text({"event": "progress", "done": done, "total": total, "note": note})
        if self._log.isatty():
            self._say(text)
        elif note != self._note or now - self._told >= self.EVERY_S:
            self._told, self._note = now, note
            print(text, file=self._log, flush=True)
