"""What a model answers to every item, with or without other neurons' values, and whether that is right.

Goes in: a suspect, the source of a patch (or none), items. Comes out: one `Said` an item: text, right or wrong, entropy of the law that each
token came from. Greedy, many rows at once. Yields after each step, with no hook installed then. Knows nothing of how neurons were chosen.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from backend.contamination.items import Encoded
from backend.contamination.lockstep import PatchedRows, context_of
from backend.contamination.neurons import Neurons
from backend.errors import InvalidRequest
from backend.models import LoadedModel

ROWS = 256
MOST_TOKENS = 8192  # held in the caches at once
MOST_WORK = 2.5e11  # tokens of the prompts times parameters: reading them must not take much more than a second
NOBODY = Neurons({})


@dataclass(frozen=True)
class Said:
    """An answer, graded. `entropy`: the mean over its tokens, in nats, of the law that each was the likeliest of; `n_tokens` with the stop."""

    text: str
    right: bool
    entropy: float
    n_tokens: int


@dataclass(frozen=True)
class Arm:
    """Who answers: a model, and the neurons in which it thinks with the source's values (none: as it is)."""

    suspect: LoadedModel
    source: LoadedModel | None = None
    neurons: Neurons = NOBODY

    def rows(self, prompts: Sequence[Sequence[int]]) -> PatchedRows:
        return PatchedRows(self.suspect, self.source, prompts, self.neurons)

    def room(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[int]:
        """How many tokens each answer may have; raises `InvalidRequest` for a question that fills the context."""
        context = context_of(self.suspect, self.source)
        for prompt in prompts:
            if len(prompt) >= context:
                told = f"A question has {len(prompt)} tokens, {self.suspect.id} reads at most {context}"
                raise InvalidRequest(f"{told}: there is no room for an answer.", "options.data")
        return [min(max_new_tokens, context - len(prompt)) for prompt in prompts]


def answer_all(arm: Arm, items: Sequence[Encoded], max_new_tokens: int) -> Generator[float, None, list[Said]]:
    """Every item answered and graded; yields, after each step, how many items that was worth."""
    said: dict[int, Said] = {}
    weights = sum(p.numel() for p in arm.suspect.model.parameters())
    for chunk in _chunks([len(e.prompt_ids) for e in items], max_new_tokens, int(MOST_WORK / weights)):
        decoding = decode(arm, [list(items[i].prompt_ids) for i in chunk], max_new_tokens)
        answers = yield from _worth(decoding, len(chunk) / max_new_tokens, len(chunk))
        said |= {i: _graded(arm.suspect, items[i], *answer) for i, answer in zip(chunk, answers, strict=True)}
    return [said[i] for i in range(len(items))]


def _chunks(lengths: Sequence[int], max_new_tokens: int, most_read: int) -> list[list[int]]:
    """Indices of prompts of like length that are decoded together; at most `most_read` tokens of prompts, but for one alone."""
    order, found = sorted(range(len(lengths)), key=lengths.__getitem__), []
    for i in order:
        room = max(1, min(ROWS, MOST_TOKENS // (lengths[i] + max_new_tokens), most_read // lengths[i]))
        if not found or len(found[-1]) >= room:
            found.append([])
        found[-1].append(i)
    return found


def _worth(steps: Generator[None, None, Any], each: float, total: float) -> Generator[float, None, Any]:
    """The same steps, each yielding `each`; what the end saved (answers shorter than the limit) comes last."""
    given = 0.0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            yield max(0.0, total - given)
            return end.value
        given += each
        yield each


def decode(arm: Arm, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> Generator[None, None, list[tuple[list[int], float]]]:
    """Ids of each greedy answer (its stop id with it) and their mean entropy. Finished rows leave both models together."""
    room = arm.room(prompts, max_new_tokens)
    answers: list[list[int]] = [[] for _ in prompts]
    entropies = [0.0] * len(prompts)
    rows, live = arm.rows(prompts), list(range(len(prompts)))
    while True:
        logits = rows.logits  # (live, V)
        chosen = logits.argmax(-1).tolist()
        for i, token_id, spread in zip(live, chosen, entropy(logits).tolist(), strict=True):
            answers[i].append(token_id)
            entropies[i] += spread
        going = [at for at, i in enumerate(live) if answers[i][-1] not in arm.suspect.stop_ids and len(answers[i]) < room[i]]
        if not going:
            return [(ids, total / len(ids)) for ids, total in zip(answers, entropies, strict=True)]
        if len(going) < len(live):
            rows.keep(going)
            live, chosen = [live[at] for at in going], [chosen[at] for at in going]
        yield
        rows.advance(chosen)


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """In nats, `(n,)` of `(n, V)`."""
    law = logits.log_softmax(-1)
    return -(law.exp() * law.clamp(min=-1e4)).sum(-1)


def _graded(loaded: LoadedModel, item: Encoded, ids: list[int], spread: float) -> Said:
    ended = ids[-1] in loaded.stop_ids
    text = loaded.tokenizer.decode(ids[:-1] if ended else ids)
    return Said(text, item.item.right(text), spread, len(ids))


def to_json(said: Sequence[Said]) -> list[dict[str, Any]]:
    return [asdict(one) for one in said]


def from_json(data: Sequence[dict[str, Any]]) -> list[Said]:
    return [Said(**row) for row in data]


def right(said: Sequence[Said]) -> list[bool]:
    return [one.right for one in said]
