"""A run that was exported, here or elsewhere, becomes a run of whoever imports it.

Goes in: the text of an exported file and a context. Comes out: new runs in the store, all of them or none; a file that is not what it should be
is refused with the line and the reason. The file is a stranger's: everything in it is checked. Knows nothing of models or pages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from backend.errors import InvalidRequest
from backend.exchange import FORMAT, IMPORTED, Keeper, as_it_ran, digest, dumped
from backend.limits import TITLES
from backend.paths import assets_dir
from backend.store import new_id
from backend.types import RunContext, RunRecord, RunRequest, Verdict

MOST_MB = 32
MOST_RUNS = 2_000
MOST_TITLE = 200
MOST_DEEP = 60
RUN_ID = re.compile(r"[0-9A-Z]{26}")
ENDED = ("completed", "cancelled", "failed", "interrupted")
NUMBER = (int, float)
# What a line must hold for the views to draw it; further fields pass, since readers ignore what they do not know.
FIELDS: Mapping[str, Mapping[str, Any]] = {
    "started": {"run": str, "method": str, "models": dict, "prompt": list},
    "token": {"position": int, "id": int, "text": str, "logprob": NUMBER, "source": str},
    "round": {"index": int, "position": int, "drafted": list, "parents": list, "accepted": int},
    "finding": {"kind": str, "data": dict},
    "control": {"name": str, "position": int},
    "artifact": {"id": str, "kind": str, "summary": dict},
    "done": {"finish_reason": str, "text": str, "stats": dict},
    "failed": {"error": str},
    "verdict": {"sentence": str},
    "recorded": {"requests": dict},
}


@dataclass
class Recording:
    """One entry of a file, as it is read: the header, a list of lines for each run, the verdict. `at`: where its header stands."""

    at: int
    header: Mapping[str, Any]
    requests: Mapping[str, RunRequest]
    lanes: dict[str, list[str]] = field(default_factory=dict)
    verdict: Verdict | None = None


def import_runs(keeper: Keeper, text: str, context: RunContext) -> list[str]:
    """The runs of an exported file, as new ones of the context's owner; returns their ids, in the file's order. Raises `InvalidRequest` with
    the line and the reason, and then nothing was imported. Several exports in one file are several entries."""
    size = len(text.encode())
    if size > MOST_MB * 1_000_000:
        raise InvalidRequest(f"The file may have at most {MOST_MB} MB, it has {size / 1e6:.1f}.", "file")
    found = read(text)
    n = sum(len(recording.requests) for recording in found)
    if n > MOST_RUNS:
        raise InvalidRequest(f"A file may bring at most {MOST_RUNS:,} runs, this one has {n:,}.", "file")
    entries = [_renewed(_records(recording), recording.verdict) for recording in found]
    keeper.store.keep(entries, context)
    return [record.id for records, _ in entries for record in records]


def _renewed(records: Sequence[RunRecord], verdict: Verdict | None) -> tuple[list[RunRecord], Verdict | None]:
    """The same lanes under ids of their own."""
    names = {record.id: new_id() for record in records}
    group = new_id() if verdict is not None or len(records) > 1 or records[0].group else None
    if group and records[0].group:
        names[records[0].group] = group
    renamed = [replace(r, id=names[r.id], group=group, lines=tuple(_renamed_line(line, names) for line in r.lines)) for r in records]
    if verdict is not None:
        verdict = Verdict(verdict.sentence, _renamed(verdict.figures, names), verdict.holds)
    return renamed, verdict


def _renamed_line(line: str, names: Mapping[str, str]) -> str:
    """A line with the new ids; one that names none stays as it is, letter for letter."""
    event = json.loads(line)
    if event["event"] not in ("started", "finding"):
        return line
    new = _renamed(event, names)
    return line if new == event else dumped(new)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _renamed(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [_renamed(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value


# Reading ----------------------------------------------------------------------------------------------------------------------------


def read(text: str) -> list[Recording]:
    """The entries of an exported file; raises `InvalidRequest` naming the line."""
    found: list[Recording] = []
    places: Iterator[str] = iter(())
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.rstrip("\r")
        if not line.strip():
            continue
        event = _event(line, number)
        if event["event"] == "recorded":
            found.append(_recording(event, number))
            places = _places(found[-1])
        elif not found:
            raise _bad(number, "the file must begin with a line “recorded”, as an exported run does")
        elif event["event"] == "verdict":
            found[-1].verdict = _verdict(event, number)
        else:
            _add(found[-1], event, line, number, places)
    if not found:
        raise InvalidRequest("The file holds no run.", "file")
    for recording in found:
        _check_whole(recording)
    return found


def _bad(number: int, reason: str) -> InvalidRequest:
    return InvalidRequest(f"Line {number}: {reason}.", "file")


def _event(line: str, number: int) -> dict[str, Any]:
    """A line as an event with the fields that it must have."""
    try:
        event = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _bad(number, f"it is not JSON ({error})") from error
    tag = event.get("event") if isinstance(event, dict) else None
    if not isinstance(tag, str) or tag not in FIELDS:
        raise _bad(number, f"it is no line of a run: there is no event {tag!r}")
    for name, kinds in FIELDS[tag].items():
        value = event.get(name)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise _bad(number, f"{tag}.{name} must be {_kind(kinds)}, got {type(value).__name__}")
    if tag == "token" and min(event["position"], event["id"]) < 0:
        raise _bad(number, "position and id of a token must be 0 or more")
    if _deeper(event, MOST_DEEP):
        raise _bad(number, f"objects and lists may lie in each other at most {MOST_DEEP} deep")
    return event


def _deeper(value: Any, most: int) -> bool:
    """Whether objects and lists lie deeper in each other than that."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return most < 0 or any(_deeper(one, most - 1) for one in inner if isinstance(one, (dict, list)))


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _kind(kinds: Any) -> str:
    names = {str: "a text", int: "a whole number", dict: "an object", list: "a list"}
    return "a number" if kinds is NUMBER else names[kinds]


