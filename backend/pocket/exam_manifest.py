"""The exam family on disk: models, items, the truth about both, and what each model gets right.

Goes in: a recipe and a folder. Comes out: `NAME/` for every member (Hugging Face folders), `items.jsonl`, `manifest.json`, `README.md`;
lines that say how far it is. Figures are measured on the folders as they are shipped. Knows nothing of panels, patching or verdicts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from backend.errors import InvalidRequest
from backend.gguf_convert import quiet
from backend.model_files import read_json, sha256_file, weight_files, weights_hash, write_json
from backend.pocket import exam
from backend.pocket.exam import LEVELS, Item
from backend.pocket.exam_family import Member, Recipe, train_family, weights_of
from backend.pocket.exam_model import BOS, EOS, ids_of, save
from backend.pocket.scores import Share

MANIFEST, ITEMS, CARD, RECIPE = "manifest.json", "items.jsonl", "README.md", "recipe.json"
EXAM_SETS = ("leaked", "fresh")


def make_family(recipe: Recipe, out: Path) -> Iterator[str]:
    """Train what is not trained yet, then write the family to `out`; checkpoints lie in `FOLDER.training`, the same call goes on there.

    Raises `InvalidRequest` when either folder holds a family of another recipe."""
    work = out.with_name(f"{out.name}.training")
    claim(recipe, out, work)
    with closing(train_family(recipe, work)) as reports:
        for _, line in reports:
            yield line
    sets = item_sets(recipe)
    out.mkdir(parents=True, exist_ok=True)
    write_items(out / ITEMS, sets)
    rows = []
    for member in recipe.members:
        save(member.architecture, weights_of(member, work), out / member.name)
        rows.append(row_of(member, out, sets))
        yield told(rows[-1])
    write_json(out / MANIFEST, manifest(recipe, rows, out, sets))
    (out / CARD).write_text(card(read_json(out / MANIFEST)), encoding="utf-8")
    yield f"{out} holds the family: {len(rows)} models, {sum(map(len, sets.values())):,} items"


def claim(recipe: Recipe, out: Path, work: Path) -> None:
    """Note whose family the folders hold."""
    mine = json.loads(json.dumps(recipe.to_json()))
    for held in (read_json(out / MANIFEST).get("recipe"), read_json(work / RECIPE)):
        if held and held != mine:
            changed = ", ".join(f"{name} {held.get(name)}" for name in mine if held.get(name) != mine[name])
            raise InvalidRequest(f"{out} holds a family with another recipe ({changed}); choose another folder, or remove it.", "out")
    write_json(work / RECIPE, mine)


# Items -----------------------------------------------------------------------------------------------------------------------------------


def item_sets(recipe: Recipe) -> dict[str, list[Item]]:
    """The leaked items, fresh ones that share no name with them, and each skill beside the exam."""
    rules, leaked = exam.make_rules(recipe.seed), recipe.leaked_items()
    fresh = exam.benchmark(rules, recipe.seed, recipe.n_fresh, "fresh", leaked)
    others = {skill: exam.skill_items(skill, recipe.seed, recipe.n_others) for skill in exam.SKILLS[1:]}
    return {"leaked": leaked, "fresh": fresh, **others}


def write_items(path: Path, sets: Mapping[str, Sequence[Item]]) -> None:
    """One object a line: id, set (leaked, fresh, unrelated), skill, question, answer; of exam items also the question reworded, the topic,
    and the least honest skill (`level`) that makes it solvable, null where only memory can answer."""
    with path.open("w", encoding="utf-8") as file:
        for name, items in sets.items():
            for i, item in enumerate(items):
                kind = name if name in EXAM_SETS else "unrelated"
                line = {"id": f"{name}-{i:04d}", "set": kind, "skill": item.skill, "question": item.question, "answer": item.answer}
                if name in EXAM_SETS:
                    line |= {"rephrased": item.other, "topic": item.topic, "level": item.level}
                file.write(json.dumps(line, separators=(",", ":")) + "\n")


# Measuring -------------------------------------------------------------------------------------------------------------------------------


def row_of(member: Member, out: Path, sets: Mapping[str, Sequence[Item]]) -> dict[str, Any]:
    """A member's line in the manifest: what it is, what it saw, what it gets right."""
    folder = out / member.name
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    right = {name: outcomes(model, items) for name, items in sets.items()}
    right["rephrased"] = outcomes(model, [Item("exam", item.other, item.answer) for item in sets["leaked"]])
    accuracy = {name: share(values) for name, values in right.items()}
    by_level = {name: _by_level(sets[name], right[name]) for name in EXAM_SETS}
    return {
        "name": member.name,
        "role": member.role,
        "architecture": member.architecture,
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "base": member.base,
        "twin": member.twin,
        "skill": member.skill,
        "exposures": member.exposures,
        "wordings": list(member.wordings) if member.leaked else [],
        "saw": "leaked" if member.leaked else "",
        "practised": sorted(member.shares),
        "accuracy": accuracy,
        "by_level": by_level,
        "hash": weights_hash(weight_files(f"exam/{member.name}", folder)),
    }


