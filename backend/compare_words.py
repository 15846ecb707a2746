"""What a comparison says in one sentence or a few: tokens, time, settings, in that order.

Goes in: the sides, what differs, what was found. Comes out: plain words. One run each proves nothing about speed, so none is claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backend.compare_settings import Setting

if TYPE_CHECKING:
    from backend.compare import FoundKind, Side

MOST_NAMED = 4
NO_CLAIM = "one run each, so no speed is claimed"
BROKE = {"failed": "failed", "cancelled": "was stopped", "interrupted": "was cut short", "queued": "has not begun", "running": "is still running"}


def sentence(sides: Sequence[Side], settings: Sequence[Setting], findings: Sequence[FoundKind], same_tokens: Sequence[bool]) -> str:
    """Tokens or findings first, then time, then settings."""
    said = tokens_say(sides, same_tokens) if any(side.n_tokens for side in sides) else findings_say(sides, findings)
    broken = [f"Run {i} {BROKE.get(side.status, side.status)}." for i, side in enumerate(sides, start=1) if not side.finished]
    return " ".join(filter(None, [*said, *broken, time_says(sides), settings_say(settings, all(s.run == sides[0].run for s in sides))]))


def tokens_say(sides: Sequence[Side], same_tokens: Sequence[bool]) -> list[str]:
    """Who has the first run's tokens, who only its text, who parts from it and where."""
    cut = [f"Only the first {side.n_tokens - side.cut:,} of run {i}'s {side.n_tokens:,} tokens are compared."
           for i, side in enumerate(sides, start=1) if side.cut]  # fmt: skip
    alike = [i for i, side in enumerate(sides[1:], start=2) if not side.n_differing]
    exact = [i for i in alike if same_tokens[i - 1]]
    if len(alike) == len(sides) - 1:
        return ["Same tokens." if len(exact) == len(alike) else "Same text, cut into tokens differently.", *cut]
    groups = ((exact, "tokens"), ([i for i in alike if i not in exact], "text in other tokens"))
    said = [f"{listed([f'run {i}' for i in found])} {'has' if len(found) == 1 else 'have'} the same {words}" for found, words in groups if found]
    said += [_parts(i, side) for i, side in enumerate(sides[1:], start=2) if side.n_differing]
    return [_sentence("; ".join(said)), *cut]


def _parts(i: int, side: Side) -> str:
    differ = f"{side.n_differing:,} {'token differs' if side.n_differing == 1 else 'tokens differ'}"
    return f"run {i}{f' ({side.lane})' if side.lane else ''} parts from run 1 at token {side.first_difference:,}, {differ}"


def findings_say(sides: Sequence[Side], findings: Sequence[FoundKind]) -> list[str]:
    """Jobs write no tokens: how much of what each found the first one found too."""
    if not findings:
        return ["None of these runs wrote tokens or found anything."]
    if all(kind.same for kind in findings):
        return ["Same findings."]
    totals = [(sum(kind.counts[i] for kind in findings), sum(kind.shared[i] for kind in findings)) for i in range(len(sides))]
    said = [f"{shared:,} of run {i}'s {n:,} findings are also run 1's" for i, (n, shared) in enumerate(totals[1:], start=2)]
    return [_sentence("; ".join([f"run 1 has {totals[0][0]:,} findings", *said]))]


def time_says(sides: Sequence[Side]) -> str:
    """Each run's time against the first one's; a token's where the numbers of tokens differ. Only of runs that ended by themselves."""
    first, whole, a_token = sides[0], [], []
    for i, side in enumerate(sides[1:], start=2):
        if side.run == first.run or not (first.finished and side.finished):
            continue
        if side.n_tokens == first.n_tokens and side.seconds and first.seconds:
            whole.append(f"run {i} took {side.seconds / first.seconds:.2f} ×")
        elif side.ms_per_token and first.ms_per_token:
            a_token.append(f"run {i} took {side.ms_per_token / first.ms_per_token:.2f} ×")
    said = [f"{', '.join(found)} {words}" for found, words in ((whole, "the time of run 1"), (a_token, "the time a token of run 1")) if found]
    places = list(dict.fromkeys(side.device for side in sides if side.device))
    devices = [f"on different devices ({listed(places)})"] if len(places) > 1 else []
    return _sentence("; ".join([*said, *devices, NO_CLAIM])) if said else ""


def settings_say(settings: Sequence[Setting], one_run: bool) -> str:
    if not settings:
        return "It is the same run." if one_run else "Nothing was set differently."
    names = [setting.name for setting in settings]
    more = len(names) - MOST_NAMED
    return f"Set differently: {', '.join(names[:MOST_NAMED])}{f' and {more} more' if more > 0 else ''}."


def listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
