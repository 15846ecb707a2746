"""Questions with known answers, in sets: leaked (suspected), fresh, unrelated.

Goes in: JSON lines or CSV of a user, or the items that ship with the exam models. Comes out: `Item`s, their split into halves for searching
and reporting, a graded preview, or an `InvalidRequest` that names the line and the reason. Knows nothing of models but their tokenizer.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from backend.errors import InvalidRequest
from backend.graders import GRADERS, read_as, unusable
from backend.prompt import render
from backend.types import Prompt

LEAKED, FRESH, UNRELATED = SETS = ("leaked", "fresh", "unrelated")
FIELDS = ("question", "answer", "set", "rephrased", "grader")
WHERE = "options.data"
MOST = 100_000


@dataclass(frozen=True)
class Item:
    """One question. `solvable` is known of shipped items alone: whether ability, without the leak, gets it right."""

    question: str
    answer: str
    set: str = LEAKED
    grader: str = "exact"
    rephrased: str = ""
    skill: str = ""
    solvable: bool | None = None

    def right(self, text: str) -> bool:
        return GRADERS[self.grader](text, self.answer)


@dataclass(frozen=True)
class Encoded:
    """An item as a model reads it; the answer is what teacher forcing scores."""

    item: Item
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]


def encode(item: Item, tokenizer: Any, template: str, rephrased: bool = False) -> Encoded:
    """Raises `InvalidRequest` when the model's tokenizer makes nothing of the question or the answer."""
    question = item.rephrased if rephrased else item.question
    answer = tokenizer(item.answer, add_special_tokens=False)["input_ids"]
    if not answer:
        raise InvalidRequest(f"The tokenizer makes no token of the answer {item.answer!r}.", WHERE)
    return Encoded(item, tuple(render(Prompt.user(question, template), tokenizer).ids), tuple(answer))


def items_hash(items: Sequence[Item]) -> str:
    """16 hex digits that differ as soon as one item does."""
    lines = "\n".join(json.dumps(asdict(item), sort_keys=True, ensure_ascii=False) for item in items)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def halves(items: Sequence[Item], seed: int) -> tuple[list[Item], list[Item]]:
    """The half that neurons and k are chosen on, and the half that is reported; the odd one is reported. Same seed, same split."""
    order = list(range(len(items)))
    random.Random(seed).shuffle(order)
    first = set(order[: len(items) // 2])
    return [items[i] for i in sorted(first)], [items[i] for i in range(len(items)) if i not in first]


def of_set(items: Sequence[Item], name: str) -> list[Item]:
    return [item for item in items if item.set == name]


def preview(items: Sequence[Item], n: int = 5) -> list[dict[str, Any]]:
    """The first rows as the grader takes them: what it looks for, and whether the answer itself and an empty one are graded as they should."""
    return [
        {"question": item.question, "answer": item.answer, "set": item.set, "grader": item.grader, "looks for": read_as(item.grader, item.answer),
         "rephrased": item.rephrased, "its own answer passes": item.right(item.answer), "an empty answer passes": item.right("")}
        for item in items[:n]
    ]  # fmt: skip


# A user's own data ----------------------------------------------------------------------------------------------------------------------


def read_items(text: str, columns: Mapping[str, str] | None = None, grader: str = "") -> list[Item]:
    """The items of JSON lines or of CSV with a head line (told apart by the first sign).

    `columns` maps our fields (question, answer, set, rephrased, grader) to the names in the data, each its own name by default. A row without
    a set counts as leaked; without a grader it gets `grader`, or `number` where the answer holds one, else `exact`.
    """
    mapping = _mapping(columns or {})
    rows = list(_json_rows(text) if text.lstrip("\ufeff \t\r\n").startswith(("{", "[")) else _csv_rows(text, mapping))
    if not rows:
        raise InvalidRequest("The dataset is empty: it needs at least one line with a question and an answer.", WHERE)
    if len(rows) > MOST:
        raise InvalidRequest(f"The dataset has {len(rows):,} rows; at most {MOST:,} are read.", WHERE)
    items = [_item(number, row, mapping, grader) for number, row in rows]
    _check_double(items, [number for number, _ in rows])
    return items


def _mapping(columns: Mapping[str, str]) -> dict[str, str]:
    for field, name in columns.items():
        if field not in FIELDS:
            raise InvalidRequest(f"options.columns has no field {field!r}; it has {', '.join(FIELDS)}.", "options.columns")
        if not isinstance(name, str):
            raise InvalidRequest(f"options.columns.{field} must be a column's name, got {name!r}.", "options.columns")
    return {field: columns.get(field) or field for field in FIELDS}


def _json_rows(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise bad(number, f"is not JSON ({error.msg} at column {error.colno})") from error
        if not isinstance(row, dict):
            raise bad(number, f"must be an object, got {type(row).__name__}")
        yield number, row


def _csv_rows(text: str, mapping: Mapping[str, str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(io.StringIO(text.lstrip("\ufeff"), newline=""), strict=True)
    head: list[str] | None = None
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if head is None:
                head = [cell.strip() for cell in row]
                _check_head(reader.line_num, head, mapping)
            elif len(row) != len(head):
                raise bad(reader.line_num, f"has {len(row)} cells, its head line has {len(head)}")
            else:
                yield reader.line_num, dict(zip(head, row, strict=True))
    except csv.Error as error:
        raise bad(reader.line_num, f"is not CSV ({error})") from error


def _check_head(number: int, head: Sequence[str], mapping: Mapping[str, str]) -> None:
    missing = [mapping[field] for field in ("question", "answer") if mapping[field] not in head]
    if missing:
        raise bad(number, f"has no column {missing[0]!r}; its columns are {', '.join(head)}. Map the columns, or write JSON lines")


def _item(number: int, row: Mapping[str, Any], mapping: Mapping[str, str], grader: str) -> Item:
    question, answer = _text(number, row, mapping["question"]), _text(number, row, mapping["answer"])
    where = _optional(number, row, mapping["set"]).lower() or LEAKED
    if where not in SETS:
        raise bad(number, f"has the set {where!r}; there are {', '.join(SETS)}")
    grader = _optional(number, row, mapping["grader"]) or grader or ("number" if not unusable("number", answer) else "exact")
    if grader not in GRADERS:
        raise bad(number, f"has the grader {grader!r}; there are {', '.join(GRADERS)}")
    if why := unusable(grader, answer):
        raise bad(number, f"has an answer that the grader {grader} can't use ({answer!r} {why})")
    return Item(question, answer, where, grader, _optional(number, row, mapping["rephrased"]))


def _text(number: int, row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None:
        raise bad(number, f"has no {name!r}; it has {', '.join(map(str, row)) or 'nothing'}")
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or not str(value).strip():
        raise bad(number, f"needs a text or a number as {name!r}, got {value!r}")
    return str(value)


def _optional(number: int, row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise bad(number, f"needs a text as {name!r}, got {value!r}")
    return (value or "").strip()


def _check_double(items: Sequence[Item], numbers: Sequence[int]) -> None:
    """A question that stands in two sets, or twice in one, would be counted as two independent items."""
    seen: dict[str, int] = {}
    for item, number in zip(items, numbers, strict=True):
        if item.question in seen:
            raise bad(number, f"has the question of line {seen[item.question]} again")
        seen[item.question] = number


def bad(number: int, what: str) -> InvalidRequest:
    return InvalidRequest(f"Line {number} of the dataset {what}.", WHERE)


def with_set(items: Sequence[Item], name: str) -> list[Item]:
    return [replace(item, set=name) for item in items]
