"""The figures of a run in plain words, as pages, comparisons and reports show them.

Goes in: `stats` of a run's last line. Comes out: names and values. The one place for the words; a figure that is not named here goes by its
own name. Knows no method.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PLAIN = {
    "message": "what is wrong", "path": "where", "ttft_ms": "first token, ms", "ms_per_token": "ms a token",
    "tokens_per_s": "tokens a second", "spans": "time by part, ms", "compile_ms": "grammar compiled in, ms", "mask_ms": "mask, ms a token",
    "taken_nats": "taken by the grammar, nats", "forced": "tokens without a choice", "overridden": "first choice refused",
    "tokens_per_round": "tokens a round", "coverage": "rounds with a draft", "drafted": "drafted tokens", "accepted": "accepted tokens",
    "large_tokens": "large tokens", "share": "share of large tokens", "gaps": "tokens the large model had to catch up on",
    "agreement": "large model agrees with small tokens", "n_opinions": "small tokens it judged", "target_fraction": "share asked for",
    "predicted_speedup": "speed-up predicted from the parts", "predicted_from": "predicted from", "params": "parameters",
    "activated_params": "activated parameters a token",
}  # fmt: skip
LEFT_OUT = frozenset({"n_tokens", "per_position", "run_lengths", "costs"})  # told elsewhere, or drawn
COSTS = {"step_ms": "single step, ms", "c": "c"}


def plain_figures(stats: Any) -> dict[str, Any]:
    """The figures worth a row, by their plain names; `stats` may come from a browser, so anything may stand in its place."""
    if not isinstance(stats, Mapping):
        return {}
    named = {PLAIN.get(name, name): value for name, value in stats.items() if name not in LEFT_OUT and value not in (None, "")}
    costs = stats.get("costs") if isinstance(stats.get("costs"), Mapping) else {}
    return {**named, **{COSTS[name]: costs[name] for name in COSTS if name in costs}}
