"""The job `routing.train`: a router from labels, with its card.

Goes in: the pair, an artifact of kind `labels`. Comes out: an artifact of kind `router` and everything that its card says, measured on prompts
that neither its weights nor its thresholds have seen. Three splits by prompt: weights from `train`, stop, temperature and thresholds from
`calibrate`, figures from `test`.

A router answers two questions: would the large model differ, and if so, does it matter? Where to ask the large model is the product's to say;
which of two mismatches matters is the second answer's. So `neural` means the product over all tokens and the second answer among mismatches.
`neural (whole)` is the product among mismatches, where it has to fail: a token that is surely another one and matters at times scores above
one that is rarely another and then always matters.

`finding` kinds: `epoch` {index, train_loss, calibrate_loss, best}; `metric` {set (all, mismatches), scorer (neural, entropy, random; neural
(whole) among mismatches), auc, ap, calls_at_recall_95, base_rate, n, recall {budget: share}, ece}; `roc` {scorer, points [[fpr, tpr], …]};
`recall` {scorer, points [[share, recall], …]}; `calibration` {bins [[probability, share, n], …]}; `warning` {text}.
`stats`: `router` (artifact id), `auc`, `auc_entropy`, `auc_mismatches`, `calls_at_recall_95`, `base_rate`, `ece`, `epochs`, `seconds`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend import artifacts
from backend.errors import WorkbenchError
from backend.method import Method
from backend.options import option, parse_options
from backend.resources import Resources
from backend.routing import metrics
from backend.routing.features import MORE
from backend.routing.fit import Epoch, Layers, Shape, fit, over, passes
from backend.routing.judged import SPLITS, Judged, figures, split_prompts, thresholds
from backend.routing.label_files import KIND as LABELS
from backend.routing.label_files import read_labels
from backend.routing.pace import Pace, Stopped, earlier
from backend.routing.router import FORMAT, Member, Router, foreign, spoils
from backend.types import Artifact, Done, Event, Finding, Prompt, RunContext, RunRecord, RunRequest, Verdict

KIND = "router"
LEAST = 10  # divergent positions that each split must have


@dataclass(frozen=True)
class Options:
    """What the router learns from, and its shape."""

    labels: str = option("", "The labels that a job routing.label made.")
    width: int = option(128, "Units of a hidden layer.", low=8, high=2048)
    depth: int = option(2, "Hidden layers.", low=1, high=6)
    dropout: float = option(0.1, "Share of units left out while training.", low=0.0, high=0.9)
    seed: int = option(1, "Of weights, order and splits.", low=0, high=2**31)


def train_request(small: str, large: str, labels: str, **options: Any) -> RunRequest:
    return RunRequest("routing.train", Prompt.user("Train a router"), {"small": small, "large": large}, options={"labels": labels, **options})


def check(request: RunRequest, resources: Resources, data_dir: Path) -> list[Finding]:
    options = parse_options(Options, request.options)
    artifacts.resolve(data_dir, options.labels, LABELS)
    return []


def run(request: RunRequest, context: RunContext, models: Mapping[str, Any], data_dir: Path) -> Iterator[Event]:
    options, start = parse_options(Options, request.options), context.clock()
    judged, members = _judged(options, models, data_dir)
    n_passes = passes(len(judged.rows("train", graded=False)))
    pace, said = Pace(context, n_passes), max((e["index"] for e in earlier(context, "finding", "epoch")), default=-1)
    steps = fit(judged.part("train"), judged.part("calibrate"), Shape(options.width, options.depth, options.dropout), options.seed)
    epochs: list[Epoch] = []
    try:
        layers = yield from pace.work(_noting(steps, epochs, pace), "passes over the rows", n_passes)
        for epoch in epochs[said + 1 :]:
            yield Finding("epoch", {k: round(v, 5) if isinstance(v, float) else v for k, v in asdict(epoch).items()})
        card = _card(options, judged, members)
        router = Router(layers, card, frozenset(judged.labels.marks.tolist()))
        yield from _judge(router, judged, card, options.seed)
        artifact_id, folder = artifacts.create(data_dir, KIND)
        router.save(folder)
        stats = _stats(card)
        yield Artifact(artifact_id, KIND, stats)
        yield Done("stop", sentence(stats), {"router": artifact_id, **stats, "epochs": len(epochs), "seconds": round(context.clock() - start, 2)})
    except Stopped:
        yield Done("cancelled", "Stopped; no router was made.", {})


def _noting(steps: Generator[Epoch | None, None, Layers], epochs: list[Epoch], pace: Pace) -> Generator[None, None, Layers]:
    """The same steps; epochs are put aside and counted."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value
        if step is not None:
            epochs.append(step)
            pace.done = len(epochs)
        yield


