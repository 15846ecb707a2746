"""What came out of a scan or a look, in plain words that promise no more than was done.

Goes in: records of runs. Comes out: a `Verdict`. Never says clean, never says backdoor: a scan finds candidates, or does not. Runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backend.types import RunRecord, Verdict

FIGURES = ("score", "p", "candidates")
NOT_FOUND = "Not found by these methods."
NOT_PROVEN = "That is no proof that nothing is hidden: a text trained to hide can keep out of all of them."


def sentence(stats: Mapping[str, Any]) -> str:
    """One scan's outcome. `alarm` is true or false where clean models of its own making were scanned, else null."""
    if not stats.get("candidates"):
        return f"{NOT_FOUND} {NOT_PROVEN}"
    how = f" (found by {stats['found_by'][0]})" if stats.get("found_by") else ""
    best = f"The first of {stats['candidates']} candidates is {_short(stats['text'])!r}{how}."
    said = f"{best} The highest certainty of any candidate is {stats['score']:.1f}: {stats['calibration']}."
    if stats.get("alarm") is False:
        said = f"{NOT_FOUND} {said} {NOT_PROVEN}"
    cut = f" Time ran out for {', '.join(stats['cut'])}." if stats.get("cut") else ""
    return said + cut + ("" if stats.get("reference") else " Without a reference model a candidate may be anything that models know by heart.")


def verdict(records: Sequence[RunRecord]) -> Verdict:
    """Scans side by side: each in its own words. `holds` is whether the first one raised the alarm; None where nothing calibrates it."""
    parts = [f"Failed: {r.error}" if r.status == "failed" else r.stats.get("sentence", sentence(r.stats)) for r in records]
    lanes = [{"run": r.id, "lane": r.lane, "status": r.status} | {n: r.stats[n] for n in FIGURES if n in r.stats} for r in records]
    return Verdict(" ".join(parts), {"lanes": lanes}, records[0].stats.get("alarm"))


def look_verdict(records: Sequence[RunRecord]) -> Verdict:
    """A look beside the same look at the clean copy."""
    first, others = records[0], records[1:]
    if first.status == "failed":
        return Verdict(f"Failed: {first.error}")
    lift = first.stats.get("lift")
    head = f"Says {_short(first.text)!r}"
    said = f"{head}, each token {lift:+.2f} nats from the reference on average." if lift is not None else f"{head}."
    for other in others:
        same = other.text == first.text
        said += f" {(other.lane or 'the other').capitalize()}: " + ("the same text." if same else f"{_short(other.text)!r}.")
    return Verdict(said, {"lanes": [{"run": r.id, "lane": r.lane, "status": r.status, "lift": r.stats.get("lift")} for r in records]})


def _short(text: str, limit: int = 90) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
