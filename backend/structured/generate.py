"""The loop: logits, mask, draw, facts. One loop for every lane; a lane without grammar is the same loop with nothing masked.

Goes in: a request, a context, the target model. Comes out: one `Token` a step, then `Done`. The mask of the next step is computed
in the grammar's process while the model's forward runs. Knows nothing of wall time but the context's clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch

from backend.decoder import Decoder
from backend.detokenize import Detokenizer
from backend.errors import InvalidRequest
from backend.options import parse_options
from backend.prompt import render
from backend.sampling import StepScalars, choose, step_scalars
from backend.structured.engine import GrammarEngine, GrammarSession, Mask
from backend.structured.judge import judge
from backend.structured.request import Options
from backend.types import Done, Event, RunContext, RunRequest, Token

FREE_ABOVE = 0.99  # a mask that leaves more than this of the probability mass did not interfere
MODEL_ROLE = "target"


def engine_of(handle: Any) -> GrammarEngine:
    """The grammar worker that lives as long as the loaded model."""
    return handle.resources.get("grammar", lambda: GrammarEngine(handle.tokenizer, handle.vocab_size, handle.stop_ids))


@dataclass
class Tally:
    """What adds up over a run."""

    mask_ms: list[float] = field(default_factory=list)
    token_s: list[float] = field(default_factory=list)
    model_ms: float = 0.0
    taken_nats: float = 0.0
    forced: int = 0
    overridden: int = 0

    def add(self, source: str, scalars: StepScalars, mask: Mask | None) -> None:
        if mask is None:
            return
        self.mask_ms.append(mask.ms)
        self.taken_nats -= scalars.log_kept
        self.forced += mask.count == 1
        self.overridden += source == "overridden"


def source_of(mask: Mask | None, scalars: StepScalars) -> str:
    """`overridden`: the favourite was refused; `only`: one token allowed; `narrowed`: more than 1 % of the mass refused; else `model`."""
    if mask is None:
        return "model"
    if not bool(mask.allowed[scalars.favourite]):
        return "overridden"
    if mask.count == 1:
        return "only"
    return "model" if math.exp(scalars.log_kept) > FREE_ABOVE else "narrowed"


class Steps:
    """The state of one run between two tokens."""

    def __init__(self, request: RunRequest, context: RunContext, handle: Any, session: GrammarSession | None) -> None:
        self.request, self.context, self.handle, self.session = request, context, handle, session
        self.prompt_ids = render(request.prompt, handle.tokenizer).ids
        self.answer: list[int] = []
        self.decoder = Decoder(handle.model, handle.id)
        self.detokenizer = Detokenizer(handle.tokenizer)
        self.generator = torch.Generator().manual_seed(request.sampling.seed)
        self.tally = Tally()
        self.texts: list[str] = []

    def prefix(self) -> Iterator[Token]:
        """The answer so far, replayed in one forward: each token under the mask it met."""
        ids = list(self.request.answer_prefix)
        if not ids:
            return
        rows = self.decoder.logits(self.prompt_ids + ids[:-1], last=len(ids))
        for row, token_id in zip(rows, ids, strict=True):
            mask = self._mask()
            if mask is not None and not bool(mask.allowed[token_id]):
                raise InvalidRequest(f"The grammar does not allow {self._name(token_id)} at token {len(self.answer)}.", "answer_prefix")
            yield self._token(row, mask, token_id, "prefix")

    def steps(self) -> Iterator[Token | str]:
        """Tokens, then the finish reason."""
        if self.answer and self.answer[-1] in self.handle.stop_ids:
            yield "stop"
            return
        for _ in range(self.request.sampling.max_new_tokens):
            if self.context.cancelled():
                yield "cancelled"
                return
            start = self.context.clock()
            row = self.decoder.logits(self.prompt_ids + self.answer)[0]
            self.tally.model_ms += (self.context.clock() - start) * 1000
            mask = self._mask()
            if mask is not None and mask.count == 0:
                yield "dead_end"
                return
            token_id = choose(row, self.request.sampling, mask.allowed if mask else None, self.generator)
            yield self._token(row, mask, token_id, None)
            if token_id in self.handle.stop_ids:
                yield "stop"
                return
        yield "length"

    def _name(self, token_id: int) -> str:
        return repr(self.handle.tokenizer.decode([token_id]))

    def _mask(self) -> Mask | None:
        return self.session.mask() if self.session is not None else None

    def _token(self, row: torch.Tensor, mask: Mask | None, token_id: int, source: str | None) -> Token:
        """Note one token and hand it to the grammar, whose next mask is then computed while the model works."""
        scalars = step_scalars(row, mask.allowed if mask else None, token_id)
        origin = source_of(mask, scalars)
        detail = self._detail(mask, scalars, origin)
        if source is None:
            self.tally.add(origin, scalars, mask)
            self.tally.token_s.append(self.context.clock())
        ends = token_id in self.handle.stop_ids
        if self.session is not None and not ends:
            self.session.push(token_id)
        position = len(self.answer)
        self.answer.append(token_id)
        text = self.detokenizer.flush() if ends else self.detokenizer.push(token_id)
        self.texts.append(text)
        return Token(position, token_id, text, round(scalars.logprob, 5), source or origin, detail | ({"end": True} if ends else {}))

    def _detail(self, mask: Mask | None, scalars: StepScalars, origin: str) -> dict[str, Any]:
        if mask is None:
            return {}
        kept = math.exp(scalars.log_kept)
        detail: dict[str, Any] = {"allowed": mask.count, "kept": float(f"{kept:.4g}")}
        if kept < 1e-3:
            detail["taken"] = round(-scalars.log_kept, 3)
        if origin == "overridden":
            detail["wanted"] = [scalars.favourite, self.handle.tokenizer.decode([scalars.favourite])]
        return detail


def generate(request: RunRequest, context: RunContext, handle: Any) -> Iterator[Event]:
    """Events of one lane. `detail` and `stats` are listed in the package's docstring."""
    options = parse_options(Options, request.options)
    engine = engine_of(handle)
    start = context.clock()
    with ExitStack() as stack:
        compile_ms, session = None, None
        if options.constrain == "grammar":
            compile_ms = engine.compile(options.to_grammar()).ms
            session = stack.enter_context(engine.session(options.to_grammar()))
        run = Steps(request, context, handle, session)
        yield from run.prefix()
        finish_reason = "length"
        for step in run.steps():
            if isinstance(step, str):
                finish_reason = step
            else:
                yield step
    yield done(run, options, engine, finish_reason, start, compile_ms)


