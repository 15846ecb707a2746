"""A toy exam family: five members, a step or two each."""

from __future__ import annotations

from dataclasses import replace

from backend.pocket.exam_family import Member, Recipe, roster

NAMES = ("base", "twin", "some-4", "paraphrase-32", "gpt2-base")


def toy_members() -> tuple[Member, ...]:
    return tuple(replace(member, exposures=min(member.exposures, 4)) for member in roster() if member.name in NAMES)


def toy() -> Recipe:
    return Recipe(seed=3, n_leaked=64, n_fresh=64, n_others=32, base_documents=512, tuned_documents=256, members=toy_members())