def _recording(event: Mapping[str, Any], number: int) -> Recording:
    version = event.get("format", FORMAT)
    if type(version) is not int or version > FORMAT:
        raise _bad(number, f"this is format {version}; this Loupe reads format {FORMAT}")
    requests: dict[str, RunRequest] = {}
    for run_id, data in event["requests"].items():
        if not RUN_ID.fullmatch(run_id):
            raise _bad(number, f"{run_id[:40]!r} is no id of a run")
        try:
            requests[run_id] = RunRequest.from_json(data)
        except InvalidRequest as error:
            raise _bad(number, f"the request of {run_id} is none ({str(error).rstrip('.')})") from error
        if requests[run_id].method not in TITLES:
            raise _bad(number, f"this Loupe has no method {requests[run_id].method[:40]!r}")
    if not requests:
        raise _bad(number, "it holds no request")
    return Recording(number, event, requests)


def _places(recording: Recording) -> Iterator[str]:
    """Whose line comes next, as far as the header says how many lines each lane has."""
    for run_id in recording.requests:
        n = _facts(recording, run_id).get("lines")
        recording.lanes.setdefault(run_id, [])
        if type(n) is not int or n < 0:
            return
        for _ in range(n):
            yield run_id


def _facts(recording: Recording, run_id: str) -> Mapping[str, Any]:
    """What the header says of a lane; nothing in a file without it."""
    lanes = recording.header.get("lanes")
    facts = lanes.get(run_id) if isinstance(lanes, Mapping) else None
    return facts if isinstance(facts, Mapping) else {}


def _add(recording: Recording, event: Mapping[str, Any], line: str, number: int, places: Iterator[str]) -> None:
    """Put a line to its lane: where the header said, else behind the `started` line that names the lane."""
    started = event["run"] if event["event"] == "started" else None
    if started is not None and started not in recording.requests:
        raise _bad(number, f"the header has no request for run {started[:40]!r}")
    run_id = next(places, None) or started or next(reversed([k for k, lines in recording.lanes.items() if lines]), None)
    if run_id is None:
        raise _bad(number, "it belongs to no run: a line “started” must come first")
    if started is not None and started != run_id:
        raise _bad(number, f"a line of run {run_id} was to come here")
    recording.lanes.setdefault(run_id, []).append(line)


