"""What a family of problems writes: facts, a question, the work, the number.

Goes in: sentences. Comes out: `Draft`. Knows nothing of how it is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Draft:
    """`facts` and `question` make the prompt; `work` (a sentence a step, and what restates a fact) and `value` make the answer."""

    facts: tuple[str, ...]
    question: str
    work: tuple[str, ...]
    value: int
