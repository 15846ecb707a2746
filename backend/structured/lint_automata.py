"""Does every text that XGrammar's automaton for a pattern accepts also match the pattern?

Goes in: the syntax tree of a pattern (`re`'s own). Comes out: a text that the engine lets through and a validator refuses, or `None`.
Two automata are built from the same tree, one as the engine builds its own (it matches whole, skips anchors, knows only ASCII classes,
and joins `(…)?` and `{n,}` by an edge into their last state, from where a loop inside can go on without what precedes it), one as a
validator reads the pattern; then both run over the same letters, shortest texts first. Knows nothing of schemas.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

try:
    from re import _constants as codes
except ImportError:  # Python 3.10
    import sre_constants as codes

MAX_STATES = 6_000
MAX_PAIRS = 3_000
CATEGORIES = {
    codes.CATEGORY_DIGIT: r"\d",
    codes.CATEGORY_SPACE: r"\s",
    codes.CATEGORY_WORD: r"\w",
    codes.CATEGORY_NOT_DIGIT: r"\D",
    codes.CATEGORY_NOT_SPACE: r"\S",
    codes.CATEGORY_NOT_WORD: r"\W",
}
ENGINE_CATEGORIES = {r"\d": "[0-9]", r"\s": "[\f\n\r\t\v \xa0]", r"\w": "[A-Za-z0-9_]"}
REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT)
STARTS, ENDS = (codes.AT_BEGINNING, codes.AT_BEGINNING_STRING), (codes.AT_END, codes.AT_END_STRING)
LETTER_ANCHORS = {codes.AT_BEGINNING_STRING: "A", codes.AT_END_STRING: "Z"}  # \A and \Z are letters to the engine
# Letters of each class that a pattern may tell apart, ASCII and not (é, no-break space, em space, an Arabic digit).
LETTERS = " 059azAZ_-é\xa0\u2003\u0663"


class TooLarge(Exception):
    """The automaton would have too many states, or holds what neither side can be read from."""


@dataclass
class Automaton:
    """States are numbers. `chars[s]` are (test, target) edges, `free[s]` edges that read nothing, `tied[s]` those at an anchor."""

    engine: bool
    counted: bool  # the pattern spells `{0,}` or `{1,}`, which the engine does not treat like `*` and `+`
    tests: dict[str, tuple[int, Any, Any]]
    chars: list[list[tuple[int, int]]] = field(default_factory=list)
    free: list[list[int]] = field(default_factory=list)
    tied: list[list[tuple[Any, int]]] = field(default_factory=list)

    def state(self) -> int:
        if len(self.chars) >= MAX_STATES:
            raise TooLarge
        for edges in (self.chars, self.free, self.tied):
            edges.append([])
        return len(self.chars) - 1

    def test(self, code: Any, argument: Any) -> int:
        """The number of a test of one letter; equal tests share it (a counted repeat holds hundreds of copies)."""
        name = f"{code} {argument}"
        return self.tests.setdefault(name, (len(self.tests), code, argument))[0]

    def join(self, sources: list[int], target: int) -> None:
        for source in sources:
            self.free[source].append(target)


@dataclass(frozen=True)
class Piece:
    """A part of an automaton. `first_ends` are those that may stand first in the engine's list, where `(…)?` puts its edge."""

    start: int
    ends: list[int]
    first_ends: list[int]


def counterexample(tree: Any, counted: bool = False) -> str | None:
    """A text that the engine writes for this pattern although it does not match; `None` if there is none, or none was found."""
    tests: dict[str, tuple[int, Any, Any]] = {}
    engine, judge = Automaton(True, counted, tests), Automaton(False, counted, tests)
    try:
        written, wanted = _sequence(engine, tree), _sequence(judge, tree)
    except TooLarge:
        return None
    return _Race(engine, written, judge, wanted, _alphabet(tree), bool(tree.state.flags & re.IGNORECASE)).run()


def _sequence(net: Automaton, tree: Any) -> Piece:
    pieces = [_element(net, code, argument) for code, argument in tree]
    if not pieces:
        alone = net.state()
        return Piece(alone, [alone], [alone])
    for before, after in zip(pieces, pieces[1:], strict=False):
        net.join(before.ends, after.start)
    return Piece(pieces[0].start, pieces[-1].ends, pieces[-1].first_ends)


