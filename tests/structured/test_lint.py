"""The linter against the engine itself: what XGrammar lets through although it is invalid must be marked, and what it keeps to must not.

The oracle is XGrammar over a vocabulary of single bytes, with raw control characters masked out as Loupe's worker does.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import subprocess
import sys
from typing import Any

import pytest
import xgrammar

from backend.bench.structured import SCHEMAS, read_schemas
from backend.structured.lint import EFFECTS, lint, marks
from backend.structured.lint_automata import counterexample
from backend.structured.lint_patterns import parse, traps, width
from backend.structured.validate import validate_json

DRAFT7 = "http://json-schema.org/draft-07/schema#"
TEXT, WHOLE, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}


def of(properties: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **rest}


def word(**rest: Any) -> dict[str, Any]:
    return {"type": "string", **rest}


# The keyword that must be marked, a schema, and a text that it forbids and the engine writes.
TRAPS = [
    ("uniqueItems", {"type": "array", "items": WHOLE, "uniqueItems": True}, "[1, 1]"),
    ("contains", {"type": "array", "items": WHOLE, "contains": {"const": 5}}, "[1]"),
    ("not", {"type": "integer", "not": {"const": 3}}, "3"),
    ("if", of({"a": WHOLE}, **{"if": {"required": ["a"]}, "then": {"maxProperties": 0}}), '{"a": 1}'),
    ("dependentRequired", of({"a": WHOLE, "b": WHOLE}, dependentRequired={"a": ["b"]}), '{"a": 1}'),
    ("dependentSchemas", of({"a": WHOLE}, dependentSchemas={"a": {"minProperties": 2}}), '{"a": 1}'),
    ("dependencies", {"$schema": DRAFT7, **of({"a": WHOLE, "b": WHOLE}, dependencies={"a": ["b"]})}, '{"a": 1}'),
    ("minimum", {"$ref": "#/$defs/a", "minimum": 3, "$defs": {"a": WHOLE}}, "1"),
    ("required", of({"a": WHOLE}, anyOf=[of({"a": WHOLE})], required=["a"]), "{}"),
    ("type", {"type": "integer", "anyOf": [WHOLE, TEXT]}, '"x"'),
    ("properties", of({"x": WHOLE}, allOf=[of({"x": TEXT})]), '{"x": "s"}'),
    ("additionalProperties", {"anyOf": [of({"b": WHOLE})], "additionalProperties": False}, '{"b": 1}'),
    ("allOf", {"allOf": [WHOLE, {"minimum": 3}]}, '"s"'),
    ("oneOf", {"oneOf": [WHOLE, NUMBER]}, "1"),
    ("oneOf", {"oneOf": [of({"a": WHOLE}), of({"b": WHOLE})]}, "{}"),
    ("oneOf", {"oneOf": [{"type": "array", "items": TEXT}, {"type": "array", "items": WHOLE}]}, "[]"),
    ("anyOf", {"anyOf": []}, ""),
    ("minimum", {"minimum": 3}, "1"),
    ("pattern", {"pattern": "^a$"}, '"b"'),
    ("required", {"required": ["a"]}, "{}"),
    ("required", of({"a": WHOLE}, required=["b"]), '{"a": 1}'),
    ("enum", {"type": "integer", "enum": [1, "x"]}, '"x"'),
    ("const", {"const": 1, "enum": [2]}, "1"),
    ("$ref", {"$ref": "#thing", "$defs": {"a": {"$anchor": "thing", **WHOLE}}}, '"s"'),
    ("$ref", {"$ref": "https://example.org/x.json"}, '"s"'),
    ("multipleOf", {"type": "number", "multipleOf": 0.5}, "0.3"),
    ("multipleOf", {"type": "integer", "multipleOf": 3, "minimum": 0}, "1"),
    ("multipleOf", {"type": "integer", "multipleOf": 4096}, "1"),
    ("minimum", {"type": "number", "exclusiveMinimum": 0, "maximum": 1e-9}, ""),
    ("format", word(format="date"), '"2021-02-30"'),
    ("format", word(format="date-time"), '"2021-02-30T00:00:00Z"'),
    ("format", word(format="ipv4"), '"010.0.0.1"'),
    ("format", word(format="idn-email"), '"no at sign"'),
    ("format", {"format": "uuid"}, '"x"'),
    ("format", word(format="json-pointer"), '"/"/"'),
    ("pattern", word(format="uuid", pattern="^0"), '"11111111-1111-1111-1111-111111111111"'),
    ("minLength", word(format="email", minLength=30), '"a@b"'),
    ("maxLength", word(pattern="^a*$", maxLength=2), '"aaa"'),
    ("pattern", word(pattern="^(?!a)[a-z]+$"), '"ab"'),
    ("pattern", word(pattern="^a^b$"), '"ab"'),
    ("pattern", word(pattern=r"^ab\Z"), '"abZ"'),
    ("pattern", word(pattern='^"a"$'), '""a""'),
    ("pattern", word(pattern="^é.$"), '"é""'),
    ("pattern", word(pattern="^.{1,200}$"), '"a"b"'),
    ("pattern", word(pattern=r"^\S+$"), '"\u2003"'),
    ("pattern", word(pattern=r"^[^\w]$"), '"é"'),
    ("pattern", word(pattern="^([0-9]+D)?$"), '"12"'),
    ("pattern", word(pattern=r"^[a-z]+(\.\d+)?$"), '"a0"'),
    ("patternProperties", {"patternProperties": {"a": WHOLE}}, '{"a": "x"}'),
    ("patternProperties", {"type": "object", "patternProperties": {'^"a"$': WHOLE}}, '{""a"": 1}'),
    ("patternProperties", of({"a": TEXT}, patternProperties={"^[a-z]$": {"type": "string", "minLength": 1}}), '{"a": ""}'),
    ("patternProperties", {"type": "object", "patternProperties": {"^a.*": WHOLE, ".*b$": TEXT}}, '{"ab": 1}'),
    ("additionalProperties", of({"q": {}}, patternProperties={"^a$": WHOLE}, additionalProperties=True), '{"q": 1, "a": "s"}'),
    ("propertyNames", {"type": "object", "patternProperties": {"^ab": WHOLE}, "propertyNames": {"maxLength": 1}}, '{"ab": 1}'),
    ("propertyNames", of({"abcd": {}}, propertyNames={"maxLength": 3}), '{"abcd": 1}'),
    ("propertyNames", of({"a": WHOLE}, propertyNames={"maxLength": 3}, additionalProperties=True), '{"a": 1, "a": "s"}'),
    ("propertyNames", {"type": "object", "propertyNames": {"anyOf": [{"pattern": "^x"}]}}, '{1: "s"}'),
    ("additionalProperties", {"type": "object", "propertyNames": {"pattern": "^x"}, "additionalProperties": False}, '{"x": 1}'),
    ("minProperties", {"type": "object", "additionalProperties": WHOLE, "minProperties": 2}, '{"": 1, "": 2}'),
]  # fmt: skip

# A schema that the engine keeps to, and a text that it forbids.
FREE = [
    ({"type": "array", "items": WHOLE, "maxItems": 1, "uniqueItems": True}, "[1, 1]"),
    ({"$schema": DRAFT7, "$ref": "#/definitions/a", "minimum": 3, "definitions": {"a": WHOLE}}, '"x"'),
    ({"type": ["string", "null"], "enum": ["a", None]}, '"b"'),
    ({"oneOf": [of({"k": {"const": 1}}, required=["k"]), of({"k": {"const": 2}}, required=["k"])]}, '{"k": 3}'),
    ({"oneOf": [of({"a": WHOLE}, required=["a"]), of({"b": WHOLE}, required=["b"])]}, "{}"),
    ({"oneOf": [TEXT, {"type": "null"}, {"type": "array", "items": WHOLE}]}, "1"),
    ({"type": "object", "anyOf": [of({"a": WHOLE}, required=["a"])], "required": ["a"]}, "{}"),
    ({"allOf": [{"$ref": "#/$defs/a"}], "title": "one part", "$defs": {"a": WHOLE}}, '"x"'),
    (of({"a": WHOLE}, required=["a"], additionalProperties=False), '{"a": 1, "b": 2}'),
    (of({"a": WHOLE}, additionalProperties=TEXT), '{"b": 1}'),
    (of({"a": WHOLE, "b": WHOLE}, minProperties=1, maxProperties=1), '{"a": 1, "b": 2}'),
    ({"type": "object", "patternProperties": {"^a-": WHOLE, "^b-": TEXT}, "additionalProperties": False}, '{"a-": "s"}'),
    ({"type": "object", "propertyNames": {"pattern": "^[a-z]+$"}, "additionalProperties": WHOLE}, '{"A": 1}'),
    ({"type": "integer", "multipleOf": 7}, "8"),
    ({"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 100}, "7"),
    ({"type": "number", "minimum": 0, "exclusiveMaximum": 1}, "1.0"),
    (word(minLength=2, maxLength=3), '"abcd"'),
    (word(format="uuid", minLength=36), '"x"'),
    (word(format="email"), '"no at sign"'),
    (word(format="uri"), '"no scheme"'),
    (word(format="duration"), '"P"'),
    (word(pattern=r"^\d+(\.\d+)?$"), '"1."'),
    (word(pattern="^[a-z]{3,5}$", minLength=2, maxLength=5), '"ab"'),
    (word(pattern='^"?a$'), '"b"'),
    (of({"a": {"if": {"type": "string"}, **WHOLE}}), '{"a": "s"}'),
    (of({"a": WHOLE}, **{"$defs": {"unused": {"not": {}, "allOf": [{}, {"minimum": 1}]}}}), '{"a": "s"}'),
    ({"type": "array", "prefixItems": [WHOLE, TEXT], "items": False}, '[1, "a", 2]'),
]  # fmt: skip

ODD: list[Any] = [
    None, 3, "x", [], [1], True, False, {}, {"type": 3}, {"type": []}, {"type": ["string", 3]}, {"type": "horse"}, {"properties": [1]},
    {"type": "object", "required": "a"}, {"type": "object", "required": [1, None]}, {"anyOf": {}}, {"anyOf": [3, None]}, {"allOf": [7]},
    {"oneOf": "x"}, {"oneOf": [1, True, {"$ref": "#/oneOf/2"}]}, {"enum": 4}, {"enum": []}, {"$ref": 5}, {"$ref": "#/nowhere"},
    {"$ref": "#"}, {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, {"type": "string", "pattern": "("},
    {"type": "string", "pattern": 3}, {"type": "string", "pattern": "a{99999999999}"}, {"type": "string", "format": 3},
    {"type": "number", "minimum": "1", "multipleOf": 0}, {"type": "integer", "multipleOf": True}, {"type": "number", "maximum": 1e400},
    {"type": "object", "patternProperties": {"(": {}}}, {"type": "object", "propertyNames": False}, {"items": [1, 2]}, {"$schema": 3},
    {"type": "object", "dependentRequired": {"a": 3}}, {"type": "object", "additionalProperties": 3, "minProperties": "2"},
    {"not": {"$ref": "http://x/"}, "type": "string"}, {"type": "string", "enum": [{"a": [1]}], "$ref": "#/enum"}, {"": {"": 1}},
    {"type": "string", "enum": ["a"], "minLength": "two"}, {"$id": 3, "enum": [1]}, {"type": [{}], "anyOf": [{"type": "null"}]},
    {"type": "object", "required": [[]], "properties": {"a": {}}, "minProperties": 2}, {"type": "string", "pattern": "a", "format": []},
    {"anyOf": [{"format": [1]}], "oneOf": 3, "format": {}}, {"$ref": "#/enum/0", "enum": [{"$id": None, "$ref": 3}]},
]  # fmt: skip


@pytest.fixture(scope="module")
def compiler() -> xgrammar.GrammarCompiler:
    words = [bytes([i]) for i in range(256)] + [b"</s>"]
    info = xgrammar.TokenizerInfo(words, vocab_type=xgrammar.VocabType.RAW, vocab_size=257, stop_token_ids=[256])
    return xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)


def writes(compiler: xgrammar.GrammarCompiler, schema: Any, text: str) -> bool:
    """Whether the engine, free of control characters, can write exactly `text` and end there."""
    grammar = compiler.compile_json_schema(json.dumps(schema), any_whitespace=False, separators=(", ", ": "))
    return ends(xgrammar.GrammarMatcher(grammar), text)


def ends(matcher: xgrammar.GrammarMatcher, text: str) -> bool:
    if any(letter < " " for letter in text) or not matcher.accept_string(text):
        return False
    return matcher.is_terminated() or matcher.accept_token(256)


@pytest.mark.parametrize(("keyword", "schema", "text"), TRAPS, ids=[f"{i}-{k}" for i, (k, _, _) in enumerate(TRAPS)])
def test_what_the_engine_lets_through_is_marked_at_its_keyword(compiler, keyword: str, schema: Any, text: str):
    assert validate_json(text, schema).state != "valid"
    assert writes(compiler, schema, text)
    findings = [f for f in lint(schema) if marks([f])]
    assert keyword in {f.keyword for f in findings}, findings


@pytest.mark.parametrize(("schema", "text"), FREE, ids=range(len(FREE)))
def test_what_the_engine_keeps_to_is_not_marked(compiler, schema: Any, text: str):
    assert validate_json(text, schema).state == "invalid"
    assert not writes(compiler, schema, text)
    assert not marks(lint(schema)), lint(schema)


@pytest.mark.parametrize("schema", ODD, ids=range(len(ODD)))
def test_odd_input_is_looked_at_without_an_exception(schema: Any):
    for finding in lint(schema):
        assert finding.effect in EFFECTS and finding.path.startswith("$") and finding.message


def test_half_of_the_bench_schemas_are_free_of_traps_and_half_are_not():
    named = read_schemas(SCHEMAS)
    assert len(named) == 60 and len({name for name, _ in named}) == 60
    assert [marks(lint(schema)) for _, schema in named] == [False] * 30 + [True] * 30


def test_a_finding_names_the_place_where_the_keyword_stands():
    schema = of({"list of": {"type": "array", "items": {"anyOf": [of({"age": {"type": "integer", "not": {}}})]}}})
    assert [f.path for f in lint(schema) if marks([f])] == ['$.properties["list of"].items.anyOf[0].properties.age']


def test_references_are_followed_once_even_in_circles():
    schema = {"$ref": "#/$defs/node", "$defs": {"node": of({"up": {"$ref": "#/$defs/node"}, "n": {"multipleOf": 0.1, **NUMBER}})}}
    assert [(f.path, f.keyword) for f in lint(schema)] == [("$.$defs.node.properties.n", "multipleOf")]


def test_a_type_list_is_looked_at_type_by_type():
    findings = lint({"type": ["string", "array"], "uniqueItems": True, "items": WHOLE, "minimum": 3})
    assert [f.keyword for f in findings] == ["uniqueItems"]


def test_a_note_that_less_can_come_marks_nothing():
    findings = lint(word(pattern="[0-9]"))
    assert [f.effect for f in findings] == ["too strict"] and not marks(findings)


@pytest.mark.parametrize("demand", [{"required": ["next"]}, {"required": ["next", "n"]}])
def test_a_schema_that_demands_itself_may_be_unfinishable(compiler, demand: dict[str, Any]):
    schema = of({"n": WHOLE, "next": {"$ref": "#"}}, **demand)
    findings = lint(schema)
    assert [f.effect for f in findings] == ["may be unfinishable"] and not marks(findings)
    assert not marks(lint(of({"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, required=["next"])))


def test_a_nested_address_moves_the_references_below_it():
    inner = {"$id": "https://example.org/inner", **of({"a": {"$ref": "#/$defs/n"}}), "$defs": {"n": TEXT}}
    assert "$id" in {f.keyword for f in lint({**of({"x": inner}), "$defs": {"n": WHOLE}}) if marks([f])}


def test_a_deeply_nested_schema_is_said_to_be_too_deep():
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(1_500):
        schema = {"anyOf": [schema]}
    assert [f.effect for f in lint(schema)] == ["refused"]


def random_pattern(rng: random.Random, depth: int) -> str:
    kind = rng.random()
    if depth == 0 or kind < 0.3:
        return rng.choice(["a", "b", "c", "[ab]", "[^a]", "."])
    if kind < 0.55:
        return random_pattern(rng, depth - 1) + random_pattern(rng, depth - 1)
    if kind < 0.7:
        return f"({random_pattern(rng, depth - 1)}|{random_pattern(rng, depth - 1)})"
    return f"({random_pattern(rng, depth - 1)}){rng.choice(['*', '+', '?', '?', '{2}', '{0,2}', '{2,}', '{1,3}', '{0,}'])}"


def test_whatever_the_engine_lets_through_a_pattern_the_automata_find_too(compiler):
    """120 random patterns against 121 words; the engine is wrong for about one pattern in fifty."""
    rng = random.Random(5)
    words = ["".join(letters) for n in range(5) for letters in itertools.product("abc", repeat=n)]
    loose = 0
    for _ in range(120):
        pattern = f"^{random_pattern(rng, 4)}$"
        matcher = xgrammar.GrammarMatcher(compiler.compile_json_schema(json.dumps(word(pattern=pattern)), any_whitespace=False))
        written = [w for w in words if not re.fullmatch(pattern, w) and (matcher.reset(), ends(matcher, f'"{w}"'))[1]]
        loose += bool(written)
        assert not written or traps(pattern), (pattern, written[0])
    assert loose


def test_a_counterexample_does_not_match_its_pattern():
    for pattern in ("^([0-9]+D)?$", r"^[a-z]+(\.\d+)?$", "^(ba+)?c$", r"^\S+$", "^a^b$", r"^[^\d]$", "a$b"):
        text = counterexample(parse(pattern))
        assert text is not None and not re.search(pattern, text), pattern


def test_a_patterns_width_bounds_every_match():
    assert width("^[a-z]{2,4}(-x)?$") == (2, 6)
    assert width("(") == (0, 2**32)


def test_the_linter_does_not_load_the_engine():
    code = "import sys, backend.structured.lint; sys.exit('xgrammar' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