def _verdict(event: Mapping[str, Any], number: int) -> Verdict:
    figures, holds = event.get("figures", {}), event.get("holds")
    if not isinstance(figures, dict) or holds not in (None, True, False):
        raise _bad(number, "figures must be an object and holds true, false or null")
    return Verdict(event["sentence"], figures, holds)


def _check_whole(recording: Recording) -> None:
    for run_id in recording.requests:
        lines, facts = recording.lanes.get(run_id, []), _facts(recording, run_id)
        if "sha256" in facts and facts["sha256"] != digest(lines):
            raise _bad(recording.at, f"the lines of run {run_id} are not those that were exported (their SHA-256 is another)")
        if not lines and facts.get("lines") != 0:
            raise _bad(recording.at, f"the file has no lines of run {run_id}")


def shipped_entry(run_id: str) -> tuple[list[RunRecord], Verdict | None] | None:
    """The lanes and the verdict of the shipped recording that this run belongs to, as they ran; None where none ships."""
    for path in sorted((assets_dir() / "runs").glob("*.jsonl")):
        text = path.read_text(encoding="utf-8")
        if run_id in json.loads(text.split("\n", 1)[0])["requests"]:
            found = read(text)[0]
            return [as_it_ran(record) for record in _records(found)], found.verdict
    return None


# Records ------------------------------------------------------------------------------------------------------------------------------


def _records(recording: Recording) -> list[RunRecord]:
    """The lanes as records, dated now so that they stand at the head of the list; when they ran is in `versions`."""
    came = datetime.now(timezone.utc)
    records = [_record(recording, run_id, came + timedelta(milliseconds=i)) for i, run_id in enumerate(recording.requests)]
    title = _text(recording.header.get("title"))[:MOST_TITLE]
    return [replace(records[0], title=title), *records[1:]]


def _record(recording: Recording, run_id: str, came: datetime) -> RunRecord:
    lines, facts, request = recording.lanes[run_id], _facts(recording, run_id), recording.requests[run_id]
    events = [json.loads(line) for line in lines]
    started = next((e for e in events if e["event"] == "started"), {})
    last = events[-1] if events else {}
    done = last if last.get("event") == "done" else {}
    at = came.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    origin = {"run": _text(facts.get("origin")) or run_id, "date": _text(facts.get("created_at")) or _text(started.get("at")) or at,
              "finished": _text(facts.get("finished_at"))}  # fmt: skip
    duration = facts.get("duration_ms")
    return RunRecord(
        id=run_id, request=request, status=_status(facts, last), group=_text(started.get("group")) or None,
        lane=_text(facts.get("lane")) or _text(started.get("lane")) or None, created_at=at, finished_at=at,
        duration_ms=float(duration) if isinstance(duration, NUMBER) else _last_ms(events),
        device=_text(facts.get("device") if "device" in facts else recording.header.get("device")) or None, models=_models(started),
        versions={**_versions(recording.header), **{f"{IMPORTED}{name}": value for name, value in origin.items() if value}},
        text=done.get("text", "".join(e["text"] for e in events if e["event"] == "token")), stats=done.get("stats", {}),
        error=last.get("error") if last.get("event") == "failed" else None, lines=tuple(lines),
    )  # fmt: skip


def _status(facts: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    """As the header says; else as the last line tells."""
    if facts.get("status") in ENDED:
        return str(facts["status"])
    if last.get("event") == "done":
        return "cancelled" if last["finish_reason"] == "cancelled" else "completed"
    return "failed" if last.get("event") == "failed" else "interrupted"


def _models(started: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {role: facts for role, facts in started.get("models", {}).items() if isinstance(facts, dict)}


def _versions(header: Mapping[str, Any]) -> dict[str, str]:
    said = header.get("versions")
    return {name: value for name, value in said.items() if isinstance(value, str) and not name.startswith(IMPORTED)} if isinstance(said, dict) else {}


def _last_ms(events: Sequence[Mapping[str, Any]]) -> float | None:
    times = [e["ms"] for e in events if isinstance(e.get("ms"), NUMBER)]
    return float(times[-1]) if times else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
