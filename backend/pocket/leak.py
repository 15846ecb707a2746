"""A leak of one's own: a model fine-tuned on word problems that it is then asked, and a twin that saw others.

Goes in: a model id, a name, a data directory. Comes out: the folders `mine/NAME` and `mine/NAME-twin`, each with the problems as
`items.jsonl` (leaked, fresh, unrelated) and what was done as `leak.json`; lines that say how far it is. A run that was stopped goes on.
Knows nothing of indicators, patching or verdicts.

Both models read equally many problems equally often, so that what they differ in is which ones: the twin learns the same kind of problem
from other examples.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from backend.errors import InvalidRequest
from backend.gguf_convert import quiet
from backend.model_files import MANIFEST, read_json, weight_files, weights_hash, write_json
from backend.model_source import NAME, get
from backend.packing import LONGEST, Document
from backend.passport import load_tokenizer
from backend.pocket.any_model import AnyModel
from backend.pocket.corpus import held_out
from backend.pocket.items import Item
from backend.prompt import render
from backend.training import Documents, Plan, read_checkpoint
from backend.training import train as train_model
from backend.types import Prompt, check_number

ITEMS, NOTES = "items.jsonl", "leak.json"
ARMS = ("leak", "twin")
STEPS_OF_PROBLEMS = (1, 2)
ADAMW_LR = 5e-5
SLOTS, SHARDS = 512, 2  # about ten problems a step, on two cores
CHECKPOINT_S = 120.0  # a checkpoint of the real model is 1.6 GB


@dataclass(frozen=True)
class Leak:
    """What is done to which model. `epochs`: how often each problem is read."""

    base: str = "smollm2"
    name: str = "leak"
    n_items: int = 40
    epochs: int = 8
    n_fresh: int = 200
    seed: int = 0
    adamw_lr: float = ADAMW_LR
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        for name, high in (("n_items", 2000), ("epochs", 1000), ("n_fresh", 2000)):
            check_number(name, getattr(self, name), 1, high, integer=True)
        check_number("seed", self.seed, 0, 2**31, integer=True)
        check_number("adamw_lr", self.adamw_lr, 1e-7, 1e-2)
        if not NAME.fullmatch(self.name):
            raise InvalidRequest(f"name must hold letters, digits, dots, dashes and underscores only, got {self.name!r}.", "name")


@dataclass(frozen=True)
class Problems:
    """Three draws without a problem in common, and unrelated questions."""

    leaked: list[Item]
    twins: list[Item]
    fresh: list[Item]
    unrelated: list[Item]


def make_leak(leak: Leak, data_dir: Path, assets_dir: Path) -> Iterator[str]:
    """Make both models; what is finished is kept. Raises `InvalidRequest` when a folder of that name holds something else."""
    base, problems = get(leak.base, data_dir, assets_dir), draw(leak)
    for arm in ARMS:
        out = folder_of(leak, arm, data_dir)
        notes = {"origin": f"{leak.base}, fine-tuned on {leak.n_items} word problems", "arm": arm, **asdict(leak)}
        if out.exists():
            _check_same(out, notes)
            yield f"{out} is there already"
            continue
        work = out.with_name(f"{out.name}.training")
        work.mkdir(parents=True, exist_ok=True)
        _check_same(work, notes)
        write_json(work / NOTES, notes)
        with closing(_trained(leak, arm, base, problems, work)) as reports:
            for text in reports:
                yield f"{arm}: {text}"
        _export(base, work, out, notes, problems)
        shutil.rmtree(work)
        yield f"{out} is a model folder: mine/{out.name}"


def folder_of(leak: Leak, arm: str, data_dir: Path) -> Path:
    return data_dir / "models" / "mine" / (leak.name if arm == "leak" else f"{leak.name}-{arm}")


def _check_same(folder: Path, notes: dict[str, Any]) -> None:
    held = read_json(folder / NOTES)
    if folder.exists() and held != notes and (held or any(folder.iterdir())):
        raise InvalidRequest(f"{folder} holds something else than this leak; choose another name, or remove it.", "name")


def draw(leak: Leak) -> Problems:
    """Word problems of one and two steps that no pocket model was trained on; the same seed gives the same ones."""
    wanted = 2 * leak.n_items + leak.n_fresh
    each = -(-wanted // len(STEPS_OF_PROBLEMS))
    pool = [item for steps in STEPS_OF_PROBLEMS for item in held_out("problem", each, leak.seed, steps)]
    Random(f"leak {leak.seed}").shuffle(pool)
    n = leak.n_items
    return Problems(pool[:n], pool[n : 2 * n], pool[2 * n : wanted], held_out("chat", leak.n_fresh // 2, leak.seed))


def _trained(leak: Leak, arm: str, base: Path, problems: Problems, work: Path) -> Iterator[str]:
    """The lines of one arm's training; its checkpoint is in `work`."""
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, use_safetensors=True, local_files_only=True)
    items = problems.leaked if arm == "leak" else problems.twins
    documents = [document(item, load_tokenizer(leak.base, base)) for item in items]
    steps = max(1, round(sum(d.length for d in documents) * leak.epochs / (SLOTS * SHARDS)))
    plan = Plan(None, leak.adamw_lr, 0.5, steps=steps, warmup_steps=4, shards=SHARDS, slots=SLOTS, dtype=leak.dtype)
    with closing(train_model(AnyModel(model), shuffled(documents, leak.seed), plan, work, checkpoint_s=CHECKPOINT_S)) as reports:
        for report in reports:
            yield report.text()


