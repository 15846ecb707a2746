"""Is this finished text what the schema (or the pattern) asked for?

Goes in: a text and a JSON schema, or a text and a pattern. Comes out: one `Validity` with a message in plain words and the JSON path
of the first fault. Knows nothing of grammars, engines or models: it judges by `json` and `jsonschema` alone, with format assertions on,
never fetches a remote document and never waits long for a pattern.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import jsonschema
import regex
from jsonschema.validators import Draft202012Validator, extend, validator_for
from jsonschema_specifications import REGISTRY
from referencing.exceptions import Unresolvable

from backend.errors import InvalidRequest

STATES = ("valid", "invalid", "not_json", "truncated")
PATTERN_SECONDS = 1.0
LITERALS = ("true", "false", "null")
FENCE = re.compile(r"^[ \t]*```\w*[ \t]*", re.MULTILINE)


@dataclass(frozen=True)
class Validity:
    """`state` is one of `STATES`; `message` says why, in words; `path` is where in the value the first fault is (`$` is all of it)."""

    state: str
    message: str = ""
    path: str = "$"


# What `jsonschema` lets escape when a keyword's value has the wrong type (a metaschema would have said so).
BROKEN = (TypeError, AttributeError, KeyError, jsonschema.exceptions.UnknownType)


class PatternError(ValueError):
    """A pattern that can't be read, or that took too long on this text."""


class NotANumber(ValueError):
    """`NaN` and `Infinity` are JavaScript, not JSON."""


def json_path(parts: Any) -> str:
    """`$.a.b[2]` from the keys and indices that lead there; a key that is no plain word is quoted."""
    text = "$"
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z_$][\w$-]*", part):
            text += f".{part}"
        else:
            text += f"[{json.dumps(part, ensure_ascii=False)}]"
    return text


def validate_json(text: str, schema: Any) -> Validity:
    """Judge `text` by `schema` (the draft that its `$schema` names, else 2020-12). Of two members with one name the last counts, as in
    every common reader, and the message says so."""
    twice: list[str] = []
    try:
        value = read_json(text, twice)
    except NotANumber as error:
        return Validity("not_json", str(error))
    except json.JSONDecodeError as error:
        if is_cut_off(text, error):
            return Validity("truncated", "The text ends before its JSON does.")
        return Validity("not_json", f"Line {error.lineno}, column {error.colno}: {error.msg}.")
    except RecursionError:
        return Validity("invalid", "The value is nested too deeply to be checked.")
    note = f"The name {twice[0]!r} occurs twice in one object; the last one counts." if twice else ""
    return _judge(value, schema, note)


def _judge(value: Any, schema: Any, note: str) -> Validity:
    try:
        error = next(iter(json_validator(schema).iter_errors(value)), None)
    except BROKEN as fault:
        return Validity("invalid", f"The schema itself is broken and judges nothing: {_schema_fault(schema) or fault}")
    except Unresolvable as error:
        return Validity("invalid", f"Unresolvable reference {str(error.ref)!r}: documents elsewhere are never fetched.")
    except PatternError as error:
        return Validity("invalid", str(error))
    except RecursionError:
        return Validity("invalid", "The schema refers to itself without end.")
    except OverflowError:
        return Validity("invalid", "The value holds a number too large to be checked.")
    if error is not None:
        return Validity("invalid", _plain(error), json_path(error.absolute_path))
    return Validity("valid", note)


def validate_pattern(text: str, pattern: str) -> Validity:
    """Judge `text` by a regular expression that must match all of it."""
    try:
        found = _match(pattern, text, whole=True)
    except PatternError as error:
        return Validity("invalid", str(error))
    return Validity("valid") if found else Validity("invalid", "The text as a whole does not match the pattern.")


