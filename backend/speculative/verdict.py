"""What a comparison of drafters says: is the text the same, what did it cost, and if it was slower, why.

Goes in: the lanes of one group. Comes out: a `Verdict`. Pure: reads records, runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backend.speculative.trace import speed_up
from backend.types import RunRecord, Verdict

FIGURES = ("drafter", "law", "n_tokens", "ms_per_token", "tokens_per_s", "ttft_ms", "tokens_per_round", "acceptance", "coverage", "rounds",
           "drafted", "accepted")  # fmt: skip
ENDED = ("completed", "cancelled")
NEAR = 2.0  # a margin within this many times the measured noise is a tie that rounding can turn


def verdict(records: Sequence[RunRecord]) -> Verdict:
    """`holds` is true when every drafted lane has plain's text, false when one that should have differs, None where there is nothing to
    compare (no plain lane, or drawn anew by rejection sampling: the same distribution, another text)."""
    plain = next((r for r in records if _drafter(r) == "none"), None)
    lanes = [lane_figures(record, plain) for record in records]
    drafted = [lane for lane in lanes if lane["drafter"] != "none"]
    sentences = ([_lead(drafted)] if len(drafted) > 1 else [_words(lane) for lane in drafted]) or [_plain_words(lanes[0])]
    if plain is not None and any("ratio" in lane for lane in drafted):
        sentences.append("One run each proves little about speed: Measure repeats them.")
    same = [lane["identical"] for lane in drafted if lane.get("identical") is not None]
    return Verdict(" ".join(sentences), {"lanes": lanes}, all(same) if same else None)


def _lead(drafted: Sequence[Mapping[str, Any]]) -> str:
    """Several drafters in two sentences: whose text is plain's, which was fastest, which did not pay."""
    others = [lane for lane in drafted if lane["state"] not in ("identical", "alone")]
    same = len(drafted) - len(others)
    texts = f"All {same} drafters wrote plain's text" if not others else f"{same} of {len(drafted)} drafters wrote plain's text"
    timed = sorted((lane for lane in drafted if lane.get("ratio")), key=lambda lane: lane["ratio"])
    fast = f"; fastest here: {timed[0]['lane']}{_speed_words(timed[0])}" if timed else ""
    slow = [f"{lane['lane']}{_speed_words(lane).removeprefix(',')}" for lane in timed[1:] if lane["ratio"] >= 1]
    more = [_words(lane) for lane in others] + [f"{text[0].upper()}{text[1:]}." for text in slow]
    return " ".join([f"{texts}{fast}.", *more])


def lane_figures(record: RunRecord, plain: RunRecord | None) -> dict[str, Any]:
    """One lane beside plain: `state` (identical, diverged, same_law, failed, alone), `first_divergence`, `ratio` of times a token, `term`."""
    stats = record.stats
    lane: dict[str, Any] = {"run": record.id, "lane": record.lane or _drafter(record), "status": record.status, "drafter": _drafter(record)}
    lane |= {name: stats[name] for name in FIGURES if name in stats}
    if record.status not in ENDED:
        return lane | {"state": "failed", "identical": None, "error": record.error}
    if plain is None or record is plain or plain.status not in ENDED:
        return lane | {"state": "alone", "identical": None}
    lane |= _compared(record, plain)
    ours, theirs = stats.get("ms_per_token"), plain.stats.get("ms_per_token")
    if ours and theirs:
        lane["ratio"] = ours / theirs
        lane["term"] = slow_term(stats)
    return lane


def _compared(record: RunRecord, plain: RunRecord) -> dict[str, Any]:
    ours, theirs = record.tokens(), plain.tokens()
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a["id"] != b["id"]), None)
    stopped = "cancelled" in (record.status, plain.status)
    if at is None and (len(ours) == len(theirs) or stopped):
        return {"state": "identical", "identical": True, "compared": min(len(ours), len(theirs))}
    if record.stats.get("law") == "residual":
        return {"state": "same_law", "identical": None}
    at = min(len(ours), len(theirs)) if at is None else at
    return {"state": "diverged", "identical": False, "first_divergence": divergence(record, plain, at)}


def divergence(record: RunRecord, plain: RunRecord, at: int) -> dict[str, Any]:
    """Where two lanes part: both tokens, how far each lane's first choice was ahead of its second, and whether rounding explains it."""
    noise = record.stats.get("costs", {}).get("noise", 0.0)
    sides = {name: _side(r, at) for name, r in (("here", record), ("plain", plain))}
    margins = [side["margin"] for side in sides.values() if side.get("margin") is not None]
    explained = bool(margins) and min(margins) <= NEAR * noise
    return {"position": at, **sides, "noise": noise, "cause": "near tie" if explained else "unexplained"}


