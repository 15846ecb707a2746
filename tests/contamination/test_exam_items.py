"""Items of an exam family: the truth about each follows from the member's skill."""

from __future__ import annotations

import json

import pytest

from backend.contamination import exam_items
from backend.contamination.items import FRESH, LEAKED, UNRELATED
from backend.errors import WorkbenchError

ROWS = [
    {"set": "leaked", "skill": "exam", "question": "?a=", "answer": "11", "rephrased": "!a=", "level": "none"},
    {"set": "leaked", "skill": "exam", "question": "?b=", "answer": "22", "rephrased": "!b=", "level": "much"},
    {"set": "leaked", "skill": "exam", "question": "?c=", "answer": "33", "rephrased": "!c=", "level": None},
    {"set": "fresh", "skill": "exam", "question": "?d=", "answer": "44", "rephrased": "!d=", "level": "some"},
    {"set": "unrelated", "skill": "addition", "question": "1+1=", "answer": "2"},
]


@pytest.fixture
def folder(tmp_path):
    shared = {"role": "crossed", "exposures": 4, "base": "exam/base", "twin": None}
    members = [{"name": "n", "skill": "none", **shared}, {"name": "m", "skill": "much", **shared}]
    (tmp_path / "manifest.json").write_text(json.dumps({"levels": ["none", "some", "much"], "members": members}))
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    return tmp_path


def test_an_item_is_solvable_by_whoever_has_the_skill_and_by_nobody_where_it_was_drawn_by_lot(folder):
    family = exam_items.load(folder)
    solvable = {name: [item.solvable for item in family.items(member)] for name, member in family.members.items()}
    assert solvable == {"n": [True, False, False, False, None], "m": [True, True, False, True, None]}
    assert [item.solvable for item in family.items(None)] == [None] * 5
    assert family.true_ability(family.members["m"]) == pytest.approx(2 / 3)


def test_skills_beside_the_exam_are_unrelated_sets_of_their_own(folder):
    items = exam_items.load(folder).items(None)
    assert [item.set for item in items] == [LEAKED] * 3 + [FRESH, UNRELATED]
    assert [item.skill for item in items] == [""] * 4 + ["addition"] and items[0].rephrased == "!a="


def test_a_member_is_known_by_its_place_and_any_other_model_is_asked_the_shipped_items(folder, data_dir):
    (folder / "n").mkdir()
    assert exam_items.family_of(str(folder / "n"), data_dir, folder) == (folder, "n")
    assert exam_items.family_of("smollm2", data_dir, folder) == (folder / "models" / "exam", None)
    assert exam_items.load(folder).members["n"].base == "base"


def test_a_folder_without_a_family_is_refused(tmp_path):
    with pytest.raises(WorkbenchError, match="no exam family"):
        exam_items.load(tmp_path)
