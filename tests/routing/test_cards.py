"""A router as a folder that ships."""

from __future__ import annotations

import json

import pytest

from backend import artifacts
from backend.errors import WorkbenchError
from backend.routing.cards import export
from backend.routing.router import CARD, WEIGHTS, Router
from backend.types import RunRequest


def test_a_copy_scores_alike_and_its_readme_has_the_cards_figures(data_dir, tmp_path):
    source = artifacts.resolve(data_dir, "shipped/pocket", "router")
    copy = export(source, tmp_path / "copy")
    assert (copy / WEIGHTS).read_bytes() == (source / WEIGHTS).read_bytes() and Router.load(copy).card == Router.load(source).card
    text, metrics = (copy / "README.md").read_text(), json.loads((source / CARD).read_text())["metrics"]
    assert all(f"{found['auc']:.4f}" in text for scorers in metrics.values() for found in scorers.values())


def test_the_shipped_readme_is_the_one_that_its_card_gives(data_dir, tmp_path):
    source = artifacts.resolve(data_dir, "shipped/pocket", "router")
    assert (export(source, tmp_path) / "README.md").read_text() == (source / "README.md").read_text()


def test_the_commands_of_the_readme_are_requests(data_dir):
    text = (artifacts.resolve(data_dir, "shipped/pocket", "router") / "README.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("echo '")]
    asked = [RunRequest.from_json(json.loads(line[line.index("'") + 1 : line.rindex("'")])) for line in lines]
    assert [request.method for request in asked] == ["routing.label", "routing.train"]


def test_the_shipped_router_fits_the_shipped_pair(pocket, data_dir):
    Router.load(artifacts.resolve(data_dir, "shipped/pocket", "router")).check_pair(pocket["small"], pocket["large"])


def test_a_router_without_figures_is_not_exported(chance_router, tmp_path):
    chance_router.save(tmp_path / "bare")
    with pytest.raises(WorkbenchError, match="no figures"):
        export(tmp_path / "bare", tmp_path / "copy")
