"""The job `measure`: a group of requests repeated in turn, matched in length, with an interval for every ratio.

Goes in: the lanes of a comparison as requests. Comes out: one `repeat` finding a lane and repeat, and each lane's ratio to the last one.

`finding` kinds: `repeat` {repeat, lane, n_tokens, ms_per_token, ttft_ms}; `ratio` {lane, base, ratio, low, high, n, words}.
`stats`: {lanes: {name: ms_per_token}, ratios: [...]}.
One run against one run proves nothing: the repeats alternate their order (ABBA), the first one only warms up, and each pair is
compared over the same number of tokens. The interval is Student's t on the logarithm of the paired ratios, 95 %.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from backend.errors import InvalidRequest, WorkbenchError
from backend.method import Method
from backend.options import option, parse_options
from backend.resources import Resources
from backend.types import Done, Event, Finding, Progress, Prompt, RunContext, RunRecord, RunRequest, Token, Verdict

SHORTEST = 6
SAY_EVERY_S = 0.25
# Student's t, two-sided 95 %, for 1 to 30 degrees of freedom.
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101,
        2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What to repeat and how often. The last lane is the one that the others are compared with."""

    lanes: list = option([], "The requests to compare, as JSON; the last one is the baseline.")
    repeats: int = option(8, "How often each lane runs; one more run of each warms up.", low=3, high=31)


