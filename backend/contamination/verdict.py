"""What a patched answer shows beside the unpatched one, in a few plain sentences.

Goes in: the lanes of one group, the patched one first. Comes out: a `Verdict`. Pure: reads records, runs nothing. It never says that a model is
contaminated: one answer shows nothing about a score.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backend.types import RunRecord, Verdict

FIGURES = ("n_tokens", "patched_tokens", "share", "kl_mean", "n_neurons", "of_neurons", "neurons", "ms_per_token", "tokens_per_s", "ttft_ms")
CAUTION = "One answer says nothing about a score; the audit does."
WITHOUT = {"none": "Unpatched", "source": "The source alone", "base": "The base alone"}


def verdict(records: Sequence[RunRecord]) -> Verdict:
    """`holds` is always None: nothing is claimed of one answer."""
    first, others = records[0], records[1:]
    sentences = [_own(first), *(_beside(first, record) for record in others)]
    if first.status != "failed" and "patched_tokens" in first.stats:
        sentences.append(CAUTION)
    return Verdict(" ".join(sentences), {"lanes": [_figures(record) for record in records]}, None)


def _own(record: RunRecord) -> str:
    if record.status == "failed":
        return f"Failed: {record.error}"
    stats = record.stats
    n = stats.get("n_tokens", 0)
    if "patched_tokens" not in stats or not n:
        return f"{n} tokens, nothing patched." if n else "Stopped before the first token."
    neurons = f"{stats['n_neurons']:,} of {stats['of_neurons']:,} neurons"
    if not stats["patched_tokens"]:
        return f"With {neurons} patched the suspect chose what it would have chosen anyway, at all {n} tokens."
    return f"With {neurons} patched the suspect chose otherwise at {stats['patched_tokens']} of {n} tokens{_first_change(record)}."


def _first_change(record: RunRecord) -> str:
    """Where it first went another way."""
    for token in record.tokens():
        if token["source"] == "patched" and "own" in token["detail"]:
            return f", first at token {token['position']}, where it wanted {token['detail']['own'][1]!r} and said {token['text']!r}"
    return ""


def _beside(first: RunRecord, record: RunRecord) -> str:
    lead = WITHOUT.get(record.request.options.get("patch", ""), record.lane or "Beside it")
    if record.status == "failed":
        return f"{lead}: {record.error}"
    same = record.text.strip() == first.text.strip()
    return f"{lead}: {'the same text' if same else 'another text'}."


def _figures(record: RunRecord) -> dict[str, Any]:
    return {"run": record.id, "lane": record.lane, "status": record.status} | {n: record.stats[n] for n in FIGURES if n in record.stats}
