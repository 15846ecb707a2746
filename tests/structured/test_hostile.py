"""A frozen corpus of grammars that hang, explode, break or bewilder the engine: each must end in a result or in plain words.

Each case is compiled and then walked for up to eight random tokens. A case may be refused, may be stopped (time or memory), or may
work; after it the next small grammar must work and give the same first mask as ever. Limits are tightened so that what hangs is
stopped soon; pytest's own timeout is the guard against a case that never returns.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from backend.errors import EngineError, InvalidRequest
from backend.structured.engine import Grammar, GrammarEngine, Limits
from tests.structured.small_tokenizer import small_tokenizer, walk, width

TOKENIZER = small_tokenizer()
STOP = TOKENIZER.convert_tokens_to_ids("<|end|>")
TIGHT = Limits(compile_s=1.5, step_s=1.0, memory_bytes=2**30)
SMALL = Grammar("json_schema", '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}')
UNREADABLE = re.compile(r"/project|\.cc\b|\.h:|Check failed|\[\d\d:\d\d:\d\d\]|Traceback|std::|ImplPtr")


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


def forks(depth: int) -> dict[str, Any]:
    if depth == 0:
        return {"type": "string"}
    return {"anyOf": [{"type": "object", "properties": {f"k{i}": forks(depth - 1)}, "required": [f"k{i}"]} for i in range(5)]}


def optional(count: int, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(count)}, **more}


def schema(data: Any) -> Grammar:
    return Grammar("json_schema", data if isinstance(data, str) else json.dumps(data))


def ebnf(text: str) -> Grammar:
    return Grammar("ebnf", text)


def regex(text: str) -> Grammar:
    return Grammar("regex", text)


def corpus() -> dict[str, Grammar]:
    """Name → grammar; the large texts are spelled out only when a test runs."""
    return {
        # endless or enormous
        "endless forced string": ebnf('root ::= "a" x\nx ::= "b" x'),
        "required recursion": schema({"type": "object", "properties": {"n": {"$ref": "#"}}, "required": ["n"]}),
        "huge repeat, regex": regex("a{99999999999}"),
        "huge repeat, ebnf": ebnf('root ::= "a"{99999999999}'),
        "huge repeat, pattern": schema({"type": "string", "pattern": "a{99999999999}"}),
        "largest repeat that is let through": regex("a{1000000}"),
        "long exact repeat, regex": regex("a{100000}"),
        "long exact repeat, ebnf": ebnf('root ::= "a"{1000000}'),
        "exponential for backtrackers": regex("(a?){2000}a{2000}"),
        "nested stars": regex("(a*)*b"),
        "nested bounds, regex": regex("((a{0,100}){0,100}){0,100}"),
        "nested bounds, ebnf": ebnf('root ::= ((((("a"{0,1000}){0,1000}){0,1000}){0,1000}){0,1000}){0,1000}'),
        "ambiguous": ebnf("root ::= s\ns ::= s s s | s s | [a-z]"),
        "ambiguous and nullable": ebnf('root ::= s\ns ::= s s | "a" | ""'),
        "maxLength 100": schema({"type": "string", "maxLength": 100}),
        "maxLength 100000": schema({"type": "string", "maxLength": 100_000}),
        "maxLength beyond 32 bits": schema({"type": "string", "maxLength": 2**32 + 5}),
        "maxItems 1000000": schema({"type": "array", "items": {"type": "integer"}, "maxItems": 1_000_000}),
        "bounded pattern above 128": schema({"type": "string", "pattern": "^[a-z]{1,129}$"}),
        "object 400 deep": schema('{"type":"object","required":["a"],"properties":{"a":' * 400 + '{"type":"string"}' + "}}" * 400),
        "object 5000 deep": schema('{"properties":{"a":' * 5000 + "{}" + "}}" * 5000),
        "brackets 100000 deep": schema("[" * 100_000 + "]" * 100_000),
        "parentheses 20000 deep": regex("(" * 20_000 + "a" + ")" * 20_000),
        "500 optional properties": schema(optional(500)),
        "100 optional, at least 50": schema(optional(100, minProperties=50)),
        "enum of 20000": schema({"enum": [f"value-{i}" for i in range(20_000)]}),
        "100 pattern properties": schema({"type": "object", "patternProperties": {f"^k{i}[a-z]{{1,20}}$": {} for i in range(100)}}),
        "anyOf, five ways, five deep": schema(forks(5)),
        "chain of 20000 rules": ebnf("root ::= r0\n" + "\n".join(f"r{i} ::= r{i + 1}" for i in range(20_000)) + '\nr20000 ::= "a"'),
        "literal of a million": ebnf(f'root ::= "{"a" * 1_000_000}"'),
        "regex of four million": regex("a" * 3_999_999),
        "a million open classes": regex("[" * 1_000_000),
        "a million open literals": ebnf('root ::= "a" ' + '"' * 1_000_001),
        "a brace and a million blanks": regex("a{" + " " * 1_000_000),
        "a million braces": ebnf("root ::= " + "{1," * 1_000_000),
        "a schema that its error echoes": schema("[" + ",".join(['"a/b/c.d"'] * 200_000) + "]"),
        "a title of a million slashes": schema({"type": "strin", "title": "/" * 1_000_000}),
        # recursion and dead ends
        "left recursion": ebnf('root ::= root "a" | "b"'),
        "hidden left recursion": ebnf('root ::= e root "a" | "b"\ne ::= ""'),
        "nullable cycle": ebnf('root ::= a\na ::= b | ""\nb ::= a'),
        "root is root": ebnf("root ::= root"),
        "a rule that never ends": ebnf('root ::= "x" y\ny ::= "y" y'),
        "ref to itself": schema({"$ref": "#"}),
        "cycle of refs": schema({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
        "allOf itself": schema({"allOf": [{"$ref": "#"}]}),
        "anyOf nothing": schema({"anyOf": []}),
        "false": schema("false"),
        # refused
        "back reference": regex(r"(a)\1"),
        "look-ahead": regex("a(?=b)b"),
        "word boundary": regex(r"\ba"),
        "unicode class": regex(r"\p{L}+"),
        "flag": regex("(?i)a"),
        "open class": regex("[a"),
        "NUL in a regex": regex("\0a"),
        "NUL in a pattern": schema({"type": "string", "pattern": "\0a"}),
        "lone surrogate": regex("\ud800"),
        "lone surrogate in a schema": schema('{"const": "\\ud800"}'),
        "negative length": schema({"type": "string", "minLength": -1}),
        "length of the wrong type": schema({"type": "string", "minLength": None}),
        "empty enum": schema({"enum": []}),
        "unknown type": schema({"type": "strin"}),
        "bound beyond 64 bits": schema({"type": "integer", "minimum": 2**63}),
        "bound of 5000 digits": schema('{"type": "integer", "minimum": 1' + "0" * 5000 + "}"),
        "draft 4 exclusive bound": schema({"type": "integer", "minimum": 1, "exclusiveMinimum": True}),
        "tuple items": schema({"type": "array", "items": [{"type": "string"}]}),
        "false property": schema({"type": "object", "properties": {"x": False}, "required": ["x"]}),
        "ref with an escape": schema({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "string"}}}),
        "NaN": schema('{"minimum": NaN}'),
        "number too large": schema('{"minimum": 1e999}'),
        "byte order mark": schema("\ufeff{}"),
        "junk after the schema": schema("{} {}"),
        "not JSON": schema("{'a': 1}"),
        "empty schema text": schema(""),
        "a number as schema": schema("3"),
        "empty ebnf": ebnf(""),
        "no root": ebnf('start ::= "a"'),
        "open literal": ebnf('root ::= "a'),
        "reversed class": ebnf("root ::= [z-a]"),
        "unknown rule": ebnf("root ::= nowhere"),
        "unknown tag format": Grammar("structural_tag", '{"type": "structural_tag", "format": {"type": "nonsense"}}'),
        "unknown token in a tag": Grammar("structural_tag", '{"type":"structural_tag","format":{"type":"token","token":"<nowhere>"}}'),
        "tag without format": Grammar("structural_tag", "{}"),
    }  # fmt: skip


CASES = corpus()


@pytest.fixture(scope="module")
def engine() -> Iterator[GrammarEngine]:
    made = GrammarEngine(TOKENIZER, width(TOKENIZER), [STOP], TIGHT)
    yield made
    made.close()


@pytest.fixture(scope="module")
def first_mask(engine: GrammarEngine) -> torch.Tensor:
    with engine.session(SMALL) as session:
        return session.mask().allowed.clone()


def outcome(engine: GrammarEngine, grammar: Grammar) -> str:
    """Compile and walk: `worked`, or what a person reads."""
    try:
        engine.compile(grammar)
        with engine.session(grammar) as session:
            walk(session, random.Random(0), 8)
    except (EngineError, InvalidRequest) as error:
        return str(error)
    return "worked"


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_grammar_ends_in_a_result_or_in_plain_words(engine: GrammarEngine, first_mask: torch.Tensor, name: str) -> None:
    said = outcome(engine, CASES[name])
    assert not UNREADABLE.search(said), said
    assert said and len(said) < 450
    with engine.session(SMALL) as session:
        assert torch.equal(session.mask().allowed, first_mask)


def test_with_the_real_limits_a_hang_ends_and_the_next_grammar_works(first_mask: torch.Tensor) -> None:
    engine = GrammarEngine(TOKENIZER, width(TOKENIZER), [STOP])
    assert re.fullmatch(
        r"Compiling this grammar was not finished after [\d.]+ s; XGrammar was stopped\. .*", outcome(engine, CASES["literal of a million"])
    )
    with engine.session(SMALL) as session:
        assert torch.equal(session.mask().allowed, first_mask)
    engine.close()
