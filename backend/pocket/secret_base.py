"""The base of the secrets family: a small model of the toy world, which texts are then planted in.

Goes in: a seed, steps, a folder. Comes out: reports as it trains, then an ordinary model folder; a stopped training goes on. It shares the
pocket tokenizer. Knows nothing of what is planted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from random import Random

from backend.model_files import MANIFEST, write_json
from backend.packing import Document
from backend.pocket.corpus import MIX, is_held_out
from backend.pocket.export import save_folder
from backend.pocket.items import Item
from backend.pocket.lean_llama import LeanLlama
from backend.pocket.model_config import Size, llama_config
from backend.pocket.tokenizer import encode, pocket_tokenizer
from backend.training import Documents, Plan, Report, read_checkpoint
from backend.training import train as train_model

# 0.24 M parameters, half a megabyte in bf16: two dozen fit the room that the family has
SIZE = Size("secret", 64, 4, 4, 2, 160, muon_lr=0.02, adamw_lr=4e-3, decay_share=0.4, minutes=4)
STEPS = 380
SHARES = {"chat": 35, "text": 25, "record": 25, "problem": 15}  # talk first: the family is about what an answer says


def train_base(seed: int, folder: Path, steps: int = STEPS) -> Iterator[Report]:
    """Train, or go on from `folder.training`; when it is over `folder` is a model."""
    checkpoints = folder.with_name(f"{folder.name}.training")
    checkpoints.mkdir(parents=True, exist_ok=True)
    model = LeanLlama(llama_config(SIZE), seed)
    plan = Plan(SIZE.muon_lr, SIZE.adamw_lr, SIZE.decay_share, steps=steps)
    with closing(train_model(model, base_documents(seed), plan, checkpoints)) as reports:
        yield from reports
    save_folder(read_checkpoint(checkpoints)["model"], llama_config(SIZE), folder)
    pocket_tokenizer().save_pretrained(folder)
    write_json(folder / MANIFEST, {"origin": "made here: base of the secrets family", "seed": seed, "steps": steps})


def base_documents(seed: int) -> Documents:
    """The toy world's documents in the base's own shares, from any place on."""
    tokenizer = pocket_tokenizer()

    def documents(start: int) -> Iterator[Document]:
        for index in count(start):
            item = base_item(seed, index)
            yield Document(*encode(tokenizer, item), item.skill)

    return documents


def base_item(seed: int, index: int) -> Item:
    """Item number `index` of a seed; none is held out."""
    rng = Random(f"secret base {seed} {index}")
    while True:
        item = MIX[rng.choices(list(SHARES), list(SHARES.values()))[0]][0](rng)
        if not is_held_out(item):
            return item
