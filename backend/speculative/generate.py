"""One lane: a request becomes rounds, rounds become lines.

Goes in: a request, a context, the target and, where it drafts, the draft model. Comes out: `Round`s and `Token`s, then `Done`.
`detail` and `stats` are listed in the package's docstring.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from backend.decoder import Decoder
from backend.detokenize import Detokenizer
from backend.errors import ModelError
from backend.options import parse_options
from backend.prompt import prompt_ids
from backend.sampling import step_scalars
from backend.speculative.costs import Costs, costs_of
from backend.speculative.drafters import check_target, make_drafter, verifies_trees, warnings_of
from backend.speculative.law import Walk, make_law
from backend.speculative.loop import Loop, Step
from backend.speculative.request import DRAFT, TARGET, Options
from backend.speculative.trace import summarize
from backend.types import Done, Event, Finding, Round, RunContext, RunRequest, Token


def generate(request: RunRequest, context: RunContext, models: Mapping[str, Any]) -> Iterator[Event]:
    """Events of one lane."""
    run = Lane(request, context, models)
    yield from (Finding("warning", {"text": text}) for text in run.warnings)
    yield from run.read()
    finish_reason = "length"
    for event in run.rounds():
        if isinstance(event, str):
            finish_reason = event
        else:
            yield event
    yield run.done(finish_reason)


class Lane:
    """The state of one run."""

    def __init__(self, request: RunRequest, context: RunContext, models: Mapping[str, Any]) -> None:
        self.request, self.context, self.handle = request, context, models[TARGET]
        self.options: Options = parse_options(Options, request.options)
        self.prompt_ids = prompt_ids(request.prompt, self.handle.tokenizer)
        self.costs: Costs = costs_of(self.handle, models.get(DRAFT))
        law = make_law(request.sampling, self.options.law)
        target = self._decoder()
        check_target(self.options, target)
        drafter = make_drafter(self.options, request.sampling, law, self.handle, models.get(DRAFT), self.costs)
        trees = verifies_trees(self.options, self.handle)
        self.warnings = warnings_of(self.options, self.prompt_ids, self.handle, models.get(DRAFT), trees)
        width = self.options.width if self.options.mode == "reproducible" else None
        self.loop = Loop(target, drafter, law, context.clock, width, trees)
        self.detokenizer = Detokenizer(self.handle.tokenizer)
        self.names: dict[int, str] = {}
        self.texts: list[str] = []
        self.answer: list[int] = []
        self.lines: list[dict[str, Any]] = []
        self.spans = {"prefill": 0.0, "draft": 0.0, "verify": 0.0, "host": 0.0}
        self.start = context.clock()
        self.token_s: list[float] = []

    def _decoder(self) -> Decoder:
        if self.options.mode == "fast":
            return Decoder(self.handle.model, self.handle.id)
        n = len(self.prompt_ids) + len(self.request.answer_prefix) + self.request.sampling.max_new_tokens
        return Decoder(self.handle.model, self.handle.id, width=self.options.width, room=n + self.options.width)

    # Events -------------------------------------------------------------------------------------------------------------------

    def read(self) -> Iterator[Token]:
        """Prompt and prefix in one forward; then the first token, which that forward already knows."""
        prefix = list(self.request.answer_prefix)
        rows = self.loop.prefill(self.prompt_ids, prefix)
        for row, token_id in zip(rows, prefix, strict=False):
            yield self._token(token_id, step_scalars(row, None, token_id).logprob, "prefix", {})
        if self._ended() or self._left() < 1:
            return
        walk = self.loop.first(rows[-1])
        self.spans["prefill"] = (self.context.clock() - self.start) * 1000
        yield self._token(walk.emitted[0], walk.logprobs[0], "model", {"margin": _short(walk.margins[0])})

    def rounds(self) -> Iterator[Event | str]:
        """Rounds and their tokens, then the finish reason."""
        while True:
            if self._ended():
                yield "stop"
                return
            if self._left() < 1:
                return
            if self.context.cancelled():
                yield "cancelled"
                return
            step = self.loop.round(self._limit())
            yield from self._events(step)

    def _limit(self) -> int:
        """Most tokens to draft: what the answer has room for beside the round's own token, and what the model can still read."""
        reads = getattr(self.handle.model.config.get_text_config(decoder=True), "max_position_embeddings", None) or 10**9
        left = reads - len(self.loop.ids)
        if left < 0:
            raise ModelError(f"{self.handle.id} reads at most {reads} tokens; the answer has come to its end there.")
        return max(0, min(self._left() - 1, left))

    def _left(self) -> int:
        return self.request.sampling.max_new_tokens + len(self.request.answer_prefix) - len(self.answer)

    def _ended(self) -> bool:
        return bool(self.answer) and self.answer[-1] in self.handle.stop_ids

    def _events(self, step: Step) -> Iterator[Event]:
        line = self._round(step)
        self.lines.append({"drafted": line.drafted, "parents": line.parents, "accepted": line.accepted, "path": line.path})
        yield line
        n_accepted = len(step.walk.path)
        for i, token_id in enumerate(step.walk.emitted):
            accepted = i < n_accepted
            detail: dict[str, Any] = {"round": line.index, "margin": _short(step.walk.margins[i])}
            if accepted:
                detail["by"] = step.draft.by[step.walk.path[i]]
            yield self._token(token_id, step.walk.logprobs[i], "draft" if accepted else step.walk.kind, detail)
            if self._ended():
                return

    def _round(self, step: Step) -> Round:
        walk, spans = step.walk, {"draft": step.draft_ms, "verify": step.verify_ms, "host": step.host_ms}
        for name, ms in spans.items():
            self.spans[name] += ms
        drafted = [
            [token_id, self._name(token_id), _short(confidence), _short(p), by]
            for token_id, confidence, p, by in zip(walk.draft_ids, walk.confidence, walk.p, step.draft.by, strict=True)
        ]
        spans = {name: round(ms, 3) for name, ms in spans.items()}
        return Round(
            len(self.lines), len(self.answer), drafted, list(step.draft.parents), len(walk.path), list(walk.path), self._rejected(walk), spans
        )

    def _rejected(self, walk: Walk) -> dict[str, Any] | None:
        if walk.rejected is None:
            return None
        token_id = walk.draft_ids[int(walk.rejected["node"])]
        facts = {name: _short(value) for name, value in walk.rejected.items() if name != "node"}
        return {"id": token_id, "text": self._name(token_id), "node": walk.rejected["node"], **facts}

    def _token(self, token_id: int, logprob: float, source: str, detail: dict[str, Any]) -> Token:
        ends = token_id in self.handle.stop_ids
        if source != "prefix":
            self.token_s.append(self.context.clock())
        position = len(self.answer)
        self.answer.append(token_id)
        text = self.detokenizer.flush() if ends else self.detokenizer.push(token_id)
        self.texts.append(text)
        return Token(position, token_id, text, round(logprob, 5), source, detail | ({"end": True} if ends else {}))

    def _name(self, token_id: int) -> str:
        if token_id not in self.names:
            self.names[token_id] = self.handle.tokenizer.decode([token_id])
        return self.names[token_id]

    def done(self, finish_reason: str) -> Done:
        """The whole text and what it cost; counts come from the lines themselves."""
        n, times = len(self.token_s), self.token_s
        decode_s = times[-1] - times[0] if n > 1 else 0.0
        stats = {
            "drafter": self.options.drafter, "law": self.loop.law.name, "mode": self.options.mode, "n_tokens": n,
            **summarize(self.lines),
            "ttft_ms": round((times[0] - self.start) * 1000, 2) if times else None,
            "tokens_per_s": round((n - 1) / decode_s, 2) if decode_s else None,
            "ms_per_token": round(decode_s / (n - 1) * 1000, 3) if decode_s else None,
            "spans": {name: round(ms, 2) for name, ms in self.spans.items()},
            "costs": self.costs.to_json(),
        }  # fmt: skip
        return Done(finish_reason, "".join(self.texts) + self.detokenizer.flush(), stats)


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
