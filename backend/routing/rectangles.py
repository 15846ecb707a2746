"""Many rows at once, a step at a time, so that a job can give way between steps.

Goes in: one or two loaded models and prompts. Comes out: greedy continuations; logits and hidden states of given answers. A generator here
yields after every piece of work and returns its result. Knows nothing of graders, labels or routers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence

import torch
from torch import Tensor

from backend.batch import Rows
from backend.decoder import head_input
from backend.models import LoadedModel

Law = Callable[[Tensor], Tensor]  # a model's logits (n, V) over the ids that the pair may choose
CELLS = 20_000_000  # logits of one forced forward, at most: 80 MB in float32


class HiddenRows:
    """`batch.Rows` that also keep `hidden` `(n, d)`, the states that `logits` were read from; `law` narrows the logits."""

    def __init__(self, loaded: LoadedModel, prompts: Sequence[Sequence[int]], law: Law) -> None:
        self._model, self._law = loaded.model, law
        with head_input(self._model) as seen:
            self._rows = Rows(self._model, prompts, loaded.id)
        self.hidden = seen[-1][:, -1]

    @property
    def logits(self) -> Tensor:
        return self._law(self._rows.logits)

    def advance(self, ids: Tensor | Sequence[int]) -> None:
        with head_input(self._model) as seen:
            self._rows.advance(ids)
        self.hidden = seen[-1][:, -1]

    def keep(self, indices: Sequence[int]) -> None:
        self._rows.keep(indices)
        self.hidden = self.hidden[torch.tensor(list(indices), device=self.hidden.device)]


def greedy(loaded: LoadedModel, prompts: Sequence[Sequence[int]], room: Sequence[int], stop_ids: Collection[int],
           law: Law) -> Generator[None, None, list[list[int]]]:  # fmt: skip
    """The best continuation of each prompt, the stop id with it, at most `room[i]` tokens; yields after each step of all rows."""
    answers: list[list[int]] = [[] for _ in prompts]
    live = [i for i, n in enumerate(room) if n > 0]
    if not live:
        return answers
    rows = Rows(loaded.model, [prompts[i] for i in live], loaded.id)
    while True:
        chosen = law(rows.logits).argmax(-1).tolist()
        for i, token_id in zip(live, chosen, strict=True):
            answers[i].append(token_id)
        going = [at for at, i in enumerate(live) if chosen[at] not in stop_ids and len(answers[i]) < room[i]]
        yield
        if not going:
            return answers
        if len(going) < len(live):
            rows.keep(going)
            live, chosen = [live[at] for at in going], [chosen[at] for at in going]
        rows.advance(chosen)


def batches(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], vocab_size: int) -> list[list[int]]:
    """Indices of rows of like length, as many at once as `CELLS` allows; empty answers are in none."""
    order = sorted((i for i in range(len(prompts)) if answers[i]), key=lambda i: len(prompts[i]) + len(answers[i]))
    found = []
    while order:
        widest = len(prompts[order[-1]]) + len(answers[order[-1]])
        n = max(1, CELLS // (widest * vocab_size))
        found.append(order[-n:])
        order = order[:-n]
    return found


def forced(loaded: LoadedModel, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], law: Law) -> tuple[Tensor, Tensor]:
    """Teacher-forced: `logits` `(m, width)` float32 and `hidden` `(m, d)` of the m tokens of all answers in order; each row is what the model
    thought before that token. One forward; padding stands on the right, where nobody looks at it."""
    ids = [[*prompt, *answer][:-1] for prompt, answer in zip(prompts, answers, strict=True)]
    width = max(map(len, ids))
    block = torch.tensor([row + [0] * (width - len(row)) for row in ids], device=loaded.device)
    with head_input(loaded.model) as seen, torch.inference_mode():
        logits = loaded.model(input_ids=block, use_cache=False).logits  # (n, width, V)
    at = [(row, len(prompts[row]) - 1, len(ids[row])) for row in range(len(ids))]
    return (
        law(torch.cat([logits[row, first:last] for row, first, last in at]).float()),
        torch.cat([seen[-1][row, first:last] for row, first, last in at]),
    )