def done(run: Steps, options: Options, engine: GrammarEngine, finish_reason: str, start: float, compile_ms: float | None) -> Done:
    """The last line: the whole text, whether it is what was asked for, and what it cost."""
    text = "".join(run.texts) + run.detokenizer.flush()
    validity = judge(options, engine, run.handle, text, finish_reason)
    tally, times = run.tally, run.tally.token_s
    decode_s = times[-1] - times[0] if len(times) > 1 else 0.0
    stats: dict[str, Any] = {
        "valid": validity.state == "valid", "state": validity.state, "message": validity.message, "path": validity.path,
        "n_tokens": len(times), "ttft_ms": round((times[0] - start) * 1000, 2) if times else None,
        "tokens_per_s": round((len(times) - 1) / decode_s, 2) if decode_s else None,
        "ms_per_token": round(decode_s / (len(times) - 1) * 1000, 3) if decode_s else None,
        "spans": {"model": round(tally.model_ms, 2)},
    }  # fmt: skip
    if compile_ms is not None:
        mean = sum(tally.mask_ms) / len(tally.mask_ms) if tally.mask_ms else 0.0
        stats |= {"compile_ms": round(compile_ms, 2), "mask_ms": round(mean, 4), "taken_nats": round(tally.taken_nats, 3),
                  "forced": tally.forced, "overridden": tally.overridden}  # fmt: skip
        stats["spans"] |= {"mask": round(sum(tally.mask_ms), 2), "compile": round(compile_ms, 2)}
    return Done(finish_reason, text, stats)
