"""What the grammar engine says reaches a reader in plain words, with the place and without anything of C++."""

from __future__ import annotations

import pytest

from backend.structured.messages import explain, warnings_of

RAW = [
    (
        "ebnf",
        "[13:31:06] /project/cpp/grammar_parser.cc:820: EBNF parser error at line 3, column 9: Expect )\n",
        "Line 3, column 9: Expected ).",
    ),
    (
        "ebnf",
        '[13:31:06] /project/cpp/parser.cc:820: EBNF parser error at line 1, column 1: The root rule with name "root" is not found\n',
        "Line 1, column 1: There is no rule named root.",
    ),
    (
        "regex",
        "[02:14:21] /project/cpp/regex_converter.cc:83: Regex parsing error at position 4: Lookahead is not supported yet.\n",
        "Character 4: Lookahead is not supported yet.",
    ),
    (
        "regex",
        "[02:14:21] /project/cpp/parser.cc:820: EBNF parser error at line 1, column 16: Lower bound is larger than upper bound: 3 > 1\n",
        "Lower bound is larger than upper bound: 3 > 1.",
    ),
    (
        "json_schema",
        "[02:14:21] /project/cpp/regex_converter.cc:83: Regex parsing error at position 4: Lookahead is not supported yet.\n",
        "Character 4 of a pattern: Lookahead is not supported yet.",
    ),
    ("json_schema", '[13:31:06] /project/cpp/json_schema_converter.cc:4944: Unsupported type "foo"\n', 'Unsupported type "foo".'),
    (
        "json_schema",
        "[13:31:06] /project/cpp/json_schema_converter.cc:4950: Cannot find field definitions in #/definitions/none\n",
        "The reference #/definitions/none points to nothing (no definitions there).",
    ),
    (
        "json_schema",
        "[13:31:06] /project/cpp/grammar_functor.cc:2340: Check failed: (lower >= 0 && (upper == -1 || upper >= lower)) is false: "
        "Invalid repetition range {-1, -1}\n",
        "A length or count runs from -1 to -1, which is no range.",
    ),
    (
        "json_schema",
        "[13:31:06] /project/cpp/json_schema_converter.cc:4939: Check failed: (error.empty()) is false: Failed to parse JSON: "
        'syntax error at line 1 near: . The JSON string is:{"a":\n',
        "Failed to parse JSON: syntax error at line 1 near: .",
    ),
    (
        "structural_tag",
        "[13:31:06] /project/cpp/grammar_compiler.cc:1207: Check failed: (std::holds_alternative<Grammar>(result)) is false: "
        "Invalid structural tag error: Format type not recognized: foo\n",
        "Format type not recognized: foo.",
    ),
    (
        "json_schema",
        "[1:31:06] /project/cpp/grammar_functor.cc:3567: Check failed: (grammar_->ImplPtr()->per_rule_fsm_hashes[ref_rule_id].has_value()) "
        "is false: \n",
        "The engine failed inside while it optimised this grammar.",
    ),
    ("ebnf", "std::bad_alloc", "The engine ran out of memory on this grammar."),
    ("ebnf", "", "The engine refused this grammar without saying why."),
]


@pytest.mark.parametrize(("kind", "raw", "plain"), RAW)
def test_an_engine_error_becomes_one_plain_sentence_with_its_place(kind: str, raw: str, plain: str) -> None:
    assert str(explain(kind, raw)) == plain


@pytest.mark.parametrize("raw", [raw for _, raw, _ in RAW])
@pytest.mark.parametrize("kind", ["json_schema", "json", "regex", "ebnf", "structural_tag"])
def test_no_message_shows_clock_time_path_or_check(kind: str, raw: str) -> None:
    said = str(explain(kind, raw))
    assert not any(word in said for word in ("/project", ".cc", "Check failed", "13:31", "02:14", "std::", "\n"))


@pytest.mark.parametrize(
    ("schema", "said", "where"),
    [
        ('{"properties": {"a": {"type": "string"}, "b": {"type": ["null", "foo"]}}}', 'Unsupported type "foo"', "$.properties.b"),
        ('{"anyOf": [{}, {"$ref": "#/x"}]}', "Cannot find field x in #/x", "$.anyOf[1]"),
        ('{"properties": {"k": {"enum": []}}}', "enum array must not be empty", "$.properties.k"),
        ('{"items": [{"type": "string"}]}', "items must be a boolean or an object", "$"),
        ('{"type": "string"}', 'Unsupported type "foo"', None),
        ('{"type": "string"}', "Something else", None),
    ],
)
def test_a_schema_error_names_the_json_path_that_it_is_about(schema: str, said: str, where: str | None) -> None:
    assert explain("json_schema", said, schema).where == where


def test_a_path_in_the_middle_of_a_message_is_cut_too() -> None:
    assert explain("ebnf", "boom in /home/x/build/cpp/matcher.cc:12: bad state").message == "Boom in bad state."


def test_a_slash_that_is_no_source_path_stays() -> None:
    assert explain("json_schema", "Unknown format a/b of #/x").message == "Unknown format a/b of #/x."


def test_a_very_long_message_is_cut() -> None:
    assert len(explain("ebnf", "x" * 10_000).message) <= 401


def test_warnings_come_in_order_once_each_and_without_what_the_engine_did_not_say() -> None:
    stderr = (
        "some library: noise\n"
        "[13:31:06] /project/cpp/regex_converter.cc:89: Warning: Regex parsing warning at position 2: '^' is ignored.\n"
        "[13:31:07] /project/cpp/json_schema_converter.cc:3510: Warning: Support for allOf with multiple options is still ongoing\n"
        "[13:31:08] /project/cpp/regex_converter.cc:89: Warning: Regex parsing warning at position 2: '^' is ignored.\n"
    )
    assert warnings_of("regex", stderr) == (
        "Character 2: '^' is ignored.",
        "Support for allOf with multiple options is still ongoing.",
    )


def test_silence_is_no_warning() -> None:
    assert warnings_of("ebnf", "") == ()