def _element(net: Automaton, code: Any, argument: Any) -> Piece:
    if code in (codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN):
        start, end = net.state(), net.state()
        net.chars[start].append((net.test(code, argument), end))
        return Piece(start, [end], [end])
    if code is codes.BRANCH:
        start, options = net.state(), [_sequence(net, option) for option in argument[1]]
        for option in options:
            net.join([start], option.start)
        return Piece(start, [end for option in options for end in option.ends], options[0].first_ends)
    if code is codes.SUBPATTERN:
        return _sequence(net, argument[-1])
    if code in REPEATS:
        return _repeat(net, *argument)
    if code in (codes.ASSERT, codes.ASSERT_NOT) or (code is codes.AT and argument in (*STARTS, *ENDS)):
        return _anchor(net, code, argument)
    raise TooLarge


def _anchor(net: Automaton, code: Any, argument: Any) -> Piece:
    if net.engine and code is codes.AT and argument in LETTER_ANCHORS:
        return _element(net, codes.LITERAL, ord(LETTER_ANCHORS[argument]))
    start, end = net.state(), net.state()
    if net.engine or code is not codes.AT:
        net.free[start].append(end)
    else:
        net.tied[start].append((argument, end))
    return Piece(start, [end], [end])


def _repeat(net: Automaton, low: int, high: Any, inner: Any) -> Piece:
    unbounded = high is codes.MAXREPEAT
    if not unbounded and high == 0:
        return _sequence(net, [])
    if unbounded and low < 2 and not (net.engine and net.counted):
        return _loop(net, _sequence(net, inner), low)
    if unbounded:
        return _at_least(net, low, inner)
    if (low, high) == (0, 1):
        return _optional(net, _sequence(net, inner))
    copies = [_sequence(net, inner) for _ in range(high)]
    for before, after in zip(copies, copies[1:], strict=False):
        net.join(before.ends, after.start)
    ends = [end for copy in copies[max(low, 1) - 1 :] for end in copy.ends]
    # The engine keeps these ends in a hash set: any of them may stand first.
    whole = Piece(copies[0].start, ends, ends)
    return _or_nothing(net, whole) if low == 0 else whole


def _loop(net: Automaton, piece: Piece, low: int) -> Piece:
    if low == 1:
        net.join(piece.ends, piece.start)
        return piece
    hub = net.state()
    net.join([*piece.ends], hub)
    net.join([hub], piece.start)
    return Piece(hub, [hub], [hub])


def _or_nothing(net: Automaton, piece: Piece) -> Piece:
    start = net.state()
    net.join([start], piece.start)
    return Piece(start, [*piece.ends, start], [*piece.ends, start])


def _optional(net: Automaton, piece: Piece) -> Piece:
    if net.engine:
        for end in piece.first_ends:
            net.join([piece.start], end)
        return piece
    start, end = net.state(), net.state()
    net.join([start], piece.start)
    net.join([start, *piece.ends], end)
    return Piece(start, [end], [end])


def _at_least(net: Automaton, low: int, inner: Any) -> Piece:
    copies = [_sequence(net, inner) for _ in range(max(low, 2))]
    for before, after in zip(copies, copies[1:], strict=False):
        net.join(before.ends, after.start)
    last = copies[-1]
    if net.engine:
        for end in copies[-2].ends:
            net.join(last.ends, end)
    else:
        net.join(last.ends, last.start)
    ends = [*last.ends, *(copies[0].ends if low < 2 else ())]
    whole = Piece(copies[0].start, ends, ends)
    return _or_nothing(net, whole) if low == 0 else whole


def _alphabet(tree: Any) -> list[str]:
    """Letters enough to tell every class of the pattern apart; no quote, backslash or control character (they stand in a JSON string)."""
    marks = {ord(letter) for letter in LETTERS}
    for low, high in _ranges(tree):
        marks |= {low - 1, low, high, high + 1}
    return [chr(m) for m in sorted(marks) if 32 <= m < 0xD800 and chr(m) not in '"\\']


