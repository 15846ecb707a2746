"""Questions whose answers can be graded: the pocket word problems, or a user's own lines.

Goes in: a number and a seed, or JSON lines (`prompt`, `answer`, `grader`). Comes out: `Problem`s, and right or wrong for a text. Knows
nothing of models. Graders: those of `backend.graders`, and `pocket` (the number of the last sentence "The answer is N.").
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from backend import graders
from backend.errors import InvalidRequest
from backend.pocket.corpus import held_out
from backend.pocket.scores import final_answer

FIELDS = ("prompt", "answer", "grader")
MOST_LINES = 100_000


@dataclass(frozen=True)
class Problem:
    """One question. `answer` None: it can't be graded, and only labels without an outcome can use it."""

    prompt: str
    answer: str | None = None
    grader: str = "exact"

    @property
    def mark(self) -> int:
        """What tells this prompt from others: 32 bits of it."""
        return zlib.crc32(self.prompt.encode())

    def right(self, text: str) -> bool:
        """Whether `text` is the answer; raises `ValueError` where there is none to compare with."""
        if self.answer is None:
            raise ValueError("problem must have an answer to be graded, got none.")
        return GRADERS[self.grader](text, self.answer)


def _pocket(text: str, answer: str) -> bool:
    return final_answer(text) == int(answer)


GRADERS: dict[str, Callable[[str, str], bool]] = {**graders.GRADERS, "pocket": _pocket}


def pocket_problems(n: int, seed: int, without: Collection[int] = ()) -> list[Problem]:
    """`n` word problems that the pocket models were never trained on, none whose `mark` is in `without`."""
    more = 0
    while True:
        found = [Problem(item.prompt, str(item.truth), "pocket") for item in held_out("problem", n + more, seed)]
        fresh = [p for p in found if p.mark not in without]
        if len(fresh) >= n:
            return fresh[:n]
        more += 2 * (n - len(fresh))


def chosen(data: str, n: int, seed: int, without: Collection[int] = ()) -> list[Problem]:
    """The problems of a job: the first `n` of the user's lines, or `n` pocket problems where there are none."""
    return [p for p in read_lines(data) if p.mark not in without][:n] if data.strip() else pocket_problems(n, seed, without)


def read_lines(data: str) -> list[Problem]:
    """The problems of JSON lines; raises `InvalidRequest` that names the line, or for a dataset without any."""
    lines = [(number, line) for number, line in enumerate(data.splitlines(), 1) if line.strip()]
    if not lines:
        raise InvalidRequest("The dataset is empty: it needs at least one line with a prompt.", "options.data")
    if len(lines) > MOST_LINES:
        raise InvalidRequest(f"The dataset has {len(lines):,} lines; at most {MOST_LINES:,} are read.", "options.data")
    return [_problem(number, line) for number, line in lines]


def _problem(number: int, line: str) -> Problem:
    try:
        data = json.loads(line)
    except json.JSONDecodeError as error:
        raise _bad(number, f"is not JSON ({error})") from error
    if not isinstance(data, dict) or not isinstance(data.get("prompt"), str) or not data["prompt"].strip():
        raise _bad(number, "must be an object with a prompt")
    unknown = [key for key in data if key not in FIELDS]
    if unknown:
        raise _bad(number, f"has no field {unknown[0]!r}; it has {', '.join(FIELDS)}")
    if data.get("answer") is None:
        return Problem(data["prompt"])
    return Problem(data["prompt"], *_answer(number, data["answer"], data.get("grader")))


def _answer(number: int, answer: Any, grader: Any) -> tuple[str, str]:
    """Answer and grader, checked against each other; a number without a grader is graded as one."""
    if isinstance(answer, bool) or not isinstance(answer, (str, int, float)):
        raise _bad(number, f"has an answer that is neither text nor number: {answer!r}")
    text = str(answer)
    grader = grader or ("exact" if isinstance(answer, str) else "number")
    if grader not in GRADERS:
        raise _bad(number, f"has the grader {grader!r}; there are {', '.join(GRADERS)}")
    if why := graders.unusable("number" if grader == "pocket" else grader, text):
        raise _bad(number, f"has an answer that the grader {grader} can't use ({text!r} {why})")
    return text, grader


def _bad(number: int, what: str) -> InvalidRequest:
    return InvalidRequest(f"Line {number} of the dataset {what}.", "options.data")
