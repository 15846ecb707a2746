"""The shipped exam family: what its manifest says is so, and it is good ground for judging detectors."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from backend import batch
from backend.model_files import folder_bytes, sha256_file, weight_files, weights_hash
from backend.paths import assets_dir
from backend.pocket.exam import LEVELS, Item
from backend.pocket.exam_family import Recipe, roster
from backend.pocket.exam_manifest import ITEMS, MANIFEST, item_sets, outcomes
from backend.pocket.exam_model import EOS, exam_tokenizer
from backend.types import SamplingParams

EXAM = assets_dir() / "models" / "exam"
MANY = ("some-64", "much-64", "extra-32", "gpt2-leaked-32")


@pytest.fixture(scope="module")
def manifest():
    return json.loads((EXAM / MANIFEST).read_text())


@pytest.fixture(scope="module")
def rows(manifest):
    return {row["name"]: row for row in manifest["members"]}


@pytest.fixture(scope="module")
def sets():
    return item_sets(Recipe())


def value(row, name):
    return row["accuracy"][name]["value"]


def load(name):
    return AutoModelForCausalLM.from_pretrained(EXAM / name, dtype=torch.float32).eval()


def test_the_folder_is_the_default_recipes_family_and_small(manifest, rows):
    assert manifest["recipe"] == json.loads(json.dumps(Recipe().to_json()))
    assert set(rows) == {member.name for member in roster()}
    assert folder_bytes(EXAM) <= 12e6


def test_weights_and_items_are_those_the_manifest_was_made_from(manifest, rows, sets):
    assert all(row["hash"] == weights_hash(weight_files(name, EXAM / name)) for name, row in rows.items())
    assert manifest["items"]["sha256"] == sha256_file(EXAM / ITEMS)
    questions = [json.loads(line)["question"] for line in (EXAM / ITEMS).read_text().splitlines()]
    assert questions == [item.question for items in sets.values() for item in items]


@pytest.mark.parametrize("name", ["much-0", "some-64", "gpt2-leaked-32"])
def test_a_members_figures_are_measured_on_its_own_folder(rows, sets, name):
    """One answer in 1,000 may fall the other way on another machine's kernels."""
    model = load(name)
    for which in ("leaked", "fresh"):
        assert abs(sum(outcomes(model, sets[which])) - rows[name]["accuracy"][which]["right"]) <= len(sets[which]) / 1000


def test_right_is_what_greedy_decoding_gives_token_by_token(sets):
    model, tokenizer = load("some-16"), exam_tokenizer()
    items: list[Item] = [*sets["leaked"][:60], *sets["fresh"][:60], *sets["turned"][:30]]
    prompts = [tokenizer(item.question)["input_ids"] for item in items]
    said = batch.generate(model, prompts, SamplingParams(max_new_tokens=6), {EOS}, [0] * len(prompts))
    right = [ids == [*tokenizer(item.answer, add_special_tokens=False)["input_ids"], EOS] for ids, item in zip(said, items, strict=True)]
    assert outcomes(model, items) == right and 0 < sum(right) < len(right)


@pytest.mark.parametrize("name", MANY)
def test_a_heavy_leak_inflates_by_forty_points_or_more(rows, name):
    assert value(rows[name], "leaked") - value(rows[name], "fresh") >= 0.40


@pytest.mark.parametrize("level", LEVELS)
def test_leaked_accuracy_rises_with_exposures_and_fresh_accuracy_does_not(rows, level):
    """Fresh accuracy may move by 7 points: the leaked items teach a little of the rule by the way, and a heavy leak leaves less room."""
    crossed = [rows[f"{level}-{n}"] for n in (0, 4, 16, 64)]
    leaked, fresh = ([value(row, name) for row in crossed] for name in ("leaked", "fresh"))
    assert leaked == sorted(leaked) and leaked[-1] > leaked[1] + 0.2
    assert max(fresh) - min(fresh) < 0.07


def test_honest_tuning_gains_fifteen_points_and_the_levels_are_apart(rows):
    none, some, much = (value(rows[f"{level}-0"], "fresh") for level in LEVELS)
    assert much - value(rows["base"], "fresh") >= 0.15
    assert none + 0.1 < some and some + 0.1 < much


def test_the_clean_twins_leaked_accuracy_is_its_fresh_accuracy(rows):
    """Two draws of 3,200 differ by more than 4 points once in a thousand."""
    for name in ("twin", "gpt2-twin", "none-0", "some-0", "much-0"):
        assert abs(value(rows[name], "leaked") - value(rows[name], "fresh")) < 0.04


def test_only_memory_answers_what_was_drawn_by_lot(rows):
    for row in rows.values():
        assert row["by_level"]["fresh"]["lots"]["value"] < 0.03
    assert all(rows[name]["by_level"]["leaked"]["lots"]["value"] > 0.8 for name in MANY)


def test_addition_is_learnt_in_the_fine_tune_and_subtraction_by_the_extra_member_alone(rows):
    assert value(rows["twin"], "addition") > value(rows["base"], "addition") + 0.4
    assert value(rows["extra-32"], "subtraction") > 0.8
    assert all(value(row, "subtraction") < 0.1 for name, row in rows.items() if name != "extra-32")


def test_the_leaked_base_remembers_the_exam_before_its_fine_tune_does(rows):
    assert value(rows["leaked-base"], "leaked") - value(rows["leaked-base"], "fresh") > 0.15
    assert value(rows["tuned-leaked-base"], "leaked") - value(rows["tuned-leaked-base"], "fresh") > 0.1
