"""What a run's rounds add up to: one function for the run's own stats, its replay and its charts.

Goes in: `round` lines as dictionaries. Comes out: counts and rates. Knows no times, no models; definitions are Leviathan et al. 2023 and
the ones that serving tools print (the denominator is named each time).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Line = Mapping[str, Any]
BINS = 10


def rounds_of(events: Iterable[Line]) -> list[Line]:
    """The round lines of a run's events."""
    return [event for event in events if event["event"] == "round"]


def summarize(rounds: Sequence[Line]) -> dict[str, Any]:
    """The stats that follow from the rounds alone. Each round emits what it accepted and one token more, counted before a stop id or the
    limit cut the last one, so `sum(run_lengths) == rounds` and `sum(i * run_lengths[i]) == accepted`."""
    n, drafted, accepted = len(rounds), sum(len(r["drafted"]) for r in rounds), sum(r["accepted"] for r in rounds)
    with_draft = sum(bool(r["drafted"]) for r in rounds)
    return {
        "rounds": n,
        "drafted": drafted,
        "accepted": accepted,
        "tokens_per_round": (n + accepted) / n if n else None,
        "acceptance": accepted / drafted if drafted else None,
        "coverage": with_draft / n if n else None,
        "per_position": per_position(rounds),
        "run_lengths": run_lengths(rounds),
    }


def run_lengths(rounds: Sequence[Line]) -> list[int]:
    """How many rounds accepted 0, 1, 2, … tokens."""
    counts = Counter(r["accepted"] for r in rounds)
    return [counts[i] for i in range(max(counts, default=-1) + 1)]


def per_position(rounds: Sequence[Line]) -> list[list[int]]:
    """`[offered, accepted]` for the 1st, 2nd, … drafted token: offered where all before it were accepted and a node stood there."""
    found: list[list[int]] = []
    for line in rounds:
        for depth, last in enumerate([-1, *line["path"]]):
            if last not in line["parents"]:
                break
            if depth == len(found):
                found.append([0, 0])
            found[depth][0] += 1
            found[depth][1] += depth < line["accepted"]
    return found


def calibration(rounds: Sequence[Line], bins: int = BINS) -> list[dict[str, float]]:
    """Nodes that were really tried (all before them accepted) by the drafter's own confidence: `{low, high, tried, accepted, confidence}`."""
    tried: list[list[float]] = [[] for _ in range(bins)]
    kept = [0] * bins
    for line in rounds:
        reached, accepted = {-1, *line["path"]}, set(line["path"])
        for node, (entry, parent) in enumerate(zip(line["drafted"], line["parents"], strict=True)):
            if parent in reached and entry[2] is not None:
                at = min(int(entry[2] * bins), bins - 1)
                tried[at].append(entry[2])
                kept[at] += node in accepted
    return [
        {"low": i / bins, "high": (i + 1) / bins, "tried": len(tried[i]), "accepted": kept[i], "confidence": sum(tried[i]) / len(tried[i])}
        for i in range(bins)
        if tried[i]
    ]


def second_choice(rounds: Sequence[Line]) -> float | None:
    """Of the refused rounds of a tree: how often the accepted child was not the drafter's first (does branching pay?)."""
    accepted = [(line, node) for line in rounds for node in line["path"]]
    later = sum(line["parents"].index(line["parents"][node]) != node for line, node in accepted)
    return later / len(accepted) if accepted else None


def expected_tokens(alpha: float, gamma: int) -> float:
    """E = (1 − α^(γ+1)) / (1 − α): tokens a round if each draft is accepted independently with α (Leviathan et al. 2023, eq. 1)."""
    return float(gamma + 1) if alpha >= 1 else (1 - alpha ** (gamma + 1)) / (1 - alpha)


def speed_up(tokens_per_round: float, gamma: float, c: float, v: float) -> float:
    """Rounds against plain steps: E / (γ·c + v), with c = draft step / target step and v = verification / target step."""
    return tokens_per_round / (gamma * c + v)