def _judged(options: Options, models: Mapping[str, Any], data_dir: Path) -> tuple[Judged, dict[str, dict[str, Any]]]:
    """The labels of exactly this pair, with enough to learn from in each split."""
    labels = read_labels(artifacts.resolve(data_dir, options.labels, LABELS))
    members = {role: Member.of(models[role]) for role in ("small", "large")}
    for role, member in members.items():
        why = foreign(labels.notes["pair"][role], member)
        if why:
            raise WorkbenchError(f"These labels are of another pair: {role} must be {labels.notes['pair'][role]['id']}, {why}.", "options.labels")
    table = models["small"].model.get_input_embeddings().weight
    k = labels.columns["law"].shape[1] - MORE
    judged = Judged.of(labels, table, k, options.seed)
    for split in SPLITS:
        n = int(judged.matters[judged.rows(split)].sum())
        if n < LEAST:
            raise WorkbenchError(f"The {split} split has {n} tokens that matter; it takes {LEAST} or more. Label more prompts.", "options.labels")
    return judged, {role: asdict(member) for role, member in members.items()}


def _card(options: Options, judged: Judged, members: dict[str, Any]) -> dict[str, Any]:
    labels = judged.labels
    counts = torch.bincount(split_prompts(labels.n_judged, labels.n_prompts, options.seed), minlength=len(SPLITS)).tolist()
    return {
        "format": FORMAT, "pair": members, "task": labels.notes["task"], "labels": {**labels.notes["options"], "n_positions": len(judged.split)},
        "top_k": judged.k, "width": options.width, "depth": options.depth, "dropout": options.dropout, "seed": options.seed,
        "prompts": dict(zip(SPLITS, counts, strict=True)),
    }  # fmt: skip


def _judge(router: Router, judged: Judged, card: dict[str, Any], seed: int) -> Iterator[Event]:
    """Thresholds from the calibrate split, figures and curves from the test split; all of it goes into the card too."""
    held, rows = judged.rows("calibrate", graded=False), judged.rows("test")
    card["thresholds"] = thresholds({"neural": spoils(_log_odds(router, judged, held)).numpy(), **judged.scores(held)})
    log_odds = _log_odds(router, judged, rows)
    chance = torch.rand(len(rows), generator=torch.Generator().manual_seed(seed)).numpy()
    plain = {"entropy": judged.scores(rows)["entropy"], "random": chance}
    y, differ = judged.matters[rows].numpy(), judged.differ[rows].numpy()
    scorers = {"neural": spoils(log_odds).numpy(), **plain}
    among = {"neural": torch.sigmoid(log_odds[:, 1]).numpy(), "neural (whole)": scorers["neural"], **plain}
    card["metrics"] = {"all": {}, "mismatches": {}}
    for name, inside, each in (("all", np.ones_like(differ), scorers), ("mismatches", differ, among)):
        if not 0 < y[inside].sum() < inside.sum():
            yield Finding("warning", {"text": f"Of the {name} of the test split all are of one class; there is nothing to tell apart."})
            continue
        for scorer, scores in each.items():
            card["metrics"][name][scorer] = figures(scores[inside], y[inside], scorer.startswith("neural"))
            yield Finding("metric", {"set": name, "scorer": scorer, **card["metrics"][name][scorer]})
    for scorer, scores in scorers.items():
        yield Finding("roc", {"scorer": scorer, "points": metrics.roc_points(scores, y)})
        yield Finding("recall", {"scorer": scorer, "points": metrics.recall_points(scores, y)})
    card["calibration"] = [list(b) for b in metrics.calibration(scorers["neural"], y)]
    yield Finding("calibration", {"bins": card["calibration"]})


def _log_odds(router: Router, judged: Judged, rows: torch.Tensor) -> torch.Tensor:
    return over(router.layers, lambda some: judged.features(rows[some]), len(rows))


def _stats(card: Mapping[str, Any]) -> dict[str, Any]:
    neural, entropy = card["metrics"]["all"]["neural"], card["metrics"]["all"]["entropy"]
    return {
        "auc": neural["auc"], "auc_entropy": entropy["auc"], "auc_mismatches": card["metrics"]["mismatches"].get("neural", {}).get("auc"),
        "calls_at_recall_95": neural["calls_at_recall_95"], "base_rate": neural["base_rate"], "ece": neural["ece"],
    }  # fmt: skip


def sentence(stats: Mapping[str, Any]) -> str:
    """The figures in plain words."""
    return (
        f"On prompts it has not seen the router ranks a token that matters above another one {100 * stats['auc']:.1f} % of the time (entropy "
        f"{100 * stats['auc_entropy']:.1f} %); to find 95 of 100 of them it asks the large model at {100 * stats['calls_at_recall_95']:.1f} % of "
        f"the tokens, and {100 * stats['base_rate']:.1f} % matter."
    )


def verdict(records: Sequence[RunRecord]) -> Verdict:
    stats = records[0].stats
    return Verdict(sentence(stats) if "auc" in stats else records[0].text or str(records[0].error or ""), stats, None)


def method(data_dir: Path) -> Method:
    """The job; artifacts lie in `data_dir`."""
    return Method(
        name="routing.train", title="Train a router", question="Can a small network tell which tokens matter?", Options=Options,
        roles=("small", "large"), run=partial(run, data_dir=data_dir), check=partial(check, data_dir=data_dir), baselines=lambda request: [],
        lane=lambda request: "training", verdict=verdict, job=True,
    )  # fmt: skip
