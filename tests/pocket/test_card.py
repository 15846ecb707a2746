"""A card says what the evaluation found, how to find it again, and what the model is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from backend.model_files import write_json
from backend.passport import licence
from backend.pocket import card
from backend.pocket.evaluate import Evaluation, Perplexity
from backend.pocket.scores import Share

EVALUATION = Evaluation(
    model="pocket/large", hash="ab" * 32, device="cpu", n_parameters=2_500_000, seed=1, n_items=500,
    problems=Share.of([True] * 450 + [False] * 20), by_steps={"1": Share.of([True] * 40), "5": Share.of([])},
    by_family={"shop": Share.of([True, False])}, records=Share.of([True] * 490 + [False] * 10),
    perplexity={"text": Perplexity(3.25, 9_000)}, partner="pocket/small", agreement=Share.of_groups([(9, 10), (8, 10)]),
)  # fmt: skip
CONFIG = {"hidden_size": 160, "num_hidden_layers": 8, "vocab_size": 1024}
COMMAND = "python -m backend pocket train --size large --minutes 45 --seed 0"
TRAINING = {"size": "large", "minutes": 45.0, "seed": 0, "tokens": 19_000_000, "device": "2 cores, x86_64", "weaker": None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_json(tmp_path / "config.json", CONFIG)
    write_json(tmp_path / card.TRAINING, TRAINING)
    return tmp_path


def test_the_card_has_every_row_of_the_table_and_the_command_that_gives_it(folder: Path):
    text = card.write(folder, EVALUATION).read_text()
    for row in card.rows(EVALUATION):
        assert f"| {' | '.join(row.values())} |" in text
    assert "python -m backend pocket evaluate pocket/large --n 500 --seed 1 --partner pocket/small" in text
    assert EVALUATION.hash in text and "2,500,000 parameters" in text and "width 160, layers 8, ids 1024" in text


def test_the_rows_are_the_evaluations_figures():
    rows = {row["figure"]: row for row in card.rows(EVALUATION)}
    low, high = EVALUATION.records.low, EVALUATION.records.high
    assert rows["records"] == {"figure": "records", "value": "98.0 %", "95 %": f"{100 * low:.1f}–{100 * high:.1f}", "of": "500"}
    assert rows["problems, 1–4 steps"]["value"] == "95.7 %" and rows["problems, 1 step"]["value"] == "100.0 %"
    assert rows["problems, 5 steps"]["value"] == "-"  # nothing was asked, which is not 0 %
    assert rows["perplexity, text"]["value"] == "3.250" and rows["agreement with pocket/small"]["value"] == "85.0 %"
    assert "agreement" not in str(card.rows(replace(EVALUATION, agreement=None, partner=None)))


def test_the_card_tells_how_the_model_was_made_and_what_it_is_not(folder: Path):
    text = card.write(folder, EVALUATION).read_text()
    assert COMMAND in text and "tokens: 19,000,000" in text and "minutes: 45" in text
    assert "toy world" in text and "**not** an assistant" in text


def test_a_model_that_had_less_time_than_the_shipped_one_says_so(folder: Path):
    write_json(folder / card.TRAINING, {**TRAINING, "minutes": 5, "weaker": "5 minutes are less than the 45 of the shipped one."})
    assert "5 minutes are less than the 45" in card.write(folder, EVALUATION).read_text()


def test_a_model_of_unknown_making_says_so(tmp_path: Path):
    assert "not recorded" in card.write(tmp_path, EVALUATION).read_text()


def test_the_front_matter_is_yaml_that_the_house_can_read(folder: Path):
    head = yaml.safe_load(card.write(folder, EVALUATION).read_text().split("---\n")[1])
    assert head["library_name"] == "transformers" and "toy-world" in head["tags"]
    assert licence(folder) == head.get("license")
