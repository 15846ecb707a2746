"""The app with a replay where its model would be, in a process of its own: what is measured is the app.

Goes in: how the app is built (handed over: the backend imports no browser side), a folder, how many tokens a run has and how fast they come;
then commands on standard input. Comes out: the address, then for each `count` what is alive in the process. Ends when its input ends.
"""

from __future__ import annotations

import gc
import json
import os
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from types import GeneratorType
from typing import Any

from backend.bench.app_crash import no_findings
from backend.bench.app_runs import recorded_lanes
from backend.device import Task
from backend.house import methods
from backend.live import LiveRun
from backend.model_service import ModelService, ModelState
from backend.models import ModelPool
from backend.paths import assets_dir
from backend.store import Store
from backend.types import Done, Event, RunContext, RunRequest, Token, Verdict
from backend.workbench import Workbench

ROOT = str(Path(__file__).resolve().parents[2])
POOLED = ("AnyIO worker", "asyncio_")  # the server's own workers come and go with its load
PATIENCE_S = 0.02


class Unloaded(ModelService):
    """Every model is here, none is ever loaded."""

    def load_all(self, models: Mapping[str, str], progress: Any = None) -> dict[str, Any]:
        return {}

    def holding(self, models: Mapping[str, str]) -> AbstractContextManager[None]:
        return nullcontext()

    def state(self, model_id: str) -> ModelState:
        return ModelState(True)


class Hands:
    """In the place of the device's one thread: each task has a thread, since no model has to be shared."""

    closing = False

    def submit(self, task: Task) -> None:
        threading.Thread(target=self._run, args=(task,), name="replay", daemon=True).start()

    @staticmethod
    def _run(task: Task) -> None:
        with closing(task.steps()) as steps:
            for _ in steps:
                pass

    def close(self) -> None:
        return None


@dataclass(frozen=True)
class Replay:
    """The method's run: a recording's tokens with the visitor's own words, each with the moment at which it was said."""

    n_tokens: int
    interval_s: float

    def run(self, request: RunRequest, context: RunContext, models: Mapping[str, Any]) -> Iterator[Event]:
        recorded = [event for event in recorded_lanes()[0].events if event["event"] == "token"]
        start, said = time.monotonic(), []
        for position, token in enumerate(islice(cycle(recorded), self.n_tokens)):
            while (left := start + position * self.interval_s - time.monotonic()) > 0 and not context.cancelled():
                time.sleep(min(left, PATIENCE_S))
            if context.cancelled():
                break
            said.append(f"{request.prompt.text}.{position} ")
            yield Token(position, token["id"], said[-1], token["logprob"], token["source"], {**token["detail"], "at": time.time()})
        yield Done("cancelled" if context.cancelled() else "length", "".join(said), {"n_tokens": len(said)})


def workbench_of(folder: Path, replay: Replay) -> Workbench:
    """The house as it is, but for the structured method, the models and the device."""
    rooms = dict(methods(folder))
    rooms["structured"] = replace(
        rooms["structured"], run=replay.run, check=no_findings, baselines=lambda request: [], warm=None, inspect=None,
        verdict=lambda records: Verdict(f"{len(records)} replayed"),
    )  # fmt: skip
    workbench = Workbench(folder, rooms, Unloaded(ModelPool(folder, assets_dir())), Store(folder))
    workbench.device = Hands()
    return workbench


def _is_ours(file: str) -> bool:
    """Whether code is the app's; packages may lie in an environment inside its folder."""
    return file.startswith(ROOT) and "site-packages" not in file


def alive() -> dict[str, Any]:
    """Threads, unfinished generators of ours, open databases, lock files, runs: what a closed page must not leave behind."""
    gc.collect()
    found = gc.get_objects()
    ours = [o for o in found if type(o) is GeneratorType and o.gi_frame is not None and _is_ours(o.gi_code.co_filename)]
    return {
        "threads": dict(Counter(t.name.rstrip("0123456789_-") for t in threading.enumerate() if not t.name.startswith(POOLED))),
        "generators": dict(Counter(o.gi_code.co_name for o in ours)),
        "databases": sum(type(o) is sqlite3.Connection for o in found),
        "locks": sum(_is_lock(link) for link in Path("/proc/self/fd").glob("*")) if Path("/proc/self/fd").is_dir() else 0,
        "runs": sum(type(o) is LiveRun for o in found),
    }


def _is_lock(link: Path) -> bool:
    try:
        return os.readlink(link).endswith(".lock")
    except OSError:
        return False  # closed meanwhile


def serve(build_app: Callable[[Workbench], Any], launch_options: Callable[[], dict[str, Any]], arguments: list[str]) -> None:
    """`arguments`: the folder, tokens a run, seconds a token."""
    workbench = workbench_of(Path(arguments[0]), Replay(int(arguments[1]), float(arguments[2])))
    demo = build_app(workbench)
    _, address, _ = demo.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **launch_options())
    _say(address)
    for line in sys.stdin:
        if line.strip() == "count":
            _say(json.dumps(alive()))
    demo.close()
    workbench.close()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
