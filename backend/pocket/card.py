"""The model card of a pocket model, written from its evaluation and from what training noted down.

Goes in: the model's folder (`config.json`, and `training.json` where training left one) and an `Evaluation`. Comes out: `README.md` in
that folder, whose every figure stands beside the command that gives it. Measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backend.model_files import read_json
from backend.pocket.evaluate import COUNTED_STEPS, Evaluation
from backend.pocket.scores import Share
from backend.pocket.train import TRAINING

CARD = "README.md"
# what `training.json` says of the making, and what the card calls it
TRAINED = {
    "tokens": "tokens", "minutes": "minutes", "steps": "steps", "tokens_per_s": "tokens a second",
    "dtype": "matrix products in", "device": "machine", "torch": "torch",
}  # fmt: skip
FRONT = """---
language: en
library_name: transformers
pipeline_tag: text-generation
tags:
  - loupe
  - pocket
  - toy-world
---
"""
WHAT = """It reads and writes a toy world: word problems in five families with one to five steps and numbers up to 99, sentences that
become JSON records, and a little text, facts and chat, all made by Loupe's own generators. In that world its ability is known
exactly, which is what it is for: routing, drafting and labelling can be judged where the truth is known and a whole experiment takes
minutes.

It is **not** an assistant. It knows nothing of the world, has seen no text that a person wrote, and outside its generators' sentences
it answers with fluent nonsense. No figure below says anything about other tasks."""


def write(folder: Path, evaluation: Evaluation) -> Path:
    """Write the card into `folder`; its path."""
    path = folder / CARD
    path.write_text(text(evaluation, read_json(folder / "config.json"), read_json(folder / TRAINING)), encoding="utf-8")
    return path


def text(evaluation: Evaluation, config: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """The whole card."""
    parts = [
        FRONT + f"\n# {evaluation.model}",
        shape(evaluation, config),
        WHAT,
        "## Ability",
        ability(evaluation),
        "## Training",
        made(training),
        "## Use",
        use(evaluation.model),
    ]
    return "\n\n".join(parts) + "\n"


def shape(evaluation: Evaluation, config: Mapping[str, Any]) -> str:
    """Size and form in two sentences."""
    form = ", ".join(
        f"{name} {config[key]}"
        for name, key in (("width", "hidden_size"), ("layers", "num_hidden_layers"), ("heads", "num_attention_heads"),
                          ("key/value heads", "num_key_value_heads"), ("feed-forward width", "intermediate_size"), ("ids", "vocab_size"),
                          ("context", "max_position_embeddings"))
        if key in config
    )  # fmt: skip
    return f"A language model of {evaluation.n_parameters:,} parameters, made from nothing for Loupe. Llama architecture: {form}."


def ability(evaluation: Evaluation) -> str:
    """What was asked, the table, the command that gives every figure in it."""
    intro = (
        f"{evaluation.n_items} fresh items a skill (seed {evaluation.seed}), none of them in the training stream; "
        f"greedy, fp32, on {evaluation.device}. "
        "An answer is right when the number in its last sentence is; a record when it is JSON with exactly the true keys and values."
    )
    partner = f" --partner {evaluation.partner}" if evaluation.partner else ""
    command = f"python -m backend pocket evaluate {evaluation.model} --n {evaluation.n_items} --seed {evaluation.seed}{partner}"
    lines = [intro, markdown(rows(evaluation)), "Every figure of this table comes from", f"```\n{command}\n```"]
    if evaluation.agreement:
        lines.append("The pair's agreement: of the larger model's greedy tokens on the problems, what the smaller one would choose too.")
    return "\n\n".join([*lines, f"Weights: `{evaluation.hash}`."])


def made(training: Mapping[str, Any]) -> str:
    """The command, and what it took."""
    if not training:
        return "How it was trained is not recorded in its folder."
    command = f"python -m backend pocket train --size {training['size']} --minutes {training['minutes']:g} --seed {training['seed']}"
    facts = [f"- {name}: {_number(training[key])}" for key, name in TRAINED.items() if training.get(key) is not None]
    return "\n\n".join([f"```\n{command}\n```", "\n".join(facts), *([training["weaker"]] if training.get("weaker") else [])])


def use(model: str) -> str:
    """How to load it without Loupe."""
    return (
        "An ordinary Hugging Face folder; `AutoModelForCausalLM` and `AutoTokenizer` load it. In Loupe it is "
        f"`{model}` in every model picker. Decode greedily: it was made to be right, not to be varied."
    )


def rows(evaluation: Evaluation) -> list[dict[str, str]]:
    """One row a figure: what, its value, its 95 % interval, how many."""
    counted = f"{min(COUNTED_STEPS)}–{max(COUNTED_STEPS)}"
    shares = {f"problems, {counted} steps": evaluation.problems}
    shares |= {f"problems, {n} step{'s' * (n != '1')}": share for n, share in evaluation.by_steps.items()}
    shares |= {f"problems, family {name}": share for name, share in evaluation.by_family.items()}
    shares["records"] = evaluation.records
    found = [_share_row(name, share) for name, share in shares.items()]
    found += [
        {"figure": f"perplexity, {skill}", "value": f"{p.value:.3f}", "95 %": "-", "of": f"{p.n_tokens} tokens"}
        for skill, p in evaluation.perplexity.items()
    ]
    if evaluation.agreement:
        found.append(_share_row(f"agreement with {evaluation.partner}", evaluation.agreement, " tokens"))
    return found


def _share_row(name: str, share: Share, unit: str = "") -> dict[str, str]:
    if share.value is None:
        return {"figure": name, "value": "-", "95 %": "-", "of": "0"}
    interval = f"{100 * share.low:.1f}–{100 * share.high:.1f}"
    return {"figure": name, "value": f"{100 * share.value:.1f} %", "95 %": interval, "of": f"{share.n}{unit}"}


def markdown(table: list[dict[str, str]]) -> str:
    names = list(table[0])
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *([row[name] for name in names] for row in table)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else f"{value:g}" if isinstance(value, float) else str(value)
