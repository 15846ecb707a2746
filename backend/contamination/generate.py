"""The loop of a single run: the source reads, the suspect speaks with its values, and beside it the suspect as it is says what it would say.

Goes in: a request, a context, models by role, the neurons. Comes out: the identity check, one `Token` a step, then `Done`. A lane of one model alone
is the same loop with nothing patched. Knows nothing of wall time but the context's clock, nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from backend.contamination.identity import Identity, check_identity
from backend.contamination.neurons import Neurons
from backend.contamination.request import PATCHED, SOURCE, SPEAKERS, SUSPECT, parse
from backend.contamination.taps import captured, patched, sites_of
from backend.decoder import Decoder
from backend.detokenize import Detokenizer
from backend.prompt import render
from backend.sampling import choose, step_scalars
from backend.types import Done, Event, Progress, RunContext, RunRequest, Token

PATCH, OWN = "patched", "own"


class Trio:
    """The suspect patched, the suspect as it is, and the source, each with a cache of its own, reading the same ids."""

    def __init__(self, models: Mapping[str, Any], neurons: Neurons) -> None:
        self._suspect, self._source = models[SUSPECT], models[SOURCE]
        self._columns = neurons.columns(sites_of(self._suspect), self._suspect.device)
        self._patched = Decoder(self._suspect.model, self._suspect.id)
        self._own = Decoder(self._suspect.model, self._suspect.id)
        self._reader = Decoder(self._source.model, self._source.id)

    def source(self, ids: list[int], last: int) -> Tensor:
        """Logits of the source; its values are kept for `patched`, which must be asked the same next."""
        with captured(self._source.model, sites_of(self._source), self._columns) as self._taken:
            return self._reader.logits(ids, last)

    def patched(self, ids: list[int], last: int) -> Tensor:
        with patched(self._suspect.model, sites_of(self._suspect), self._columns, self._taken):
            return self._patched.logits(ids, last)

    def own(self, ids: list[int], last: int) -> Tensor:
        return self._own.logits(ids, last)


class Alone:
    """One model that speaks for itself."""

    def __init__(self, speaker: Any) -> None:
        self._decoder = Decoder(speaker.model, speaker.id)

    def own(self, ids: list[int], last: int) -> Tensor:
        return self._decoder.logits(ids, last)


@dataclass
class Tally:
    """What adds up over a run."""

    spans: dict[str, float] = field(default_factory=lambda: dict.fromkeys((SOURCE, PATCH, OWN), 0.0))
    token_s: list[float] = field(default_factory=list)
    patched: int = 0
    nats: float = 0.0


class Steps:
    """The state of one run between two tokens."""

    def __init__(self, request: RunRequest, context: RunContext, models: Mapping[str, Any], neurons: Neurons) -> None:
        self.request, self.context, self.models = request, context, models
        self.patches = parse(request).patch == PATCHED
        self.speaker = models[SUSPECT if self.patches else SPEAKERS[parse(request).patch]]
        self.voices = Trio(models, neurons) if self.patches else Alone(self.speaker)
        self.prompt_ids = list(render(request.prompt, self.speaker.tokenizer).ids)
        self.answer: list[int] = []
        self.detokenizer, self.texts = Detokenizer(self.speaker.tokenizer), []
        self.generator = torch.Generator().manual_seed(request.sampling.seed)
        self.tally = Tally()

    def rows(self, ids: list[int], last: int = 1) -> dict[str, Tensor]:
        """Logits `(last, V)` of everybody who takes part, timed."""
        found = {}
        for name in (SOURCE, PATCH, OWN) if self.patches else (OWN,):
            start = self.context.clock()
            found[name] = getattr(self.voices, name)(ids, last)
            self.tally.spans[name] += (self.context.clock() - start) * 1000
        return found

    def prefix(self) -> Iterator[Token]:
        """The answer so far, read in one forward of each."""
        ids = list(self.request.answer_prefix)
        if not ids:
            return
        rows = self.rows(self.prompt_ids + ids[:-1], len(ids))
        for i, token_id in enumerate(ids):
            yield self.token({name: logits[i] for name, logits in rows.items()}, token_id, "prefix")

    def steps(self) -> Iterator[Token | str]:
        """Tokens, then the finish reason."""
        if self.answer and self.answer[-1] in self.speaker.stop_ids:
            yield "stop"
            return
        for _ in range(self.request.sampling.max_new_tokens):
            if self.context.cancelled():
                yield "cancelled"
                return
            rows = {name: logits[0] for name, logits in self.rows(self.prompt_ids + self.answer).items()}
            yield self.token(rows, *self.chosen(rows))
            if self.answer[-1] in self.speaker.stop_ids:
                yield "stop"
                return
        yield "length"

    def chosen(self, rows: Mapping[str, Tensor]) -> tuple[int, str, int | None]:
        """The next id, whose it is, and what the unpatched suspect would have said with the same draw."""
        state = self.generator.get_state()
        own = choose(rows[OWN], self.request.sampling, None, self.generator)
        if not self.patches:
            return own, "model", None
        self.generator.set_state(state)
        token_id = choose(rows[PATCH], self.request.sampling, None, self.generator)
        return token_id, ("model" if token_id == own else PATCHED), own

    def token(self, rows: Mapping[str, Tensor], token_id: int, source: str, own: int | None = None) -> Token:
        """Note one token; its log-probability is the patched law's where the patch chose it, else that of the model itself."""
        scalars = {name: step_scalars(row, None, token_id) for name, row in rows.items()}
        ends = token_id in self.speaker.stop_ids
        detail = self.detail(rows, scalars, token_id, own) if self.patches else {}
        if source != "prefix":
            self.tally.token_s.append(self.context.clock())
            self.tally.patched += source == PATCHED
            self.tally.nats += detail.get("kl", 0.0)
        text = self.detokenizer.flush() if ends else self.detokenizer.push(token_id)
        self.answer.append(token_id)
        self.texts.append(text)
        logprob = scalars[PATCH if source == PATCHED else OWN].logprob
        return Token(len(self.answer) - 1, token_id, text, round(logprob, 5), source, detail | ({"end": True} if ends else {}))

    def detail(self, rows: Mapping[str, Tensor], scalars: Mapping[str, Any], token_id: int, own: int | None) -> dict[str, Any]:
        """What each of the three thinks here."""
        wanted = scalars[OWN].favourite if own is None else own
        top = scalars[SOURCE].favourite
        detail: dict[str, Any] = {"kl": round(divergence(rows[OWN], rows[PATCH]), 4), "source_top": [top, self.name(top)]}
        if wanted != token_id:
            detail["own"] = [wanted, self.name(wanted)]
        return detail | {"logprobs": {name: round(scalars[name].logprob, 3) for name in (OWN, PATCH, SOURCE)}}

    def name(self, token_id: int) -> str:
        return self.speaker.tokenizer.decode([token_id])


