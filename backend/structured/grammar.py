"""What a person asks the grammar engine to keep to, checked before any engine sees it.

Goes in: a kind and a text. Comes out: a frozen `Grammar` whose text is canonical (so that re-indenting a schema hits the
engine's cache), or an `InvalidRequest` with line and column. Standard library only; knows nothing of XGrammar or tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from backend.errors import InvalidRequest

KINDS = ("json_schema", "json", "regex", "ebnf", "structural_tag")
JSON_KINDS = ("json_schema", "json")
WHITESPACE = ("fixed", "any")
FIELD = "options.grammar"
MAX_CHARS = 4_000_000
MAX_REPEAT = 1_000_000  # above this an engine expands the repeat until memory is gone

# A repeat, after what may hold braces that are none: an escape, a class, (EBNF) a comment or literal. Each alternative matches also
# if it is never closed, so that the search is linear in the text whatever a person pastes.
_REGEX_REPEAT = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]?|\{([\d\s,]*)\}", re.DOTALL)
_EBNF_REPEAT = re.compile(r'#[^\n]*|"(?:\\.|[^"\\\n])*"?|\[(?:\\.|[^\]\\\n])*\]?|\{([\d\s,]*)\}')


@dataclass(frozen=True)
class Grammar:
    """`whitespace` matters for the JSON kinds: `fixed` is `", "` and `": "`, `any` is at most two blanks at each place."""

    kind: str
    text: str = ""
    whitespace: str = "fixed"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidRequest(f"The kind of grammar must be one of {', '.join(KINDS)}, got {self.kind!r}.", FIELD)
        if self.whitespace not in WHITESPACE:
            raise InvalidRequest(f"whitespace must be one of {', '.join(WHITESPACE)}, got {self.whitespace!r}.", FIELD)
        if not isinstance(self.text, str):
            raise InvalidRequest(f"The grammar must be a text, got {type(self.text).__name__}.", FIELD)
        if len(self.text) > MAX_CHARS:
            raise InvalidRequest(f"The grammar must have at most {MAX_CHARS:,} characters, it has {len(self.text):,}.", FIELD)

    def canonical(self) -> Grammar:
        """The same grammar as the engine gets it. Raises `InvalidRequest` for malformed JSON, an engine-killing repeat, or text
        that is no UTF-8. Key order stays: it is the order in which an answer must spell its properties."""
        if self.kind == "json":
            return replace(self, text="")
        if self.kind in ("json_schema", "structural_tag"):
            data = parse_json(self.text)
            for pattern in _patterns(data):
                _check_repeats(pattern, _REGEX_REPEAT)
            return replace(self, text=_one_line(data))
        if not self.text and self.kind == "ebnf":
            raise InvalidRequest("The grammar is empty; it needs a rule named root.", FIELD)
        lone = next((i for i, c in enumerate(self.text) if "\ud800" <= c <= "\udfff"), None)
        if lone is not None:
            raise InvalidRequest(f"Character {lone + 1} is half a character (a lone surrogate).", FIELD)
        _check_repeats(self.text, _EBNF_REPEAT if self.kind == "ebnf" else _REGEX_REPEAT)
        return self


def parse_json(text: str) -> Any:
    """`text` as JSON, strictly; a fault is an `InvalidRequest` that names line and column."""
    if not text.strip():
        raise InvalidRequest("The text is empty; it needs a JSON object.", FIELD)
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        said = error.msg.replace(" (decode using utf-8-sig)", "")
        raise InvalidRequest(f"Line {error.lineno}, column {error.colno}: {said}.", FIELD) from error
    except RecursionError as error:
        raise InvalidRequest("The JSON is nested too deeply to be read.", FIELD) from error
    except ValueError as error:  # an integer of more digits than Python will read
        raise InvalidRequest("A number in the JSON has too many digits to be read.", FIELD) from error


def _one_line(data: Any) -> str:
    try:
        return json.dumps(data, separators=(",", ":"), allow_nan=False)
    except RecursionError as error:
        raise InvalidRequest("The JSON is nested too deeply to be read.", FIELD) from error


def _no_constant(name: str) -> NoReturn:
    raise InvalidRequest(f"{name} is not a JSON number.", FIELD)


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise InvalidRequest(f"The number {text} is too large.", FIELD)
    return value


def _patterns(data: Any) -> Iterator[str]:
    """Every regular expression of a schema or structural tag; a stack, since nesting is the user's."""
    stack = [data]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield from (node[key] for key in ("pattern",) if isinstance(node.get(key), str))
            if isinstance(node.get("patternProperties"), dict):
                yield from node["patternProperties"]
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)


def _check_repeats(text: str, repeats: re.Pattern[str]) -> None:
    for match in repeats.finditer(text):
        for bound in (match[1] or "").split(","):
            digits = bound.strip().lstrip("0")
            if digits.isdecimal() and (len(digits) > 9 or int(digits) > MAX_REPEAT):
                shown = digits if len(digits) <= 20 else f"{digits[:20]}…"
                raise InvalidRequest(f"A repeat count must be at most {MAX_REPEAT:,}, got {shown} at character {match.start() + 1}.", FIELD)