def read_json(text: str, twice: list[str] | None = None) -> Any:
    """`text` as a value; raises `JSONDecodeError`, `NotANumber` or `RecursionError`. Names that occur twice are appended to `twice`."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        seen = dict(items)
        if twice is not None and len(seen) < len(items):
            names = [name for name, _ in items]
            twice.extend(name for name in seen if names.count(name) > 1)
        return seen

    return json.loads(text, object_pairs_hook=pairs, parse_constant=_refuse, parse_int=_integer)


def _refuse(name: str) -> Any:
    raise NotANumber(f"{name} is not a JSON number.")


def _integer(digits: str) -> int | float:
    # Python refuses to read integers of more than 4,300 digits; as JSON they are numbers like any other.
    return int(digits) if len(digits) < 4_000 else float(digits)


def is_cut_off(text: str, error: json.JSONDecodeError) -> bool:
    """Whether `text` could still become JSON if more followed."""
    if error.msg.startswith("Unterminated string"):
        return True
    rest = text[error.pos :].strip()
    if error.msg.startswith("Invalid \\"):
        return re.fullmatch(r"\\?(u[0-9a-fA-F]{0,4})?", rest) is not None
    if re.fullmatch(r"\.|[eE][+-]?", rest) and text[: error.pos][-1:].isdigit():
        return True
    if error.msg.startswith("Extra data"):
        return False
    return not rest or rest == "-" or any(word.startswith(rest) for word in LITERALS)


def json_validator(schema: Any) -> Any:
    """A `jsonschema` validator for `schema`: its draft, formats asserted, references only inside and to the published metaschemas."""
    cls = _with_guarded_patterns(draft_of(schema))
    return cls(schema, format_checker=cls.FORMAT_CHECKER, registry=REGISTRY)


def draft_of(schema: Any) -> Any:
    """The validator class that `$schema` names, else draft 2020-12."""
    if isinstance(schema, Mapping) and isinstance(schema.get("$schema"), str):
        return validator_for(schema, default=Draft202012Validator)
    return Draft202012Validator


def check_schema(text: str) -> Any:
    """The schema that `text` spells; raises `InvalidRequest` (`where` is `options.grammar`) with line and column, or with the JSON path of
    what is no valid schema there."""
    try:
        schema = read_json(text)
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"Line {error.lineno}, column {error.colno}: {error.msg}.", "options.grammar") from error
    except NotANumber as error:
        raise InvalidRequest(str(error), "options.grammar") from error
    except RecursionError as error:
        raise InvalidRequest("The schema is nested too deeply.", "options.grammar") from error
    if not isinstance(schema, (dict, bool)):
        raise InvalidRequest(f"A JSON schema is an object, true or false, not {kind_of(schema)}.", "options.grammar")
    try:
        fault = _schema_fault(schema)
    except RecursionError as error:
        raise InvalidRequest("The schema is nested too deeply.", "options.grammar") from error
    if fault:
        raise InvalidRequest(fault, "options.grammar")
    return schema


def _schema_fault(schema: Any) -> str | None:
    """Where and how `schema` breaks its draft's own schema; `None` if it does not."""
    cls = draft_of(schema)
    worst = jsonschema.exceptions.best_match(cls(cls.META_SCHEMA, registry=REGISTRY).iter_errors(schema))
    return None if worst is None else f"{json_path(worst.absolute_path)}: {_plain(worst)}"


def take_json(text: str) -> str:
    """The JSON inside a code fence or inside prose: the first whole object or array, or the first that is cut off by the end of the text;
    where there is neither, the text without its outer blanks."""
    fence = FENCE.search(text)
    inside = text[fence.end() :] if fence else text
    decoder = json.JSONDecoder(parse_int=_integer)
    for start in (found.start() for found in re.finditer(r"[{\[]", inside)):
        rest = inside[start:]
        try:
            return rest[: decoder.raw_decode(rest)[1]]
        except json.JSONDecodeError as error:
            if is_cut_off(rest, error):
                return rest.rstrip()
        except RecursionError:
            return rest.rstrip()
    return inside.strip()


def kind_of(value: Any) -> str:
    """What JSON calls the type of `value`."""
    names = {bool: "a boolean", str: "a string", dict: "an object", list: "an array", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def _plain(error: jsonschema.ValidationError) -> str:
    """The message of `error`, short enough to read."""
    message = error.message
    return message if len(message) <= 300 else f"{message[:140]} … {message[-140:]}"


def _match(pattern: str, text: str, whole: bool = False) -> bool:
    try:
        compiled = regex.compile(pattern)
        find = compiled.fullmatch if whole else compiled.search
        return find(text, timeout=PATTERN_SECONDS) is not None
    except regex.error as error:
        raise PatternError(f"The pattern {pattern!r} can't be read: {error}.") from error
    except TimeoutError as error:
        raise PatternError(f"The pattern {pattern!r} took more than {PATTERN_SECONDS:g} s on this text.") from error


@cache
def _with_guarded_patterns(cls: Any) -> Any:
    """`cls` with every keyword that runs a user's pattern bounded in time."""
    guarded = {"pattern": _pattern, "patternProperties": _pattern_properties, "additionalProperties": _additional_properties}
    return extend(cls, {name: rule for name, rule in guarded.items() if name in cls.VALIDATORS})


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    if isinstance(instance, str) and not _match(pattern, instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    if isinstance(instance, dict):
        for pattern, inner in patterns.items():
            for name, value in instance.items():
                if _match(pattern, name):
                    yield from validator.descend(value, inner, path=name, schema_path=pattern)


def _additional_properties(validator: Any, extra: Any, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    if not isinstance(instance, dict):
        return
    patterns = schema.get("patternProperties", {})
    for name, value in instance.items():
        if name in schema.get("properties", {}) or any(_match(p, name) for p in patterns):
            continue
        if extra is False:
            yield jsonschema.ValidationError(f"The property {name!r} is not allowed here.", path=[name])
        elif isinstance(extra, Mapping):
            yield from validator.descend(value, extra, path=name)