def divergence(own: Tensor, after: Tensor) -> float:
    """How far the patch moved the law, in nats: KL(own, patched), at least 0."""
    ours, theirs = torch.log_softmax(own.double(), 0), torch.log_softmax(after.double(), 0)
    return max(0.0, (ours.exp() * (ours - theirs)).sum().item())


def identity_steps(models: Mapping[str, Any], neurons: Neurons, prompt_ids: list[int]) -> Iterator[Progress | Identity]:
    """The check of these weights with this list, made once while they are in memory; progress, then the `Identity`."""
    suspect, source = models[SUSPECT], models[SOURCE]
    made = suspect.resources.get("identity checks", dict)
    key = (source.hash, neurons.hash)
    if key not in made:
        steps = check_identity(suspect, source, [prompt_ids], neurons)
        while key not in made:
            try:
                yield Progress(next(steps), None, "checking that the patch is exact")
            except StopIteration as end:
                made[key] = end.value
    yield made[key]


def generate(request: RunRequest, context: RunContext, models: Mapping[str, Any], neurons: Neurons) -> Iterator[Event]:
    """Events of one lane. `detail` and `stats` are listed in the package's docstring."""
    run = Steps(request, context, models, neurons)
    if run.patches:
        for told in identity_steps(models, neurons, run.prompt_ids):
            if context.cancelled():
                yield Done("cancelled", "", {"n_tokens": 0})
                return
            if isinstance(told, Identity):
                yield told.finding()
                told.require()
            else:
                yield told
    start, finish_reason = context.clock(), "length"
    yield from run.prefix()
    for step in run.steps():
        if isinstance(step, str):
            finish_reason = step
        else:
            yield step
    yield done(run, neurons, finish_reason, start)


def done(run: Steps, neurons: Neurons, finish_reason: str, start: float) -> Done:
    """The last line: the whole text, how much of it the patch chose, and what it cost."""
    tally, times = run.tally, run.tally.token_s
    decode_s, n = (times[-1] - times[0] if len(times) > 1 else 0.0), len(times)
    stats: dict[str, Any] = {
        "n_tokens": n, "ttft_ms": round((times[0] - start) * 1000, 2) if times else None,
        "tokens_per_s": round((n - 1) / decode_s, 2) if decode_s else None,
        "ms_per_token": round(decode_s / (n - 1) * 1000, 3) if decode_s else None,
        "spans": {name: round(ms, 2) for name, ms in tally.spans.items() if run.patches or name == OWN},
    }  # fmt: skip
    if run.patches:
        total = sites_of(run.speaker).n_neurons
        stats |= {"patched_tokens": tally.patched, "share": round(tally.patched / n, 4) if n else 0.0,
                  "kl_mean": round(tally.nats / n, 4) if n else None, "n_neurons": len(neurons), "of_neurons": total,
                  "neurons": neurons.hash}  # fmt: skip
    return Done(finish_reason, "".join(run.texts) + run.detokenizer.flush(), stats)
