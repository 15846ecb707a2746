"""The loop: propose, decide, let the large model catch up where it is asked. One loop for every lane.

Goes in: a request, a context, both models, their pair's report, perhaps a router. Comes out: one `Token` a step, opinions of the large
model as they become known, then `Done`. Knows nothing of wall time but the context's clock, nothing of files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from backend.detokenize import Detokenizer
from backend.errors import InvalidRequest
from backend.pairs import PairReport
from backend.passport import count_parameters
from backend.prompt import render
from backend.routing.costs import Costs
from backend.routing.request import LARGE, SMALL, Options, check_threshold, parse
from backend.routing.sides import CHUNK, Large, Opinion, Small
from backend.routing.strategies import Proposal, Strategy, propose, seeded
from backend.routing.tally import Tally, activated, prediction
from backend.types import Control, Done, Event, Finding, RunContext, RunRequest, Token

TWICE = "The small and the large model are the same one: whoever is asked says the same, and nothing is saved."
FULL = "The answer reached the end of the context that both models can read ({limit} tokens)."


class Run:
    """The state of one run between two tokens. `seq` is prompt and answer so far; `sources` the answer's authors."""

    def __init__(
        self, request: RunRequest, context: RunContext, models: Mapping[str, Any], pair: PairReport, router: Any | None, costs: Costs,
        typical: Sequence[float] = (),
    ) -> None:  # fmt: skip
        self.request, self.context, self.models, self.pair, self.router, self.costs = request, context, models, pair, router, costs
        self.options: Options = parse(request)
        if self.options.strategy == "neural" and router is None:
            raise ValueError("router must be a Router for the strategy neural, got None.")
        self.strategy = Strategy(self.options, request.sampling.seed, typical)
        self.tokenizer = models[LARGE].tokenizer if pair.template == models[LARGE].id else models[SMALL].tokenizer
        self.seq = list(render(request.prompt, self.tokenizer).ids)
        self.n_prompt = len(self.seq)
        self.small = Small(models[SMALL], pair, router is not None)
        self.large = Large(models[LARGE], pair)
        self.chance = {role: torch.Generator().manual_seed(seeded(request.sampling.seed, role)) for role in (SMALL, LARGE)}
        self.scorer = None if router is None else router.score
        self.detokenizer, self.texts = Detokenizer(self.tokenizer), []
        self.sources: list[str] = []
        self.names: dict[int, str] = {}
        self.tally = Tally()
        self.judging = self.options.opinions and self.strategy.name != "always"
        self.moves = self.options.recorded()

    @property
    def position(self) -> int:
        return len(self.sources)

    # Stages of a run ------------------------------------------------------------------------------------------------------------

    def events(self) -> Iterator[Event]:
        """Everything but the last line; the finish reason is the generator's value."""
        start = self.context.clock()
        yield from self.notes()
        yield from self.begin()
        reason = "length"
        for _ in range(self.request.sampling.max_new_tokens):
            if self.sources and self.seq[-1] in self.pair.stop_ids:
                break
            if self.context.cancelled():
                reason = "cancelled"
                break
            if self.pair.max_positions is not None and len(self.seq) > self.pair.max_positions:
                yield Finding("warning", {"text": FULL.format(limit=self.pair.max_positions)})
                break
            yield from self.controls()
            token, opinions = self.step()
            if self.tally.ttft_ms is None:
                self.tally.ttft_ms = (self.context.clock() - start) * 1000
            yield token
            yield from opinions
        if self.sources and self.seq[-1] in self.pair.stop_ids:
            reason = "stop"
        yield from self.last_opinions()
        return reason

    def notes(self) -> Iterator[Finding]:
        """What to know of the pair."""
        if self.models[SMALL].id == self.models[LARGE].id:
            yield Finding("warning", {"text": TWICE})
        for text in self.pair.warnings:
            yield Finding("warning", {"text": f"{text[:1].upper()}{text[1:]}."})

    def begin(self) -> Iterator[Event]:
        """Both models read the prompt, then what the answer already has."""
        prefix = list(self.request.answer_prefix)
        limit = self.pair.max_positions
        if limit is not None and self.n_prompt + len(prefix) > limit:
            words = f"The pair reads at most {limit} tokens, prompt and prefix have {self.n_prompt + len(prefix)}. Shorten the prompt."
            raise InvalidRequest(words, "prompt.messages")
        if self.strategy.needs_small:
            self.timed("prefill_small", lambda: self.small.read(self.seq))
        if self.strategy.needs_large:
            self.timed("prefill_large", lambda: self.large.read(self.seq, False))
        for piece in range(0, len(prefix), CHUNK):
            yield from self.take_prefix(prefix[piece : piece + CHUNK])
        for position in sorted(p for p in self.moves if p < len(prefix)):
            self.strategy.steer(self.moves[position])

    def take_prefix(self, ids: list[int]) -> Iterator[Event]:
        """Tokens that the answer came with, as the small model saw them (the large one, where it works alone), and its opinions of them."""
        told = self.timed("prefill_small", lambda: self.seen_by_small(ids)) if self.strategy.needs_small else [({}, 0.0)] * len(ids)
        first = len(self.seq)
        self.seq += ids
        opinions = self.timed("prefill_large", lambda: self.large.read(self.seq, True)) if self.strategy.needs_large else []
        by_large = {o.index: o.logprob for o in opinions}
        for i, (token_id, (detail, logprob)) in enumerate(zip(ids, told, strict=True)):
            yield self.token(token_id, "prefix", logprob if self.strategy.needs_small else by_large[first + i], detail)
        yield from self.said(opinions)

    def seen_by_small(self, ids: list[int]) -> list[tuple[dict[str, Any], float]]:
        """Detail and log-probability of each of these ids behind `seq`."""
        rows, hidden = self.small.row, self.small.hidden
        more, more_hidden = self.small.rows(self.seq + ids, len(ids))
        rows = torch.cat([rows, more])
        hidden = None if hidden is None else torch.cat([hidden, more_hidden])
        self.small.row, self.small.hidden = rows[-1:], None if hidden is None else hidden[-1:]
        found = []
        for i, token_id in enumerate(ids):
            step = self.propose(rows[i : i + 1], None if hidden is None else hidden[i : i + 1], token_id)
            score = None if self.strategy.name == "random" else self.strategy.score(step)
            found.append((said_of(step, score), step.logprob))
        return found

    def controls(self) -> Iterator[Event]:
        """A moved threshold, from the recording of a replay or from the page, applies from this token on."""
        if self.moves:
            asked = {"threshold": self.moves[self.position]} if self.position in self.moves else {}
        else:
            asked = self.context.control()
        for name, value in asked.items():
            if name != "threshold" or not self.options.scored:
                yield Finding("warning", {"text": f"The control {name} does nothing here: {self.strategy.name} has no {name} to move."})
                continue
            try:
                check_threshold(self.strategy.name, value, "threshold")
            except InvalidRequest as error:
                yield Finding("warning", {"text": f"{error} The old one stays."})
                continue
            if value != self.strategy.threshold:
                self.strategy.steer(value)
                yield Control("threshold", value, self.position)

    def step(self) -> tuple[Token, list[Finding]]:
        """One new token, and the opinions that became known with it."""
        clock = self.context.clock
        forced = self.strategy.forced(self.position)
        asks_small = self.strategy.name != "always" or forced == SMALL
        # 1. the small model reads the last token (all it has missed, where it was left out)
        start = clock()
        if asks_small:
            self.small.read(self.seq)
        read_s = clock()
        # 2. what it would say, and how much in doubt that is
        proposal = self.propose(self.small.row, self.small.hidden) if asks_small else None
        score = None if proposal is None else self.strategy.score(proposal)
        seen_s = clock()
        # 3. who says it; the oracle has to hear the large model first
        unread = len(self.seq) - self.large.n_read
        opinions = self.large.read(self.seq, self.judging) if self.strategy.name == "oracle" else []
        routed = self.strategy.wants_large(self.position, score, self.strategy.name == "oracle" and self.differ(proposal))
        to_large = forced == LARGE or (forced is None and routed)
        # 4. the token
        if to_large:
            opinions += self.large.read(self.seq, self.judging)
            token_id, logprob = self.large.choose(self.request.sampling, self.chance[LARGE])
        else:
            token_id, logprob = proposal.token_id, proposal.logprob
        parts = {"small": (read_s - start) * 1000, "router": (seen_s - read_s) * 1000, "large": (clock() - seen_s) * 1000}
        # 5. what is said of it
        detail = ({} if proposal is None else said_of(proposal, score)) | {"routed": routed} | ({"forced": True} if forced else {})
        if to_large:
            detail |= self.of_large(proposal, token_id, unread, parts)
        self.strategy.note(score, to_large)
        self.tally.note(parts, proposal is not None, to_large)
        token = self.token(token_id, LARGE if to_large else SMALL, logprob, detail)
        self.tally.step_ms.append((clock() - start) * 1000)
        return token, list(self.said(opinions))

    def differ(self, proposal: Proposal) -> bool:
        """Whether the two models have different favourites here; a proposal that was drawn need not be the small one's."""
        greedy = self.request.sampling.temperature == 0
        return self.large.ready.favourite != (proposal.token_id if greedy else int(self.small.row[0].argmax()))

    def of_large(self, proposal: Proposal | None, token_id: int, gap: int, parts: Mapping[str, float]) -> dict[str, Any]:
        """The detail that only a large token has."""
        self.tally.gaps.append(gap)
        replaced = proposal is not None and proposal.token_id != token_id
        detail = {"proposal": [proposal.token_id, self.name(proposal.token_id)]} if replaced else {}
        return detail | {"gap": gap, "spans": {name: round(ms, 3) for name, ms in parts.items()}}

    def last_opinions(self) -> Iterator[Finding]:
        """What the large model thinks of the tokens since it was last asked; timed apart, nobody waited for it."""
        if not self.judging or not self.sources or self.context.cancelled():
            return
        if self.large.ready is None:
            self.timed("opinions", lambda: self.large.read(self.seq[: self.n_prompt], False))
        last = len(self.seq) - 1
        while self.large.n_read < last and not self.context.cancelled():
            piece = self.seq[: min(self.large.n_read + CHUNK, last)]
            yield from self.said(self.timed("opinions", lambda ids=piece: self.large.read(ids, True)))
        if self.large.n_read == last:
            yield from self.said([self.timed("opinions", lambda: self.large.opinion(self.seq[-1]))])

    # Parts ----------------------------------------------------------------------------------------------------------------------

    def propose(self, row: torch.Tensor, hidden: torch.Tensor | None, token_id: int | None = None) -> Proposal:
        return propose(row, self.request.sampling, self.chance[SMALL], self.scorer, hidden, token_id)

    def token(self, token_id: int, source: str, logprob: float, detail: dict[str, Any]) -> Token:
        """Note one token; its text is what became certain with it."""
        ends = token_id in self.pair.stop_ids
        if source != "prefix":
            self.seq.append(token_id)
        text = self.detokenizer.flush() if ends else self.detokenizer.push(token_id)
        self.texts.append(text)
        self.sources.append(source)
        return Token(len(self.sources) - 1, token_id, text, round(logprob, 5), source, detail | ({"end": True} if ends else {}))

    def said(self, opinions: Sequence[Opinion]) -> Iterator[Finding]:
        """Opinions of tokens that the large model did not say itself."""
        for opinion in opinions:
            position = opinion.index - self.n_prompt
            source = self.sources[position]
            if source == LARGE or not self.judging:
                continue
            if source == SMALL:
                self.tally.n_opinions += 1
                self.tally.agreed += opinion.agrees
            told = {"position": position, "id": opinion.favourite, "text": self.name(opinion.favourite)}
            yield Finding("opinion", told | {"p_small_token": round(math.exp(opinion.logprob), 5), "agree": opinion.agrees})

    def name(self, token_id: int) -> str:
        """The text of one token by itself."""
        if token_id not in self.names:
            self.names[token_id] = self.tokenizer.decode([token_id])
        return self.names[token_id]

    def timed(self, span: str, work: Callable[[], Any]) -> Any:
        start = self.context.clock()
        found = work()
        self.tally.spans[span] += (self.context.clock() - start) * 1000
        return found

    def done(self, reason: str) -> Done:
        tally, options = self.tally, self.options
        params = {role: count_parameters(self.models[role].model) for role in (SMALL, LARGE)}
        params["router"] = 0 if self.router is None else self.router.n_parameters
        stats = {"strategy": options.strategy, **({} if self.strategy.threshold is None else {"threshold": self.strategy.threshold})}
        lazy = options.strategy not in ("always", "oracle")
        stats |= {"target_fraction": options.target_fraction, **tally.stats(), **prediction(tally, self.costs, lazy)}
        stats |= {"params": params, "activated_params": activated(tally.share, params)}
        return Done(reason, "".join(self.texts) + self.detokenizer.flush(), stats)


def said_of(step: Proposal, score: float | None) -> dict[str, Any]:
    """The detail of a token that the small model has seen."""
    return ({} if score is None else {"score": round(score, 5)}) | {"entropy": round(step.entropy, 4)}


def generate(
    request: RunRequest, context: RunContext, models: Mapping[str, Any], pair: PairReport, router: Any | None, costs: Costs,
    typical: Sequence[float] = (),
) -> Iterator[Event]:  # fmt: skip
    """The run's events. `router` has `score` and `n_parameters`; None for strategies that ask none. `typical`: scores that a budget's
    threshold starts from."""
    run = Run(request, context, models, pair, router, costs, typical)
    reason = yield from run.events()
    yield run.done(reason)
