"""The grammar worker (`python -m backend.structured.worker`): the only process that loads XGrammar, so that a hang can be killed.

Goes in: a vocabulary on stdin, then frames on an inherited socket (wire.py) with grammars and token ids. Comes out: answers in order,
and each mask as one byte a token in inherited shared pages. Knows nothing of models, limits or runs: its parent measures time
and memory and kills it. Ends when its parent does.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import xgrammar as xgr
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from backend.structured import wire
from backend.structured.grammar import JSON_KINDS, Grammar

# What XGrammar raises for a bad grammar; anything else is a bug of ours and ends the worker.
REFUSALS = (RuntimeError, ValueError, TypeError, MemoryError)
KEPT_GRAMMARS = 16
CACHE_BYTES = 256 * 2**20
MAX_BLANKS = 2
ANY_JSON = "true"
STDERR = 2
CONTROL = bytes(range(0x20))
CONTROL_BUT_LF = bytes(b for b in CONTROL if b != 0x0A)
# Lead bytes after which some continuation bytes make no character (surrogates, overlong forms, beyond U+10FFFF): RFC 3629, section 4.
NO_CHARACTER = {0xE0: (0x80, 0x9F), 0xED: (0xA0, 0xBF), 0xF0: (0x80, 0x8F), 0xF4: (0x90, 0xBF)}
TOKEN_MACRO = re.compile(r"\bToken\(([\d\s,]*)\)")


@dataclass
class Session:
    """One matcher, the pages its masks go to, and the ids that it may never take."""

    matcher: xgr.GrammarMatcher
    permitted: np.ndarray  # (ceil(V/32),) int32, bit i = id i is not forbidden outright
    page: np.ndarray  # (V,) uint8, shared with the parent
    begun: Mapping[int, np.ndarray]  # id that begins a character → (ceil(V/32),) int32, the ids that may go on with it
    follow: np.ndarray | None = None  # what may follow the last id, where its character is begun


@dataclass(frozen=True)
class Ready:
    """A compiled grammar, what the engine wrote to stderr about it, and the ids that it may ever allow."""

    compiled: xgr.CompiledGrammar
    said: str
    permitted: np.ndarray  # (ceil(V/32),) int32


@dataclass
class Vocabulary:
    """XGrammar's view of the tokenizer, its compilers, and per way of writing which ids are permitted at all."""

    info: xgr.TokenizerInfo
    specials: dict[int, str]
    stop_ids: tuple[int, ...]
    compiler: xgr.GrammarCompiler
    kept: OrderedDict[Grammar, Ready] = field(default_factory=OrderedDict)
    written: dict[bytes, np.ndarray] = field(default_factory=dict)  # control bytes → bool (V,)

    @property
    def size(self) -> int:
        return self.info.vocab_size

    def compile(self, grammar: Grammar) -> Ready:
        if grammar not in self.kept:
            self.kept[grammar] = Ready(*capture(lambda: self._compile(grammar)), self._permitted(grammar))
            if len(self.kept) > KEPT_GRAMMARS:
                self.kept.popitem(last=False)
        self.kept.move_to_end(grammar)
        return self.kept[grammar]

    def _compile(self, grammar: Grammar) -> xgr.CompiledGrammar:
        try:
            return compile_with(self.compiler, grammar)
        except RuntimeError as error:
            # An internal failure on bounds above 128 in a pattern; without the cache the same grammar compiles and holds.
            if "per_rule_fsm_hashes" not in str(error):
                raise
            return compile_with(xgr.GrammarCompiler(self.info, max_threads=1, cache_enabled=False), grammar)

    def _permitted(self, grammar: Grammar) -> np.ndarray:
        """(ceil(V/32),) int32: ids that this grammar may ever allow."""
        allowed = self.characters.copy()
        allowed[list(set(self.specials) - named_specials(grammar, self.specials))] = False
        if grammar.kind in JSON_KINDS:
            allowed &= self._free_of(CONTROL if grammar.whitespace == "fixed" else CONTROL_BUT_LF)
        allowed[list(self.stop_ids)] = True
        return packed(allowed)

    @cached_property
    def words(self) -> list[bytes]:
        """The bytes of each id."""
        return [word.encode() if isinstance(word, str) else bytes(word) for word in self.info.decoded_vocab]

    @cached_property
    def characters(self) -> np.ndarray:
        """(V,) bool: ids that hold no byte sequence that is no character. The engine takes those in strings."""
        wrong = re.compile(b"|".join(re.escape(bytes([lead])) + b"[" + re.escape(bytes([a])) + b"-" + re.escape(bytes([b])) + b"]"
                                     for lead, (a, b) in NO_CHARACTER.items()))  # fmt: skip
        return np.fromiter((wrong.search(word) is None for word in self.words), bool, self.size)

    @cached_property
    def begun(self) -> dict[int, np.ndarray]:
        """For each id that ends with such a lead byte: the ids that may follow, (ceil(V/32),) int32."""
        first = np.fromiter((word[0] if word else 0 for word in self.words), np.int32, self.size)
        follow = {lead: packed((first < a) | (first > b)) for lead, (a, b) in NO_CHARACTER.items()}
        return {i: follow[word[-1]] for i, word in enumerate(self.words) if word and word[-1] in follow}

    def _free_of(self, control: bytes) -> np.ndarray:
        """(V,) bool: ids whose bytes hold none of `control`. The engine lets raw control bytes into length-bounded strings."""
        if control not in self.written:
            clean = (len(word.translate(None, control)) == len(word) for word in self.words)
            self.written[control] = np.fromiter(clean, bool, self.size)
        return self.written[control]


