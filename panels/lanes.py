"""What the text of a strip says: its lanes, their tokens, how they ended.

Goes in: the growing string of a strip (it comes back from the browser, so anything may stand in it). Comes out: lanes, and which
token a step goes on from. Pure: no gradio, no store, no models.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from backend.errors import WorkbenchError


@dataclass(frozen=True)
class Lane:
    """One run inside a strip; `start` is where its first line begins in the text."""

    run: str
    name: str
    start: int
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def tokens(self) -> list[dict[str, Any]]:
        return [e for e in self.events if e["event"] == "token" and isinstance(e.get("position"), int) and isinstance(e.get("id"), int)]

    @property
    def end(self) -> dict[str, Any] | None:
        """The lane's `done` or `failed` event."""
        return next((e for e in reversed(self.events) if e["event"] in ("done", "failed")), None)

    @property
    def continued(self) -> bool:
        """Whether it came with a prefix: a branch or a step."""
        return any(e.get("source") == "prefix" for e in self.tokens)

    @property
    def seconds(self) -> float:
        """Time of its last token."""
        return max((e.get("ms", 0.0) for e in self.tokens), default=0.0) / 1000


def row(line: str) -> str:
    """A line as a row of a strip's text. `<` only stands inside JSON strings, so it is written as JSON escapes it: no tag is ever seen."""
    return line.replace("<", "\\u003c") + "\n"


def lanes(text: str) -> list[Lane]:
    """The lanes of a strip's text in order; lines that are no events are passed over."""
    found: list[Lane] = []
    offset = 0
    for row in text.splitlines(keepends=True):
        event = _event(row)
        if event is not None and event["event"] == "started":
            found.append(Lane(str(event.get("run", "")), str(event.get("lane") or ""), offset))
        if event is not None and found and event["event"] != "verdict":
            found[-1].events.append(event)
        offset += len(row)
    return found


def _event(row: str) -> dict[str, Any] | None:
    try:
        event = json.loads(row)
    except json.JSONDecodeError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def lines_of(text: str, lane: Lane) -> list[str]:
    """The rows of the text that belong to a lane."""
    return [json.dumps(event, ensure_ascii=False) for event in lane.events]


@dataclass(frozen=True)
class Footing:
    """Where a step goes on: after this token of this run; `before` is the text that stays in front of the new lane."""

    run: str
    position: int
    token_id: int
    before: str


def footing(text: str, selected: dict[str, Any] | None) -> Footing | None:
    """The selected token if it is in the strip; else the end of the lane that was stepped last, or of the first. None: no lane, or a
    recording of which no token was selected: whoever steps there wants to step through the form's own request."""
    found = [lane for lane in lanes(text) if lane.tokens]
    if not found:
        return None
    chosen = _chosen(found, selected)
    if chosen is not None:
        return Footing(chosen[0].run, chosen[1]["position"], chosen[1]["id"], text)
    if is_recording(text):
        return None
    lane = found[-1] if found[-1].continued else found[0]
    if lane.end is not None and lane.end.get("finish_reason") in ("stop", "dead_end"):
        raise WorkbenchError("This answer is complete. Open one of its tokens to step on from there.")
    last = lane.tokens[-1]
    return Footing(lane.run, last["position"], last["id"], text[: lane.start] if lane.continued else text)


def is_recording(text: str) -> bool:
    """Whether the strip holds what somebody else made: a recording that ships, or a shared run."""
    first = _event(text.split("\n", 1)[0])
    return first is not None and first["event"] in ("recorded", "shared")


def share_of(text: str) -> str:
    """The share id under which a strip's text was read; empty for one that was not."""
    first = _event(text.split("\n", 1)[0])
    return str(first.get("share", "")) if first is not None and first["event"] == "shared" else ""


def _chosen(found: list[Lane], selected: dict[str, Any] | None) -> tuple[Lane, dict[str, Any]] | None:
    for lane in found:
        for token in lane.tokens:
            if selected and lane.run == selected.get("run") and token["position"] == selected.get("position"):
                return lane, token
    return None