def _side(record: RunRecord, at: int) -> dict[str, Any]:
    tokens = record.tokens()
    if at >= len(tokens):
        return {}
    token = tokens[at]
    return {"id": token["id"], "text": token["text"], "margin": token["detail"].get("margin")}


def slow_term(stats: Mapping[str, Any]) -> dict[str, Any] | None:
    """Which term to blame where drafting did not pay: the one that, were it ideal, would gain most. c: drafting free; v: verifying any
    width at the price of a step; acceptance: every draft taken. None without rounds that drafted."""
    costs, rounds, drafted = stats.get("costs"), stats.get("rounds"), stats.get("drafted")
    if not costs or not rounds or not drafted or "spans" not in stats:
        return None
    spans, step = stats["spans"], costs["step_ms"]
    gamma, e = drafted / rounds, stats["tokens_per_round"]
    draft, verify, host = (spans[name] / rounds / step for name in ("draft", "verify", "host"))
    now = e / (draft + verify + host)
    ideal = {"c": e / (verify + host), "v": e / (draft + 1 + host), "acceptance": (gamma + 1) / (draft + verify + host)}
    name = max(ideal, key=lambda n: ideal[n])
    predicted = speed_up(e, gamma, costs["c"], _v(costs, gamma + 1)) if stats.get("drafter") != "tree" else None
    shares = {"draft": draft, "verify": verify, "host": host, "drafted": gamma}
    return {"name": name, "speed_up": now, "if_ideal": ideal[name], "predicted": predicted, **shares}


def _v(costs: Mapping[str, Any], rows: float) -> float:
    """v at a mean width, interpolated."""
    pairs = list(zip(costs["widths"], costs["v"], strict=True))
    for (w0, v0), (w1, v1) in zip(pairs, pairs[1:], strict=False):
        if rows <= w1:
            return v0 + (v1 - v0) * (rows - w0) / (w1 - w0)
    return pairs[-1][1]


def _drafter(record: RunRecord) -> str:
    return record.request.options.get("drafter", "auto")


def _plain_words(lane: Mapping[str, Any]) -> str:
    if lane["state"] == "failed":
        return f"Failed: {lane.get('error')}"
    return f"Plain decoding: {lane.get('n_tokens', 0)} tokens, nothing drafted."


def _words(lane: Mapping[str, Any]) -> str:
    name = lane["lane"][0].upper() + lane["lane"][1:]
    if lane["state"] == "failed":
        return f"{name} failed: {lane.get('error')}"
    return f"{name}: {_text_words(lane)}{_speed_words(lane)}."


def _text_words(lane: Mapping[str, Any]) -> str:
    if lane["state"] == "identical":
        return "the same text as plain"
    if lane["state"] == "same_law":
        return "another draw from the same distribution"
    if lane["state"] == "diverged":
        first = lane["first_divergence"]
        margins = [side.get("margin") for side in (first["here"], first["plain"])]
        shown = " and ".join("?" if m is None else f"{m:.3g}" for m in margins)
        why = f"rounding: the first two choices are {shown} apart" if first["cause"] == "near tie" else f"margins {shown}, not explained by rounding"
        return f"leaves plain's text at token {first['position']} ({why})"
    return f"{lane.get('n_tokens', 0)} tokens"


def _speed_words(lane: Mapping[str, Any]) -> str:
    rounds = lane.get("tokens_per_round")
    words = f", {rounds:.2f} tokens a round" if rounds else ""
    ratio = lane.get("ratio")
    if ratio is None:
        return words
    if ratio < 1:
        return f"{words}, {1 / ratio:.2f} × plain's speed in this run"
    return f"{words}, slower than plain here ({ratio:.2f} of its time a token){_because(lane.get('term'))}"


def _because(term: Mapping[str, Any] | None) -> str:
    if term is None:
        return ": there was nothing to draft"
    reasons = {
        "c": f"drafting costs {term['draft']:.2f} plain steps a round (c)",
        "v": f"verifying {term['drafted'] + 1:.1f} rows costs {term['verify']:.2f} plain steps (v)",
        "acceptance": f"too few of the {term['drafted']:.1f} tokens drafted a round are accepted",
    }
    return f": {reasons[term['name']]}"
