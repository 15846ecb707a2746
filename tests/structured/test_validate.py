"""The judge of finished texts: what it calls valid, invalid, not JSON and truncated, and what it refuses to wait for."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from backend.errors import InvalidRequest
from backend.structured.validate import Validity, check_schema, json_path, take_json, validate_json, validate_pattern

DOCUMENT = {"a": [1, -2.5e3, True, False, None], "b": {"ü": 'quote " and \\ and \u20ac'}, "c": [], "d": "\U0001f600"}
PERSON = {"type": "object", "properties": {"age": {"type": "integer"}, "tags": {"items": {"type": "string"}}}, "required": ["age"]}


@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_every_beginning_of_a_json_text_is_truncated_and_the_whole_is_valid(ensure_ascii: bool):
    text = json.dumps(DOCUMENT, ensure_ascii=ensure_ascii)
    for end in range(len(text)):
        assert validate_json(text[:end], True).state == "truncated", text[:end]
    assert validate_json(text, True) == Validity("valid")


@pytest.mark.parametrize("text", ["{'a': 1}", '{"a" 1}', "[1,]", '"a\tb"', "{} {}", '"\\x"', "truth", "[nul!]", "01", '{"a": 1}}', "- 1"])
def test_what_can_never_become_json_is_not_json(text: str):
    verdict = validate_json(text, True)
    assert verdict.state == "not_json" and verdict.message


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}'])
def test_javascript_numbers_are_not_json(text: str):
    assert validate_json(text, True).state == "not_json"


@pytest.mark.parametrize(("text", "path"), [('{"age": "x"}', "$.age"), ('{"age": 1, "tags": ["a", 2]}', "$.tags[1]"), ("[]", "$"), ("{}", None)])
def test_an_invalid_text_says_where(text: str, path: str | None):
    verdict = validate_json(text, {**PERSON, "type": "object"})
    assert verdict.state == "invalid" and verdict.message and verdict.path == (path or "$")


def test_the_verdict_agrees_with_jsonschema():
    values: list[Any] = [None, True, 0, 1.0, 1.5, "", "x", "2021-02-30", [], [1, 1], {}, {"age": 1}, {"age": "x"}, {"b": 2, "xa": 3}]
    schemas: list[Any] = [
        True, False, {}, PERSON, {"type": "integer"}, {"minimum": 1}, {"pattern": "^x"}, {"uniqueItems": True}, {"format": "date"},
        {"additionalProperties": False, "properties": {"age": {}}}, {"additionalProperties": {"type": "string"}, "patternProperties": {"^x": {}}},
        {"oneOf": [{"type": "number"}, {"type": "integer"}]}, {"$ref": "#/$defs/a", "$defs": {"a": {"minProperties": 1}}},
        {"patternProperties": {"^x": {"type": "string"}}}, {"if": {"type": "string"}, "then": {"minLength": 1}, "else": {"not": {"const": 0}}},
    ]  # fmt: skip
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    for schema in schemas:
        judge = jsonschema.Draft202012Validator(schema, format_checker=checker)
        for value in values:
            assert (validate_json(json.dumps(value), schema).state == "valid") == judge.is_valid(value), (schema, value)


def test_of_two_members_with_one_name_the_last_counts_and_is_told():
    verdict = validate_json('{"age": "x", "age": 1}', PERSON)
    assert verdict.state == "valid" and "'age'" in verdict.message


def test_formats_are_asserted_by_the_draft_that_the_schema_names():
    text = '"2021-02-30"'
    assert validate_json(text, {"format": "date"}).state == "invalid"
    assert validate_json(text, {"$schema": "http://json-schema.org/draft-04/schema#", "format": "date"}).state == "valid"


def test_siblings_of_a_reference_count_only_since_draft_2019():
    schema = {"$ref": "#/definitions/a", "minimum": 3, "definitions": {"a": {"type": "integer"}}}
    assert validate_json("1", schema).state == "invalid"
    assert validate_json("1", {"$schema": "http://json-schema.org/draft-07/schema#", **schema}).state == "valid"


@pytest.mark.parametrize("uri", ["https://example.org/x.json", "#/nowhere", "#missing", "other.json#/a"])
def test_a_reference_out_of_the_schema_is_said_to_be_unresolvable(uri: str):
    verdict = validate_json("1", {"$ref": uri})
    assert verdict.state == "invalid" and "Unresolvable reference" in verdict.message


def test_a_reference_to_a_published_metaschema_needs_no_network():
    schema = {"$ref": "https://json-schema.org/draft/2020-12/schema"}
    assert validate_json('{"type": "string"}', schema).state == "valid"
    assert validate_json('{"type": 3}', schema).state == "invalid"


@pytest.mark.parametrize("keyword", ["pattern", "patternProperties"])
def test_a_pattern_that_never_ends_is_given_up(keyword: str):
    slow, text = r"^(a|a|aa|b?)+(\1?a)*$", "a" * 4_000 + "!"
    schema = {"pattern": slow} if keyword == "pattern" else {"patternProperties": {slow: False}}
    value = text if keyword == "pattern" else {text: 1}
    verdict = validate_json(json.dumps(value), schema)
    assert verdict.state == "invalid" and "took more than" in verdict.message


def test_a_pattern_that_cannot_be_read_is_named():
    assert "can't be read" in validate_json('"x"', {"pattern": "("}).message
    assert "can't be read" in validate_pattern("x", "(").message


def test_a_schema_in_circles_and_a_value_too_deep_are_told():
    assert validate_json("1", {"$ref": "#"}).state == "invalid"
    assert validate_json("[" * 100_000 + "]" * 100_000, True).state == "invalid"


def test_a_broken_schema_judges_nothing_and_says_so():
    verdict = validate_json('"x"', {"minLength": "two"})
    assert verdict.state == "invalid" and "$.minLength" in verdict.message


def test_a_number_of_many_digits_is_a_number():
    assert validate_json("9" * 5_000, {"type": "number"}).state == "valid"
    assert validate_json("1e999", {"type": "number", "multipleOf": 0.1}).state in ("valid", "invalid")


@pytest.mark.parametrize(("text", "state"), [("abc", "valid"), ("abcd", "invalid"), ("xabc", "invalid"), ("abc\n", "invalid")])
def test_a_pattern_must_match_the_whole_text(text: str, state: str):
    assert validate_pattern(text, "[a-c]{3}").state == state


@pytest.mark.parametrize("wrap", ["{}", "Sure!\n```json\n{}\n```\nBye.", "```\n{}```", "Here [it] is: {} (and more {{}})", "```json\n{}", " {} "])
@pytest.mark.parametrize("value", [DOCUMENT, [1, {"a": "}]"}], {}, {"text": "```"}])
def test_json_is_taken_out_of_prose_and_fences(wrap: str, value: Any):
    assert json.loads(take_json(wrap.format(json.dumps(value)))) == value


def test_a_text_without_json_is_handed_back_trimmed():
    assert take_json("  no braces here \n") == "no braces here"


def test_json_that_is_cut_off_in_prose_is_taken_to_its_end_and_not_in_parts():
    assert take_json('Here: {"a": [1, 2], "b') == '{"a": [1, 2], "b'
    assert validate_json(take_json('```json\n{"a": [1, '), True).state == "truncated"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n  "type": "string",,\n}', "Line 2, column 2"),
        ('{"type": "strin"}', "$.type"),
        ('{"properties": {"a b": {"minLength": -1}}}', '$.properties["a b"].minLength'),
        ('{"enum": NaN}', "NaN"),
        ("[1]", "an array"),
        ('"x"', "a string"),
        ("3", "a number"),
        ("null", "null"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_wrong_schema_is_refused_with_its_place(text: str, said: str):
    with pytest.raises(InvalidRequest) as caught:
        check_schema(text)
    assert said in str(caught.value) and caught.value.where == "options.grammar"


OLD = {"$schema": "http://json-schema.org/draft-04/schema#", "exclusiveMinimum": True, "minimum": 1}


@pytest.mark.parametrize("schema", [True, False, {}, PERSON, OLD])
def test_a_right_schema_comes_back_as_it_was(schema: Any):
    assert check_schema(json.dumps(schema)) == schema


def test_a_json_path_can_be_read():
    assert json_path(["a", 0, "b c", "$d", "é"]) == '$.a[0]["b c"].$d["é"]'
