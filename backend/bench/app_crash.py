"""Killing the app at any moment, again and again, on one data directory: what is lost, what is left behind, what is touched.

Goes in: a folder, how many kills, a seed. Comes out: the faults that were found, in words, and counts. A forked process runs as many runs as
it can; what it saw of them comes through a pipe until SIGKILL ends it in mid-write. Knows the store by what it promises.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from backend.bench import Bar, Progress, at_most
from backend.method import Method
from backend.recorder import CHECKPOINT_LINES
from backend.resources import Resources
from backend.store import Store, new_id
from backend.types import Done, Event, Finding, Prompt, RunContext, RunRequest, SamplingParams, Token, Verdict
from backend.workbench import Workbench

KILLS, QUICK_KILLS = 50, 5
LATEST_S = 0.6  # after the first line that was seen
LENGTHS = (1, 900)
FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Options:
    """None."""


class NoModels:
    """What the workbench asks of its models, where there are none."""

    def load_all(self, models: Mapping[str, str], progress: Any = None) -> dict[str, Any]:
        return {}

    def holding(self, models: Mapping[str, str]) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self) -> None:
        return None


def tell(request: RunRequest, context: RunContext, models: Mapping[str, Any]) -> Iterator[Event]:
    """As many numbers as were asked for, as fast as they can be written."""
    n = request.sampling.max_new_tokens
    for position in range(n):
        yield Token(position, position, f"{position} ", -0.5, detail={"of": n})
    yield Done("length", "".join(f"{i} " for i in range(n)), {"n_tokens": n})


def method() -> Method:
    return Method(
        name="tell", title="Telling numbers", question="?", Options=Options, roles=(), run=tell, check=no_findings, baselines=lambda r: [],
        lane=lambda r: str(r.sampling.max_new_tokens), verdict=lambda records: Verdict(f"{len(records)} lanes"),
    )  # fmt: skip


def no_findings(request: RunRequest, resources: Resources) -> list[Finding]:
    return []


def request_of(n: int) -> RunRequest:
    return RunRequest("tell", Prompt.user(f"Tell {n} numbers."), {}, SamplingParams(max_new_tokens=n))


def run_for_ever(folder: Path, seed: int, pipe: Connection) -> None:
    """The process that is killed: one run, or a group of two, after another; what it sees goes into the pipe."""
    rng, workbench = random.Random(seed), Workbench(folder, {"tell": method()}, NoModels(), Store(folder))
    while True:
        lanes = [request_of(rng.randint(*LENGTHS)) for _ in range(rng.randint(1, 2))]
        current = ""
        for line in workbench.run_group(lanes, RunContext()):
            event = json.loads(line)
            if event["event"] == "started":
                current = event["run"]
            pipe.send((current, event["event"], line if event["event"] in ("started", "token", "done") else ""))
        pipe.send(("", "ended", ""))


@dataclass
class Seen:
    """What came out of the pipe before the kill. `ended`: runs after whose last line the process went on, so that their rows are closed."""

    lines: dict[str, list[str]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def take(self, run_id: str, tag: str, line: str) -> None:
        if line:
            self.lines.setdefault(run_id, []).append(line)
        if tag == "done":
            self.done.append(run_id)
        if tag == "ended":
            self.ended += [r for r in self.done if r not in self.ended]


def kill_once(folder: Path, seed: int, rng: random.Random) -> Seen:
    """Start the process, let it run for a random while, kill it; everything that it had sent is seen."""
    here, there = FORK.Pipe(duplex=False)
    process, seen = FORK.Process(target=run_for_ever, args=(folder, seed, there), daemon=True), Seen()
    process.start()
    there.close()
    watch = rng.uniform(0, LATEST_S)
    if here.poll(60):
        _read_for(here, seen, watch)
    process.kill()
    process.join()
    _read_for(here, seen, None)
    here.close()
    return seen


def _read_for(pipe: Connection, seen: Seen, seconds: float | None) -> None:
    """Read for so long; None: until there is nothing more (a message that the kill cut in two is nothing)."""
    end = None if seconds is None else time.monotonic() + seconds
    try:
        while end is None or time.monotonic() < end:
            if not pipe.poll(0 if end is None else max(0.0, end - time.monotonic())):
                return
            seen.take(*pipe.recv())
    except (EOFError, OSError):
        return


def faults(folder: Path, seen: Seen, other: str) -> Iterator[str]:
    """What a start after the kill finds wrong; `other` is a run that another, living process has under way."""
    store = Store(folder)
    try:
        with closing(sqlite3.connect(store.path)) as db:
            if (found := db.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
                yield f"integrity: {found[:3]}"
            stuck = [row[0] for row in db.execute("SELECT id FROM runs WHERE status IN ('queued', 'running')") if row[0] != other]
        yield from (f"stuck: {run_id}" for run_id in stuck)
        if store.find(other).status != "running":
            yield f"a living process's run became {store.find(other).status}"
        for run_id, lines in seen.lines.items():
            yield from _lost(store, run_id, lines, run_id in seen.ended)
    finally:
        store.close()


def _lost(store: Store, run_id: str, lines: list[str], ended: bool) -> Iterator[str]:
    record = store.find(run_id)
    stored = [line for line in record.lines if json.loads(line)["event"] in ("started", "token", "done")]
    n = min(len(stored), len(lines))
    if stored[:n] != lines[:n]:
        yield f"{run_id}: its lines are not those that were shown"
    if ended and (record.status != "completed" or len(stored) < len(lines)):
        yield f"{run_id}: had ended and is {record.status} with {len(stored)} of {len(lines)} lines"
    if len(lines) - len(stored) > CHECKPOINT_LINES:
        yield f"{run_id}: lost {len(lines) - len(stored)} lines, more than a checkpoint"


def kill_often(folder: Path, kills: int, seed: int) -> tuple[list[str], dict[str, Any]]:
    """So many kills on one data directory; the faults of all, and how much was going on."""
    rng, found, progress = random.Random(seed), [], Progress(kills, "kills", sys.stderr)
    living = Store(folder)
    other = new_id()
    living.start(other, request_of(7), RunContext(), {})
    living.running(other, {}, "cpu")
    counts = {"runs seen": 0, "runs that had ended": 0, "lines seen": 0, "lines lost at most": 0, "cut in mid-run": 0}
    for number in range(kills):
        seen = kill_once(folder, seed * 1000 + number, rng)
        found += [f"kill {number}: {fault}" for fault in faults(folder, seen, other)]
        counts["runs seen"] += len(seen.lines)
        counts["runs that had ended"] += len(seen.ended)
        counts["lines seen"] += sum(map(len, seen.lines.values()))
        counts["cut in mid-run"] += len(seen.lines) - len(seen.done)
        lost = [len(lines) - len(living.find(run_id).lines) for run_id, lines in seen.lines.items()]
        counts["lines lost at most"] = max(counts["lines lost at most"], *lost, 0)
        progress.update(number + 1)
    living.close()
    return found, counts


def measure(folder: Path, quick: bool, seed: int) -> tuple[list[Bar], dict[str, Any], list[str]]:
    """Bars, figures, and a row for each fault."""
    kills = QUICK_KILLS if quick else KILLS
    found, counts = kill_often(folder, kills, seed)
    return [at_most(f"faults after {kills} kills", len(found), 0)], {**counts, "seed of the kills": seed}, found
