"""A whole scan of one suspect: beams, forced tokens, counters, then one ranked list.

Goes in: a probe, options, a ledger, the run's context. Comes out: events, and an `Outcome`. Pure but for the ledger's folder: knows nothing of
artifacts, of nulls or of how a run is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from heapq import nlargest

import torch

from backend.hidden_text.beam import CONTRAST, LIFT, Group, Rule, groups, lift_beam
from backend.hidden_text.candidates import Candidate, describe
from backend.hidden_text.clusters import Ballot, Cluster, cluster
from backend.hidden_text.contexts import Context, Frame, beam_contexts, scan_contexts
from backend.hidden_text.counters import branch, leak
from backend.hidden_text.grams import GRAM
from backend.hidden_text.halving import plan
from backend.hidden_text.ledger import Ledger
from backend.hidden_text.pace import Pace, Stopped
from backend.hidden_text.probe import Probe
from backend.hidden_text.request import ScanOptions
from backend.hidden_text.scan import Level, Sweep, forced, scan, ticking, user_turn
from backend.hidden_text.texts import Text
from backend.hidden_text.vocabulary import Vocabulary, read_vocabulary
from backend.types import Event, Finding, RunContext

WAVE = 48  # beam contexts that all rules go through before the next ones, so that a scan cut short has tried every rule
GROUP = 16  # contexts in one rectangle
SHARES = {"beam": 0.25, "forced": 0.5, "counters": 0.25}  # of the time
SHOWN_LIVE, SHOWN_OF = 10, 200  # candidates, and the texts they are made of: a look on the way must cost little
SHOW_EVERY_S = 5.0
KEPT_OF_LEVEL = 200
USER_DEPTH = 12

Work = Callable[[Context], Generator[None, None, list[Text]]]


@dataclass
class Outcome:
    """What a scan found. `cut` names the parts that the time did not suffice for; `rates` are tokens a second by part."""

    clusters: list[Cluster] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    rates: dict[str, float] = field(default_factory=dict)
    n_starts: int = 0
    n_contexts: int = 0
    n_texts: int = 0
    cancelled: bool = False

    @property
    def score(self) -> float | None:
        """The alarm: the highest certain lift, of whichever cluster. Not the score of the first: that ranks, and ranks high what many starts fall
        into, such as the mannerism of any fine-tune."""
        return max((cluster.certainty for cluster in self.clusters), default=None)


class Audit:
    """One scan under way."""

    def __init__(self, probe: Probe, options: ScanOptions, ledger: Ledger, context: RunContext, seed: int = 0) -> None:
        self._probe, self._options, self._ledger, self._context, self._seed = probe, options, ledger, context, seed
        self._frame = Frame(probe.tokenizer)
        self._vocabulary = read_vocabulary(probe.tokenizer, probe.width)
        self._texts: list[Text] = []
        self._ballot = Ballot()
        self._shown_at = context.clock()
        self.outcome = Outcome()

    @property
    def vocabulary(self) -> Vocabulary:
        return self._vocabulary

    def run(self) -> Generator[Event, None, Outcome]:
        """Everything that the options ask for. A cancelled scan ranks what it has."""
        try:
            yield from self._parts()
        except Stopped:
            self.outcome.cancelled = True
        self.outcome.clusters = cluster(self._texts, self._ballot)
        pace = Pace(self._context, "reading the candidates again", self._options.keep)
        self.outcome.n_texts = len(self._texts)
        try:
            self.outcome.candidates = yield from ticking(describe(self._probe, self.outcome.clusters, self._options.keep, self._vocabulary.ids), pace)
        except Stopped:
            self.outcome.cancelled = True
        return self.outcome

    def _parts(self) -> Generator[Event, None, None]:
        wanted = {"beam": self._options.beam and self._probe.reference is not None, "forced": self._options.forced,
                  "counters": self._options.counters}  # fmt: skip
        parts = [name for name, on in wanted.items() if on]
        left = sum(SHARES[name] for name in parts)
        end = self._context.clock() + self._options.budget_s
        for name in parts:
            now = self._context.clock()
            deadline = now + max(0.0, end - now) * SHARES[name] / left if self._options.budget_s else None
            left -= SHARES[name]
            yield from {"beam": self._beam, "forced": self._forced, "counters": self._counters}[name](deadline)
            yield from self._show(now=True)

    # Beams ----------------------------------------------------------------------------------------------------------------------

    def _beam(self, deadline: float | None) -> Generator[Event, None, None]:
        yield from self._beams("beam", LIFT, self._options.beam_contexts, deadline)

    def _beams(self, part: str, rules: Sequence[Rule], most: int, deadline: float | None) -> Generator[Event, None, None]:
        contexts = beam_contexts(self._frame, most)
        pace = Pace(self._context, rules[0].found_by, len(contexts) * sum(r.beams for r in rules) * self._length, deadline)
        for wave in range(0, len(contexts), WAVE):
            for rule in rules:
                for number, group in enumerate(groups(contexts[wave : wave + WAVE], GROUP)):
                    if pace.spent():
                        return self._cut(part)
                    name = f"beam-{rule.alpha:g}-{rule.beams}-{rule.own:g}-{self._length}-{most}-{wave}-{number}"
                    yield from self._texts_of(name, lift_beam(self._probe, group, rule, self._length), pace, self._cost(group, rule))
            self.outcome.n_contexts = max(self.outcome.n_contexts, min(len(contexts), wave + WAVE))
        self.outcome.rates[part] = round(pace.rate, 1)

    @property
    def _length(self) -> int:
        return self._options.beam_length

    def _cost(self, group: Group, rule: Rule) -> int:
        return len(group.contexts) * rule.beams * self._length

    def _texts_of(self, name: str, steps: Generator[None, None, list[Text]], pace: Pace, cost: float) -> Generator[Event, None, None]:
        """Texts of one piece of work, from the ledger if they are there."""
        held = self._ledger.read_texts(name)
        texts = (yield from ticking(steps, pace)) if held is None else held
        if held is None:
            self._ledger.write_texts(name, texts)
        pace.add(cost, fresh=held is None)
        self._take([text.cut(self._probe.stop_ids) for text in texts])
        yield from self._show()

    # Forced tokens --------------------------------------------------------------------------------------------------------------

    def _forced(self, deadline: float | None) -> Generator[Event, None, None]:
        sweeps = [forced(context) for context in scan_contexts(self._frame, self._options.kinds)]
        for number, sweep in enumerate(sweeps):
            yield from self._sweep("forced", sweep, self._options.depth, self._share(deadline, len(sweeps) - number))

    def _sweep(self, part: str, sweep: Sweep, depth: int, deadline: float | None) -> Generator[Event, None, None]:
        ids = torch.tensor(self._vocabulary.ids)
        rungs = plan(len(ids), depth)
        total = sum(rung.n_rows * (rung.depth - held) for rung, held in zip(rungs, [0, *(r.depth for r in rungs)], strict=False))
        pace = Pace(self._context, f"{sweep.found_by}, {sweep.context.name}", total, deadline)
        levels = yield from scan(self._probe, sweep, ids, depth, self._ledger, pace)
        self._take_levels(sweep, levels)
        if not levels or len(levels[0].starts) < len(ids) or levels[-1].depth < depth:
            self._cut(f"{part} ({sweep.context.name})")
        self.outcome.n_starts += len(levels[0].starts) if levels else 0
        self.outcome.rates[f"{part}: {sweep.context.name}"] = round(pace.rate, 1)
        yield from self._show()

    def _take_levels(self, sweep: Sweep, levels: Sequence[Level]) -> None:
        """All rows deep enough vote; the deepest, and the best of those before, become texts."""
        for level in levels:
            if level.depth < GRAM:
                continue
            texts = [text.cut(self._probe.stop_ids) for text in level.texts(sweep, torch.arange(len(level.starts)))]
            self._ballot.add(texts)
            self._texts += sorted(texts, key=lambda text: -text.weight)[:KEPT_OF_LEVEL]

    # Counters -------------------------------------------------------------------------------------------------------------------

    def _counters(self, deadline: float | None) -> Generator[Event, None, None]:
        places = scan_contexts(self._frame, self._options.kinds)
        if self._probe.reference is not None:
            yield from self._beams("contrastive decoding", (CONTRAST,), self._options.beam_contexts, self._share(deadline, 4))
            yield from self._each("branching by lift", places, lambda c: branch(self._probe, c, USER_DEPTH), self._share(deadline, 3))
        leaks = [*places, self._frame.open_turn()]
        yield from self._each("leak sampling", leaks, self._leak, self._share(deadline, 2))
        if self._options.user_tokens and self._frame.has_template:
            yield from self._sweep("user token", user_turn(self._frame), USER_DEPTH, deadline)

    def _leak(self, context: Context) -> Generator[None, None, list[Text]]:
        generator = torch.Generator().manual_seed(self._seed)
        return leak(self._probe, context, generator, self._options.samples)

    def _each(self, name: str, places: Sequence[Context], work: Work, deadline: float | None) -> Generator[Event, None, None]:
        pace = Pace(self._context, name, len(places), deadline)
        for number, context in enumerate(places):
            if pace.spent():
                return self._cut(name)
            yield from self._texts_of(f"{name.replace(' ', '-')}-{number}-{context.ids[-1]}", work(context), pace, 1)

    # Common ---------------------------------------------------------------------------------------------------------------------

    def _share(self, deadline: float | None, parts: int) -> float | None:
        """The end of the first of so many equal parts of what is left."""
        now = self._context.clock()
        return None if deadline is None else now + max(0.0, deadline - now) / parts

    def _cut(self, part: str) -> None:
        self.outcome.cut.append(part)

    def _take(self, texts: Sequence[Text]) -> None:
        self._ballot.add(texts)
        self._texts += texts

    def _show(self, now: bool = False) -> Generator[Event, None, None]:
        """The best candidates so far, every few seconds."""
        if not self._texts or not now and self._context.clock() - self._shown_at < SHOW_EVERY_S:
            return
        self._shown_at = self._context.clock()
        best = cluster(nlargest(SHOWN_OF, self._texts, lambda text: text.weight), self._ballot)[:SHOWN_LIVE]
        decode = self._probe.suspect.tokenizer.decode
        rows = [{"text": decode(list(c.best.ids)), "score": round(c.score, 2), "found_by": list(c.found_by), "votes": c.votes} for c in best]
        yield Finding("best", {"candidates": rows})
