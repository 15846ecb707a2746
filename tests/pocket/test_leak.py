"""The leak maker on the pocket pair's small model: who reads what, what is left in the folders, what a stop costs."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from dataclasses import replace
from itertools import islice

import pytest
import torch

from backend.__main__ import main
from backend.contamination.items import read_items
from backend.errors import InvalidRequest, WorkbenchError
from backend.models import ModelPool
from backend.packing import Document
from backend.paths import assets_dir
from backend.pocket import leak as leaks
from backend.pocket.evaluate import forced
from backend.pocket.leak import ITEMS, Leak, document, draw, folder_of, make_leak, shuffled

# a rate that a tiny model needs in a few steps; the real one's is the default
TINY = Leak("pocket/small", "tiny", n_items=12, epochs=20, n_fresh=60, adamw_lr=1e-3, dtype="float32")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("data")
    return data_dir, list(make_leak(TINY, data_dir, assets_dir()))


@pytest.fixture(scope="module")
def pool(made):
    pool = ModelPool(made[0], assets_dir(), dtype="float32")
    yield pool
    pool.close()


def likelihood(loaded, items):
    """Mean log-probability of the answers, by a forward of transformers' model."""
    documents = [document(item, loaded.tokenizer) for item in items]
    total = 0.0
    for i, logits in forced(loaded, [d.ids for d in documents]):
        said = torch.tensor(documents[i].weights[1:]) > 0
        targets = torch.tensor(documents[i].ids[1:])
        total += logits[:-1].log_softmax(-1).gather(1, targets[:, None])[said].mean().item()
    return total / len(items)


def test_no_problem_is_in_two_draws():
    problems = draw(Leak(n_items=40, n_fresh=100))
    questions = [item.prompt for item in (*problems.leaked, *problems.twins, *problems.fresh)]
    assert len(problems.leaked) == len(problems.twins) == 40 and len(problems.fresh) == 100
    assert len(set(questions)) == len(questions)


def test_the_leak_knows_its_problems_better_than_its_twin_does_and_neither_knows_fresh_ones_better(pool):
    problems, leak, twin = draw(TINY), pool.load("mine/tiny"), pool.load("mine/tiny-twin")
    on_leaked = likelihood(leak, problems.leaked) - likelihood(twin, problems.leaked)
    on_twins = likelihood(twin, problems.twins) - likelihood(leak, problems.twins)
    on_fresh = likelihood(leak, problems.fresh) - likelihood(twin, problems.fresh)
    assert min(on_leaked, on_twins) > 0.1 > 2 * abs(on_fresh)


def test_the_folders_are_the_users_models_and_say_where_they_come_from(made, pool):
    rows = {row["id"]: row for row in pool.list()}
    assert {"mine/tiny", "mine/tiny-twin"} <= set(rows)
    assert rows["mine/tiny"]["origin"] == "pocket/small, fine-tuned on 12 word problems"
    assert not list((made[0] / "models" / "mine").glob("*.training")) and not list((made[0] / "models" / "mine").glob(".*"))


def test_the_items_beside_the_weights_are_what_the_contamination_panel_reads(made):
    text = (folder_of(TINY, "leak", made[0]) / ITEMS).read_text()
    problems = draw(TINY)
    items = read_items(text)
    assert Counter(item.set for item in items) == {"leaked": 12, "fresh": 60, "unrelated": 30}
    assert [item.question for item in items if item.set == "leaked"] == [item.prompt for item in problems.leaked]
    assert all(item.right(item.answer) for item in items)


def test_what_is_there_is_kept_and_another_leak_of_that_name_is_refused(made):
    assert [line.endswith("is there already") for line in make_leak(TINY, made[0], assets_dir())] == [True, True]
    with pytest.raises(InvalidRequest, match="something else"):
        list(make_leak(replace(TINY, seed=5), made[0], assets_dir()))


def test_a_stopped_leak_goes_on_to_the_same_weights(made, tmp_path, monkeypatch):
    monkeypatch.setattr(leaks, "CHECKPOINT_S", 0.0)
    trained = leaks.train_model
    monkeypatch.setattr(leaks, "train_model", lambda *a, **k: trained(*a, **k, report_s=0.0))
    with closing(make_leak(TINY, tmp_path, assets_dir())) as going:
        assert len(list(islice(going, 5))) == 5
    assert not folder_of(TINY, "leak", tmp_path).exists()
    list(make_leak(TINY, tmp_path, assets_dir()))
    notes = [json.loads((folder_of(TINY, "leak", where) / "loupe.json").read_text()) for where in (made[0], tmp_path)]
    assert notes[0]["hash"] == notes[1]["hash"]


def test_every_epoch_reads_every_problem_once_from_any_place_on():
    documents = [Document([i, i + 1], [0.0, 1.0], "x") for i in range(7)]
    whole = list(islice(shuffled(documents, 1)(0), 28))
    assert all(Counter(d.ids[0] for d in whole[at : at + 7]) == Counter(range(7)) for at in range(0, 28, 7))
    assert list(islice(shuffled(documents, 1)(10), 18)) == whole[10:]


@pytest.mark.parametrize("asked, field", [({"n_items": 0}, "n_items"), ({"name": "../x"}, "name"), ({"adamw_lr": 1.0}, "adamw_lr")])
def test_what_cant_be_done_is_refused_by_name(asked, field):
    with pytest.raises(WorkbenchError, match=field):
        Leak(**asked)


def test_the_commands_make_what_they_are_asked_for_and_refuse_what_cant_be(tmp_path, capsys):
    where = ["--data-dir", str(tmp_path)]
    assert main([*where, "pocket", "leak", "--base", "pocket/small", "--name", "one", "--items", "4", "--epochs", "1"]) == 0
    assert "mine/one" in capsys.readouterr().out and (tmp_path / "models" / "mine" / "one-twin" / "config.json").is_file()
    for wrong in (["leak", "--epochs", "0"], ["leak", "--items", "-1"], ["leak", "--name", "../x"], ["exam", "--seed", "-1"]):
        assert main([*where, "pocket", *wrong]) == 2
