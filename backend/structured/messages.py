"""The grammar engine's messages in plain words.

Goes in: the text of an XGrammar error or of its stderr, the kind of grammar and its text. Comes out: `Explained(message, where)`
without clock times, C++ paths or check expressions; `where` says line and column (EBNF), character (regex) or JSON path (found
in the schema, since the engine names none). Pure: knows nothing of processes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

_STAMP = re.compile(r"\[\d{1,2}:\d{2}:\d{2}\]\s*\S+\.(?:cc|cpp|h|hpp|cu):\d+:\s*")
_PATH = re.compile(r"(?<!\S)\S*/\S+\.(?:cc|cpp|h|hpp|cu)(?::\d+)*:?\s*")
_CHECK = re.compile(r"Check failed:\s*\(.*?\) is false:\s*", re.DOTALL)
_WRAPPER = re.compile(r"^(?:Warning:\s*|Invalid (?:JSON|structural tag) error:\s*)+")
_EBNF = re.compile(r"EBNF (?:lexer|parser) (?:error|warning) at line (\d+), column (\d+):\s*", re.IGNORECASE)
_REGEX = re.compile(r"Regex parsing (?:error|warning) at position (\d+):\s*", re.IGNORECASE)
_JSON_ECHO = re.compile(r"\s*The JSON string is:.*", re.DOTALL)
_READ = 2000  # an engine may echo a whole schema: the head says what is wrong
_LONGEST = 400

# Failures of the engine itself: the whole text is replaced.
_INTERNAL: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"per_rule_fsm_hashes"), "The engine failed inside while it optimised this grammar"),
    (re.compile(r"bad_alloc|MemoryError"), "The engine ran out of memory on this grammar"),
    (re.compile(r"recursion.*(?:depth|limit|exceed)", re.DOTALL | re.IGNORECASE), "The grammar is nested too deeply for the engine"),
)
# (what the engine says, what a reader sees): phrases that only its authors understand.
_PLAIN: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"The root rule with name \"(\w+)\" is not found"), r"There is no rule named \1"),
    (re.compile(r"Cannot find field (.*?) in (#\S*)"), r"The reference \2 points to nothing (no \1 there)"),
    (re.compile(r"Invalid repetition range \{(-?\d+), ?(-?\d+)\}"), r"A length or count runs from \1 to \2, which is no range"),
    (re.compile(r"Integer exceeds maximum limit due to precision loss at 64-bit boundary"), "An integer bound is beyond 64 bits"),
    (re.compile(r"Schema 'false' cannot accept any value"), "A part of the schema is false, which no value can meet"),
    (re.compile(r"Expect (.+)"), r"Expected \1"),
)

# (message, keyword, does this value of the keyword make the message true, given what the message names)
_CULPRITS: tuple[tuple[re.Pattern[str], str, Callable[[Any, str], bool]], ...] = (
    (re.compile(r"Cannot find field .*? in (#\S*)"), "$ref", lambda value, named: value == named),
    (re.compile(r"Unsupported type \"(.*?)\""), "type", lambda value, named: value == named or isinstance(value, list) and named in value),
    (re.compile(r"enum array must not be (empty)"), "enum", lambda value, named: value == []),
    (re.compile(r"items must be (a boolean or an object)"), "items", lambda value, named: not isinstance(value, (bool, dict))),
)


@dataclass(frozen=True)
class Explained:
    """One message in plain words; `str()` puts the place first: `Line 3, column 9: Expected ).`, `At $.items: …`"""

    message: str
    where: str | None = None

    def __str__(self) -> str:
        if self.where is None:
            return self.message
        return f"{'At ' if self.where.startswith('$') else ''}{self.where}: {self.message}"


def explain(kind: str, text: str, grammar: str = "") -> Explained:
    """An engine's error or warning about `grammar`, a text of that kind (only schemas are looked into)."""
    text = text[:_READ]
    for pattern, plain in _INTERNAL:
        if pattern.search(text):
            return Explained(_sentence(plain))
    where, said = _place(kind, _strip(text))
    if kind == "json_schema" and grammar and where is None:
        where = _json_path(said, grammar)
    for pattern, plain in _PLAIN:
        said, found = pattern.subn(plain, said, count=1)
        if found:
            break
    said = _sentence(said)
    return Explained(said or "The engine refused this grammar without saying why.", where)


def warnings_of(kind: str, stderr: str) -> tuple[str, ...]:
    """The warnings in what an engine wrote to stderr during one compile, in order, each once."""
    parts = _STAMP.split(stderr)[1:]  # what stands before the first stamp was not said by the engine
    return tuple(dict.fromkeys(str(explain(kind, part)) for part in parts if part.strip()))


def _strip(text: str) -> str:
    text = _CHECK.sub("", _JSON_ECHO.sub("", _STAMP.sub("", text)))
    return _WRAPPER.sub("", _PATH.sub("", text).strip()).strip()


def _place(kind: str, text: str) -> tuple[str | None, str]:
    ebnf, regex = _EBNF.search(text), _REGEX.search(text)
    if ebnf:
        # A regex or schema is turned into EBNF first: line and column of that text would point at nothing a person wrote.
        place = f"Line {ebnf[1]}, column {ebnf[2]}" if kind == "ebnf" else None
        return place, text[: ebnf.start()] + text[ebnf.end() :]
    if regex:
        place = f"Character {regex[1]}" if kind == "regex" else f"Character {regex[1]} of a pattern"
        return place, text[: regex.start()] + text[regex.end() :]
    return None, text


def _json_path(said: str, grammar: str) -> str | None:
    """The first place in the schema that the message is about, as `$.properties.age`, or None if it doesn't say enough."""
    for pattern, keyword, guilty in _CULPRITS:
        found = pattern.search(said)
        if found:
            places = (path for path, node in _nodes(json.loads(grammar)) if keyword in node and guilty(node[keyword], found[1]))
            return next(places, None)
    return None


def _nodes(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object in the schema with its path, outer ones first."""
    stack = [("$", schema)]
    while stack:
        path, node = stack.pop()
        if isinstance(node, dict):
            yield path, node
            stack.extend((f"{path}.{key}", value) for key, value in reversed(node.items()))
        elif isinstance(node, list):
            stack.extend((f"{path}[{index}]", value) for index, value in reversed(list(enumerate(node))))


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    if text and text.split()[0].islower():  # not minLength: a keyword keeps its spelling
        text = text[0].upper() + text[1:]
    return text if not text or text[-1] in ".!?…" else text + "."
