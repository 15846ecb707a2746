"""The grammar engine as the rest of Loupe sees it: compile a grammar, open a session, push a token, get a mask.

Goes in: a tokenizer, the width of the logits and every stop id; then grammars and token ids. Comes out: masks (one bool a
token, in shared memory), warnings, errors in plain words. XGrammar itself runs in a worker process under limits of time and
memory (worker.py); this side never imports it. Knows nothing of models, sampling or requests.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from backend.errors import EngineError, InvalidRequest, ModelError
from backend.structured import messages, wire
from backend.structured.grammar import FIELD, Grammar
from backend.structured.worker_process import POLL_S, Ticket, WorkerProcess
from backend.types import check_number

START_LIMIT_S = 60.0
START_SLACK_S = 1.5  # a compile that had to start the worker still ends within compile_s plus this, if half its time is left
CLOSED = "The grammar engine was closed."


@dataclass(frozen=True)
class Limits:
    """What the worker may take: seconds for a compile, seconds for a step, resident bytes at any time."""

    compile_s: float = 10.0
    step_s: float = 2.0
    memory_bytes: int = 2 * 2**30

    def __post_init__(self) -> None:
        check_number("limits.compile_s", self.compile_s, 0.1, 600)
        check_number("limits.step_s", self.step_s, 0.1, 600)
        check_number("limits.memory_bytes", self.memory_bytes, 2**29, 2**40, integer=True)


@dataclass(frozen=True)
class Compiled:
    """How long the worker took and what the engine warned of (keywords that it ignores)."""

    ms: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mask:
    """Which tokens may come next. `allowed` (V,) bool lies in shared memory and holds until the session's next push, reset or
    close. `count` 0 without `terminated` is a dead end. `forced` is the only allowed id. `ms` is the worker's time.
    `accepted` is False if the last push was refused; the mask is then that of the unchanged state."""

    allowed: torch.Tensor
    count: int
    forced: int | None
    ms: float
    terminated: bool
    accepted: bool


class GrammarEngine:
    """One worker, started when it is first needed and again after it was stopped. Safe to use from several threads; while one
    compiles, others wait. With `tokenizer=None` it only checks syntax (and a hanging preview can't disturb a run)."""

    def __init__(self, tokenizer: Any, vocab_size: int, stop_ids: Sequence[int], limits: Limits = Limits()) -> None:
        """`vocab_size` is the width of the logits; `stop_ids` are all ids that end an answer. Raises `ModelError` for a tokenizer
        without a fast form or for no stop id within the logits."""
        self.vocab_size = vocab_size
        self._limits = limits
        self._setup = None if tokenizer is None else vocabulary(tokenizer, vocab_size, stop_ids)
        self._lock = threading.RLock()
        self._worker: WorkerProcess | None = None
        self._reading: Ticket | None = None  # the worker reads the vocabulary
        self._free_slots: list[int] = []

    def start(self) -> None:
        """Begin to start the worker without waiting for it: the first compile then needn't."""
        with self._lock:
            self._living()

    def compile(self, grammar: Grammar) -> Compiled:
        """Compile and keep it. Raises `InvalidRequest` if the grammar is wrong, `EngineError` if it takes too much."""
        if self._setup is None:
            raise ValueError("an engine without a tokenizer can only check syntax")
        grammar = grammar.canonical()
        with self._lock:
            answer = self._ask(wire.COMPILE, grammar, "Compiling this grammar")
        return compiled(grammar, answer)

    def syntax(self, grammar: Grammar) -> Compiled:
        """Read the grammar without any vocabulary: milliseconds. Raises like `compile`."""
        grammar = grammar.canonical()
        with self._lock:
            answer = self._ask(wire.SYNTAX, grammar, "Reading this grammar")
        return compiled(grammar, answer)

    def session(self, grammar: Grammar) -> GrammarSession:
        """Compile, if need be, and stand before the first token. Raises like `compile`."""
        with self._lock:
            self.compile(grammar)
            worker = self._living()
            if not self._free_slots:
                raise EngineError(f"{wire.SLOTS} grammar sessions are open already; close one first.")
            return GrammarSession(self, worker, self._free_slots.pop(), grammar.canonical())

    def close(self) -> None:
        """Stop the worker, whoever waits for it. The engine can be used again."""
        while not self._lock.acquire(timeout=POLL_S):
            self._kill()  # again and again: the holder of the lock may only just have started it
        try:
            self._kill()
            self._worker = None
        finally:
            self._lock.release()

    def _kill(self) -> None:
        worker = self._worker
        if worker is not None:
            worker.kill(CLOSED)

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def lock(self) -> threading.RLock:
        """Held for the length of one call by the engine and its sessions."""
        return self._lock

    def give_back(self, worker: WorkerProcess, slot: int) -> None:
        """A session's slot is free again."""
        if worker is self._worker:
            self._free_slots.append(slot)

    def _living(self) -> WorkerProcess:
        if self._worker is None or not self._worker.alive:
            if self._worker is not None:
                self._worker.kill("XGrammar's process had ended.")
            pages = wire.SLOTS * self.vocab_size if self._setup is not None else 0
            stdin = b"" if self._setup is None else json.dumps(self._setup).encode()
            self._worker = WorkerProcess(pages, self._limits.memory_bytes, stdin)
            self._free_slots = list(range(wire.SLOTS))
            self._reading = self._worker.send(wire.SETUP, b"", START_LIMIT_S, "Starting XGrammar")
        return self._worker

    def _at_rest(self) -> WorkerProcess:
        """A worker that has read its vocabulary and answered everything; a new one, if another session's step had to be stopped."""
        worker = self._living()
        with contextlib.suppress(EngineError):
            worker.drain()
        worker = self._living()
        self._finish_reading(worker)
        return worker

    def _finish_reading(self, worker: WorkerProcess) -> None:
        """Wait for the imports and the vocabulary; later workers get the form that is read four times faster."""
        if self._reading is None:
            return
        reading, self._reading = self._reading, None
        op, payload = worker.wait(reading)
        if op == wire.ERROR:
            said = f"XGrammar can't read this model's vocabulary: {messages.explain('', payload.decode())}"
            worker.kill(said)
            raise ModelError(said)
        if payload and self._setup is not None:
            kept = {key: value for key, value in self._setup.items() if key != "tokenizer"}
            self._setup = {**kept, "serialized": payload.decode()}

    def _ask(self, op: int, grammar: Grammar, doing: str) -> bytes:
        """Send a grammar to a worker at rest and wait for what it says of it."""
        called = time.monotonic()
        worker = self._at_rest()
        waited, most = time.monotonic() - called, self._limits.compile_s
        limit_s = max(most / 2, min(most, most + START_SLACK_S - waited))
        op, payload = worker.wait(worker.send(op, json.dumps(asdict(grammar)).encode(), limit_s, doing))
        if op == wire.ERROR:
            raise InvalidRequest(str(messages.explain(grammar.kind, payload.decode(), grammar.text)), FIELD)
        return payload


class GrammarSession:
    """One answer under one grammar. `push` returns at once, so that the mask is computed while the model runs; `mask` waits.
    A context manager; closing frees its place in the worker. After the worker was stopped every call raises `EngineError`."""

    def __init__(self, engine: GrammarEngine, worker: WorkerProcess, slot: int, grammar: Grammar) -> None:
        self._engine, self._worker, self._slot, self._grammar = engine, worker, slot, grammar
        size = engine.vocab_size
        self._allowed = torch.frombuffer(worker.pages, dtype=torch.bool, count=size, offset=slot * size)  # (V,)
        self._mask: Mask | None = None
        self._open = True
        body = json.dumps({"slot": slot, "grammar": asdict(grammar)}).encode()
        self._pending: Ticket | None = self._send(wire.OPEN, body, engine.limits.step_s)

    def push(self, token_id: int) -> None:
        """Accept one id and begin to fill the next mask."""
        check_number("token_id", token_id, 0, self._engine.vocab_size - 1, integer=True)
        with self._engine.lock:
            self._settle()
            body = wire.PUSH_BODY.pack(self._slot, token_id)
            self._pending = self._send(wire.PUSH, body, self._engine.limits.step_s)

    def mask(self) -> Mask:
        """The mask after everything that was pushed. Raises `EngineError` past the limits of one step."""
        with self._engine.lock:
            self._settle()
            assert self._mask is not None
            return self._mask

    def reset(self, ids: Sequence[int]) -> Mask:
        """Start over and accept `ids`. An id that the grammar refuses raises `InvalidRequest` naming its index; the session
        then stands just before it."""
        for index, token_id in enumerate(ids):
            check_number(f"ids[{index}]", token_id, 0, self._engine.vocab_size - 1, integer=True)
        body = bytes([self._slot]) + b"".join(i.to_bytes(4, "little") for i in ids)
        with self._engine.lock:
            self._settle()
            self._pending = self._send(wire.RESET, body, self._engine.limits.step_s + len(ids) * 0.01)
            refused = self._settle()
            if refused >= 0:
                said = f"The grammar does not allow token {ids[refused]} at position {refused} of the answer."
                raise InvalidRequest(said, "answer_prefix")
            return self.mask()

    def close(self) -> None:
        """Free the place. A step that still runs is waited for, or stopped at its limit, so that nothing runs on unseen."""
        with self._engine.lock, contextlib.suppress(EngineError):
            if self._open:
                self._open = False
                self._engine.give_back(self._worker, self._slot)
                self._worker.drain()
                self._worker.notify(wire.CLOSE, bytes([self._slot]))

    def __enter__(self) -> GrammarSession:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _send(self, op: int, body: bytes, limit_s: float) -> Ticket:
        if not self._open:
            raise EngineError("This grammar session is closed.")
        return self._worker.send(op, body, limit_s, "A step of this grammar")

    def _settle(self) -> int:
        """Collect the answer that is on its way, if one is; the index that a reset refused, or -1."""
        if self._pending is None:
            return -1
        op, payload = self._worker.wait(self._pending)
        self._pending = None
        if op == wire.ERROR:
            self.close()
            raise EngineError(str(messages.explain(self._grammar.kind, payload.decode())))
        refused, count, only, terminated, accepted, ms = wire.STEP_BODY.unpack(payload)
        self._mask = Mask(self._allowed, count, only if only >= 0 else None, ms, bool(terminated), bool(accepted))
        return refused


def compiled(grammar: Grammar, answer: bytes) -> Compiled:
    data = json.loads(answer)
    return Compiled(data["ms"], messages.warnings_of(grammar.kind, data["stderr"]))


def vocabulary(tokenizer: Any, vocab_size: int, stop_ids: Sequence[int]) -> dict[str, Any]:
    """What the worker must know of a Hugging Face tokenizer."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError("This model's tokenizer has no fast form (tokenizer.json), which grammars need.")
    stops = sorted({int(i) for i in stop_ids if 0 <= i < vocab_size})
    if not stops:
        raise ModelError("This model names no stop token within its vocabulary, so an answer under a grammar could never end.")
    return {"tokenizer": backend.to_str(), "vocab_size": vocab_size, "stop_ids": stops, "specials": specials(tokenizer, vocab_size)}


def specials(tokenizer: Any, vocab_size: int) -> dict[int, str]:
    """Ids that stand for no text: special tokens, and logits beyond the vocabulary (models pad their heads)."""
    added = {i: token.content for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    named = {i: str(tokenizer.convert_ids_to_tokens(i)) for i in tokenizer.all_special_ids}
    known = set(tokenizer.get_vocab().values())
    empty = {i: "" for i in range(vocab_size) if i not in known}
    return {i: text for i, text in {**empty, **named, **added}.items() if i < vocab_size}
