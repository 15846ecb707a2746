"""The one place that validates, admits, runs, stamps and records.

Goes in: requests and contexts. Comes out: lines, and rows in the store. Panels, CLI, API and tests all run things here.
Knows methods only through `Method`, models only through the pool; never imports gradio.
"""

from __future__ import annotations

import json
import logging
import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from contextvars import copy_context
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from backend import examples
from backend.device import Device, Task
from backend.errors import InvalidRequest, WorkbenchError
from backend.gpu_turns import TurnLane, in_context, turn_steps
from backend.guard import Guard
from backend.history import History
from backend.inspection import Inspector
from backend.jobs import JobState, job_state
from backend.lane_lines import LaneJob, device_of, lane_lines, model_lines
from backend.live import LiveRun, Stream, lane_job
from backend.method import Method
from backend.model_service import ModelService
from backend.public import Limits
from backend.recorder import Recorder
from backend.resources import Resources
from backend.seam import NO_CALL, NO_CONTROL, Seam
from backend.shares import Shares
from backend.snapshots import Snapshots
from backend.store import Store, new_id
from backend.types import Done, Finding, Progress, Queued, RunContext, RunRequest, Verdict

log = logging.getLogger("loupe")
PACKAGES = ("torch", "transformers", "xgrammar", "gradio", "sqlite-utils")


