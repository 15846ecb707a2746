"""What was asked of compared runs, field by field.

Goes in: records. Comes out: the fields whose values differ, and those that are alike, by dotted name. Doesn't know which field matters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.types import RunRecord

TOLD_ELSEWHERE = frozenset({"id", "device"})  # of a model's line: the request names the model, the run the device


@dataclass(frozen=True)
class Setting:
    """A field by its dotted name, and its value in each run; None where a run has no such field."""

    name: str
    values: tuple[Any, ...]


def differing(records: Sequence[RunRecord], defaults: Mapping[str, Mapping[str, Any]]) -> tuple[Setting, ...]:
    """The fields whose values are not the same in all runs."""
    return tuple(s for s in _settings(records, defaults) if any(_differ(s.values[0], value) for value in s.values[1:]))


def alike(records: Sequence[RunRecord], defaults: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The fields that are the same in all runs, with their value."""
    return {s.name: s.values[0] for s in _settings(records, defaults) if not any(_differ(s.values[0], value) for value in s.values[1:])}


def _settings(records: Sequence[RunRecord], defaults: Mapping[str, Mapping[str, Any]]) -> list[Setting]:
    said = [fields_of(record, defaults.get(record.request.method, {})) for record in records]
    names = dict.fromkeys(name for one in said for name in one)
    return [Setting(name, tuple(one.get(name) for one in said)) for name in names]


def _differ(one: Any, other: Any) -> bool:
    """JSON keeps 1 and 1.0 apart as little as we do, but true is not 1."""
    return isinstance(one, bool) != isinstance(other, bool) or one != other


def fields_of(record: RunRecord, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that was asked of a run and what it ran on: request, models, device, versions."""
    data = record.request.to_json()
    data["options"] = {**defaults, **data["options"]}
    told = dict(_flat("", data))
    for role, line in record.models.items():
        told |= {f"models.{role}.{name}": value for name, value in line.items() if name not in TOLD_ELSEWHERE}
    return {**told, "device": record.device, **{f"versions.{name}": value for name, value in record.versions.items()}}


def excerpts(values: Sequence[Any], limit: int) -> list[str]:
    """Values as texts of at most so many characters; of longer ones the stretch around the first place where they differ."""
    texts = ["–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]
    told = [text for text, value in zip(texts, values, strict=True) if value is not None]
    places = [next((i for i, (a, b) in enumerate(zip(told[0], text, strict=False)) if a != b), min(len(told[0]), len(text))) for text in told[1:]]
    start = max(0, min(places, default=0) - limit // 3)
    return [_cut(text, start, limit) for text in texts]


def _cut(text: str, start: int, limit: int) -> str:
    if len(text) <= limit:
        return text
    start = min(start, len(text) - limit + 2)
    before, after = "…" if start else "", "…" if start + limit < len(text) else ""
    return f"{before}{text[start : start + limit - 2]}{after}"


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Objects by their fields, lists of objects by their places; a list of plain values (token ids) is one value."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), inner)
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for i, inner in enumerate(value):
            yield from _flat(f"{name}[{i}]", inner)
    elif value != {}:
        yield name, value
