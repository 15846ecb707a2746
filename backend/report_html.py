"""A run handed over: one HTML file that opens without a network, with verdict, picture, strip, controls, limits and hashes.

Goes in: the lanes of a group and what was concluded. Comes out: the file's text. The run is drawn by the scripts of the pages themselves, from
the same lines. What a model or a person wrote stands in one block of JSON and reaches the page as text only; a content policy lets no other
script run and nothing be fetched. Owner, session, notes, tags and title stay out, and of a local model only the folder's name is told.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from backend.exchange import Keeper, as_it_ran, digest, lanes_of, recorded_lines
from backend.figures import plain_figures
from backend.limits import limits, title_of
from backend.paths import assets_dir
from backend.strip_files import script_text
from backend.types import RunRecord, Verdict

PARTS = ("loupe.css", "pages.css", "report/report.css")
AT_TOKENS = frozenset({"opinion"})  # findings that stand at their tokens
MOST_CELL = 400
ARGUMENTS = "(element, trigger, props, server, watch)"
PLACE = re.compile(r"\{\{([a-z-]+)\}\}")


def export_html(keeper: Keeper, run_id: str, owner: str) -> str:
    """The file of a run of one's own and of the lanes beside it. Raises `WorkbenchError` if there is none."""
    return report(*lanes_of(keeper.store, run_id, owner))


def report(records: Sequence[RunRecord], verdict: Verdict | None) -> str:
    """The file of these lanes."""
    records, verdict = without_places(records, verdict)
    script = report_script()
    sha = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "title": html.escape(title_of(records[0].request.method)), "style": _read(*PARTS), "script": script, "script-hash": f"'sha256-{sha}'",
        "data": inert(_data(records, verdict)),
    }  # fmt: skip
    return PLACE.sub(lambda place: parts[place[1]], _read("report/page.html"))


def report_script() -> str:
    """The pages' scripts as two functions, then the file's own, in a room of their own."""
    drawn = f"function STRIP{ARGUMENTS} {{\n{script_text()}\n}}"
    told = f"function SAID{ARGUMENTS} {{\n{script_text(('glossary.js', 'facts.js'))}\n}}"
    return f"(() => {{\n{drawn}\n{told}\n{script_text(('glyphs.js', 'report/along.js', 'report/report.js'))}\n}})();"


def _read(*names: str) -> str:
    return "\n".join((assets_dir() / name).read_text(encoding="utf-8") for name in names)


