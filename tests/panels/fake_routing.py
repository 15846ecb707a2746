"""Routing without models, for the pages' tests: a method that spells the prompt's words with scores, and the jobs behind a router.

Goes in: requests. Comes out: the lines that a real run has around words that are plainly the prompt's. Who says a word follows from the
request alone: every third word has a score of 0.6, the others 0.1; the large model disagrees with the small one at every fifth word.
Requests, lanes and verdict are the real ones; a gate holds a run where a test wants to see it in mid-flight.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

from backend.method import Method
from backend.routing import labels, sweep, train
from backend.routing.request import LARGE, SMALL, Options, baselines, lane, parse, replay
from backend.routing.verdict import verdict
from backend.types import Artifact, Control, Done, Event, Finding, Progress, RunContext, RunRequest, Token

HIGH, LOW = 0.6, 0.1
POINTS = {"small": (0.0, 0.4), "large": (1.0, 0.8), "neural": (0.1, 0.7), "entropy": (0.1, 0.6)}


class Router:
    """The fake pair. With a gate it waits before the token at `hold_at`."""

    def __init__(self) -> None:
        self.hold_at: int | None = None
        self.gate, self.held = threading.Event(), threading.Event()

    def run(self, request: RunRequest, context: RunContext, models: Mapping[str, Any]) -> Iterator[Event]:
        options = parse(request)
        words = [w if i == 0 else f" {w}" for i, w in enumerate(request.prompt.text.split(" "))]
        given, threshold, gap, n_large = len(request.answer_prefix), options.threshold, 0, 0
        for i, word in enumerate(words[: given + request.sampling.max_new_tokens]):
            if i == self.hold_at:
                self.held.set()
                while not self.gate.wait(0.01) and not context.cancelled():
                    pass
            if context.cancelled():
                break
            for name, value in context.control().items():
                threshold = value
                yield Control(name, value, i)
            score = HIGH if i % 3 == 2 else LOW
            large = by_large(options, i, score, threshold) and i >= given
            gap += 1
            yield Token(i, 100 + i, word, -0.5, "prefix" if i < given else LARGE if large else SMALL, detail(options, i, score, large, gap))
            gap, n_large = 0 if large else gap, n_large + large
            if not large:
                agree = i % 5 != 4
                yield Finding("opinion", {"position": i, "id": 7, "text": " <other>", "p_small_token": 0.9 if agree else 0.1, "agree": agree})
        n = max(1, len(words) - given)
        stats = {"strategy": options.strategy, "threshold": threshold, "n_tokens": n, "large_tokens": n_large, "share": n_large / n,
                 "ttft_ms": 2.0, "ms_per_token": 2.0 if options.strategy == "always" else 1.0, "predicted_speedup": 1.9,
                 "spans": {"prefill_small": 1.0, "prefill_large": 2.0, "small": 3.0, "router": 0.5, "catch_up": 4.0, "opinions": 0.0}}  # fmt: skip
        yield Done("cancelled" if context.cancelled() else "stop", "".join(words), stats)


def by_large(options: Options, i: int, score: float, threshold: float) -> bool:
    forced = options.forced().get(i)
    if forced:
        return forced == LARGE
    return options.strategy == "always" or (options.scored and score >= threshold)


def detail(options: Options, i: int, score: float, large: bool, gap: int) -> dict[str, Any]:
    told = {"routed": large, "entropy": 0.3} | ({"score": score} if options.scored else {}) | ({"forced": True} if i in options.forced() else {})
    return told | ({"gap": gap, "proposal": [9, " wrong"], "spans": {"small": 0.4, "router": 0.1, "large": 2.0}} if large else {})


def look(request: RunRequest, models: Mapping[str, Any], ids: Any, position: int, k: int) -> dict[str, Any]:
    top = [{"id": 7 + i, "text": f" {role}", "p": 0.5, "final_p": 0.5, "cut": None} for i, role in enumerate((SMALL, LARGE))]
    return {"models": {SMALL: {"top": top[:1]}, LARGE: {"top": top[1:]}}}


def labelled(request: RunRequest, context: RunContext, models: Mapping[str, Any]) -> Iterator[Event]:
    n = request.options["n_prompts"]
    if not context.earlier:
        yield Artifact("01ARZ3NDEKTSV4RRFFQ69G5FAV", "labels", {"state": "begun"})
    yield Progress(n / 2, n, "prompts labelled", n / 2)
    if request.options.get("seed") == 666 and not context.earlier:
        yield Done("cancelled", "Stopped; what is labelled stays.", {"labels": "01ARZ3NDEKTSV4RRFFQ69G5FAV"})
        return
    for name, count in (("identical", 90), ("neutral", 6), ("divergent", 4), ("ungraded", 0)):
        yield Finding("class", {"class": name, "n": count, "share": count / 100})
    yield Finding("example", {"class": "divergent", "prompt": "1 + 1?", "position": 1, "before": "It is", "small": [5, " <3>"], "large": [6, " 2"],
                              "small_continuation": ".", "large_continuation": " 2.", "expected": "2"})  # fmt: skip
    yield Done("stop", "90.0 % of the tokens are what the small model would have said.",
               {"labels": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "n_prompts": n, "seconds": 10.0})  # fmt: skip


def trained(request: RunRequest, context: RunContext, models: Mapping[str, Any]) -> Iterator[Event]:
    yield Finding("metric", {"set": "all", "scorer": "neural", "auc": 0.98, "ap": 0.7, "calls_at_recall_95": 0.1, "base_rate": 0.06, "n": 100,
                             "recall": {}, "ece": 0.004})  # fmt: skip
    for kind in ("roc", "recall"):
        yield Finding(kind, {"scorer": "neural", "points": [[0, 0], [0.1, 0.9], [1, 1]]})
    yield Finding("calibration", {"bins": [[0.1, 0.12, 90], [0.9, 0.8, 10]]})
    yield Done("stop", "It ranks a token that matters above another one 98.0 % of the time.", {"router": "x", "seconds": 1.0})


def swept(request: RunRequest, context: RunContext, models: Mapping[str, Any]) -> Iterator[Event]:
    n = request.options["n_prompts"]
    for done, (strategy, (share, accuracy)) in enumerate(POINTS.items()):
        yield Progress(done, len(POINTS), strategy)
        yield Finding("point", {
            "strategy": strategy, "budget": share, "threshold": 0.3, "share": share, "accuracy": accuracy, "low": accuracy - 0.05,
            "high": accuracy + 0.05, "right": round(accuracy * n), "n": n, "tokens": 100, "large_tokens": 100 * share, "mean_gap": 5.0,
            "params_paper": 1e6 * (1 + share), "params_recorder": 1e6 * share, "seconds_predicted": 0.2,
        })  # fmt: skip
    yield Finding("area", {"strategy": "neural", "value": 0.7, "low": 0.6, "high": 0.8})
    yield Done("stop", "The small model gets 40 % right, the large one 80 %.", {"n": n, "seconds": 5.0})


def routing_methods(router: Router | None = None) -> dict[str, Method]:
    """`routing` and its three jobs by name."""
    pair = (SMALL, LARGE)
    single = Method(
        name="routing", title="Small-large routing", question="?", Options=Options, roles=pair, run=(router or Router()).run,
        check=lambda request, resources: [] if parse(request) else [], baselines=baselines, lane=lane, verdict=verdict, inspect=look, replay=replay,
    )  # fmt: skip
    jobs = (("label", labels, labelled), ("train", train, trained), ("sweep", sweep, swept))
    made = [
        Method(name=f"routing.{name}", title=f"A {name} job", question="?", Options=module.Options, roles=pair, run=run,
               check=lambda request, resources: [], baselines=lambda request: [], lane=lambda request: "job", verdict=module.verdict, job=True)
        for name, module, run in jobs
    ]  # fmt: skip
    return {method.name: method for method in (single, *made)}