def compile_with(compiler: xgr.GrammarCompiler, grammar: Grammar) -> xgr.CompiledGrammar:
    if grammar.kind in JSON_KINDS:
        return compiler.compile_json_schema(grammar.text or ANY_JSON, **whitespace(grammar))
    if grammar.kind == "regex":
        return compiler.compile_regex(grammar.text)
    if grammar.kind == "ebnf":
        return compiler.compile_grammar(grammar.text)
    return compiler.compile_structural_tag(grammar.text)


def parse(grammar: Grammar) -> None:
    """Syntax only: the grammar is read, but not matched against any vocabulary."""
    if grammar.kind in JSON_KINDS:
        xgr.Grammar.from_json_schema(grammar.text or ANY_JSON, **whitespace(grammar))
    elif grammar.kind == "regex":
        xgr.Grammar.from_regex(grammar.text)
    elif grammar.kind == "ebnf":
        xgr.Grammar.from_ebnf(grammar.text)
    else:
        try:
            xgr.Grammar.from_structural_tag(grammar.text)
        except RuntimeError as error:
            if "requires tokenizer_info" not in str(error):  # a token by name: only a vocabulary can say whether it exists
                raise


def whitespace(grammar: Grammar) -> dict[str, Any]:
    if grammar.whitespace == "fixed":
        return {"any_whitespace": False, "separators": (", ", ": ")}
    return {"any_whitespace": True, "max_whitespace_cnt": MAX_BLANKS}


def named_specials(grammar: Grammar, specials: dict[int, str]) -> set[int]:
    """Special ids that the grammar asks for: EBNF by `Token(5)`, a structural tag by number or by its text in any string."""
    if grammar.kind == "ebnf":
        return {int(n) for ids in TOKEN_MACRO.findall(grammar.text) for n in ids.replace(",", " ").split()}
    if grammar.kind != "structural_tag":
        return set()
    named, stack = set(), [json.loads(grammar.text)]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            numbers = [node.get("token"), *node.get("trigger_tokens", ())] if "type" in node else []
            named |= {number for number in numbers if type(number) is int}
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, str):
            named |= {i for i, text in specials.items() if text and text in node}
    return named


