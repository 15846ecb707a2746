"""One thread that does all model work of a device, fed by a queue; short runs go before jobs.

Goes in: tasks, each a generator that yields where others may go first. Comes out: their side effects, one task at a time.
Two processes on one data directory share the device by a lock file. Knows nothing of models, requests or lines.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger("loupe")
POLL_S = 0.05
STALE_WAITER_S = 2.0
LONGEST_WAY_GIVEN_S = 30.0


class Task:
    """Something to do on the device. `steps()` is advanced until it ends; a job gives way after each step.

    `label` tells another process who holds the device; `on_wait(place, note)` is called while the task waits;
    `gone()` says that nobody wants it any more.
    """

    def __init__(self, steps: Callable[[], Iterator[None]], label: str, on_wait: Callable[[int, str], None], gone: Callable[[], bool],
                 job: bool = False) -> None:  # fmt: skip
        self.steps, self.label, self.on_wait, self.gone, self.job = steps, label, on_wait, gone, job
        self.paused_s = 0.0
        self.finished = threading.Event()


class Device:
    """The queue, the thread and the lock file of one data directory."""

    def __init__(self, data_dir: Path, program: str, clock: Callable[[], float] = time.perf_counter) -> None:
        self._lock_path, self._holder_path = data_dir / "device.lock", data_dir / "device.holder"
        self._waiter_path = data_dir / f"device.waiter.{os.getpid()}"
        self._lock = FileLock(self._lock_path, thread_local=False)
        self._program, self._clock = program, clock
        self._short: deque[Task] = deque()
        self._jobs: deque[Task] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._current: Task | None = None
        self._thread: threading.Thread | None = None

    def submit(self, task: Task) -> None:
        """Queue a task; the thread starts with the first one."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="device", daemon=True)
                self._thread.start()
            (self._jobs if task.job else self._short).append(task)
            self._changed.notify_all()
        self._tell_places()

    @property
    def closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Take no more tasks and let the thread end after the step it is in."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)

    # The thread ---------------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (task := self._next()) is not None:
            with self._machine(task):
                self._run(task)

    def _next(self) -> Task | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._short or self._jobs)
            if self._closed:
                return None
            return self._short.popleft() if self._short else self._jobs.popleft()

    def _run(self, task: Task) -> None:
        """Advance a task to its end. A task that breaks is logged and must not take the device with it."""
        self._current, before = task, self._current
        self._tell_places()
        try:
            with closing(task.steps()) as steps:
                for _ in steps:
                    if self._closed and task.job:
                        return  # left where it is, to be resumed
                    if task.job:
                        self._give_way(task)
        except Exception:
            log.exception("%s broke", task.label)
        finally:
            task.finished.set()
            self._current = before

    def _give_way(self, job: Task) -> None:
        """Let waiting short runs, here and in other processes, go first; the job's clock stands still meanwhile."""
        start = self._clock()
        while self._short:
            with self._changed:
                task = self._short.popleft()
            self._run(task)
        if self._others_wait():
            self._let_others(job)
        if self._clock() - start > 1e-3:
            job.paused_s += self._clock() - start

    def _tell_places(self) -> None:
        with self._changed:
            ahead = 1 if self._current is not None and not self._current.job else 0
            waiting = [(task, ahead + i) for i, task in enumerate(self._short)]
            running = 1 if self._current is not None else 0
            waiting += [(task, running + len(self._short) + i) for i, task in enumerate(self._jobs)]
        for task, place in waiting:
            if place:
                task.on_wait(place, "")

    # Other processes ----------------------------------------------------------------------------------------------------------

    @contextmanager
    def _machine(self, task: Task) -> Iterator[None]:
        """Hold the device's lock file; while another process has it, say who."""
        self._acquire(task)
        try:
            yield
        finally:
            self._lock.release()

    def _acquire(self, task: Task) -> None:
        told = ""
        while True:
            try:
                self._lock.acquire(timeout=0)
                break
            except Timeout:
                if task.gone():
                    self._waiter_path.unlink(missing_ok=True)
                    return  # without the lock: the task ends at once when it sees that it is not wanted
                if not task.job:
                    self._waiter_path.touch()
                note = f"waiting for {self._holder()}"
                if note != told:
                    told = note
                    task.on_wait(0, note)
                time.sleep(POLL_S)
        self._waiter_path.unlink(missing_ok=True)
        self._holder_path.write_text(json.dumps({"label": task.label, "program": self._program}))

    def _holder(self) -> str:
        try:
            holder = json.loads(self._holder_path.read_text())
        except (OSError, ValueError):
            return "another Loupe"
        return f"{holder['label']} in {holder['program']}"

    def _others_wait(self) -> bool:
        now = time.time()
        for path in self._lock_path.parent.glob("device.waiter.*"):
            try:
                if path != self._waiter_path and now - path.stat().st_mtime < STALE_WAITER_S:
                    return True
            except FileNotFoundError:
                continue
        return False

    def _let_others(self, job: Task) -> None:
        self._lock.release()
        end = time.monotonic() + LONGEST_WAY_GIVEN_S
        while self._others_wait() and time.monotonic() < end:
            time.sleep(POLL_S)
        self._acquire(job)
