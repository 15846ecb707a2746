"""The two models of a routed run, each reading along at its own pace.

Goes in: loaded models, their pair's report, the ids so far. Comes out: the logits that the next token is chosen from; of the large model
also its opinion of every token that it read late. Each side remembers how many ids it has read and catches up in one forward over the
rest; nothing is ever rolled back. Knows nothing of strategies, texts or events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from backend.decoder import Decoder
from backend.pairs import PairReport, same_law
from backend.sampling import choose
from backend.types import SamplingParams

CHUNK = 256  # rows of logits that a catch-up keeps at once


class Small:
    """The model that proposes. `row` `(1, width)` float32 and `hidden` `(1, d)`: after the last id read."""

    def __init__(self, handle: Any, pair: PairReport, wants_hidden: bool) -> None:
        self._decoder, self._pair, self._wants_hidden = Decoder(handle.model, handle.id), pair, wants_hidden
        self.n_read = 0
        self.row: torch.Tensor | None = None
        self.hidden: torch.Tensor | None = None

    def read(self, ids: Sequence[int]) -> None:
        """Be ready to say what follows `ids`."""
        if self.n_read < len(ids):
            self.row, self.hidden = self.rows(ids, 1)
            if self.row.is_cuda:  # so that the time of this forward is not laid to what reads it
                torch.cuda.current_stream(self.row.device).synchronize()

    def rows(self, ids: Sequence[int], last: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Read on to the end of `ids`; (last, width) float32, and (last, d) if asked for."""
        self.n_read = len(ids)
        if not self._wants_hidden:
            return same_law(self._pair, self._decoder.logits(ids, last)), None
        logits, hidden = self._decoder.logits_and_hidden(ids, last)
        return same_law(self._pair, logits), hidden


@dataclass(frozen=True)
class Opinion:
    """What the large model thinks of the id at `index` (prompt included): its own favourite there, and the log-probability that it gave
    the id, in nats at temperature 1."""

    index: int
    favourite: int
    logprob: float
    agrees: bool


@dataclass(frozen=True)
class Ready:
    """The large model after the last id read: logits `(1, width)` float32, its favourite, and that one's log-probability."""

    row: torch.Tensor
    favourite: int
    logprob: float


class Large:
    """The model that is asked. `ready` is what it would say next, once it has read anything."""

    def __init__(self, handle: Any, pair: PairReport) -> None:
        self._decoder, self._pair = Decoder(handle.model, handle.id), pair
        self.n_read = 0
        self.ready: Ready | None = None

    def read(self, ids: Sequence[int], judging: bool) -> list[Opinion]:
        """Read on to the end of `ids`, all of the rest in one forward (in pieces of `CHUNK` rows, where opinions of more are kept).

        `judging`: return an opinion of every id read now, unless nothing was read before."""
        opinions: list[Opinion] = []
        while self.n_read < len(ids):
            keeps = judging and self.ready is not None
            if keeps:
                opinions.append(self.opinion(ids[self.n_read]))
            end = min(self.n_read + CHUNK, len(ids)) if keeps else len(ids)
            opinions += self._piece(ids[:end], end - self.n_read if keeps else 1)
        return opinions

    def opinion(self, token_id: int) -> Opinion:
        """Of the one id that follows what was read last."""
        assert self.ready is not None
        favourite = self.ready.favourite
        return Opinion(self.n_read, favourite, self._logprob(token_id), favourite == token_id)

    def choose(self, sampling: SamplingParams, generator: torch.Generator) -> tuple[int, float]:
        """The next id, and its log-probability at temperature 1."""
        assert self.ready is not None
        if sampling.temperature == 0:
            return self.ready.favourite, self.ready.logprob
        token_id = choose(self.ready.row[0], sampling, None, generator)
        return token_id, self._logprob(token_id)

    def _piece(self, ids: Sequence[int], last: int) -> list[Opinion]:
        """Read to the end of `ids`; opinions of all of the last ids but the first, whose row came before."""
        rows = same_law(self._pair, self._decoder.logits(ids, last), leads=True)
        judged = list(ids[len(ids) - last + 1 :])
        facts = judge(rows, [*judged, 0])
        self.n_read = len(ids)
        favourite, logprob, _ = facts[-1]
        self.ready = Ready(rows[-1:], int(favourite), logprob)
        first = len(ids) - len(judged)
        return [Opinion(first + i, int(facts[i][0]), facts[i][2], int(facts[i][0]) == token_id) for i, token_id in enumerate(judged)]

    def _logprob(self, token_id: int) -> float:
        assert self.ready is not None
        if token_id == self.ready.favourite:
            return self.ready.logprob
        row = self.ready.row[0]
        return self.ready.logprob - (row[self.ready.favourite] - row[token_id]).item()


def judge(rows: torch.Tensor, token_ids: Sequence[int]) -> list[list[float]]:
    """For each row of `(n, V)` float32: the favourite id, its log-probability, and that of the given id; one copy to the host."""
    with torch.inference_mode():
        totals = rows.logsumexp(1)
        best = rows.max(1)
        given = rows.gather(1, torch.tensor(token_ids, device=rows.device)[:, None])[:, 0]
        facts = torch.stack([best.indices.float(), best.values - totals, given - totals])  # a float32 holds every id below 2**24
    return facts.T.tolist()
