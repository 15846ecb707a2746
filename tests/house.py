"""A small house for tests: real workbench, store and device, with a method that counts and models that are names."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace

from backend import measure
from backend.errors import InvalidRequest, WorkbenchError
from backend.method import Method
from backend.options import option, parse_options
from backend.store import Store
from backend.types import Control, Done, Finding, Prompt, RunContext, RunRequest, SamplingParams, Token, Verdict
from backend.workbench import Workbench


@dataclass(frozen=True)
class Options:
    """`hold_at` waits at that token until the test lets go; `fail_at` breaks there, `by` a user's error or a bug."""

    hold_at: int = option(-1, "wait here")
    fail_at: int = option(-1, "break here")
    by: str = option("user", "how", choices=("user", "bug"))
    step_s: float = option(0.0, "what a token costs on the test's clock", low=0)
    lane: str = option("counting", "the lane's name")
    bad: bool = option(False, "refuse before the run")


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Counter:
    """The method: says "0 1 2 …", one number a token, and notes what the workbench does to it."""

    clock: Clock = field(default_factory=Clock)
    held: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    closed: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    warmed: int = 0
    said: Callable[[int], int] = int  # the token at a position

    def run(self, request, context, models):
        options = parse_options(Options, request.options)
        self.order.append(context.lane or options.lane)
        reason = "length"
        try:
            for i in range(request.sampling.max_new_tokens):
                if context.cancelled():
                    reason = "cancelled"
                    break
                yield from self._token(i, options, context)
        finally:
            self.closed.append(options.lane)
        yield Done(reason, " ".join(map(str, range(i + (reason == "length")))), {"n_tokens": i})

    def _token(self, i, options, context):
        if i == options.hold_at:
            self.held.set()
            assert self.go.wait(120)
        if i == options.fail_at:
            raise WorkbenchError("This method was told to fail.", "options.fail_at") if options.by == "user" else KeyError("a bug")
        for name, value in context.control().items():
            yield Control(name, value, i)
        self.clock.now += options.step_s
        yield Token(i, self.said(i), f"{i} ", -0.1)

    def warm(self, request, models):
        self.warmed += 1

    def check(self, request, resources):
        if parse_options(Options, request.options).bad:
            raise InvalidRequest("This request is bad.", "options.bad")
        return [Finding("lint", {"path": "$", "keyword": "k", "effect": "note", "message": "seen before the run"})]

    def method(self, name="count", job=False):
        return Method(
            name=name, title="Counting", question="How far?", Options=Options, roles=("target",), run=self.run, check=self.check,
            baselines=lambda r: [r.with_options(lane="baseline")], lane=lambda r: parse_options(Options, r.options).lane,
            verdict=lambda records: Verdict(f"{len(records)} lanes: {', '.join(r.status for r in records)}."), warm=self.warm, job=job,
            inspect=lambda request, models, ids, position, k: {"before": list(ids[:position])},
        )  # fmt: skip


class Names:
    """Models that are only names."""

    def load_all(self, models, progress=None):
        if "missing" in models.values():
            raise WorkbenchError("missing is not here.", "models.target")
        line = {"id": "m", "hash": "0", "dtype": "float32", "device": "cpu", "origin": "test"}
        return {role: SimpleNamespace(id=name, tokenizer=None, line=lambda: line) for role, name in models.items()}

    def holding(self, models):
        return nullcontext()

    def state(self, model_id):
        return SimpleNamespace(present=model_id != "absent")

    def close(self):
        pass


def count(n=5, model="m", method="count", **options):
    return RunRequest(method, Prompt.user("Count."), {"target": model}, SamplingParams(max_new_tokens=n), options)


def context(**more):
    return RunContext(**more)


def open_house(data_dir, counter, program="the app"):
    single = counter.method()
    methods = {"count": single, "count.job": counter.method("count.job", job=True), "measure": measure.method({"count": single})}
    return Workbench(data_dir, methods, Names(), Store(data_dir), program=program, clock=counter.clock)