class Workbench:
    """Everything behind the pages. `methods` maps name to method; `program` names this process to others ("the app")."""

    def __init__(self, data_dir: Path, methods: Mapping[str, Method], models: ModelService, store: Store, *, public: bool = False,
                 limits: Limits | None = None, program: str = "the app", clock: Callable[[], float] = time.perf_counter,
                 seam: Seam | None = None, snapshots: Snapshots | None = None) -> None:  # fmt: skip
        """`seam`: models are used there, in turns, and not in this process. `snapshots` are taken of the store from its first change on."""
        self.data_dir, self.methods, self.models, self.store, self.public = data_dir, dict(methods), models, store, public
        self.history, self.shares = History(store, self._going), Shares(store)
        self.resources = Resources()
        self.device = Device(data_dir, program, clock)
        self._clock, self.seam, self.snapshots = clock, seam, snapshots
        store.on_write = snapshots.changed if snapshots is not None else None
        self._runs: dict[str, LiveRun] = {}
        self._jobs: dict[str, Task] = {}
        self._inspector = Inspector(self)
        self.guard = Guard(self, limits or Limits())
        self.versions = {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()}

    def close(self) -> None:
        """End: short runs are cancelled, a running job is left to be resumed by the next start."""
        for run in list(self._runs.values()):
            if run.run_id not in self._jobs:
                run.stream.cancel()
        self.device.close()
        self.resources.close()
        self.models.close()
        if self.snapshots is not None:
            self.snapshots.close()
        self.store.close()

    # Before a run -------------------------------------------------------------------------------------------------------------

    def method(self, name: str) -> Method:
        if name not in self.methods:
            raise InvalidRequest(f"There is no method {name!r}; there are {', '.join(sorted(self.methods))}.", "method")
        return self.methods[name]

    def check(self, request: RunRequest, owner: str | None = None) -> list[Finding]:
        """What is known before the run; raises `InvalidRequest` when the request can't run as it is written, or not for this owner."""
        method = self.method(request.method)
        for role in method.roles:
            if role not in request.models:
                raise InvalidRequest(f"models.{role} is missing: {request.method} needs a model for it.", f"models.{role}")
        if self.public:
            self.guard.check(request, owner)
        return method.check(request, self.resources)

    def baselines(self, request: RunRequest) -> list[RunRequest]:
        return self.method(request.method).baselines(request)

    def lane(self, request: RunRequest) -> str:
        return self.method(request.method).lane(request)

    # Running ------------------------------------------------------------------------------------------------------------------

    def run(self, request: RunRequest, context: RunContext) -> Iterator[str]:
        """One run's lines. Closing the iterator cancels the run."""
        stream = Stream()
        found = self._allowed([request], context)[0]
        live = self._admit(request, replace(context, lane=context.lane or self.lane(request)), stream, found)
        self._submit(stream, lambda: self._kept([live], self._each([live])), live)
        return self._follow(stream)

    def run_group(self, requests: Sequence[RunRequest], context: RunContext) -> Iterator[str]:
        """The lines of one lane after another, then what their comparison says. A failed lane does not stop the others."""
        found = self._allowed(requests, context)
        stream, group = Stream(), context.group or new_id()
        lanes = [replace(context, group=group, lane=self.lane(request)) for request in requests]
        lives = [self._admit(*admitted) for admitted in zip(requests, lanes, [stream] * len(found), found, strict=True)]
        self._submit(stream, lambda: self._kept(lives, self._group_steps(lives, group)), lives[0])
        return self._follow(stream)

    def start_job(self, request: RunRequest, context: RunContext) -> str:
        """Start a job that outlives the page; returns its run id, to be followed or stopped."""
        if not self.method(request.method).job:
            raise InvalidRequest(f"{request.method} is a single run, not a job.", "method")
        if self.public:
            self.guard.check_jobs(context.owner)
        if self.seam is not None:
            self.seam.check_job(request)
        live = self._admit(request, replace(context, kept=True), Stream(), self._allowed([request], context)[0])
        self._submit_job(live)
        return live.run_id

    def resume_jobs(self) -> list[str]:
        """Go on with the jobs that an earlier process left unfinished; returns their run ids. A GPU turn is nobody's to go on with."""
        resumed: list[str] = []
        if self.seam is not None:
            return resumed
        for run_id in self.store.interrupted:
            record = self.store.find(run_id)
            if record.request.method in self.methods and self.methods[record.request.method].job:
                context = RunContext(record.owner, record.session, record.group, record.lane, record.parent_run_id, earlier=record.lines)
                live = LiveRun(run_id, record.request, context, Stream())
                self._runs[run_id] = live
                self._submit_job(live)
                resumed.append(run_id)
        return resumed

    def _allowed(self, requests: Sequence[RunRequest], context: RunContext) -> list[list[Finding]]:
        """The findings of requests that this owner may run, for which there is room now."""
        found = [self.check(request, context.owner) for request in requests]
        if self.public:
            self.guard.make_room(context.owner)
        return found

    def _going(self, run_ids: list[str]) -> None:
        """On a public instance what a run made goes with it; on one's own machine a router outlives its training."""
        if self.public:
            self.guard.remove_made(run_ids)

    def _admit(self, request: RunRequest, context: RunContext, stream: Stream, findings: list[Finding]) -> LiveRun:
        live = LiveRun(new_id(), request, context, stream, findings)
        self.store.start(live.run_id, request, context, self.versions)
        self._runs[live.run_id] = live
        return live

    def _submit(self, stream: Stream, steps: Callable[[], Iterator[None]], live: LiveRun) -> None:
        def on_wait(place: int, note: str) -> None:
            stream.emit(Queued(place, note).to_line(), False)

        self.device.submit(Task(_ending(self._for_caller(steps), stream), f"run {live.run_id}", on_wait, stream.cancelled))

    def _submit_job(self, live: LiveRun) -> None:
        def on_wait(place: int, note: str) -> None:
            live.stream.emit(Queued(place, note).to_line(), False)

        steps = _ending(self._for_caller(lambda: self._each([live], task)), live.stream)
        task = Task(steps, f"job {live.run_id}", on_wait, live.stream.cancelled, job=self.seam is None)  # a turn gives way to nobody
        self._jobs[live.run_id] = task
        self.device.submit(task)

    def _follow(self, stream: Stream) -> Iterator[str]:
        try:
            yield from stream.follow()
        finally:
            if not stream.ended:
                stream.cancel()

    def _for_caller(self, steps: Callable[[], Iterator[None]]) -> Callable[[], Iterator[None]]:
        """The same steps; a GPU turn among them is taken in the name of whoever asks now."""
        if self.seam is None:
            return steps
        caller = copy_context()
        return lambda: in_context(caller, steps())

    # On the device thread -----------------------------------------------------------------------------------------------------

    def _group_steps(self, lives: Sequence[LiveRun], group: str) -> Iterator[None]:
        """Every lane, then what their comparison says."""
        yield from self._each(lives)
        records, _ = self.store.group(group, lives[0].context.owner)
        if records:
            verdict = self.method(lives[0].request.method).verdict(records)
            self.store.set_verdict(group, verdict)
            lives[0].stream.emit(verdict_line(verdict, group))

    def _each(self, lives: Sequence[LiveRun], task: Task | None = None) -> Iterator[None]:
        """Warm every model up once, then one lane after another, here or in one GPU turn; Stop ends the group."""
        if self.seam is not None:
            lanes = [self._turn_lane(live, warm=live is lives[0]) for live in lives]
            yield from turn_steps(self.seam, lanes, lambda lane: self._end(lane.live, lane.recorder), lambda lane: self._forget(lane.live))
            return
        for live in lives:
            if live.stream.cancelled() and live is not lives[0]:
                self._forget(live)
                continue
            yield from self._steps(live, task, warm=live is lives[0])

    def _turn_lane(self, live: LiveRun, warm: bool) -> TurnLane:
        recorder = Recorder(self.store, live.run_id, live.stream.emit, self._clock)
        return TurnLane(live, self._lane_job(live, warm), recorder, self.store.running)

    def _kept(self, lives: Sequence[LiveRun], steps: Iterator[None]) -> Iterator[None]:
        """The same steps; runs that their owner does not want kept are gone after the last one."""
        try:
            yield from steps
        finally:
            for live in lives:
                if not live.context.kept:
                    self.store.discard(live.run_id)

    def _forget(self, live: LiveRun) -> None:
        """A lane that Stop kept from starting leaves no row."""
        self._runs.pop(live.run_id, None)
        self.store.delete(live.run_id, live.context.owner)

    def _steps(self, live: LiveRun, task: Task | None = None, warm: bool = True) -> Iterator[None]:
        """One run from loading to its row; the `finally` is the only place that records an end."""
        clock = (lambda: self._clock() - task.paused_s) if task else self._clock
        longest = self.guard.limits.max_job_s if self.public and task is not None else math.inf
        context = replace(live.context, clock=clock, cancelled=live.stopper(clock, longest), control=live.take)
        recorder = Recorder(self.store, live.run_id, live.stream.emit, clock)
        try:
            if live.stream.cancelled():
                recorder.write(Done("cancelled", ""))
                return
            job, method = self._lane_job(live, warm), self.method(live.request.method)
            ready = lane_lines(job, method, lambda: self._load(live, job, recorder), context)
            with self.models.holding(live.request.models), closing(ready) as lines:
                for line in lines:
                    recorder.take(line)
                    yield
        finally:
            self._end(live, recorder, left=task is not None and self.device.closing and recorder.outcome is None)

    def _end(self, live: LiveRun, recorder: Recorder, left: bool = False) -> None:
        if left:
            recorder.leave()
        else:
            recorder.finish(live.stream.cancelled())
        # last, so that whoever looks in between finds either the running lines or all the stored ones
        self._runs.pop(live.run_id, None)
        self._jobs.pop(live.run_id, None)

    def _lane_job(self, live: LiveRun, warm: bool) -> LaneJob:
        return lane_job(live, live.context.lane or self.lane(live.request), warm, self.no_control or None)

    def _load(self, live: LiveRun, job: LaneJob, recorder: Recorder) -> Mapping[str, Any]:
        """The models, warm; from here on the run counts as running, and its time too."""

        def progress(done: float, total: float | None, note: str) -> None:
            recorder.write(Progress(done, total, note))

        models = self.models.load_all(live.request.models, progress)
        warm = self.method(live.request.method).warm
        if job.warm and warm is not None:
            warm(live.request, models)
        lines = model_lines(models)
        self.store.running(live.run_id, lines, device_of(lines))
        recorder.restart_clock()
        return models

    # Looking inside, controls, jobs -------------------------------------------------------------------------------------------

    def inspect(self, run_id: str, position: int, k: int = 10, owner: str = "local") -> dict[str, Any]:
        """The step that chose the answer token at `position`, recomputed: the top k before and after the method's doing. `owner`: whose run
        it is, or the share id under which it may be read."""
        return self._inspector.inspect(run_id, position, k, owner)

    def branch(self, run_id: str, position: int, token_id: int, owner: str = "local") -> RunRequest:
        """The same request, continued from `position` with another token there."""
        return self._inspector.branch(run_id, position, token_id, owner)

    def control(self, run_id: str, name: str, value: Any) -> None:
        """Put a value in the run's mailbox; the method reads it at its next step."""
        if self.no_control:
            raise WorkbenchError(self.no_control)
        if run_id not in self._runs:
            raise WorkbenchError("This run has ended; its controls no longer do anything.")
        self._runs[run_id].post(name, value)

    @property
    def no_control(self) -> str:
        """Why a run that is under way can't be steered here; empty where it can."""
        return "" if self.seam is None else NO_CONTROL

    def follow(self, run_id: str) -> Iterator[str]:
        """The lines of a job that is under way, or the stored ones of a run that has ended."""
        live = self._runs.get(run_id)
        return live.stream.follow() if live is not None else iter(self.store.find(run_id).lines)

    def cancel(self, run_id: str) -> None:
        """Ask a run or a job to stop; it keeps what it has."""
        if run_id in self._runs:
            self._runs[run_id].stream.cancel()

    stop_job = cancel

    def jobs(self) -> list[JobState]:
        """Jobs that run or wait, the running one first."""
        return [job_state(self._runs[run_id], self.methods) for run_id in list(self._jobs) if run_id in self._runs]

    def lines(self, run_id: str, owner: str) -> list[str]:
        """The stored lines of a run of one's own."""
        return list(self.store.get(run_id, owner).lines)

    def prepare(self, request: RunRequest) -> None:
        """Load and warm up in the background what this request needs, so that the first run does not wait for it."""
        if self.seam is not None:
            return  # there is no GPU before somebody asks for a turn

        def steps() -> Iterator[None]:
            try:
                models = self.models.load_all(request.models)
                warm = self.method(request.method).warm
                if warm is not None:
                    warm(request, models)
            except WorkbenchError as error:
                log.info("not prepared: %s", error)  # whoever runs it will be told
            yield

        self.device.submit(Task(steps, "getting ready", lambda place, note: None, lambda: False))

    def call(self, work: Callable[[], Any], through_seam: bool = False) -> Any:
        """Do a short piece of model work on the device thread, in its turn, and return what it gives."""
        if self.seam is not None and not through_seam:
            raise WorkbenchError(NO_CALL)
        answer: Future[Any] = Future()

        def steps() -> Iterator[None]:
            try:
                answer.set_result(work())
            except Exception as error:  # carried over to the caller's thread and raised there
                answer.set_exception(error)
            yield

        self.device.submit(Task(self._for_caller(steps), "a look inside", lambda place, note: None, lambda: False))
        return answer.result()

    def examples(self) -> list[examples.Example]:
        return examples.load()


def verdict_line(verdict: Verdict, group: str) -> str:
    data = {"event": "verdict", "group": group, "sentence": verdict.sentence, "figures": dict(verdict.figures), "holds": verdict.holds}
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def _ending(steps: Callable[[], Iterator[None]], stream: Stream) -> Callable[[], Iterator[None]]:
    """The same steps; the stream ends with them, however they end."""

    def run() -> Iterator[None]:
        try:
            yield from steps()
        finally:
            stream.end()

    return run


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
