"""Right or wrong: what an answer in words has to contain.

Goes in: the name of a grader, an answer as a model wrote it, the answer that is right. Comes out: right or wrong, or what was read out of a
text. `number`: the last number; `exact`: the whole text, spaces apart; `regex`: a pattern that occurs; `choice`: the last letter that stands
alone. Knows nothing of models or datasets.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import regex

NUMBER = re.compile(r"[-−]?\d[\d,]*(?:\.\d+)?")
LETTER = re.compile(r"(?<![A-Za-z])([A-Ja-j])(?![A-Za-z'])")
REGEX_S = 1.0  # a pattern that takes longer on one answer counts as not matching


def read_number(text: str) -> float | None:
    """The last number of a text."""
    found = NUMBER.findall(text)
    return float(found[-1].rstrip(",").replace(",", "").replace("−", "-")) if found else None


def read_choice(text: str) -> str | None:
    """The last letter from A to J that stands alone, as a capital."""
    found = LETTER.findall(text)
    return found[-1].upper() if found else None


def _number(text: str, answer: str) -> bool:
    said = read_number(text)
    return said is not None and said == read_number(answer)


def _choice(text: str, answer: str) -> bool:
    said = read_choice(text)
    return said is not None and said == read_choice(answer)


def _exact(text: str, answer: str) -> bool:
    return text.split() == answer.split()


def _regex(text: str, answer: str) -> bool:
    try:
        return regex.search(answer, text, timeout=REGEX_S) is not None
    except TimeoutError:
        return False


GRADERS: dict[str, Callable[[str, str], bool]] = {"number": _number, "exact": _exact, "regex": _regex, "choice": _choice}


def unusable(grader: str, answer: str) -> str:
    """Why this grader can't use this answer; empty where it can."""
    if grader == "number" and read_number(answer) is None:
        return "holds no number"
    if grader == "choice" and read_choice(answer) is None:
        return "holds no letter from A to J that stands alone"
    if grader == "regex":
        try:
            regex.compile(answer)
        except regex.error as error:
            return f"is not a pattern: {error}"
    return "" if answer.strip() else "is empty"


def read_as(grader: str, answer: str) -> str:
    """What the grader will look for, as a person sees it."""
    if grader == "number":
        value = read_number(answer)
        return "" if value is None else f"{value:g}" if abs(value) < 1e6 else f"{value:.0f}"
    return read_choice(answer) or "" if grader == "choice" else answer.strip()
