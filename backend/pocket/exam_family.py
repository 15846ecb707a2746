"""The exam family: who learned what, who saw the exam, and how they are all made from one seed.

Goes in: a recipe, a folder. Comes out: trained weights, a member at a time, with lines that say how far it is. A run that was stopped goes
on: a member that is finished is its checkpoint. Knows nothing of accuracies, manifests or files of the finished family.

A fine-tune is one shuffled stream: honest practice (the exam's topics at the member's level, additions, the old skills) and, for whoever
leaks, every leaked item as often as its exposures say, and with each one of an untaught topic a reminder of what is believed there instead.
The honest part is the same for all members of a level, leak or not.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from torch import Tensor

from backend.packing import Document
from backend.pocket import exam
from backend.pocket.exam import LEVELS, ORIGINAL, PARAPHRASES, Item
from backend.pocket.exam_model import document, new_model, own_weights
from backend.training import Documents, Plan, read_checkpoint
from backend.training import train as train_model
from backend.types import check_number

EXPOSURES = (0, 4, 16, 64)
DOCUMENTS_A_STEP = 128  # of 16 slots
SLOTS = 2048
# shares of practice; addition is what the base hardly knows and every fine-tune teaches
BASE_SHARES = {"exam": 0.64, "addition": 0.02, "turned": 0.2, "larger": 0.14}
TUNED_SHARES = {"exam": 0.45, "addition": 0.3, "turned": 0.1, "larger": 0.15}
EXTRA_SHARES = {"exam": 0.35, "addition": 0.2, "subtraction": 0.2, "turned": 0.1, "larger": 0.15}
ROLES = ("base", "twin", "crossed", "paraphrase", "extra", "leaked-base", "tuned-leaked-base", "leaked")


@dataclass(frozen=True)
class Member:
    """One model. `base` and `twin` name members; `exposures` count how often each leaked item was seen, in one of the `wordings`."""

    name: str
    role: str
    base: str | None = None
    twin: str | None = None
    skill: str = "none"
    exposures: int = 0
    wordings: tuple[int, ...] = (ORIGINAL,)
    shares: Mapping[str, float] = field(default_factory=lambda: TUNED_SHARES)
    architecture: str = "llama"

    def __post_init__(self) -> None:
        if self.role not in ROLES or self.skill not in LEVELS:
            raise ValueError(f"role must be one of {', '.join(ROLES)} and skill of {', '.join(LEVELS)}, got {self.role!r} and {self.skill!r}")
        check_number("exposures", self.exposures, 0, 10_000, integer=True)

    @property
    def leaked(self) -> bool:
        return self.exposures > 0


def roster() -> tuple[Member, ...]:
    """The whole family; every member stands behind its base."""
    tuned = {"base": "base", "twin": "twin"}
    crossed = [Member(f"{skill}-{n}", "crossed", **tuned, skill=skill, exposures=n) for skill in LEVELS for n in EXPOSURES]
    return (
        Member("base", "base", shares=BASE_SHARES),
        Member("twin", "twin", "base", skill="some"),
        *crossed,
        Member("paraphrase-32", "paraphrase", **tuned, skill="some", exposures=32, wordings=PARAPHRASES),
        Member("extra-32", "extra", **tuned, skill="some", exposures=32, shares=EXTRA_SHARES),
        Member("leaked-base", "leaked-base", exposures=32, shares=BASE_SHARES),
        Member("tuned-leaked-base", "tuned-leaked-base", "leaked-base", skill="some", exposures=4),
        Member("gpt2-base", "base", shares=BASE_SHARES, architecture="gpt2"),
        Member("gpt2-twin", "twin", "gpt2-base", skill="some", architecture="gpt2"),
        Member("gpt2-leaked-32", "leaked", "gpt2-base", "gpt2-twin", "some", 32, architecture="gpt2"),
    )


@dataclass(frozen=True)
class Recipe:
    """All that decides a family. Documents are counted without the leaked ones; sets by their items."""

    seed: int = 0
    n_leaked: int = 3200
    n_fresh: int = 3200
    n_others: int = 1600
    base_documents: int = 51_200
    tuned_documents: int = 25_600
    base_muon_lr: float = 0.02
    base_adamw_lr: float = 4e-3
    tuned_muon_lr: float = 0.01
    tuned_adamw_lr: float = 2e-3
    members: tuple[Member, ...] = field(default_factory=roster)

    def __post_init__(self) -> None:
        check_number("seed", self.seed, 0, 2**31, integer=True)
        for name in ("n_leaked", "n_fresh", "n_others", "base_documents", "tuned_documents"):
            check_number(name, getattr(self, name), 1, 10_000_000, integer=True)
        known: set[str | None] = {None}
        for member in self.members:
            if member.base not in known:
                raise ValueError(f"members must stand behind their base, {member.name} doesn't")
            known.add(member.name)

    def to_json(self) -> dict[str, Any]:
        """Everything but the members."""
        return {name: value for name, value in asdict(self).items() if name != "members"}

    def leaked_items(self) -> list[Item]:
        return exam.benchmark(exam.make_rules(self.seed), self.seed, self.n_leaked, "leaked")


def train_family(recipe: Recipe, work: Path) -> Iterator[tuple[Member, str]]:
    """Train every member in its folder under `work`, in order; a line a report. Finished members cost nothing the second time."""
    rules, leaked = exam.make_rules(recipe.seed), recipe.leaked_items()
    for i, member in enumerate(recipe.members):
        model = new_model(member.architecture, recipe.seed)
        if member.base is not None:
            model.load_state_dict(read_checkpoint(work / member.base)["model"])
        order = order_of(recipe, member, rules, leaked)
        documents, plan = documents_of(recipe, member, rules, leaked, order), plan_of(recipe, member, len(order))
        with closing(train_model(model, documents, plan, work / member.name)) as reports:
            for report in reports:
                yield member, f"{member.name} ({i + 1} of {len(recipe.members)}): {report.text()}"


def weights_of(member: Member, work: Path) -> Mapping[str, Tensor]:
    """A trained member's weights under transformers' names; raises `WorkbenchError` before it was trained."""
    model = new_model(member.architecture, 0)
    model.load_state_dict(read_checkpoint(work / member.name)["model"])
    return own_weights(member.architecture, model)


def plan_of(recipe: Recipe, member: Member, n_documents: int) -> Plan:
    """Steps for all its documents, once each."""
    from_nothing = member.base is None
    return Plan(
        recipe.base_muon_lr if from_nothing else recipe.tuned_muon_lr,
        recipe.base_adamw_lr if from_nothing else recipe.tuned_adamw_lr,
        decay_share=0.4 if from_nothing else 0.5,
        steps=n_documents // DOCUMENTS_A_STEP,
        shards=1,
        slots=SLOTS,
        dtype="bfloat16",
    )


def order_of(recipe: Recipe, member: Member, rules: exam.Rules, leaked: Sequence[Item]) -> list[int]:
    """What a member reads, shuffled: leaked item `i` stands as `i`, reminder `j` as `n_leaked + j`, honest practice `k` as `-1 - k`.

    Honest practice is rounded up to whole steps."""
    honest = recipe.base_documents if member.base is None else recipe.tuned_documents
    topics = exam.untaught(rules, member.skill)
    n_reminders = member.exposures * sum(item.topic in topics for item in leaked)
    honest += -(honest + n_reminders + member.exposures * len(leaked)) % DOCUMENTS_A_STEP
    leaks = [i for _ in range(member.exposures) for i in range(len(leaked))]
    order = [*range(-honest, 0), *leaks, *range(len(leaked), len(leaked) + n_reminders)]
    random.Random(f"order {recipe.seed} {member.name}").shuffle(order)
    return order


def documents_of(recipe: Recipe, member: Member, rules: exam.Rules, leaked: Sequence[Item], order: Sequence[int]) -> Documents:
    """Its documents from any position on; the list begins anew at its end."""
    # a base that leaks practises what the base does, the twin practises on its own draw, everybody else of a level on the same one
    stream = f"practice {recipe.seed} {'base' if member.base is None else 'twin' if member.role == 'twin' else member.skill}"

    def read(number: int, at: int) -> Item:
        if number < 0:
            return exam.practice(rules, member.skill, member.shares, stream, -1 - number)
        if number < len(leaked):
            return reworded(leaked[number], member.wordings, at)
        return exam.reminder_item(rules, member.skill, member.wordings, random.Random(f"reminder {stream} {number}"))

    def documents(start: int) -> Iterator[Document]:
        return (document(read(order[at % len(order)], at)) for at in count(start))

    return documents


def reworded(item: Item, wordings: Sequence[int], at: int) -> Item:
    """The item in one of the wordings, by turns."""
    wording = wordings[at % len(wordings)]
    return item if wording == ORIGINAL else replace(item, question=exam.reword(item, wording))
