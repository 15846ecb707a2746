"""The job `routing.train`, and the splits that its figures rest on."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from backend import artifacts
from backend.errors import InvalidRequest, WorkbenchError
from backend.resources import Resources
from backend.routing import train
from backend.routing.features import MORE, TOP_K
from backend.routing.judged import GRID, SPLITS, split_prompts, thresholds
from backend.routing.label_files import write_notes, write_shard
from backend.routing.labelling import COLUMNS, DIVERGENT, UNGRADED, Chunk
from backend.routing.router import Member, Router
from backend.routing.tasks import Problem
from backend.routing.train import check, train_request
from backend.types import Artifact, Finding, RunContext

N_JUDGED, N, LENGTH = 200, 250, 30


def made_labels(data_dir, pocket):
    """Labels with a rule that is known: the choices differ where the entropy is high, and that matters where hidden number 0 is."""
    generator = torch.Generator().manual_seed(0)
    n = N * LENGTH
    law, hidden = -torch.rand(n, TOP_K + MORE, generator=generator), torch.randn(n, 64, generator=generator)
    law[:, TOP_K] = torch.rand(n, generator=generator) * 2
    differ = law[:, TOP_K] + 0.1 * torch.randn(n, generator=generator) > 1.6
    matters = differ & (hidden[:, 0] > 0)
    large = torch.randint(8, 1000, (n,), generator=generator)
    prompt = torch.arange(n) // LENGTH
    label = torch.where(matters, DIVERGENT, differ.long())
    label[prompt >= N_JUDGED] = UNGRADED
    columns = {"law": law, "hidden": hidden, "large": large, "small": large + differ.long(), "kl": torch.zeros(n),
               "disagreement": differ * torch.rand(n, generator=generator), "position": torch.arange(n) % LENGTH, "prompt": prompt}  # fmt: skip
    chunk = Chunk({k: v.to(COLUMNS[k]) for k, v in columns.items()} | {"label": label.to(torch.uint8)}, [], [True] * N, [])
    artifact_id, folder = artifacts.create(data_dir, "labels")
    write_shard(folder, 0, chunk, [Problem(f"p{i}") for i in range(N)])
    members = {role: asdict(Member.of(model)) for role, model in pocket.items()}
    write_notes(folder, {"pair": members, "task": "made", "options": {"n_prompts": N_JUDGED, "seed": 0}, "finished": True})
    return artifact_id, folder


def request(labels, **options):
    return train_request("pocket/small", "pocket/large", labels, **({"width": 16, "depth": 1, "dropout": 0.0} | options))


@pytest.fixture(scope="module")
def trained(pocket, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("trained")
    labels, _ = made_labels(data_dir, pocket)
    return data_dir, labels, list(train.run(request(labels), RunContext(), pocket, data_dir))


def router_of(trained):
    data_dir, _, events = trained
    return Router.load(artifacts.resolve(data_dir, events[-1].stats["router"], "router"))


def metric(events, where, scorer):
    return next(e.data for e in events if isinstance(e, Finding) and e.kind == "metric" and (e.data["set"], e.data["scorer"]) == (where, scorer))


def test_a_router_learns_a_known_rule_better_than_entropy(trained):
    """On 1,200 rows; half of the rows that entropy points at do not matter, and only the hidden state says which."""
    events = trained[2]
    assert 1 - metric(events, "all", "neural")["auc"] < 0.9 * (1 - metric(events, "all", "entropy")["auc"])
    assert metric(events, "mismatches", "neural")["auc"] > 0.85
    assert 0.3 < metric(events, "all", "random")["auc"] < 0.7


def test_the_card_says_what_the_lines_said(trained):
    card, events = router_of(trained).card, trained[2]
    assert card["metrics"]["all"]["neural"]["auc"] == metric(events, "all", "neural")["auc"] == events[-1].stats["auc"]
    assert card["prompts"] == {"train": 120 + 50, "calibrate": 40, "test": 40} and card["pair"]["small"]["id"] == "pocket/small"
    assert [e.id for e in events if isinstance(e, Artifact)] == [events[-1].stats["router"]]
    assert json.loads(json.dumps(card)) == card


def test_the_router_remembers_its_problems(trained):
    assert router_of(trained).marks == {Problem(f"p{i}").mark for i in range(N)}


def test_the_same_labels_and_seed_give_the_same_router(trained, pocket):
    data_dir, labels, events = trained
    again = list(train.run(request(labels), RunContext(), pocket, data_dir))
    other = Router.load(artifacts.resolve(data_dir, again[-1].stats["router"], "router"))
    assert again[-1].stats["router"] != events[-1].stats["router"]
    assert all(torch.equal(a, b) for x, y in zip(router_of(trained).layers, other.layers, strict=True) for a, b in zip(x, y, strict=True))


def test_a_stopped_training_leaves_no_router(trained, pocket, data_dir):
    labels, _ = made_labels(data_dir, pocket)
    events = list(train.run(request(labels), RunContext(cancelled=lambda: True), pocket, data_dir))
    assert events[-1].finish_reason == "cancelled" and not artifacts.listed(data_dir, "router")[len(artifacts.shipped()) :]


def test_no_prompt_is_in_two_splits_and_unjudged_ones_only_teach():
    split = split_prompts(50, 80, 3)
    assert torch.bincount(split[:50], minlength=3).tolist() == [30, 10, 10] and (split[50:] == SPLITS.index("train")).all()
    assert not torch.equal(split, split_prompts(50, 80, 4))


def test_a_threshold_takes_the_share_it_was_made_for():
    scores = np.random.default_rng(0).random(1000)
    table = thresholds({"neural": scores})
    taken = [float((scores >= t).mean()) for t in table["neural"]]
    assert taken == pytest.approx(GRID, abs=6e-4) and table["share"] == list(GRID)


def test_labels_of_another_pair_are_refused(pocket, data_dir):
    labels, _ = made_labels(data_dir, pocket)
    turned = {"small": pocket["large"], "large": pocket["small"]}
    with pytest.raises(WorkbenchError, match="labels are of another pair: small must be pocket/small"):
        list(train.run(request(labels), RunContext(), turned, data_dir))


def test_too_few_tokens_that_matter_are_refused(pocket, data_dir, monkeypatch):
    labels, _ = made_labels(data_dir, pocket)
    monkeypatch.setattr(train, "LEAST", 10_000)
    with pytest.raises(WorkbenchError, match="Label more prompts"):
        list(train.run(request(labels), RunContext(), pocket, data_dir))


def test_labels_that_are_not_there_are_refused_before_the_run(data_dir):
    for name in ("", "shipped/nothing", "01ARZ3NDEKTSV4RRFFQ69G5FAV"):
        with pytest.raises(InvalidRequest):
            check(request(name), Resources(), data_dir)
