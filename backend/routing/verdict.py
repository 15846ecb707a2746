"""What came out of a routed run, in a few plain sentences; and why, when it did not pay.

Goes in: the lanes of one group, the routed one first. Comes out: a `Verdict`. Pure: reads records, runs nothing. One run proves nothing, so
times are "in this run", and nothing is claimed (`holds` is None): *Measure* is for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backend.routing.request import LANES, SCORED
from backend.types import RunRecord, Verdict

FIGURES = ("n_tokens", "large_tokens", "share", "gaps", "ms_per_token", "tokens_per_s", "ttft_ms", "agreement", "predicted_speedup",
           "activated_params")  # fmt: skip
FAR = 0.02  # a realised share further than this from its target is told
ALONE = 0.5  # a small model's step costing more of a large one's leaves too little to win


def verdict(records: Sequence[RunRecord]) -> Verdict:
    """Share of large tokens, how the text compares with the large model's own, agreement, time in this run; rivals at the same budget."""
    first = records[0]
    large = _lane(records, "always")
    figures = {"lanes": [_figures(record, large) for record in records], "time_ratio": _ratio(first, large)}
    if first.status == "failed":
        return Verdict(f"Failed: {first.error}", figures)
    sentences = [_share(first), *_text(first, large), *_agreement(first), *_speed(first, large)]
    sentences += [s for record in records[1:] if record is not large for s in _other(record, large)]
    return Verdict(" ".join(sentences), figures)


def percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def _strategy(record: RunRecord) -> str:
    return record.request.options.get("strategy", "neural")


def _name(record: RunRecord) -> str:
    return record.lane or LANES[_strategy(record)]


def _lane(records: Sequence[RunRecord], strategy: str) -> RunRecord | None:
    """The lane of one model alone, if it ran to an end."""
    return next((r for r in records if _strategy(r) == strategy and r.status in ("completed", "cancelled") and r.stats.get("n_tokens")), None)


def _ids(record: RunRecord) -> list[int]:
    return [token["id"] for token in record.tokens()]


def _common(record: RunRecord, large: RunRecord) -> int:
    """How many tokens from the first on are the same."""
    pairs = list(zip(_ids(record), _ids(large), strict=False))
    return next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), len(pairs))


def _share(record: RunRecord) -> str:
    n, large = record.stats.get("n_tokens", 0), record.stats.get("large_tokens", 0)
    if not n:
        return "No token was generated."
    head = f"The large model wrote {large} of {n} tokens ({percent(large / n)})"
    target = record.stats.get("target_fraction", 0)
    aimed = f", {percent(target)} were asked for" if target and "threshold" not in record.stats and abs(large / n - target) > FAR else ""
    cut = "; the run was stopped" if record.status == "cancelled" else ""
    return f"{head}{aimed}{cut}."


def _text(record: RunRecord, large: RunRecord | None) -> list[str]:
    if large is None or record is large:
        return []
    where = _where(record, large)
    same = "The text is the large model's own, token for token."
    return [same if where is None else f"The text departs from the large model's own at token {where}."]


def _where(record: RunRecord, large: RunRecord) -> int | None:
    """The first token (from 1) that differs; None where the texts are the same, or one was cut off by Stop while it still was."""
    ours, theirs, common = _ids(record), _ids(large), _common(record, large)
    shorter = min((record, large), key=lambda r: len(_ids(r)))
    if common == len(ours) == len(theirs) or (common == min(len(ours), len(theirs)) and shorter.status == "cancelled"):
        return None
    return common + 1


def _agreement(record: RunRecord) -> list[str]:
    agreement, n = record.stats.get("agreement"), record.stats.get("n_opinions", 0)
    if agreement is None:
        return []
    return [f"The large model would have said the same at {percent(agreement)} of the {n} tokens that it left to the small one."]


def _ratio(record: RunRecord, large: RunRecord | None) -> float | None:
    """Time a token over that of the large model alone, in these two runs."""
    ours, theirs = record.stats.get("ms_per_token"), large.stats.get("ms_per_token") if large else None
    return round(ours / theirs, 4) if ours and theirs and record is not large else None


def _speed(record: RunRecord, large: RunRecord | None) -> list[str]:
    ratio, promised = _ratio(record, large), record.stats.get("predicted_speedup")
    if ratio is None:
        return []
    said = f" (its parts promise {1 / promised:.2f})" if promised else ""
    sentences = [f"In this run a token took {ratio:.2f} of the large model's time{said}."]
    if ratio >= 1:
        sentences.append(f"Routing does not pay on this pair here: {_why(record, large)}.")
    return sentences


def _why(record: RunRecord, large: RunRecord) -> str:
    """What eats the gain: the small model's own steps first, else how often and how dearly the large one is asked."""
    parts, step = record.stats.get("predicted_from", {}), large.stats["ms_per_token"]
    small = (parts.get("small_ms") or 0.0) / step
    router = (parts.get("router_ms") or 0.0) / step
    if small > ALONE:
        return f"a step of the small model alone takes {small:.2f} of a large one's, and it is paid for at every token"
    share, catch_up = record.stats.get("share", 0.0), parts.get("catch_up") or 1.0
    asked = f"the large model was asked at {percent(share)} of the tokens, and catching up took {catch_up:.1f} of its steps each time"
    return f"{asked}; the small model's steps add {small:.2f}, deciding {router:.2f} of a large step a token"


def _other(record: RunRecord, large: RunRecord | None) -> list[str]:
    """A rival in one sentence; of the small model alone only what its text is."""
    name = _name(record)
    if record.status == "failed":
        return [f"{name.capitalize()}: failed ({record.error})."]
    if large is None or not record.stats.get("n_tokens"):
        return []
    where = _where(record, large)
    share = f", in fact {percent(record.stats.get('share', 0.0))} large tokens" if _strategy(record) in SCORED else ""
    return [f"{name.capitalize()}{share}: {'the same text' if where is None else f'departs at token {where}'}."]


def _figures(record: RunRecord, large: RunRecord | None) -> dict[str, Any]:
    told = {"run": record.id, "lane": _name(record), "status": record.status} | {n: record.stats[n] for n in FIGURES if n in record.stats}
    if large is not None and record is not large and record.stats.get("n_tokens"):
        told |= {"same_as_large": _where(record, large) is None, "common": _common(record, large)}
    return told