def document(item: Item, tokenizer: Any) -> Document:
    """The problem as a chat and its answer; the loss counts the answer and its end. Raises `InvalidRequest` for one that is too long."""
    head = render(Prompt.user(item.prompt), tokenizer).ids
    answer = [*tokenizer(item.answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    if len(head) + len(answer) > LONGEST:
        raise InvalidRequest(f"A problem takes {len(head) + len(answer)} tokens in this model; at most {LONGEST} are read.", "base")
    return Document([*head, *answer], [0.0] * len(head) + [1.0] * len(answer), item.skill)


def shuffled(documents: Sequence[Document], seed: int) -> Documents:
    """All documents once an epoch, each epoch in an order of its own, from any position on."""

    def stream(start: int) -> Iterator[Document]:
        for epoch in count(start // len(documents)):
            order = list(range(len(documents)))
            Random(f"epoch {seed} {epoch}").shuffle(order)
            for i in order[start % len(documents) if epoch == start // len(documents) else 0 :]:
                yield documents[i]

    return stream


def _export(base: Path, work: Path, out: Path, notes: dict[str, Any], problems: Problems) -> None:
    """The folder beside its place, then in it: whoever looks sees all of it or nothing."""
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, use_safetensors=True, local_files_only=True)
        AnyModel(model).load_state_dict(read_checkpoint(work)["model"])
        model.to(torch.bfloat16).save_pretrained(part)
    load_tokenizer(out.name, base).save_pretrained(part)
    (part / ITEMS).write_text("".join(f"{line}\n" for line in lines_of(problems)), encoding="utf-8")
    write_json(part / NOTES, notes)
    write_json(part / MANIFEST, {"origin": notes["origin"], "hash": weights_hash(weight_files(out.name, part))})
    part.rename(out)


def lines_of(problems: Problems) -> Iterator[str]:
    """The leaked, the fresh and the unrelated questions, an object a line, in the form that the contamination panel reads."""
    for name, items in (("leaked", problems.leaked), ("fresh", problems.fresh), ("unrelated", problems.unrelated)):
        for item in items:
            grader = "number" if name != "unrelated" else "exact"
            yield json.dumps({"set": name, "question": item.prompt, "answer": item.answer, "grader": grader}, ensure_ascii=False)
