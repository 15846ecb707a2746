"""One document of the corpus, with its truth.

Goes in: texts from a generator. Comes out: `Item`. Knows nothing of tokens, seeds or mixes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SKILLS = ("problem", "record", "text", "chat", "copy", "sums")


@dataclass(frozen=True)
class Item:
    """A document; without a prompt the answer is the whole of it.

    `truth` is the final number of a problem, the dictionary of a record, the part of a copy drill that is given (the rest can be known
    from it), None elsewhere. `steps` counts a problem's calculations.
    """

    skill: str
    prompt: str
    answer: str
    truth: Any = None
    steps: int = 0
    family: str = ""

    def __post_init__(self) -> None:
        if self.skill not in SKILLS:
            raise ValueError(f"Item.skill must be one of {', '.join(SKILLS)}, got {self.skill!r}.")
        if not self.answer:
            raise ValueError("Item.answer must not be empty.")
