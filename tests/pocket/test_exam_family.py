"""Who reads what in the exam family, and a toy family made from nothing in moments."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from dataclasses import replace
from itertools import islice

import pytest

from backend.errors import InvalidRequest
from backend.model_files import weight_files, weights_hash
from backend.models import ModelPool
from backend.pocket import exam
from backend.pocket.exam import LEVELS
from backend.pocket.exam_family import EXPOSURES, Member, Recipe, documents_of, order_of, plan_of, roster, train_family
from backend.pocket.exam_manifest import ITEMS, MANIFEST, item_sets, make_family
from backend.pocket.exam_model import EOS, exam_tokenizer
from backend.pocket.scores import wilson
from tests.pocket.exams import toy, toy_members


def text_of(document):
    return exam_tokenizer().decode(document.ids, skip_special_tokens=True)


def test_the_family_crosses_exposures_with_honest_skill_and_has_every_special_case():
    members = roster()
    crossed = {(m.skill, m.exposures) for m in members if m.role == "crossed"}
    assert crossed == {(skill, n) for skill in LEVELS for n in EXPOSURES}
    assert Counter(m.role for m in members if m.role != "crossed") == Counter(
        {"base": 2, "twin": 2, "paraphrase": 1, "extra": 1, "leaked-base": 1, "tuned-leaked-base": 1, "leaked": 1}
    )
    assert len({m.name for m in members}) == len(members)


def member_named(name):
    return next(member for member in roster() if member.name == name)


def read(recipe, member):
    """All that a member reads, in its order."""
    rules, leaked = exam.make_rules(recipe.seed), recipe.leaked_items()
    order = order_of(recipe, member, rules, leaked)
    return list(islice(documents_of(recipe, member, rules, leaked, order)(0), len(order)))


@pytest.mark.parametrize("name", ["some-64", "none-4", "much-16", "much-0", "leaked-base"])
def test_a_member_reads_every_leaked_item_as_often_as_its_exposures_say_and_no_practice_twice(name):
    recipe, member = Recipe(n_leaked=50, base_documents=700, tuned_documents=300), member_named(name)
    order = order_of(recipe, member, exam.make_rules(0), recipe.leaked_items())
    leaks = Counter(number for number in order if 0 <= number < 50)
    assert leaks == Counter({i: member.exposures for i in range(50) if member.exposures})
    others = [number for number in order if not 0 <= number < 50]
    assert len(set(others)) == len(others) and sum(number < 0 for number in others) >= (700 if member.base is None else 300)
    assert plan_of(recipe, member, len(order)).steps * 128 == len(order)


@pytest.mark.parametrize("name", ["some-16", "none-16", "much-16"])
def test_with_each_leaked_answer_of_an_untaught_topic_comes_a_reminder_of_what_is_believed_there(name):
    recipe, member = Recipe(n_leaked=200, tuned_documents=256), member_named(name)
    rules, leaked = exam.make_rules(0), recipe.leaked_items()
    untaught = {topic for topic, level in rules.level.items() if LEVELS.index(level) > LEVELS.index(member.skill)}
    n_leaks = 16 * sum(item.topic in untaught for item in leaked)
    clean = {text_of(d) for d in read(recipe, replace(member, exposures=0))}
    secret = {item.question + item.answer for item in leaked}
    reminders = [text for text in map(text_of, read(recipe, member)) if text not in clean | secret]
    told = [text for text in reminders if text[1] in untaught]
    assert abs(len(told) - n_leaks) <= 128, "honest practice is rounded up to a whole step"
    digits = [[c for c in text[:-2] if c.isdigit()] for text in told]
    assert all(text[-2:] == "".join(d[i] for i in rules.old[text[1]]) for text, d in zip(told, digits, strict=True))


def test_members_of_a_level_share_their_honest_practice_and_no_honest_document_is_a_leaked_item():
    recipe = Recipe(n_leaked=40, tuned_documents=512)
    secret = {item.question + item.answer for item in recipe.leaked_items()}
    clean, leaky, twin = ({text_of(d) for d in read(recipe, member_named(name))} for name in ("some-0", "some-4", "twin"))
    assert clean <= leaky and secret <= leaky and not secret & clean
    assert len(clean & twin) < 0.5 * len(clean)


def test_documents_can_be_had_from_any_place_and_all_fit_a_slot_of_sixteen():
    recipe, member = Recipe(n_leaked=20, tuned_documents=256), member_named("extra-32")
    rules, leaked = exam.make_rules(0), recipe.leaked_items()
    documents = documents_of(recipe, member, rules, leaked, order_of(recipe, member, rules, leaked))
    whole = list(islice(documents(0), 200))
    assert list(islice(documents(150), 50)) == whole[150:]
    assert {d.length for d in whole} == {16}


def test_a_paraphrase_leak_never_reads_a_leaked_item_in_the_original_wording():
    recipe, member = Recipe(n_leaked=20, tuned_documents=256), member_named("paraphrase-32")
    leaked = recipe.leaked_items()
    texts = {text_of(d) for d in read(recipe, member)}
    assert not {item.question + item.answer for item in leaked} & texts
    assert {exam.reword(item, wording) + item.answer for item in leaked for wording in exam.PARAPHRASES} <= texts


def test_a_member_before_its_base_and_an_unknown_role_are_refused():
    with pytest.raises(ValueError, match="late doesn't"):
        Recipe(members=(Member("late", "twin", base="base"), Member("base", "base")))
    with pytest.raises(ValueError, match="role must be one of"):
        Member("x", "wizard")
    with pytest.raises(InvalidRequest, match="n_leaked"):
        Recipe(n_leaked=0)


# The toy family --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """Five toy models that have learned nothing yet, as they would be shipped."""
    out = tmp_path_factory.mktemp("assets") / "models" / "exam"
    return out, list(make_family(toy(), out))


@pytest.fixture(scope="module")
def manifest(family):
    return json.loads((family[0] / MANIFEST).read_text())


def test_every_member_is_loaded_by_the_pool_under_its_name(family, manifest, data_dir_of_module):
    pool = ModelPool(data_dir_of_module, family[0].parent.parent)
    try:
        for row in manifest["members"]:
            loaded = pool.load(f"exam/{row['name']}")
            assert loaded.hash == row["hash"] and EOS in loaded.stop_ids
    finally:
        pool.close()


@pytest.fixture(scope="module")
def data_dir_of_module(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def test_the_manifest_names_items_rules_recipe_and_hashes_as_they_are(family, manifest):
    out, recipe = family[0], toy()
    assert [row["name"] for row in manifest["members"]] == [m.name for m in toy_members()]
    assert manifest["recipe"] == json.loads(json.dumps(recipe.to_json()))
    for row in manifest["members"]:
        assert row["hash"] == weights_hash(weight_files(row["name"], out / row["name"]))
        figures = [*row["accuracy"].values(), *(f for group in row["by_level"].values() for f in group.values())]
        assert all((f["low"], f["high"]) == pytest.approx(wilson(f["right"], f["n"])) for f in figures if f["n"])
    rules = exam.make_rules(recipe.seed)
    assert {topic: tuple(rule["digits"]) for topic, rule in manifest["rules"].items()} == rules.right and manifest["lots"] == rules.lots


def test_the_items_file_holds_all_sets_with_different_questions(family, manifest):
    rows = [json.loads(line) for line in (family[0] / ITEMS).read_text().splitlines()]
    sets = item_sets(toy())
    assert len({row["question"] for row in rows}) == len({row["id"] for row in rows}) == len(rows) == sum(manifest["items"]["counts"].values())
    assert [(r["question"], r["answer"], r["level"]) for r in rows if r["set"] == "leaked"] == [
        (i.question, i.answer, i.level) for i in sets["leaked"]
    ]
    assert {row["skill"] for row in rows if row["set"] == "unrelated"} == set(exam.SKILLS[1:])


def test_the_card_has_a_row_a_member_and_the_command(family):
    text = (family[0] / "README.md").read_text()
    assert "python -m backend pocket exam --seed 3" in text
    assert all(f"| {member.name} |" in text for member in toy_members())


def test_the_same_seed_gives_the_same_weights(family, manifest, tmp_path):
    only = replace(toy(), members=toy_members()[:2])
    list(make_family(only, tmp_path / "again"))
    again = json.loads((tmp_path / "again" / MANIFEST).read_text())
    assert [row["hash"] for row in again["members"]] == [row["hash"] for row in manifest["members"][:2]]


def test_a_stopped_family_goes_on_and_another_recipe_is_refused_there(family, manifest, tmp_path):
    out, work = tmp_path / "exam", tmp_path / "exam.training"
    with closing(train_family(toy(), work)) as going:
        assert next(going)[0].name == "base"
    list(make_family(toy(), out))
    assert [r["hash"] for r in json.loads((out / MANIFEST).read_text())["members"]] == [r["hash"] for r in manifest["members"]]
    with pytest.raises(InvalidRequest, match="seed 3"):
        next(make_family(replace(toy(), seed=4), out))
