"""Patched decoding: a suspect that thinks with a source's values in some neurons, while the source reads what the suspect says.

Goes in: two models of one shape, prompts, a list of neurons. Comes out: greedy answers, many rows at once. Each model keeps its own cache; at
every step the source reads first, then the suspect runs with the source's values, and both get the suspect's token (Zhu et al. 2025, "dynamic
patching"). Every position is patched, the prompt's too. Knows nothing of searches or grades. Property: cached equals recomputed.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from backend.batch import Rows
from backend.contamination.neurons import Neurons
from backend.contamination.taps import captured, hooked, patched, sites_of
from backend.pairs import max_positions

ROWS = 64  # answers decoded at once


class Enough(Exception):
    """Raised inside a source's forward behind the last layer that is read; never leaves this module."""


class Headless:
    """A model as a source: its backbone alone, cut off behind its layer `last`. For the rest it is the model."""

    def __init__(self, loaded: Any, last: int) -> None:
        self._model, self._sites, self._last = loaded.model, sites_of(loaded), last

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, input_ids: Tensor, logits_to_keep: int = 0, **more: Any) -> SimpleNamespace:
        """Runs for its hooks; there are no logits."""

        def stop(vector: Tensor) -> None:
            raise Enough

        try:
            with hooked(self._model, self._sites, {self._last: stop}):
                self._model.base_model(input_ids=input_ids, **more)
        except Enough:
            pass
        return SimpleNamespace(logits=torch.empty(len(input_ids), 1, 0, device=input_ids.device))


class PatchedRows:
    """`batch.Rows` of the suspect, patched; without neurons plain rows, and the source rests. Logits `(n, V)` float32."""

    def __init__(self, suspect: Any, source: Any, prompts: Sequence[Sequence[int]], neurons: Neurons) -> None:
        """Reads the prompts. `suspect` and `source` are loaded models; `source` may be None where no neuron is named."""
        self._suspect, self._source = suspect, source
        self._columns = neurons.columns(sites_of(suspect), suspect.device)
        self._reader: Rows | None = None
        self._taken: dict[int, list[Tensor]] = {}
        if self._columns:
            headless = Headless(source, max(self._columns))
            with self._reading():
                self._reader = Rows(headless, prompts, source.id)
        with self._writing():
            self._rows = Rows(suspect.model, prompts, suspect.id)

    @property
    def logits(self) -> Tensor:
        return self._rows.logits

    @property
    def lengths(self) -> list[int]:
        return self._rows.lengths

    def advance(self, ids: Tensor | Sequence[int]) -> None:
        """Append one id to every row of both models."""
        if self._reader is not None:
            with self._reading():
                self._reader.advance(ids)
        with self._writing():
            self._rows.advance(ids)

    def keep(self, indices: Sequence[int]) -> None:
        """Drop all rows but these, in both models at once, so that their shapes stay alike."""
        if self._reader is not None:
            self._reader.keep(indices)
        self._rows.keep(indices)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with captured(self._source.model, sites_of(self._source), self._columns) as self._taken:
            yield

    def _writing(self) -> AbstractContextManager[None]:
        return patched(self._suspect.model, sites_of(self._suspect), self._columns, self._taken)


def lockstep(suspect: Any, source: Any, prompts: Sequence[Sequence[int]], neurons: Neurons, max_new_tokens: int, stop_ids: Collection[int],
             rows: int = ROWS) -> list[list[int]]:  # fmt: skip
    """Greedy answers to all prompts, the stop id with each that came to one. Without neurons: the suspect's own."""
    steps = lockstep_steps(suspect, source, prompts, neurons, max_new_tokens, stop_ids, rows)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def lockstep_steps(suspect: Any, source: Any, prompts: Sequence[Sequence[int]], neurons: Neurons, max_new_tokens: int, stop_ids: Collection[int],
                   rows: int = ROWS) -> Generator[int, None, list[list[int]]]:  # fmt: skip
    """The same, giving way after every step: yields how many tokens are written so far, returns the answers.

    `rows` prompts of like length go at once. An answer ends at a stop id, at `max_new_tokens`, or where the context of either model ends."""
    room = [min(max_new_tokens, context_of(suspect, source) - len(prompt)) for prompt in prompts]
    answers: list[list[int]] = [[] for _ in prompts]
    order = sorted((i for i in range(len(prompts)) if room[i] > 0), key=lambda i: (len(prompts[i]), i))
    written = 0
    for at in range(0, len(order), rows):
        live = order[at : at + rows]
        step = PatchedRows(suspect, source, [prompts[i] for i in live], neurons)
        while live:
            chosen = step.logits.argmax(-1).tolist()
            for i, token_id in zip(live, chosen, strict=True):
                answers[i].append(token_id)
            written += len(live)
            yield written
            going = [n for n, i in enumerate(live) if chosen[n] not in stop_ids and len(answers[i]) < room[i]]
            if going and len(going) < len(live):
                step.keep(going)
            live, chosen = [live[n] for n in going], [chosen[n] for n in going]
            if live:
                step.advance(chosen)
    return answers


def context_of(*models: Any) -> int:
    """The most tokens that all of them read."""
    limits = [max_positions(loaded.model.config) for loaded in models if loaded is not None]
    return min((limit for limit in limits if limit is not None), default=1 << 30)
