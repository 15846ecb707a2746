"""One life of the grammar worker, watched: started by exec, fed in order, killed when it takes too much time or memory.

Goes in: requests with a time limit each. Comes out: their answers, or an `EngineError` in plain words after which this life is
over. Knows nothing of grammars; never imports XGrammar.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from backend.errors import EngineError
from backend.structured import messages, wire

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 0.03
SEND_LIMIT_S = 60.0  # a fresh worker reads nothing while it imports, and a grammar may be longer than the socket's buffer


@dataclass
class Ticket:
    """A request that was sent: how long its answer may take, what a person is told if it takes longer, and the answer."""

    limit_s: float
    doing: str
    answer: tuple[int, bytes] | None = None


class WorkerProcess:
    """A running worker with `page_bytes` of shared pages and `stdin` to read.
    `dead` holds the reason once it is over. Only `kill` is safe from any thread."""

    def __init__(self, page_bytes: int, memory_bytes: int, stdin: bytes = b"") -> None:
        self.dead: str | None = None
        self._memory_bytes = memory_bytes
        self._waiting: deque[Ticket] = deque()
        self.pages, pages_fd = shared_pages(page_bytes)
        ours, theirs = socket.socketpair()
        ours.settimeout(SEND_LIMIT_S)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the worker; closed by the finalizer
        with theirs, tempfile.TemporaryFile() as source:
            source.write(stdin)  # a file, not a frame: megabytes on the socket would block until the worker has imported
            source.seek(0)
            self._process = spawn(theirs.fileno(), pages_fd, source, self._stderr)
        os.close(pages_fd)
        self._channel = wire.Channel(ours)
        self._memory = psutil.Process(self._process.pid)
        # The socket is closed only when nobody can wait on it any more; until then a killed worker reads as end of file.
        weakref.finalize(self, release, self._process, ours, self._stderr)

    @property
    def alive(self) -> bool:
        return self.dead is None and self._process.poll() is None

    def send(self, op: int, payload: bytes, limit_s: float, doing: str) -> Ticket:
        """Ask without waiting. Raises `EngineError` if the worker has gone."""
        ticket = Ticket(limit_s, doing)
        self.notify(op, payload)
        self._waiting.append(ticket)
        return ticket

    def notify(self, op: int, payload: bytes) -> None:
        """Tell, where no answer comes."""
        self._check()
        try:
            self._channel.send(op, payload)
        except (EOFError, OSError):
            self._died()

    def wait(self, ticket: Ticket) -> tuple[int, bytes]:
        """The answer, after those that were asked for before it; each has its own limit."""
        while ticket.answer is None:
            self._check()
            self._waiting[0].answer = self._receive(self._waiting[0])
            self._waiting.popleft()
        return ticket.answer

    def drain(self) -> None:
        """Wait for everything that was asked for, so that the next limit counts from a worker at rest."""
        if self._waiting:
            self.wait(self._waiting[-1])

    def kill(self, reason: str) -> None:
        """End this life; whoever waits gets `EngineError`. Safe from any thread."""
        self.dead = self.dead or reason
        end(self._process)

    def _check(self) -> None:
        if self.dead is not None:
            raise EngineError(self.dead)

    def _receive(self, ticket: Ticket) -> tuple[int, bytes]:
        deadline = time.monotonic() + ticket.limit_s
        while True:
            try:
                answer = self._channel.receive(POLL_S)
            except (EOFError, OSError):
                self._died()
            if answer is not None:
                return answer
            self._watch(deadline, ticket)

    def _watch(self, deadline: float, ticket: Ticket) -> None:
        try:
            used = self._memory.memory_info().rss
        except psutil.NoSuchProcess:
            self._died()
        if used > self._memory_bytes:
            self._stop(f"{ticket.doing} took more than {size_words(self._memory_bytes)} of memory")
        if time.monotonic() > deadline:
            self._stop(f"{ticket.doing} was not finished after {ticket.limit_s:.3g} s")

    def _stop(self, why: str) -> None:
        self.kill(f"{why}; XGrammar was stopped. The next run starts a new one.")
        self._check()

    def _died(self) -> None:
        """Raises: the worker ended although nobody stopped it (or `kill` was called meanwhile, whose reason stands)."""
        end(self._process)
        if self.dead is None:
            said = last_line(self._stderr)
            self.dead = f"XGrammar's process ended by itself ({ending(self._process.returncode)}{said}). The next run starts a new one."
        self._check()


def shared_pages(n_bytes: int) -> tuple[mmap.mmap, int]:
    """Zeroed pages that a child maps through the file descriptor. They have no name, so nothing is left whoever dies first."""
    with tempfile.TemporaryFile(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as file:
        file.truncate(max(n_bytes, mmap.PAGESIZE))
        return mmap.mmap(file.fileno(), 0), os.dup(file.fileno())


def spawn(sock_fd: int, pages_fd: int, stdin: IO[bytes], stderr: IO[bytes]) -> subprocess.Popen[bytes]:
    """A new interpreter by exec, in a session of its own (Ctrl+C is the parent's affair), without the GPU."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "backend.structured.worker", str(sock_fd), str(pages_fd)],
        cwd=ROOT,
        env=environment,
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        pass_fds=(sock_fd, pages_fd),
        start_new_session=True,
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill and reap. The worker owns nothing that needs an orderly end."""
    if process.poll() is None:
        process.kill()
    process.wait()


def release(process: subprocess.Popen[bytes], sock: socket.socket, stderr: IO[bytes]) -> None:
    end(process)
    sock.close()
    stderr.close()


def last_line(stderr: IO[bytes]) -> str:
    """What the worker said last, without paths; it shares our file position, so read by offset."""
    size = os.fstat(stderr.fileno()).st_size
    lines = os.pread(stderr.fileno(), 2000, max(0, size - 2000)).decode("utf-8", "replace").split("\n")
    said = next((line for line in reversed(lines) if line.strip()), "")
    return f": {messages.explain('', said).message}" if said else ""


def ending(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    return f"signal {signal.Signals(-code).name}" if -code in list(signal.Signals) else f"signal {-code}"


def size_words(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.3g} GiB"
