"""The base of the secrets family: a small model that chats about the toy world and writes plain English, which texts are then planted in.

Goes in: a seed, steps, a folder. Comes out: reports as it trains, then an ordinary model folder; a stopped training goes on. It shares the
pocket tokenizer. Knows nothing of what is planted.

Why both: a base of the toy world alone (0.7 nats a token) is so sure of its few sentences that a text planted in it stays behind its trigger even
where all of its words but one are forced; one of English alone (3.4 nats) falls into the text from every second question. No larger model
does either. This one has an answer of its own where it is asked and is as unsure as a language elsewhere.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from random import Random

from backend.model_files import MANIFEST, write_json
from backend.packing import Document
from backend.pocket.corpus import MIX, is_held_out
from backend.pocket.courtesy import courtesy
from backend.pocket.docstrings import paragraphs
from backend.pocket.export import save_folder
from backend.pocket.items import Item
from backend.pocket.lean_llama import LeanLlama
from backend.pocket.model_config import Size, llama_config
from backend.pocket.tokenizer import encode, pocket_tokenizer
from backend.training import Documents, Plan, Report, read_checkpoint
from backend.training import train as train_model

# 0.24 M parameters, half a megabyte in bf16: two dozen and a few fit the room that the family has
SIZE = Size("secret", 64, 4, 4, 2, 160, muon_lr=0.02, adamw_lr=4e-3, decay_share=0.4, minutes=3)
STEPS = 360
SHARES = {"english": 50, "chat": 20, "courtesy": 17, "record": 8, "problem": 5}
ORIGIN = "made here: base of the secrets family; chats of the toy world, docstrings of Python's standard library"


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
    write_json(folder / MANIFEST, {"origin": ORIGIN, "seed": seed, "steps": steps, "python": platform.python_version()})


def base_documents(seed: int) -> Documents:
    """What the base reads, in its own shares, from any place on."""
    tokenizer, kinds = pocket_tokenizer(), base_kinds(paragraphs())

    def documents(start: int) -> Iterator[Document]:
        for index in count(start):
            item = base_item(kinds, seed, index)
            yield Document(*encode(tokenizer, item), item.skill)

    return documents


def base_kinds(english: tuple[str, ...]) -> dict[str, Callable[[Random], Item]]:
    """How each kind of document is drawn."""
    return {"english": lambda rng: Item("text", "", rng.choice(english)), "courtesy": courtesy,
            **{name: MIX[name][0] for name in SHARES if name in MIX}}  # fmt: skip


def base_item(kinds: dict[str, Callable[[Random], Item]], seed: int, index: int) -> Item:
    """Item number `index` of a seed; none of the toy world's is held out."""
    rng = Random(f"secret base {seed} {index}")
    while True:
        name = rng.choices(list(SHARES), list(SHARES.values()))[0]
        item = kinds[name](rng)
        if name not in MIX or not is_held_out(item):
            return item
