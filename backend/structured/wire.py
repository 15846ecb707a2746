"""The frames that the grammar worker and its parent exchange over a socket pair.

Goes in: an operation number and bytes. Comes out: the same pair at the other end, in order, one at a time. Both sides import
this file and nothing else in common; knows nothing of grammars, masks or processes.
"""

from __future__ import annotations

import select
import socket
import struct
import time

# What a parent asks for. The worker answers every request but CLOSE, in the order in which they came.
SETUP, COMPILE, SYNTAX, OPEN, PUSH, RESET, CLOSE = range(1, 8)
# What a worker answers.
OK, STEP, ERROR = range(100, 103)

HEADER = struct.Struct("<IB")  # payload bytes, operation
PUSH_BODY = struct.Struct("<II")  # slot, token id
STEP_BODY = struct.Struct("<iIiBBd")  # first refused index or -1, allowed ids, the only id or -1, terminated, accepted, ms
SLOTS = 16  # sessions that one worker can hold open: each has vocab_size bytes of the shared pages
CHUNK = 1 << 18
SPIN_S = 2e-4  # a step takes about 40 us: looking again and again for this long saves the 40 us that waking up costs


class Channel:
    """Whole frames over one stream socket; raises `EOFError` when the other end has gone."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def send(self, op: int, payload: bytes = b"") -> None:
        try:
            self._sock.sendall(HEADER.pack(len(payload), op) + payload)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise EOFError("the other end has gone") from error

    def receive(self, timeout_s: float | None = None) -> tuple[int, bytes] | None:
        """The next `(op, payload)`, or None if no whole frame came within `timeout_s` of silence."""
        while True:
            frame = self._take()
            if frame is not None:
                return frame
            if timeout_s is not None and not self._comes_within(timeout_s):
                return None
            try:
                data = self._sock.recv(CHUNK)
            except ConnectionResetError as error:
                raise EOFError("the other end has gone") from error
            if not data:
                raise EOFError("the other end has gone")
            self._buffer += data

    def _comes_within(self, timeout_s: float) -> bool:
        spin_until = time.perf_counter() + SPIN_S
        while time.perf_counter() < spin_until:
            if self._poll.poll(0):
                return True
        return bool(self._poll.poll(timeout_s * 1000))

    def _take(self) -> tuple[int, bytes] | None:
        if len(self._buffer) < HEADER.size:
            return None
        size, op = HEADER.unpack_from(self._buffer)
        end = HEADER.size + size
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[HEADER.size : end])
        del self._buffer[:end]
        return op, payload

    def close(self) -> None:
        self._sock.close()
