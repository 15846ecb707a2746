"""A method's options, declared once: type, range, choices and help text live on the dataclass field.

Goes in: an `Options` dataclass and a plain dictionary. Comes out: a checked instance, or an `InvalidRequest` that names
field, limits and value. Widgets, CLI and API are derived from the same fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, field, fields
from typing import Any

from backend.errors import InvalidRequest
from backend.types import check_number, known_fields


def option(default: Any, help: str, *, low: float | None = None, high: float | None = None, choices: Sequence[str] | None = None) -> Any:
    """A dataclass field with its help text and its limits; the type is that of `default`."""
    metadata = {"help": help, "low": low, "high": high, "choices": tuple(choices) if choices else None}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def default_of(spec: Field) -> Any:
    return spec.default if spec.default is not MISSING else spec.default_factory()  # type: ignore[misc]


def parse_options(cls: type, data: Mapping[str, Any]) -> Any:
    """`data` as an instance of `cls`; raises `InvalidRequest` for an unknown name, a wrong type or a value outside its limits."""
    data = known_fields(cls, data, "options")
    for spec in fields(cls):
        if spec.name in data:
            _check(spec, data[spec.name])
    return cls(**data)


def _check(spec: Field, value: Any) -> None:
    name, meta, default = f"options.{spec.name}", spec.metadata, default_of(spec)
    if meta.get("choices") is not None:
        if value not in meta["choices"]:
            raise InvalidRequest(f"{name} must be one of {', '.join(meta['choices'])}, got {value!r}.", name)
    elif isinstance(default, bool):
        if not isinstance(value, bool):
            raise InvalidRequest(f"{name} must be true or false, got {value!r}.", name)
    elif isinstance(default, (int, float)):
        low, high = meta.get("low"), meta.get("high")
        check_number(name, value, -1e18 if low is None else low, 1e18 if high is None else high, isinstance(default, int))
    elif not isinstance(value, type(default)):
        raise InvalidRequest(f"{name} must be {type(default).__name__}, got {type(value).__name__}.", name)
