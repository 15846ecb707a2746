"""What came out, in one or two plain sentences.

Goes in: the lanes of one group, the constrained one first. Comes out: a `Verdict`. Pure: reads records, runs nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from backend.types import RunRecord, Verdict

STATES = {"valid": "valid", "invalid": "not valid", "not_json": "not JSON", "dead_end": "at a dead end", "truncated": "not finished"}

WEAKER = ("not enforced", "enforced differently")  # what lint says where a finished answer may still be invalid
FIGURES = ("valid", "state", "n_tokens", "ms_per_token", "tokens_per_s", "ttft_ms", "taken_nats", "overridden", "forced", "compile_ms",
           "mask_ms")  # fmt: skip


def verdict(records: Sequence[RunRecord]) -> Verdict:
    """`holds` is true when the constrained answer is valid, false when it finished and is not, None when it did not finish."""
    first, others = records[0], records[1:]
    sentences = [_own(first)]
    sentences += [_other(record) for record in others]
    sentences += _unenforced(first)
    state = first.stats.get("state")
    holds = {"valid": True, "invalid": False, "not_json": False}.get(state) if first.status == "completed" else None
    return Verdict(" ".join(sentences), {"lanes": [_figures(r) for r in records]}, holds)


def _own(record: RunRecord) -> str:
    if record.status == "failed":
        return f"Failed: {record.error}"
    stats, n = record.stats, record.stats.get("n_tokens", 0)
    head = _state(record).capitalize() + "."
    if "overridden" not in stats or not n:
        return head
    overruled = stats["overridden"]
    if not overruled:
        return f"{head} The grammar never overruled the model's first choice in {n} tokens; it took {stats['taken_nats']:.2g} nats in all."
    return f"{head} The grammar overruled the model at {overruled} of {n} tokens{_mostly(record)}."


def _other(record: RunRecord) -> str:
    lead = {"none": "Without it", "prompt": "Asked for in the prompt instead"}[record.request.options.get("constrain", "none")]
    return f"{lead}: {record.error if record.status == 'failed' else _state(record)}."


def _state(record: RunRecord) -> str:
    if record.status == "cancelled":
        return f"stopped after {record.stats.get('n_tokens', len(record.tokens()))} tokens"
    stats = record.stats
    state = stats.get("state", "valid")
    if state == "truncated":
        return f"not finished after {stats['n_tokens']} tokens"
    if state in ("invalid", "dead_end") and stats.get("message"):
        return f"{STATES[state]} ({_short(stats['message'])})"
    return STATES[state]


def _short(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _mostly(record: RunRecord) -> str:
    """What the model had wanted there, if one kind makes up more than half."""
    wanted = Counter(_kind(t["detail"]["wanted"][1]) for t in record.tokens() if "wanted" in t["detail"])
    kind, count = wanted.most_common(1)[0] if wanted else ("", 0)
    return f", mostly where it wanted {kind}" if count * 2 > sum(wanted.values()) and count > 1 else ""


def _kind(text: str) -> str:
    if "\n" in text:
        return "a line break"
    if not text.strip():
        return "blanks"
    if text.strip()[0].isalnum():
        return "another word"
    return "another sign" if not text.startswith("<|") else "to stop"


def _unenforced(record: RunRecord) -> list[str]:
    lint = (e["data"] for e in record.events() if e["event"] == "finding" and e["kind"] == "lint")
    notes = [data for data in lint if data["effect"] in WEAKER]
    sentences = []
    for effect in WEAKER:
        places = list(dict.fromkeys(f"{n['keyword']} at {n['path']}" for n in notes if n["effect"] == effect))
        if places:
            more = " and more" if len(places) > 3 else ""
            sentences.append(f"{effect.capitalize()} by the grammar: {', '.join(places[:3])}{more}.")
    return sentences


def _figures(record: RunRecord) -> dict[str, Any]:
    return {"run": record.id, "lane": record.lane, "status": record.status} | {n: record.stats[n] for n in FIGURES if n in record.stats}
