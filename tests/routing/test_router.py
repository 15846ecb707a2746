"""A router on disk, its pair, its scores."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from backend.errors import WorkbenchError
from backend.routing.features import of_step
from backend.routing.router import CARD, WEIGHTS, Router


def test_a_router_comes_back_as_it_was_saved(chance_router, pocket, tmp_path):
    chance_router.save(tmp_path)
    again = Router.load(tmp_path)
    again.check_pair(pocket["small"], pocket["large"])
    logits, hidden, ids = torch.randn(5, 1024), torch.randn(5, 64), torch.arange(5)
    assert torch.equal(again.score(logits, hidden, ids), chance_router.score(logits, hidden, ids))
    assert again.marks == {5, 7} and again.n_parameters == chance_router.n_parameters


def test_a_score_is_the_product_of_two_probabilities_and_rows_are_independent(chance_router, pocket):
    logits, hidden, ids = torch.randn(6, 1024) * 4, torch.randn(6, 64), torch.arange(6)
    x = of_step(logits, hidden, ids, pocket["small"].model.get_input_embeddings().weight)
    (first, bias), (second, end) = chance_router.layers
    by_hand = torch.sigmoid(torch.relu(x @ first + bias) @ second + end)
    scores = chance_router.score(logits, hidden, ids)
    torch.testing.assert_close(scores, (by_hand[:, 0] * by_hand[:, 1]).detach())
    torch.testing.assert_close(chance_router.score(logits[2:3], hidden[2:3], ids[2:3])[0], scores[2])
    assert scores.dtype == torch.float32 and scores.std() > 0.01


def test_no_embedding_is_in_the_file(chance_router, tmp_path):
    chance_router.save(tmp_path)
    assert (tmp_path / WEIGHTS).stat().st_size < 4 * 1.1 * chance_router.n_parameters + 1000


@pytest.mark.parametrize(("change", "words"), [({"hash": "0" * 16}, "weights of pocket"), ({"id": "other"}, None)])
def test_weights_make_the_pair_and_names_do_not(chance_router, pocket, change, words):
    other = replace(pocket["large"], **change)
    if words is None:
        chance_router.check_pair(pocket["small"], other)
        return
    with pytest.raises(WorkbenchError, match=words) as error:
        chance_router.check_pair(pocket["small"], other)
    assert "large must be pocket/large" in str(error.value) and error.value.where == "options.router"


def test_a_model_of_another_width_or_with_other_tokens_is_refused(chance_router, pocket):
    with pytest.raises(WorkbenchError, match="160 numbers instead of 64"):
        chance_router.check_pair(pocket["large"], pocket["large"])
    chance_router.card["pair"]["small"]["fingerprint"] = "another"
    with pytest.raises(WorkbenchError, match="other tokens"):
        chance_router.check_pair(pocket["small"], pocket["large"])


def test_scores_wait_for_the_pair(chance_router):
    stranger = Router(chance_router.layers, chance_router.card)
    with pytest.raises(ValueError, match="check_pair"):
        stranger.score(torch.randn(1, 1024), torch.randn(1, 64), torch.zeros(1, dtype=torch.long))


def test_thresholds_and_shares_are_each_other_turned_round(chance_router):
    for share in (0.01, 0.13, 0.45):
        assert chance_router.share("entropy", chance_router.threshold("entropy", share)) == pytest.approx(share)
    assert chance_router.threshold("neural", 0.1) > chance_router.threshold("neural", 0.2)


def damage(folder, what):
    card = json.loads((folder / CARD).read_text())
    if what == "no weights":
        (folder / WEIGHTS).unlink()
    elif what == "cut weights":
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:100])
    elif what == "no card":
        (folder / CARD).unlink()
    elif what == "no JSON":
        (folder / CARD).write_text("{")
    else:
        {"format": card.update, "depth": card.update, "top_k": card.update}[what]({what: 9})
        (folder / CARD).write_text(json.dumps(card))


@pytest.mark.parametrize("what", ["no weights", "cut weights", "no card", "no JSON", "format", "depth", "top_k"])
def test_a_damaged_router_says_so(chance_router, tmp_path, what):
    chance_router.save(tmp_path)
    damage(tmp_path, what)
    with pytest.raises(WorkbenchError, match="damaged|has no router|holds no router|another format"):
        Router.load(tmp_path)


def test_weights_that_are_not_numbers_are_refused(chance_router, tmp_path):
    chance_router.layers[0][0][0, 0] = torch.nan
    chance_router.save(tmp_path)
    with pytest.raises(WorkbenchError, match="not numbers"):
        Router.load(tmp_path)


def test_a_missing_entry_of_the_card_is_named(chance_router, tmp_path):
    chance_router.save(tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    del card["thresholds"]
    (tmp_path / CARD).write_text(json.dumps(card))
    with pytest.raises(WorkbenchError, match="lacks thresholds"):
        Router.load(tmp_path)
