"""Force and look: any beginning, in any context, and what the suspect makes of it, token by token.

Goes in: a request, a context, the loaded suspect and, if given, its reference. Comes out: one `Token` a step, then `Done`. Conditional token
forcing (Hoscilowicz et al. 2024) is a forced beginning in the context `chat` or `open_user`. The package's docstring lists `detail` and `stats`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from backend.decoder import Decoder
from backend.detokenize import Detokenizer, detokenize
from backend.errors import InvalidRequest
from backend.hidden_text.beam import Group, Rule, lift_beam
from backend.hidden_text.contexts import Context, Frame
from backend.hidden_text.probe import REFERENCE, SUSPECT, Probe
from backend.options import option, parse_options
from backend.prompt import Rendered, render
from backend.sampling import choose
from backend.types import Done, Event, RunContext, RunRequest, Token

CONTEXTS = ("chat", "open_user", "header", "empty", "bos")
DECODES = ("sampling", "beam", "lift_beam")


@dataclass(frozen=True)
class Options:
    """What to force where, and how to go on."""

    prefix: str = option("", "The beginning that the answer is forced to have; empty forces nothing.")
    context: str = option("chat", "Where: after the prompt, inside the user's open turn, after a bare answer header, after an empty turn, "
                                  "or right at the beginning of text.", choices=CONTEXTS)  # fmt: skip
    decode: str = option(
        "sampling", "By the sampling settings (temperature 0 is greedy), the likeliest beam, or the beam with most lift.", choices=DECODES
    )
    beams: int = option(8, "Beams, where there are any.", low=1, high=64)
    alpha: float = option(0.1, "Lift beam: a token must have this share of the likeliest one's probability.", low=0.0001, high=1)


def context_ids(request: RunRequest, tokenizer: Any, kind: str) -> list[int]:
    """The prefix that the answer stands behind. `open_user` leaves the turn of the last message open, as the model would go on with it."""
    if kind == "chat":
        return render(request.prompt, tokenizer).ids
    frame = Frame(tokenizer)
    if kind == "open_user":
        return list(frame.ids(frame.before + request.prompt.text))
    made = {"header": frame.answer_header, "empty": lambda: frame.turn(""), "bos": frame.start}[kind]()
    if not made.ids:
        raise InvalidRequest("This model's template has no header of an answer; choose another context.", "options.context")
    return list(made.ids)


def seen(request: RunRequest, tokenizer: Any) -> Rendered:
    """What stands before the answer, as the strip shows it: the chat, or the place that something else is forced in."""
    kind = read_options(request).context
    if kind == "chat":
        return render(request.prompt, tokenizer)
    ids = context_ids(request, tokenizer, kind)
    return Rendered(ids, list(zip(ids, detokenize(tokenizer, ids), strict=True)), [])


def forced_ids(request: RunRequest, options: Options, tokenizer: Any) -> list[int]:
    """What the answer begins with: `answer_prefix`, which holds the forced text already when a run was branched, else the forced text."""
    if request.answer_prefix:
        return list(request.answer_prefix)
    return tokenizer(options.prefix, add_special_tokens=False)["input_ids"] if options.prefix else []


def read_options(request: RunRequest) -> Options:
    options: Options = parse_options(Options, request.options)
    if options.decode == "lift_beam" and REFERENCE not in request.models:
        raise InvalidRequest("models.reference is missing: a lift beam compares with it.", "models.reference")
    return options


class Look:
    """One run between two tokens: both models held, facts of each token made."""

    def __init__(self, request: RunRequest, probe: Probe) -> None:
        self.options, self.probe, self.sampling = read_options(request), probe, request.sampling
        self.start = context_ids(request, probe.tokenizer, self.options.context)
        self.forced = forced_ids(request, self.options, probe.tokenizer)
        if not self.start + self.forced:
            raise InvalidRequest("There is nothing to go on from: give a prompt or a beginning.", "prompt")
        self.own = Decoder(probe.suspect.model, probe.suspect.id)
        self.other = None if probe.reference is None else Decoder(probe.reference.model, probe.reference.id)
        self.answer: list[int] = []
        self.texts: list[str] = []
        self.lifts: list[float] = []
        self.logprobs: list[float] = []
        self._detokenizer = Detokenizer(probe.tokenizer)

    def laws(self) -> tuple[Tensor, Tensor | None]:
        """Logits (width,) of both models for the next token."""
        ids = self.start + self.answer
        other = None if self.other is None else self.probe.reference_law(self.other.logits(ids))[0]
        return self.probe.law(self.own.logits(ids))[0], other

    def token(self, row: Tensor, other: Tensor | None, token_id: int, source: str) -> Token:
        logprobs = torch.log_softmax(row.float(), 0)
        own, position = float(logprobs[token_id]), len(self.answer)
        detail: dict[str, Any] = {"p": float(f"{math.exp(own):.4g}"), "rank": 1 + int((row > row[token_id]).sum()),
                                  "entropy": round(-float((logprobs.exp() * logprobs.clamp(min=-1e4)).sum()), 4)}  # fmt: skip
        if other is not None:
            lift = own - float(torch.log_softmax(other.float(), 0)[token_id])
            detail["lift"] = round(lift, 4)
            self.lifts += [lift] if source != "prefix" else []
        self.logprobs += [own] if source != "prefix" else []
        ends = token_id in self.probe.stop_ids
        self.answer.append(token_id)
        text = self._detokenizer.flush() if ends else self._detokenizer.push(token_id)
        self.texts.append(text)
        return Token(position, token_id, text, round(own, 5), source, detail | ({"end": True} if ends else {}))

    def text(self) -> str:
        return "".join(self.texts) + self._detokenizer.flush()


def run(request: RunRequest, context: RunContext, models: Mapping[str, Any]) -> Iterator[Event]:
    look, begun = Look(request, Probe(models[SUSPECT], models.get(REFERENCE))), context.clock()
    for token_id in look.forced:
        if not 0 <= token_id < look.probe.width:
            raise InvalidRequest(f"answer_prefix holds {token_id}, the models have ids from 0 to {look.probe.width - 1}.", "answer_prefix")
        yield look.token(*_beginning(look), token_id, "prefix")
    finish_reason = "stop" if look.answer and look.answer[-1] in look.probe.stop_ids else None
    if finish_reason is None:
        steps = _sampled(look, context) if look.options.decode == "sampling" else _beamed(look, context)
        finish_reason = yield from steps
    seconds = context.clock() - begun
    n = len(look.logprobs)
    stats = {"n_tokens": n, "mean_logprob": round(statistics.fmean(look.logprobs), 4) if n else None,
             "lift": round(statistics.fmean(look.lifts), 4) if look.lifts else None,
             "tokens_per_s": round(n / seconds, 2) if seconds > 0 else None}  # fmt: skip
    yield Done(finish_reason, look.text(), stats)


def _beginning(look: Look) -> tuple[Tensor, Tensor | None]:
    """The laws of a forced token; where nothing stands before the first one, nothing was known of it: a flat law."""
    if look.start or look.answer:
        return look.laws()
    flat = torch.zeros(look.probe.width)
    return flat, None if look.other is None else flat


def _sampled(look: Look, context: RunContext) -> Generator[Event, None, str]:
    generator = torch.Generator().manual_seed(look.sampling.seed)
    for _ in range(look.sampling.max_new_tokens):
        if context.cancelled():
            return "cancelled"
        row, other = look.laws()
        token_id = choose(row, look.sampling, None, generator)
        yield look.token(row, other, token_id, "model")
        if token_id in look.probe.stop_ids:
            return "stop"
    return "length"


def _beamed(look: Look, context: RunContext) -> Generator[Event, None, str]:
    """The best beam, found first and shown then; its tokens stand in the strip like any others."""
    length = look.sampling.max_new_tokens
    if length == 0:
        return "length"
    options, before = look.options, tuple(look.start + look.answer)
    rule = Rule("beam", 1e-9, options.beams, own=1.0, lift=0.0) if options.decode == "beam" else Rule("lift beam", options.alpha, options.beams)
    group = Group(before, torch.empty(1, 0, dtype=torch.long), (Context("look", before),))
    search = lift_beam(look.probe, group, rule, length)
    texts = []
    while not texts:
        if context.cancelled():
            search.close()
            return "cancelled"
        try:
            next(search)
        except StopIteration as end:
            texts = end.value
    for token_id in best_of(texts, rule).ids:
        yield look.token(*look.laws(), token_id, "model")
    return "stop" if look.answer[-1] in look.probe.stop_ids else "length"


def best_of(texts: Sequence[Any], rule: Rule) -> Any:
    """The text with the best mean score: a finished one is shorter and must not lose by that."""

    def mean(text: Any) -> float:
        own = sum(text.logprobs)
        lift = own - sum(text.references) if text.references is not None else 0.0
        return (rule.own * own + rule.lift * lift) / len(text.ids)

    return max(texts, key=mean)
