"""Problems and graders."""

from __future__ import annotations

import json

import pytest

from backend.errors import InvalidRequest
from backend.pocket.corpus import held_out
from backend.routing.tasks import Problem, chosen, pocket_problems, read_lines


@pytest.mark.parametrize(
    ("grader", "answer", "right", "wrong"),
    [
        ("number", "1200", ["It is 1,200.", "3 + 4 gives 1200.0"], ["1200 minus 1 is 1199", "", "no number"]),
        ("number", "-3", ["x = -3", "so −3"], ["3"]),
        ("exact", "to be  or", ["to be or", " to be\nor "], ["to be", "To be or"]),
        ("regex", r"^\d{4}-\d\d$", ["2024-05"], ["in 2024-05"]),
        ("choice", "b", ["The answer is (B).", "A or C? No: B"], ["B, but rather C", "none", "Bob"]),
        ("pocket", "12", ["4 * 3 = 12. The answer is 12."], ["4 * 3 = 12.", "The answer is 1."]),
    ],
)
def test_a_grader_knows_right_from_wrong(grader, answer, right, wrong):
    problem = Problem("?", answer, grader)
    assert all(problem.right(text) for text in right)
    assert not any(problem.right(text) for text in wrong)


def test_the_corpus_own_answers_are_right():
    items, problems = held_out("problem", 40, 3), pocket_problems(40, 3)
    assert [p.prompt for p in problems] == [item.prompt for item in items]
    assert all(problem.right(item.answer) for problem, item in zip(problems, items, strict=True))


def test_problems_without_some_are_others():
    first = pocket_problems(20, 4)
    rest = pocket_problems(20, 4, {p.mark for p in first[:5]})
    assert len(rest) == 20 and rest[:15] == first[5:] and not {p.mark for p in rest} & {p.mark for p in first[:5]}


def test_a_pattern_that_runs_wild_does_not_match():
    assert not Problem("?", r"(a+)+$", "regex").right("a" * 60 + "b")


def test_lines_are_read_and_numbers_graded_as_numbers():
    data = '{"prompt": "2 + 2?", "answer": 4}\n\n{"prompt": "Say hi", "answer": "hi"}\n{"prompt": "Talk"}\n'
    assert read_lines(data) == [Problem("2 + 2?", "4", "number"), Problem("Say hi", "hi", "exact"), Problem("Talk")]
    assert chosen(data, 2, 0) == read_lines(data)[:2]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "is not JSON"),
        ('{"answer": "x"}', "must be an object with a prompt"),
        ('{"prompt": "x", "anwser": "y"}', "no field 'anwser'"),
        ('{"prompt": "x", "answer": "y", "grader": "judge"}', "grader 'judge'; there are number"),
        ('{"prompt": "x", "answer": "y", "grader": "number"}', "'y' holds no number"),
        ('{"prompt": "x", "answer": "(", "grader": "regex"}', "is not a pattern"),
        ('{"prompt": "x", "answer": "Q", "grader": "choice"}', "no letter from A to J"),
        ('{"prompt": "x", "answer": ["y"]}', "neither text nor number"),
    ],
)
def test_a_bad_line_is_named(line, words):
    good = json.dumps({"prompt": "fine", "answer": "yes"})
    with pytest.raises(InvalidRequest, match="Line 3 of the dataset") as error:
        read_lines(f"{good}\n{good}\n{line}\n")
    assert words in str(error.value) and error.value.where == "options.data"


def test_an_empty_dataset_is_refused():
    with pytest.raises(InvalidRequest, match="dataset is empty"):
        read_lines(" \n\n")


def test_what_has_no_answer_can_not_be_graded():
    with pytest.raises(ValueError, match="an answer"):
        Problem("x").right("y")