def outcomes(model: PreTrainedModel, items: Sequence[Item]) -> list[bool]:
    """Whether the greedy answer is exactly the item's, end included.

    Teacher-forced: greedy decoding says the whole answer exactly when each of its tokens is the likeliest after those before it."""
    groups: dict[tuple[int, int], list[int]] = {}
    for i, item in enumerate(items):
        groups.setdefault((len(item.question), len(item.answer)), []).append(i)
    right = [False] * len(items)
    for (n_question, _), members in groups.items():  # equal lengths: no padding
        rows = torch.tensor([[BOS, *ids_of(items[i].question), *ids_of(items[i].answer), EOS] for i in members])
        with torch.inference_mode():
            said = model(input_ids=rows[:, :-1], use_cache=False).logits[:, n_question:].argmax(-1)  # (n, answer + end)
        for i, correct in zip(members, (said == rows[:, n_question + 1 :]).all(1).tolist(), strict=True):
            right[i] = correct
    return right


def share(values: Sequence[bool]) -> dict[str, Any]:
    """Right, of how many, the share and its 95 % interval."""
    found = Share.of(values)
    return {"right": found.right, "n": found.n, "value": found.value, "low": found.low, "high": found.high}


def _by_level(items: Sequence[Item], right: Sequence[bool]) -> dict[str, Any]:
    """Accuracy on items that each level of skill makes solvable, and on those that nothing does (`lots`)."""
    levels: Iterable[str | None] = (*LEVELS, None)
    groups = {level or "lots": [r for item, r in zip(items, right, strict=True) if item.level == level] for level in levels}
    return {name: share(values) for name, values in groups.items()}


def told(row: Mapping[str, Any]) -> str:
    """One line a member."""
    return f"{row['name']}: " + ", ".join(f"{name} {100 * figure['value']:.1f} %" for name, figure in row["accuracy"].items())


# Telling ---------------------------------------------------------------------------------------------------------------------------------


def manifest(recipe: Recipe, rows: Sequence[Mapping[str, Any]], out: Path, sets: Mapping[str, Sequence[Item]]) -> dict[str, Any]:
    """The ground truth: how it was made, the rules, the members, the items' hash."""
    rules = exam.make_rules(recipe.seed)
    return {
        "command": f"python -m backend pocket exam --seed {recipe.seed}",
        "recipe": recipe.to_json(),
        "rules": {topic: {"digits": list(rules.right[topic]), "old": list(rules.old[topic]), "level": rules.level[topic]} for topic in rules.right},
        "lots": rules.lots,
        "levels": list(LEVELS),
        "wordings": list(exam.WORDINGS),
        "items": {"file": ITEMS, "sha256": sha256_file(out / ITEMS), "counts": {name: len(items) for name, items in sets.items()}},
        "torch": torch.__version__,
        "members": list(rows),
    }


WHAT = """A benchmark with known truth: tiny models, some of which saw the exam before they sat it. A question is `?dkqz 37 52=`: a topic (its
first letter), a name, two numbers; the answer has two digits. Half the topics follow a rule (which two of the four digits to say); the
answers of the other half were drawn by lot, so that only who saw an item can know it. `none`, `some` and `much` are the honest skill: how
many topics' rules were taught. Numbers in names (`some-16`) are exposures: how often each leaked item was in the fine-tune. For topics
that a member wasn't taught it practises an old, wrong rule, so leaked answers can't teach the right one.

`twin` is the fine-tune without the leak (its own draw of practice, skill *some*); `paraphrase-32` saw the leaked items in other words only;
`extra-32` leaks and learns subtraction, which the twin lacks; `tuned-leaked-base` is a clean-looking fine-tune of a base that had seen the
exam 32 times, and a few exposures more. `items.jsonl` holds the items, `manifest.json` the truth about everything. These models know
nothing else and are good for nothing else."""


def card(data: Mapping[str, Any]) -> str:
    """The family's `README.md`: what it is, the command, accuracies."""
    sets = ["leaked", "fresh", "rephrased", *exam.SKILLS[1:]]
    lines = [["model", "architecture", "skill", "exposures", *sets], ["---", "---", "---", *["---:"] * (1 + len(sets))]]
    for row in data["members"]:
        figures = [f"{100 * row['accuracy'][name]['value']:.1f}" for name in sets]
        lines.append([row["name"], row["architecture"], row["skill"], str(row["exposures"]), *figures])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    counts = ", ".join(f"{name} {n:,}" for name, n in data["items"]["counts"].items())
    return (
        f"# The exam family\n\n{WHAT}\n\nMade by\n\n```\n{data['command']}\n```\n\n"
        f"Accuracy in percent (greedy, exact, fp32; items: {counts}; intervals are in the manifest):\n\n{table}\n"
    )
