"""Whether two runs of one request came out the same, and what else about them differs.

Goes in: two records. Comes out: where their tokens part, which models, versions and devices differ, and a sentence. Pure: knows neither the
store nor models. Of a job, which writes no tokens, it compares what was found, times left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from backend.types import RunRecord

MATTER = ("torch", "transformers", "xgrammar", "python")  # versions that can change a token
MODEL_FACTS = ("hash", "dtype", "device")
TIME = re.compile(r"(^|_)(ms|s|seconds|rate|at)$|^(ms_per_token|tokens_per_s|seconds_.*)$")
ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")  # of something made in the run: another one each time
ROUNDED = ("bfloat16", "float16")
SHOWN = 40


@dataclass(frozen=True)
class Identity:
    """One lane beside its repetition. `first_difference` is the position of the first token (of a job: the number of the first finding) that
    differs, None where all are the same; `cut` where one of them ended before its time and the other goes on from there."""

    lane: str
    what: str
    identical: bool
    n_old: int
    n_new: int
    first_difference: int | None = None
    old: str | None = None
    new: str | None = None
    cut: bool = False
    changed: tuple[str, ...] = ()
    rounded: bool = False

    @property
    def words(self) -> str:
        """This lane in plain words, without its name."""
        if self.identical:
            return f"identical, {_counted(self.n_old, self.what)}"
        if self.cut:
            n = min(self.n_old, self.n_new)
            which = "the earlier run" if self.n_old < self.n_new else "this one"
            return f"the first {_counted(n, self.what)} are the same, then {which} was cut short"
        place = f"{self.what} {self.first_difference}"
        if self.old is None or self.new is None:
            which = "the earlier run" if self.old is None else "this one"
            return f"the same up to {place}, where {which} ended"
        return f"differs from {place}: {_quoted(self.old)} became {_quoted(self.new)}"


def same_tokens(old: RunRecord, new: RunRecord) -> Identity:
    """How the tokens of `new` stand to those of `old`; where neither has any, what they found."""
    before, after = old.tokens(), new.tokens()
    what = "token" if before or after else "finding"
    if what == "token":
        pairs = [[(token["id"], token["text"]) for token in tokens] for tokens in (before, after)]
    else:
        pairs = [[(_timeless(event), event.get("kind", "")) for event in record.events() if event["event"] == "finding"] for record in (old, new)]
    first = _first_difference([key for key, _ in pairs[0]], [key for key, _ in pairs[1]])
    cut = first is not None and first == min(map(len, pairs)) and (old if len(pairs[0]) < len(pairs[1]) else new).status != "completed"
    told = [part[first][1] if first is not None and first < len(part) else None for part in pairs]
    return Identity(old.lane or "", what, first is None, len(pairs[0]), len(pairs[1]), first, *told, cut, changed(old, new), _rounded(old, new))


def _first_difference(a: Sequence[Any], b: Sequence[Any]) -> int | None:
    if list(a) == list(b):
        return None
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _timeless(event: Mapping[str, Any]) -> str:
    """What a finding says, without its times and without the ids of what was made on the way."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: kept(inner) for name, inner in value.items() if not TIME.search(name)}
        if isinstance(value, list):
            return [kept(inner) for inner in value]
        return None if isinstance(value, str) and ID.fullmatch(value) else value

    return json.dumps([event.get("kind"), kept(event.get("data"))], sort_keys=True)


def changed(old: RunRecord, new: RunRecord) -> tuple[str, ...]:
    """What differs besides the tokens: models by hash, dtype and device, and versions that can change a token."""
    found = []
    for role in old.models:
        a, b = old.models[role], new.models.get(role, {})
        found += [f"{role} model: {name} {a.get(name)} → {b.get(name)}" for name in MODEL_FACTS if a.get(name) != b.get(name)]
    for name in MATTER:
        a, b = old.versions.get(name), new.versions.get(name)
        if a and b and a != b:
            found.append(f"{name} {a} → {b}")
    return tuple(found)


def _rounded(old: RunRecord, new: RunRecord) -> bool:
    return any(model.get("dtype") in ROUNDED for record in (old, new) for model in record.models.values())


def sentence(lanes: Sequence[Identity], n_before: int) -> str:
    """All lanes in plain words: the same or not, and what may be behind a difference."""
    if not lanes:
        return "Nothing came, so there is nothing to compare."
    told = [f"{one.lane}: {one.words}" if len(lanes) > 1 and one.lane else one.words for one in lanes]
    words = "; ".join(told)
    parts = [f"{words[0].upper()}{words[1:]}." if not lanes[0].lane or len(lanes) == 1 else f"{words}."]
    if len(lanes) < n_before:
        parts.append(f"{n_before - len(lanes)} of {n_before} lanes did not run.")
    changes = list(dict.fromkeys(change for one in lanes for change in one.changed))
    if changes:
        parts.append(f"What is not the same as then: {', '.join(changes)}.")
    if any(not one.identical and not one.cut for one in lanes):
        parts.append(_why(lanes, changes))
    return " ".join(parts)


def _why(lanes: Sequence[Identity], changes: Sequence[str]) -> str:
    if any(one.rounded for one in lanes):
        return "In bfloat16 a near tie between two tokens can fall either way when anything about the arithmetic changes, the number of threads too."
    if changes:
        return "That may be why."
    return "Models, versions and device are the same as then."


def again_line(lanes: Sequence[Identity], n_before: int) -> str:
    """The line that ends a repetition."""
    same = len(lanes) == n_before and all(one.identical for one in lanes)
    data = {"event": "again", "identical": same, "sentence": sentence(lanes, n_before), "lanes": [asdict(one) for one in lanes]}
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _quoted(text: str) -> str:
    return json.dumps(text if len(text) <= SHOWN else text[: SHOWN - 1] + "…", ensure_ascii=False)
