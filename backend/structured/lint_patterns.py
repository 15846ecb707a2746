"""What XGrammar makes of a regular expression inside a JSON string.

Goes in: a pattern. Comes out: the ways in which a text that the engine's grammar lets through can break the pattern, or JSON itself.
The engine matches a pattern whole, ignores look-ahead and inner anchors, and in some cases writes quotes and backslashes unescaped.
Knows nothing of schemas.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

try:
    from re import _constants as codes
    from re import _parser as parser
except ImportError:  # Python 3.10
    import sre_constants as codes
    import sre_parse as parser

from backend.structured.lint_automata import REPEATS, counterexample, fits

# Above this count the engine matches the repeated part by a rule of its own, which has forgotten that it stands inside a JSON string.
LARGE_REPEAT = 128
UNSAFE = (ord('"'), ord("\\"))


def parse(pattern: str) -> Any | None:
    """The syntax tree of `pattern`, or `None` where Python can't read it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern)
            return parser.parse(pattern)
    except (re.error, OverflowError, RecursionError):
        return None


def width(pattern: str) -> tuple[int, int]:
    """The lengths of the shortest and the longest text that matches all of `pattern`."""
    tree = parse(pattern)
    return (0, 2**32) if tree is None else tuple(tree.getwidth())  # type: ignore[return-value]


@lru_cache(maxsize=2_048)
def traps(pattern: str) -> tuple[str, ...]:
    """Why a text that the engine lets through may not match `pattern`, or not be JSON; empty if it always does and is."""
    tree = parse(pattern)
    if tree is None:
        return ("the pattern can't be read by a JSON schema validator",)
    found = []
    if any(code in (codes.ASSERT, codes.ASSERT_NOT) for code, _ in _elements(tree)):
        found.append("look-ahead is ignored")
    text = counterexample(tree, "{0,}" in pattern or "{1,}" in pattern)
    if text is not None:
        found.append(f"a text like {text!r} is let through, which does not match")
    if _escapes_json(pattern, tree) or any(_writes_unsafe(inner) for inner in _large_repeats(tree)):
        found.append("a quote or a backslash would be written unescaped, which is not JSON")
    return tuple(found)


def is_whole(pattern: str) -> bool:
    """Whether `pattern` already demands to match the whole text (`^…$`), as the engine always does."""
    open_start = pattern.startswith(("^", ".*"))
    return open_start and (pattern.endswith(".*") or (pattern.endswith("$") and not pattern.endswith("\\$")))


def literal_prefix(pattern: str) -> str | None:
    """The letters that every match of `^…` starts with, or `None` if the pattern is not tied to the start."""
    tree = parse(pattern)
    if tree is None or not len(tree) or tree[0] not in ((codes.AT, codes.AT_BEGINNING), (codes.AT, codes.AT_BEGINNING_STRING)):
        return None
    letters = ""
    for code, argument in list(tree)[1:]:
        if code is not codes.LITERAL:
            break
        letters += chr(argument)
    return letters


def _parts(code: Any, argument: Any) -> list[Any]:
    """The sub-patterns of one element."""
    if code is codes.BRANCH:
        return list(argument[1])
    if code in (codes.SUBPATTERN, *REPEATS, getattr(codes, "POSSESSIVE_REPEAT", None)):
        return [argument[-1]]
    if code in (codes.ASSERT, codes.ASSERT_NOT):
        return [argument[1]]
    return [argument] if code is getattr(codes, "ATOMIC_GROUP", None) else []


def _elements(tree: Any) -> Iterator[tuple[Any, Any]]:
    for code, argument in tree:
        yield code, argument
        for part in _parts(code, argument):
            yield from _elements(part)


def _escapes_json(pattern: str, tree: Any) -> bool:
    """Whether the engine falls back to a grammar that writes the matched text as it stands, and that text can hold a quote."""
    plain = all(" " <= letter <= "~" for letter in pattern)
    outside = re.sub(r"\\.|\[\^?(?:\\.|[^\]\\])*\]", "", pattern)
    falls_back = not plain or "]" in outside or _needs_unsafe(tree)
    return falls_back and _writes_unsafe(tree)


def _large_repeats(tree: Any) -> Iterator[Any]:
    for code, argument in _elements(tree):
        if code in REPEATS:
            low, high, inner = argument
            if (low if high is codes.MAXREPEAT else high) > LARGE_REPEAT:
                yield inner


def _writes_unsafe(tree: Any) -> bool:
    """Whether some match holds a quote or a backslash."""
    return any(_takes(code, argument, letter) for code, argument in _elements(tree) for letter in UNSAFE)


def _takes(code: Any, argument: Any, letter: int) -> bool:
    return code in (codes.ANY, codes.LITERAL, codes.NOT_LITERAL, codes.IN) and fits(code, argument, chr(letter), True)


def _needs_unsafe(tree: Any) -> bool:
    """Whether every match holds a quote, a backslash or a control character, so that nothing is left without them."""
    for code, argument in tree:
        if code is codes.LITERAL and (argument in UNSAFE or argument < 32):
            return True
        if code is codes.IN and not any(_takes(code, argument, letter) for letter in range(32, 0x250) if letter not in UNSAFE):
            return True
        if code is codes.BRANCH and all(_needs_unsafe(part) for part in argument[1]):
            return True
        if code is codes.SUBPATTERN and _needs_unsafe(argument[-1]):
            return True
        if code in REPEATS and argument[0] > 0 and _needs_unsafe(argument[2]):
            return True
    return False