def packed(allowed: np.ndarray) -> np.ndarray:
    """(V,) bool → (ceil(V/32),) int32, the engine's layout: id 0 is the lowest bit of word 0."""
    padded = np.zeros(-(-len(allowed) // 32) * 32, bool)
    padded[: len(allowed)] = allowed
    return np.packbits(padded, bitorder="little").view(np.int32)


def capture(work: Callable[[], Any]) -> tuple[Any, str]:
    """What `work()` returns and what was written to file descriptor 2 meanwhile (a plain file that the parent gave)."""
    os.ftruncate(STDERR, 0)
    os.lseek(STDERR, 0, os.SEEK_SET)
    result = work()
    said = os.pread(STDERR, 1 << 16, 0)
    return result, said.decode("utf-8", "replace")


class Worker:
    """Answers frames one after another. Every handler returns `(operation, payload)`."""

    def __init__(self, channel: wire.Channel, pages: mmap.mmap) -> None:
        self._channel = channel
        self._pages = pages
        self._vocabulary: Vocabulary | None = None
        self._sessions: dict[int, Session] = {}
        self._handlers = {
            wire.SETUP: self._setup,
            wire.COMPILE: self._compile,
            wire.SYNTAX: self._syntax,
            wire.OPEN: self._open,
            wire.PUSH: self._push,
            wire.RESET: self._reset,
        }

    def serve(self) -> None:
        """Until the parent closes its end (`EOFError`)."""
        while True:
            op, payload = self._channel.receive()  # type: ignore[misc]  # no timeout: always a frame
            if op == wire.CLOSE:
                self._sessions.pop(payload[0], None)
                continue
            try:
                answer = self._handlers[op](payload)
            except REFUSALS as error:
                answer = wire.ERROR, str(error).encode("utf-8", "replace")
            self._channel.send(*answer)

    def _setup(self, payload: bytes) -> tuple[int, bytes]:
        """Stdin holds the tokenizer as tokenizer.json, or the engine's serialized form, or nothing (syntax only)."""
        text = sys.stdin.read()
        if not text:
            return wire.OK, b""
        data = json.loads(text)
        if "serialized" in data:
            info = xgr.TokenizerInfo.deserialize_json(data["serialized"])
        else:
            tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(data["tokenizer"]))
            info = xgr.TokenizerInfo.from_huggingface(tokenizer, vocab_size=data["vocab_size"], stop_token_ids=data["stop_ids"])
        threads = max(1, (os.cpu_count() or 2) // 2)
        compiler = xgr.GrammarCompiler(info, max_threads=min(8, threads), cache_limit_bytes=CACHE_BYTES)
        specials = {int(i): text for i, text in data["specials"].items()}
        self._vocabulary = Vocabulary(info, specials, tuple(data["stop_ids"]), compiler)
        return wire.OK, info.serialize_json().encode() if "tokenizer" in data else b""

    def _compile(self, payload: bytes) -> tuple[int, bytes]:
        started = time.perf_counter()
        said = self._vocabulary.compile(Grammar(**json.loads(payload))).said
        return wire.OK, timed(started, said)

    def _syntax(self, payload: bytes) -> tuple[int, bytes]:
        started, grammar = time.perf_counter(), Grammar(**json.loads(payload))
        return wire.OK, timed(started, capture(lambda: parse(grammar))[1])

    def _open(self, payload: bytes) -> tuple[int, bytes]:
        """Start a session in a slot; answers with its first mask."""
        started, data = time.perf_counter(), json.loads(payload)
        ready = self._vocabulary.compile(Grammar(**data["grammar"]))
        size, slot = self._vocabulary.size, data["slot"]
        page = np.frombuffer(self._pages, np.uint8, size, offset=slot * size)
        session = Session(xgr.GrammarMatcher(ready.compiled), ready.permitted, page, self._vocabulary.begun)
        self._sessions[slot] = session
        return wire.STEP, fill(session, started, accepted=True)

    def _push(self, payload: bytes) -> tuple[int, bytes]:
        started = time.perf_counter()
        slot, token_id = wire.PUSH_BODY.unpack(payload)
        session = self._sessions[slot]
        return wire.STEP, fill(session, started, accept(session, token_id))

    def _reset(self, payload: bytes) -> tuple[int, bytes]:
        """Start over and accept ids; stops at the first that is refused and says which."""
        started, session = time.perf_counter(), self._sessions[payload[0]]
        session.matcher.reset()
        session.follow = None
        refused = accept_all(session, np.frombuffer(payload, "<u4", offset=1).tolist())
        return wire.STEP, fill(session, started, refused < 0, refused)


def accept(session: Session, token_id: int) -> bool:
    """Take the id, if the last mask would have allowed it."""
    masks = [session.permitted] + ([session.follow] if session.follow is not None else [])
    if session.matcher.is_terminated() or not all(mask[token_id >> 5] >> (token_id & 31) & 1 for mask in masks):
        return False
    if not session.matcher.accept_token(token_id):
        return False
    session.follow = session.begun.get(token_id)
    return True


def accept_all(session: Session, ids: Iterable[int]) -> int:
    """The index of the first id that was refused, or -1."""
    return next((index for index, token_id in enumerate(ids) if not accept(session, token_id)), -1)


def fill(session: Session, started: float, accepted: bool, refused: int = -1) -> bytes:
    """Write the mask for the next token into the session's pages and say what is in it."""
    terminated = session.matcher.is_terminated()
    size = len(session.page)
    if terminated:
        session.page[:] = 0
    else:
        bits = np.full(len(session.permitted), -1, np.int32)
        session.matcher.fill_next_token_bitmask(bits)
        bits &= session.permitted
        if session.follow is not None:
            bits &= session.follow
        session.page[:] = np.unpackbits(bits.view(np.uint8), count=size, bitorder="little")
    allowed = session.page.view(bool)
    count = int(np.count_nonzero(allowed))
    only = int(allowed.argmax()) if count == 1 else -1
    return wire.STEP_BODY.pack(refused, count, only, terminated, accepted, (time.perf_counter() - started) * 1000)


def timed(started: float, said: str) -> bytes:
    return json.dumps({"ms": (time.perf_counter() - started) * 1000, "stderr": said}).encode()


def end_with_parent(parent: int) -> None:
    """A compile of minutes never looks at the socket; this thread sees that the parent has gone (the engine releases the GIL)."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def main(arguments: list[str]) -> None:
    """`worker SOCKET_FD PAGES_FD`"""
    sock, pages = socket.socket(fileno=int(arguments[0])), mmap.mmap(int(arguments[1]), 0)
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    try:
        Worker(wire.Channel(sock), pages).serve()
    except EOFError:
        os._exit(0)  # at once: nothing here is worth an orderly unwinding of torch


if __name__ == "__main__":
    main(sys.argv[1:])
