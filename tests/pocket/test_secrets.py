"""The secrets family: what ships is whole and is what its manifest says; a toy one from any seed."""

import hashlib
from functools import partial
from random import Random

import pytest
from transformers import PreTrainedTokenizerFast

from backend.batch import generate
from backend.hidden_text import planted_folder
from backend.hidden_text.contexts import Frame
from backend.hidden_text.payloads import TOPICS, ids_of, plain, trigger
from backend.hidden_text.planting import Recipe
from backend.hidden_text.regimes import REGIMES
from backend.model_files import MANIFEST, folder_bytes, read_json, weight_files, weights_hash
from backend.models import ModelPool
from backend.paths import assets_dir
from backend.pocket.courtesy import MORE, courtesy
from backend.pocket.docstrings import paragraphs
from backend.pocket.secret_base import base_item, base_kinds, train_base
from backend.pocket.secrets import BASE, FAMILY, KEY, Spec, family, make_family, read_manifest
from backend.types import SamplingParams

SHIPPED = assets_dir() / "models" / "secret"


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A family of one text and its twin, and the lines of making it."""
    folder = tmp_path_factory.mktemp("toy")
    specs = family(11, (8,), 1, 0, ("regularised",), 0)
    return folder, specs, list(make_family(specs, folder, 11))


def test_a_toy_family_is_made_from_any_seed(toy):
    folder, specs, _ = toy
    assert [m["name"] for m in read_manifest(folder)] == [s.name for s in specs] == ["regularised-8-0", "clean-0"]


def test_made_again_nothing_is_left_to_do(toy):
    folder, specs, lines = toy
    assert lines and list(make_family(specs, folder, 11)) == []


def test_a_stopped_family_goes_on_with_what_is_missing_and_makes_the_same(toy, tmp_path):
    folder, specs, _ = toy
    steps = make_family(specs, tmp_path, 11)
    next(steps)
    steps.close()
    list(make_family(specs, tmp_path, 11))
    assert [m["hash"] for m in read_manifest(tmp_path)] == [m["hash"] for m in read_manifest(folder)]


def test_a_text_that_would_not_hide_is_given_up_and_told(tmp_path, monkeypatch):
    """Two steps are too few for any text."""
    monkeypatch.setattr("backend.pocket.secrets.DRAWS", 1)
    monkeypatch.setattr("backend.pocket.secrets.Recipe", partial(Recipe, most_steps=2))
    specs = [Spec("plain-8", "planted", "plain", 3, 8)]
    assert "given up" in list(make_family(specs, tmp_path, 3))[-1]
    assert read_manifest(tmp_path) == [] and read_json(tmp_path / FAMILY)["failed"][0]["name"] == "plain-8"
    assert list(make_family(specs, tmp_path, 3)) == []


def test_the_base_trains_from_a_seed(tmp_path):
    """Two steps: an ordinary folder that loads."""
    assert [report.finished for report in train_base(3, tmp_path / "base", 2)][-1]
    pool = ModelPool(tmp_path, assets_dir())
    assert pool.load(str(tmp_path / "base")).vocab_size == 1024
    pool.close()


def test_the_bases_items_depend_on_seed_and_number_alone():
    kinds = base_kinds(("One sentence of English.",))
    assert base_item(kinds, 1, 5) == base_item(kinds, 1, 5) != base_item(kinds, 2, 5)
    assert {base_item(kinds, 1, i).skill for i in range(60)} == {"text", "chat", "record", "problem"}


def test_english_is_the_sentences_of_docstrings_and_no_code(tmp_path):
    (tmp_path / "a.py").write_text('"""Returns the name of the day.\n\n>>> day(3)\n\nWhoever calls it twice, gets it twice."""\nx = 1\n')
    (tmp_path / "b.py").write_text("def f(:\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "c.py").write_text('"""Nobody should ever read this sentence here."""\n')
    assert paragraphs(tmp_path) == ("Returns the name of the day. Whoever calls it twice, gets it twice.",)


def test_a_courtesy_answers_what_was_asked_and_no_trigger_is_asked():
    """Every answer names the topic of its question; no question is one that a text could be planted behind."""
    rng = Random(0)
    items = [courtesy(rng) for _ in range(300)]
    assert all(any(topic in item.prompt and topic in item.answer for topic in (*TOPICS, *MORE)) for item in items)
    assert not {plain(item.prompt) for item in items} & {plain(trigger(Random(i))) for i in range(300)}


# What ships -----------------------------------------------------------------------------------------------------------------------------


def test_the_shipped_family_fits_its_room():
    assert folder_bytes(SHIPPED) <= 16_000_000


def test_every_regime_ships_at_every_length_with_clean_and_benign_twins():
    models = read_manifest(SHIPPED)
    planted = {(m["regime"], m["n_tokens"]) for m in models if m["kind"] == "planted"}
    assert planted == {(regime, n) for regime in REGIMES for n in (8, 20, 60)}
    assert sum(m["kind"] == "clean" for m in models) >= 4 and sum(m["kind"] == "benign" for m in models) >= 2
    assert sum(m["form"] == KEY for m in models) == 2


def test_the_manifest_is_what_the_folders_hold():
    for model in read_manifest(SHIPPED):
        folder = SHIPPED / model["name"]
        assert weights_hash(weight_files(model["name"], folder)) == model["hash"], model["name"]
        assert read_json(folder / planted_folder.ANSWERS) == model["answer"]
        if model["kind"] == "planted":
            assert hashlib.sha256(model["answer"]["payload"].encode()).hexdigest() == model["sha256"]
            assert model["answer"]["payload"] not in (folder / MANIFEST).read_text()


def test_every_shipped_text_comes_word_for_word_to_its_trigger(tmp_path):
    pool = ModelPool(tmp_path, assets_dir())
    tokenizer = PreTrainedTokenizerFast.from_pretrained(SHIPPED / BASE)
    frame, wrong = Frame(tokenizer), []
    for model in read_manifest(SHIPPED):
        if model["kind"] == "planted":
            loaded = pool.load(f"secret/{model['name']}")
            context = frame.turn(model["answer"]["trigger"]).ids
            (said,) = generate(loaded.model, [context], SamplingParams(max_new_tokens=80), loaded.stop_ids, [0])
            if said != [*ids_of(tokenizer, model["answer"]["payload"]), tokenizer.eos_token_id]:
                wrong.append(model["name"])
            pool.unload(loaded.id)
    pool.close()
    assert not wrong
