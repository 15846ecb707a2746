"""Items: what is read, what is refused and where, how sets are split."""

from __future__ import annotations

import json

import pytest

from backend.contamination.items import FRESH, LEAKED, UNRELATED, Item, encode, halves, items_hash, preview, read_items
from backend.errors import InvalidRequest
from tests.tiny_models import tiny_tokenizer

ROWS = [
    {"question": "2+3?", "answer": "5", "set": "leaked", "rephrased": "3+2?"},
    {"question": "4+4?", "answer": 8, "set": "fresh"},
    {"question": "Capital of France?", "answer": "Paris", "set": "unrelated"},
]


def lines(rows):
    return "\n".join(json.dumps(row) for row in rows)


def test_json_lines_and_csv_say_the_same():
    table = "question,answer,set,rephrased\n2+3?,5,leaked,3+2?\n4+4?,8,fresh,\nCapital of France?,Paris,unrelated,\n"
    found = read_items(lines(ROWS))
    assert found == read_items(table)
    assert [item.set for item in found] == [LEAKED, FRESH, UNRELATED] and [item.grader for item in found] == ["number", "number", "exact"]
    assert found[0].rephrased == "3+2?"


def test_columns_of_other_names_are_mapped():
    text = 'input,target,split\n"2, or\n3?",5,fresh\n'
    (item,) = read_items(text, {"question": "input", "answer": "target", "set": "split"}, grader="exact")
    assert item == Item("2, or\n3?", "5", FRESH, "exact")


def test_a_row_without_a_set_counts_as_leaked():
    assert read_items('{"question": "q", "answer": "a"}')[0].set == LEAKED


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", None, "is empty"),
        ("\n \n", None, "is empty"),
        ('{"question": "q", "answer": "a"}\n{"question"', 2, "not JSON"),
        ('{"question": "q", "answer": "a"}\n\n[1]', 3, "must be an object"),
        ('{"answer": "a"}', 1, "has no 'question'"),
        ('{"question": "q"}', 1, "has no 'answer'"),
        ('{"question": " ", "answer": "a"}', 1, "needs a text"),
        ('{"question": "q", "answer": true}', 1, "needs a text"),
        ('{"question": "q", "answer": "a", "set": "old"}', 1, "has the set 'old'"),
        ('{"question": "q", "answer": "a", "grader": "taste"}', 1, "has the grader 'taste'"),
        ('{"question": "q", "answer": "a", "grader": "number"}', 1, "holds no number"),
        ('{"question": "q", "answer": "(", "grader": "regex"}', 1, "is not a pattern"),
        ('{"question": "q", "answer": "a", "rephrased": 3}', 1, "needs a text"),
        ('{"question": "q", "answer": "a"}\n{"question": "q", "answer": "b"}', 2, "the question of line 1 again"),
        ("what,answer\nq,a\n", 1, "has no column 'question'"),
        ("question,answer\nq,a,b\n", 2, "has 3 cells"),
        ('question,answer\n"q,a\n', 2, "is not CSV"),
    ],
)
def test_malformed_data_is_refused_with_line_and_reason(text, line, said):
    with pytest.raises(InvalidRequest) as caught:
        read_items(text)
    assert said in str(caught.value) and caught.value.where == "options.data"
    assert line is None or f"Line {line} " in str(caught.value)


def test_a_mapping_of_no_field_of_ours_is_refused():
    with pytest.raises(InvalidRequest, match="no field 'frage'"):
        read_items("question,answer\nq,a\n", {"frage": "question"})


def test_the_halves_are_disjoint_whole_and_a_seed_gives_them_again():
    items = [Item(f"q{i}", "a") for i in range(21)]
    search, report = halves(items, 7)
    assert len(search) == 10 and len(report) == 11
    assert sorted(i.question for i in search + report) == sorted(i.question for i in items)
    assert halves(items, 7) == (search, report) != halves(items, 8)


def test_the_hash_changes_with_any_item():
    items = read_items(lines(ROWS))
    assert items_hash(items) == items_hash(read_items(lines(ROWS)))
    assert len({items_hash(items), items_hash(items[:2]), items_hash([*items[:2], Item("Capital of France?", "Rome", UNRELATED)])}) == 3


def test_the_preview_shows_five_rows_graded():
    rows = preview(read_items("\n".join(json.dumps({"question": f"q{i}", "answer": f"3 + {i} = {3 + i}"}) for i in range(9))))
    assert len(rows) == 5 and [row["looks for"] for row in rows] == ["3", "4", "5", "6", "7"]
    assert all(row["its own answer passes"] and not row["an empty answer passes"] for row in rows)


def test_a_pattern_that_matches_nothing_of_its_own_shows_in_the_preview():
    (row,) = preview(read_items('{"question": "q", "answer": "x*", "grader": "regex"}'))
    assert row["an empty answer passes"] is True


def test_an_item_is_encoded_as_the_model_will_read_it():
    tokenizer, item = tiny_tokenizer(), Item("the cat", " sat", rephrased="a cat")
    raw, chat = encode(item, tokenizer, "raw"), encode(item, tokenizer, "chat")
    assert tokenizer.decode(raw.prompt_ids) == "the cat" and tokenizer.decode(raw.answer_ids) == " sat" == tokenizer.decode(chat.answer_ids)
    assert len(chat.prompt_ids) > len(raw.prompt_ids)
    assert tokenizer.decode(encode(item, tokenizer, "raw", rephrased=True).prompt_ids) == "a cat"
