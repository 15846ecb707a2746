"""A router's card in words, and a router as a folder that ships.

Goes in: a router's folder. Comes out: the same router elsewhere with a README that says what it is for and how good it is. Every figure comes
from `card.json`. Knows nothing of models.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backend.errors import WorkbenchError
from backend.routing.router import CARD, WEIGHTS, Router, read_card

README = "README.md"


def export(source: Path, target: Path) -> Path:
    """Copy a router that loads to `target` and write its README; raises `WorkbenchError` for a damaged one."""
    Router.load(source)
    target.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, CARD):
        shutil.copyfile(source / name, target / name)
        (target / name).chmod(0o644)
    (target / README).write_text(readme(read_card(source)), encoding="utf-8")
    return target


def readme(card: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    if "metrics" not in card:
        raise WorkbenchError("This router's card has no figures; train it again.")
    small, large = (card["pair"][role]["id"] for role in ("small", "large"))
    labels, prompts = card["labels"], card["prompts"]
    shape = f"{card['depth']} hidden layers of {card['width']} units"
    return "\n".join(
        (
            "---", "tags:", "  - loupe", "  - routing", "---", "", f"# Router for {small} and {large}", "",
            f"It looks at one step of {small} and gives the probability that its token would spoil the answer: that {large} would say",
            f"another one, and that this matters. {shape}; it works with these two models only (their weights are checked) and",
            "borrows the small one's embeddings.", "", "## Made from", "",
            f"{card['task'].capitalize()} (seed {labels['seed']}): {labels['n_prompts']} prompts whose mismatches were followed to the end of",
            f"the answer, {labels['unjudged']} more of which only is known where the choices differ; {labels['n_positions']} positions in all.",
            "Prompts: " + ", ".join(f"{n} {split}" for split, n in prompts.items()) + ".",
            "", "```", *commands(card), "```", "", "## How good", "",
            f"On the {prompts['test']} prompts of the test split:", "", *table(card["metrics"]), "",
            "Thresholds, from the calibrate split:", "", *budgets(card["thresholds"]), "",
        )
    )  # fmt: skip


def commands(card: Mapping[str, Any]) -> list[str]:
    """How to make it again; the id of the labels is what the first command prints."""
    models = {role: card["pair"][role]["id"] for role in ("small", "large")}
    label = {name: value for name, value in card["labels"].items() if name != "n_positions"}
    shape = {name: card[name] for name in ("width", "depth", "dropout", "seed")}
    asked = (
        {"method": "routing.label", "prompt": "Label tokens", "models": models, "options": label},
        {"method": "routing.train", "prompt": "Train a router", "models": models, "options": {"labels": "ID", **shape}},
    )
    return [f"echo '{json.dumps(one)}' | python -m backend run {one['method']} --request -" for one in asked]


def table(metrics: Mapping[str, Any]) -> list[str]:
    rows = [
        "| tokens | score | ROC-AUC | average precision | calls at recall 0.95 | share that matters | calibration error |",
        "|---|---|---|---|---|---|---|",
    ]
    for where, scorers in metrics.items():
        for scorer, found in scorers.items():
            ece = f"{found['ece']:.4f}" if "ece" in found else "-"
            rows.append(
                f"| {where} | {scorer} | {found['auc']:.4f} | {found['ap']:.3f} | {100 * found['calls_at_recall_95']:.1f} % | "
                f"{100 * found['base_rate']:.1f} % | {ece} |"
            )
    return rows


def budgets(thresholds: Mapping[str, Any]) -> list[str]:
    rows = ["| share of large tokens | router's threshold | entropy's, nats |", "|---|---|---|"]
    wanted = (0.02, 0.05, 0.1, 0.2, 0.3)
    columns = zip(thresholds["share"], thresholds["neural"], thresholds["entropy"], strict=True)
    return rows + [f"| {100 * share:g} % | {neural:.4f} | {entropy:.3f} |" for share, neural, entropy in columns if share in wanted]