def _ranges(tree: Any) -> Iterator[tuple[int, int]]:
    for code, argument in tree:
        if code in (codes.LITERAL, codes.NOT_LITERAL):
            yield argument, argument
        elif code is codes.IN:
            yield from ((arg, arg) if kind is codes.LITERAL else arg for kind, arg in argument if kind in (codes.LITERAL, codes.RANGE))
        elif code is codes.BRANCH:
            for option in argument[1]:
                yield from _ranges(option)
        elif code in (codes.SUBPATTERN, *REPEATS):
            yield from _ranges(argument[-1])


def fits(code: Any, argument: Any, letter: str, engine: bool) -> bool:
    """Whether one element of a pattern takes `letter`, as the engine or as Python understands it."""
    if code is codes.ANY:
        return letter != "\n"
    if code is codes.LITERAL:
        return ord(letter) == argument
    if code is codes.NOT_LITERAL:
        return ord(letter) != argument
    negated = argument[0][0] is codes.NEGATE
    return any(_member(kind, value, letter, engine) for kind, value in argument if kind is not codes.NEGATE) != negated


def _member(kind: Any, value: Any, letter: str, engine: bool) -> bool:
    if kind is codes.LITERAL:
        return ord(letter) == value
    if kind is codes.RANGE:
        return value[0] <= ord(letter) <= value[1]
    name = CATEGORIES[value]
    if not engine:
        return re.match(name, letter) is not None
    return (re.match(ENGINE_CATEGORIES[name.lower()], letter) is not None) == name.islower()


class _Race:
    """Both automata over the same texts, shortest first, until one text tells them apart."""

    def __init__(self, engine: Automaton, written: Piece, judge: Automaton, wanted: Piece, letters: list[str], caseless: bool) -> None:
        self._engine, self._written, self._judge, self._wanted = engine, written, judge, wanted
        self._columns = _columns(list(engine.tests.values()), letters, caseless)

    def run(self) -> str | None:
        first = (self._close(self._engine, {self._written.start}), frozenset({self._wanted.start}))
        waiting, seen = [(first, "")], {first}
        for (left, right), text in waiting:  # grows while it is read
            if left & set(self._written.ends) and not self._wants(right, not text, True):
                return text
            if self._wants(right, not text, False):
                continue  # whatever follows, the pattern was found
            for letter, takes_left, takes_right in self._columns:
                pair = self._step(left, right, takes_left, takes_right, not text)
                if pair[0] and pair not in seen and len(seen) < MAX_PAIRS:
                    seen.add(pair)
                    waiting.append((pair, text + letter))
        return None

    def _step(self, left: frozenset[int], right: frozenset[int], takes_left: set[int], takes_right: set[int], at_start: bool) -> Any:
        moved = {t for s in left for test, t in self._engine.chars[s] if test in takes_left}
        opened = self._close(self._judge, right, at_start)
        # A validator searches: the match may begin at any later place as well.
        after = {t for s in opened for test, t in self._judge.chars[s] if test in takes_right} | {self._wanted.start}
        return self._close(self._engine, moved), frozenset(after)

    def _wants(self, right: frozenset[int], at_start: bool, at_end: bool) -> bool:
        return not self._close(self._judge, right, at_start, at_end).isdisjoint(self._wanted.ends)

    @staticmethod
    def _close(net: Automaton, states: set[int] | frozenset[int], at_start: bool = False, at_end: bool = False) -> frozenset[int]:
        reached, waiting = set(states), list(states)
        while waiting:
            state = waiting.pop()
            tied = [t for a, t in net.tied[state] if (at_start and a in STARTS) or (at_end and a in ENDS)]
            for target in (*net.free[state], *tied):
                if target not in reached:
                    reached.add(target)
                    waiting.append(target)
        return frozenset(reached)


def _columns(tests: list[tuple[int, Any, Any]], letters: list[str], caseless: bool) -> list[tuple[str, set[int], set[int]]]:
    """For each letter the tests that take it, for the engine and for a validator; letters that all tests treat alike only once."""
    known: dict[tuple[frozenset[int], frozenset[int]], str] = {}
    for letter in letters:
        forms = {letter, letter.lower(), letter.upper()} if caseless else {letter}
        sides = [
            frozenset(i for i, code, arg in tests if any(len(f) == 1 and fits(code, arg, f, engine) for f in forms))
            for engine in (True, False)
        ]
        known.setdefault((sides[0], sides[1]), letter)
    return [(letter, set(left), set(right)) for (left, right), letter in known.items()]
