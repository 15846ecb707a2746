"""Time a token of many ways to decode the same prompts: in one process, in turn, one thread.

Goes in: ways by name (a function from prompt to number of new tokens), prompts. Comes out: samples, and ratios with quartiles.
Knows no model. CPU time of the process is what bars are made of; wall time stands beside it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Way = Callable[[int], int]


@dataclass(frozen=True)
class Sample:
    """One prompt decoded one way once, from the prompt's ids to the last token, the prompt's own forward included."""

    way: str
    prompt: int
    turn: int
    n_tokens: int
    cpu_ms: float
    wall_ms: float


def take_turns(ways: dict[str, Way], n_prompts: int, turns: int, tell: Callable[[float, float | None, str], None]) -> list[Sample]:
    """Every way on every prompt, `turns` times; the order rotates by prompt and turn. Each way runs the first prompt once before, unmeasured."""
    names, samples = list(ways), []
    for name in names:
        ways[name](0)
    for turn in range(turns):
        for prompt in range(n_prompts):
            at = (turn + prompt) % len(names)
            for name in names[at:] + names[:at]:
                samples.append(_sample(name, ways[name], prompt, turn))
            tell(turn * n_prompts + prompt + 1, turns * n_prompts, "")
    return samples


def _sample(name: str, way: Way, prompt: int, turn: int) -> Sample:
    cpu, wall = time.process_time(), time.perf_counter()
    n_tokens = way(prompt)
    return Sample(name, prompt, turn, n_tokens, (time.process_time() - cpu) * 1000, (time.perf_counter() - wall) * 1000)


@dataclass(frozen=True)
class Ratio:
    """How many times as fast `way` is as `base` over all prompts: median over the turns, quartiles."""

    way: str
    base: str
    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.middle:.2f} [{self.low:.2f}..{self.high:.2f}]"


def ratio(samples: Sequence[Sample], way: str, base: str, clock: str = "cpu_ms") -> Ratio:
    """Time that `base` takes for the texts of `base`, over the time that `way` would take for as many tokens of each."""
    turns = sorted({s.turn for s in samples})
    found = []
    for turn in turns:
        ours, theirs = (_by_prompt(samples, name, turn) for name in (way, base))
        total = sum(getattr(s, clock) for s in theirs.values())
        found.append(total / sum(getattr(ours[p], clock) / ours[p].n_tokens * s.n_tokens for p, s in theirs.items()))
    low, middle, high = statistics.quantiles(found, n=4, method="inclusive") if len(found) > 1 else found * 3
    return Ratio(way, base, middle, low, high)


def prompt_ratios(samples: Sequence[Sample], way: str, base: str) -> dict[int, float]:
    """Of each prompt: how many times as fast a token, median over the turns."""
    found: dict[int, list[float]] = {}
    for turn in sorted({s.turn for s in samples}):
        ours, theirs = (_by_prompt(samples, name, turn) for name in (way, base))
        for prompt, other in theirs.items():
            own = ours[prompt]
            found.setdefault(prompt, []).append(other.cpu_ms / other.n_tokens / (own.cpu_ms / own.n_tokens))
    return {prompt: statistics.median(values) for prompt, values in found.items()}


def ms_per_token(samples: Sequence[Sample], way: str) -> float:
    """Mean CPU milliseconds a token over all prompts and turns."""
    own = [s for s in samples if s.way == way]
    return sum(s.cpu_ms for s in own) / sum(s.n_tokens for s in own)


def _by_prompt(samples: Sequence[Sample], way: str, turn: int) -> dict[int, Sample]:
    return {s.prompt: s for s in samples if s.way == way and s.turn == turn}