def inert(value: Any) -> str:
    """JSON in which no tag, comment or end of a script can be seen; line separators are escaped, since old readers end a line at them."""
    text = json.dumps(value, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


# What the file shows ---------------------------------------------------------------------------------------------------------------


def _data(records: Sequence[RunRecord], verdict: Verdict | None) -> dict[str, Any]:
    first = as_it_ran(records[0])
    return {
        "name": f"loupe-{first.request.method}-{first.created_at[:10]}",
        "lines": recorded_lines(records, verdict),
        "limits": limits(records),
        "figures": _figures(records),
        "findings": _findings(records),
        "request": json.dumps(first.request.to_json(), ensure_ascii=False, indent=2),
        "differing": _differing(records),
        "models": _models(records),
        "hashes": [
            {"lane": _name(r), "run": r.id, "ended": r.status, "lines": len(r.lines), "SHA-256 of its lines": digest(r.lines)} for r in records
        ],
        "facts": {"made": first.created_at[:19].replace("T", " "), "device": first.device, **first.versions},
    }


def _name(record: RunRecord) -> str:
    return record.lane or record.id


def _figures(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """A row a figure, a column a lane."""
    lanes = {_name(r): {"ended": r.status, **_counted(r), **plain_figures(r.stats)} for r in records}
    names = dict.fromkeys(name for figures in lanes.values() for name in figures)
    return [{"figure": name, **{lane: _cell(figures.get(name)) for lane, figures in lanes.items()}} for name in names]


def _counted(record: RunRecord) -> dict[str, int]:
    """How many tokens; a job writes none."""
    n = len(record.tokens())
    return {"tokens": n} if n else {}


def _findings(records: Sequence[RunRecord]) -> dict[str, list[dict[str, Any]]]:
    """A table a kind; the lane stands in it where there are several."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        lane = {"lane": _name(record)} if len(records) > 1 else {}
        for event in record.events():
            if event["event"] == "finding" and event["kind"] not in AT_TOKENS:
                kinds.setdefault(event["kind"], []).append({**lane, **_row(event["data"])})
    return kinds


def _row(data: Mapping[str, Any]) -> dict[str, Any]:
    """A finding's data as cells, what lies inside a field by a dotted name."""
    row: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, Mapping) and value and _interval(value) is None:
            row.update({f"{name}.{inner}": _cell(v) for inner, v in value.items()})
        else:
            row[name] = _cell(value)
    return row


def _cell(value: Any) -> Any:
    """A value as a table shows it: an interval in words, what is long cut."""
    said = _interval(value)
    if said is not None:
        return said
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return value if len(text) <= MOST_CELL else f"{text[: MOST_CELL - 1]}…"


def _interval(value: Any) -> str | None:
    """`{value, low, high}` as "0.62 (0.58 to 0.67)", or None."""
    if not isinstance(value, Mapping) or set(value) != {"value", "low", "high"}:
        return None
    if not all(isinstance(v, (int, float)) for v in value.values()):
        return None
    return f"{value['value']:.4g} ({value['low']:.4g} to {value['high']:.4g})"


def _differing(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """The fields in which the lanes' requests differ, a column a lane."""
    flat = {_name(r): flattened(r.request.to_json()) for r in records}
    names = dict.fromkeys(name for fields in flat.values() for name in fields)
    rows = [{"differs": name, **{lane: _cell(fields.get(name)) for lane, fields in flat.items()}} for name in names]
    return [row for row in rows if len({json.dumps(v) for k, v in row.items() if k != "differs"}) > 1]


def flattened(value: Any, name: str = "") -> dict[str, Any]:
    """The fields of an object by dotted names."""
    if not isinstance(value, Mapping):
        return {name: value}
    return {full: v for key, inner in value.items() for full, v in flattened(inner, f"{name}.{key}" if name else key).items()}


def _models(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Every model that took part, once."""
    rows = [{"role": role, "model": facts.get("id"), **{n: facts.get(n) for n in ("hash", "dtype", "device", "origin")}}
            for record in records for role, facts in record.models.items()]  # fmt: skip
    return list({json.dumps(row): row for row in rows}.values())


# What stays at home ------------------------------------------------------------------------------------------------------------------


def without_places(records: Sequence[RunRecord], verdict: Verdict | None) -> tuple[list[RunRecord], Verdict | None]:
    """The same run without owner, session, notes, tags and title, and without folders of the machine: a local model goes by its name."""
    names = _local_models(records)
    homes = {**names, str(Path.home()): "~"} if len(str(Path.home())) > 1 else names
    cleaned = [_cleaned(record, names, homes) for record in records]
    if verdict is not None:
        verdict = Verdict(**json.loads(_replaced(json.dumps(verdict.__dict__ | {"figures": dict(verdict.figures)}, ensure_ascii=False), homes)))
    return cleaned, verdict


def _cleaned(record: RunRecord, names: Mapping[str, str], homes: Mapping[str, str]) -> RunRecord:
    request = type(record.request).from_json(json.loads(_replaced(json.dumps(record.request.to_json(), ensure_ascii=False), names)))
    models = json.loads(_replaced(json.dumps({role: dict(facts) for role, facts in record.models.items()}, ensure_ascii=False), homes))
    return replace(
        record, owner="", session=None, parent_run_id=None, title="", note="", tags=(), pinned=False, request=request, models=models,
        lane=_replaced(record.lane, names) if record.lane else record.lane, error=_replaced(record.error, homes) if record.error else None,
        lines=tuple(_cleaned_line(line, names, homes) for line in record.lines),
        stats=json.loads(_replaced(json.dumps(dict(record.stats), ensure_ascii=False), homes)),
    )  # fmt: skip


def _cleaned_line(line: str, names: Mapping[str, str], homes: Mapping[str, str]) -> str:
    """What a model said stays as it is but for the folders of models; the home folder goes where only Loupe itself speaks."""
    event = json.loads(line)
    if names and event["event"] == "started" and _replaced(said := "".join(text for _, text in event["prompt"]), names) != said:
        prompt = [[event["prompt"][0][0], _replaced(said, names)]]  # a folder that is spread over tokens can only be replaced in the whole text
        line = json.dumps({**event, "prompt": prompt}, ensure_ascii=False, separators=(",", ":"))
    return _replaced(line, homes if event["event"] in ("failed", "finding", "artifact") else names)


def _local_models(records: Sequence[RunRecord]) -> dict[str, str]:
    """Folders and files that models were loaded from, by their last name; the longest first, so that none is cut by another."""
    said = {value for r in records for value in (*r.request.models.values(), *(f.get(n) for f in r.models.values() for n in ("id", "origin")))}
    found = {text: _last_name(text) for text in said if isinstance(text, str) and is_place(text)}
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))


def is_place(text: str) -> bool:
    """Whether a model's id is a place on a disk rather than a name."""
    return text.startswith(("/", "~", "./", "../", "\\")) or PureWindowsPath(text).drive != ""


def _last_name(text: str) -> str:
    return PureWindowsPath(text).name if "\\" in text else PurePosixPath(text).name


def _replaced(text: str, names: Mapping[str, str]) -> str:
    """Each place by its name, also where JSON has doubled its backslashes."""
    for place, name in names.items():
        text = text.replace(json.dumps(place, ensure_ascii=False)[1:-1], name).replace(place, name)
    return text