@dataclass(frozen=True)
class Sample:
    """One lane's clock in one repeat: seconds of its start and of each token."""

    lane: str
    repeat: int
    start: float
    token_s: tuple[float, ...]

    def ms_per_token(self, n: int) -> float:
        """Mean over the tokens after the first, up to the n-th: what decoding costs, without the prompt."""
        return (self.token_s[n - 1] - self.token_s[0]) / (n - 1) * 1000


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean of paired ratios and its 95 % interval (Student's t on the logarithms)."""
    logs = [math.log(r) for r in ratios]
    middle = statistics.fmean(logs)
    half = T_95[min(len(logs) - 2, len(T_95) - 1)] * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


def words(lane: str, base: str, ratio: float, low: float, high: float) -> str:
    """The claim that the interval allows."""
    if low <= 1 <= high:
        return f"{lane} against {base}: no measurable difference ({ratio:.3f} of its time a token, 95 % interval {low:.3f} to {high:.3f})"
    if ratio < 1:
        return f"{lane} is {1 / ratio:.2f} × faster a token than {base} (95 % interval {1 / high:.2f} to {1 / low:.2f})"
    percent = [(value - 1) * 100 for value in (ratio, low, high)]
    return f"{lane} costs {percent[0]:.1f} % more a token than {base} (95 % interval {percent[1]:.1f} to {percent[2]:.1f})"


def measure_request(lanes: Sequence[RunRequest], repeats: int) -> RunRequest:
    """The job that repeats these lanes in turn; the last one is what the others are compared with."""
    models = {role: model for lane in lanes for role, model in lane.models.items()}
    prompt = Prompt.user(f"Measure: {lanes[0].prompt.text}")
    return RunRequest("measure", prompt, models, options={"lanes": [lane.to_json() for lane in lanes], "repeats": repeats})


def method(methods: Mapping[str, Method]) -> Method:
    """`measure` over the given methods."""

    def lanes_of(request: RunRequest) -> list[RunRequest]:
        return [RunRequest.from_json(data) for data in parse_options(Options, request.options).lanes]

    def check(request: RunRequest, resources: Resources) -> list[Finding]:
        lanes = lanes_of(request)
        if len(lanes) < 2:
            raise InvalidRequest("options.lanes must hold at least two requests: a claim needs its baseline.", "options.lanes")
        for lane in lanes:
            if lane.method not in methods:
                raise InvalidRequest(f"There is no method {lane.method!r} to measure.", "options.lanes")
            methods[lane.method].check(lane, resources)
        return []

    def warm(request: RunRequest, models: Mapping[str, Any]) -> None:
        for lane in lanes_of(request):
            if methods[lane.method].warm is not None:
                methods[lane.method].warm(lane, models)

    def run(request: RunRequest, context: RunContext, models: Mapping[str, Any]) -> Iterator[Event]:
        options = parse_options(Options, request.options)
        named = [(methods[lane.method].lane(lane), lane) for lane in lanes_of(request)]
        yield from _measure(named, options.repeats, methods, context, models)

    def verdict(records: Sequence[RunRecord]) -> Verdict:
        stats = records[0].stats
        return Verdict(". ".join(r["words"] for r in stats.get("ratios", [])) + ".", stats, None)

    return Method(
        name="measure", title="Measure", question="Is the difference real?", Options=Options, roles=(), run=run, check=check,
        baselines=lambda request: [], lane=lambda request: "measure", verdict=verdict, warm=warm, parts=lanes_of, job=True,
    )  # fmt: skip


def _measure(named: Sequence[tuple[str, RunRequest]], repeats: int, methods: Mapping[str, Method], context: RunContext,
             models: Mapping[str, Any]) -> Iterator[Event]:  # fmt: skip
    found = _earlier(context.earlier)
    first = 1 + max((f["repeat"] for f in found), default=-1)
    start, total = context.clock(), (repeats + 1) * len(named)
    for repeat in range(first, repeats + 1):  # repeat 0 warms up
        samples: list[Sample] = []
        for name, lane in named if repeat % 2 == 0 else reversed(named):
            runs = (repeat - first) * len(named) + len(samples)
            rate = runs / max(context.clock() - start, 1e-9) or None
            note = f"repeat {repeat} of {repeats}, {name}" if repeat else f"warming up, {name}"
            progress = Progress(first * len(named) + runs, total, note, rate)
            sample = yield from _sample(name, lane, repeat, methods, context, models, progress)
            if context.cancelled():
                break
            samples.append(sample)
        if context.cancelled():
            break
        for row in _rows(samples):
            found.append(row)
            yield Finding("repeat", row)
    yield from _conclude(found, [name for name, _ in named], context.cancelled())


def _sample(name: str, lane: RunRequest, repeat: int, methods: Mapping[str, Method], context: RunContext, models: Mapping[str, Any],
            progress: Progress) -> Iterator[Event]:  # fmt: skip
    """Run one lane once and note when each token came; says where it is often enough for others to go first."""
    start = said = context.clock()
    token_s: list[float] = []
    yield progress
    with closing(methods[lane.method].run(lane, replace(context, earlier=()), models)) as events:
        for event in events:
            now = context.clock()
            if isinstance(event, Token) and event.source != "prefix":
                token_s.append(now)
            if now - said > SAY_EVERY_S:
                said = now
                yield progress
    return Sample(name, repeat, start, tuple(token_s))


def _rows(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """One repeat's lanes over the length that all of them reached."""
    n = min(len(s.token_s) for s in samples)
    if n < SHORTEST:
        raise WorkbenchError(f"The shortest lane gave {n} tokens; at least {SHORTEST} are needed to measure time a token.")
    return [
        {"repeat": s.repeat, "lane": s.lane, "n_tokens": n, "ms_per_token": round(s.ms_per_token(n), 4),
         "ttft_ms": round((s.token_s[0] - s.start) * 1000, 3)}
        for s in samples
    ]  # fmt: skip


def _earlier(lines: Sequence[str]) -> list[dict[str, Any]]:
    """What a resumed job had measured: whole repeats only."""
    events = map(json.loads, lines)
    return [e["data"] for e in events if e["event"] == "finding" and e["kind"] == "repeat"]


def _conclude(found: Sequence[Mapping[str, Any]], names: Sequence[str], cancelled: bool) -> Iterator[Event]:
    kept = [f for f in found if f["repeat"] > 0]
    times = {name: {f["repeat"]: f["ms_per_token"] for f in kept if f["lane"] == name} for name in names}
    base, ratios = names[-1], []
    for name in names[:-1]:
        pairs = [times[name][r] / times[base][r] for r in times[base] if r in times[name]]
        if len(pairs) >= 3:
            ratio, low, high = interval(pairs)
            data = {"lane": name, "base": base, "ratio": ratio, "low": low, "high": high, "n": len(pairs),
                    "words": words(name, base, ratio, low, high)}  # fmt: skip
            ratios.append(data)
            yield Finding("ratio", data)
    means = {name: statistics.fmean(values.values()) for name, values in times.items() if values}
    text = ". ".join(r["words"] for r in ratios) + "." if ratios else "Too few repeats to say anything."
    yield Done("cancelled" if cancelled else "stop", text, {"lanes": means, "ratios": ratios})
