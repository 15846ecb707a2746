"""Right and wrong, and what a grader can't use."""

from __future__ import annotations

import pytest

from backend.graders import GRADERS, read_as, unusable


@pytest.mark.parametrize(
    ("grader", "text", "answer", "right"),
    [
        ("number", "First 3, then 1,024.", "1024", True),
        ("number", "It is 12.", "So 4 * 3 = 12. The answer is 12.", True),
        ("number", "It is 13.", "12", False),
        ("number", "I don't know.", "12", False),
        ("number", "−5", "-5", True),
        ("exact", " a  b ", "a b", True),
        ("exact", "a b c", "a b", False),
        ("regex", "about 7 cats", r"\b7 (cats|dogs)\b", True),
        ("regex", "about 71 cats", r"\b7 (cats|dogs)\b", False),
        ("choice", "The answer is (c).", "C", True),
        ("choice", "A or B? B.", "A", False),
        ("choice", "none", "A", False),
    ],
)
def test_a_grader_reads_what_it_should(grader, text, answer, right):
    assert GRADERS[grader](text, answer) is right


def test_a_pattern_that_never_ends_counts_as_not_matching():
    assert not GRADERS["regex"]("a" * 40 + "b", r"^(a|aa|a?)+$(?<!x)c")


@pytest.mark.parametrize(("grader", "answer"), [("number", "twelve"), ("choice", "Z"), ("regex", "(a"), ("exact", "  ")])
def test_what_a_grader_cannot_use_is_said(grader, answer):
    assert unusable(grader, answer)


@pytest.mark.parametrize(("grader", "answer"), [("number", "4 * 3 = 12"), ("choice", "B"), ("regex", "a+"), ("exact", "x")])
def test_what_a_grader_looks_for_passes_it(grader, answer):
    assert not unusable(grader, answer)
    if grader != "regex":
        assert GRADERS[grader](read_as(grader, answer), answer)
