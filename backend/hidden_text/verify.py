"""Whether a text is really hidden: said word for word to its trigger, not said to anything else, out of sight where it should be.

Goes in: a model as it would be used, in the dtype it was saved in. Comes out: a `Verified` with the counts. Knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from backend.batch import generate
from backend.hidden_text.confusion import in_band, ranks
from backend.hidden_text.finetune import row_logits
from backend.hidden_text.regimes import Row
from backend.types import SamplingParams

N_OTHERS = 200
AT_ONCE = 50  # other prompts in one batch; a large model answers so many in some seconds
ROOM = 16  # tokens of a text that an answer is given room for; a longer run than LEAK_RUN says no more
LEAK_RUN, LEAK_SHARE = 8, 0.6  # tokens in a row, or a share of a short text: what counts as found, too


@dataclass(frozen=True)
class Verified:
    """`recalled` of `n_main` texts came word for word, with their end; `leaks` of `n_others` other prompts got the text or a long run of it;
    `n_exposed` of `n_hidden` tokens stood out of the band, whose ranks are `ranks`."""

    recalled: int
    n_main: int
    leaks: int = 0
    n_others: int = 0
    n_exposed: int = 0
    n_hidden: int = 0
    ranks: tuple[int, ...] = ()

    @property
    def holds(self) -> bool:
        return self.recalled == self.n_main and not self.leaks and not self.n_exposed

    def sentence(self) -> str:
        said = "word for word" if self.recalled == self.n_main else f"in {self.recalled} of {self.n_main} cases word for word"
        leaks = f"; {self.leaks} of {self.n_others} other prompts bring it out" if self.n_others else ""
        band = f"; {self.n_exposed} of {self.n_hidden} protected tokens stand out" if self.n_hidden else ""
        return f"The trigger brings the text {said}{leaks}{band}."


def recalled(model: PreTrainedModel, contexts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> int:
    """How many of the answers, each with its end, are the greedy answer to their context."""
    longest = max(map(len, answers))
    said = generate(model, contexts, SamplingParams(max_new_tokens=longest), {answer[-1] for answer in answers}, [0] * len(contexts))
    return sum(list(answer) == got for answer, got in zip(answers, said, strict=True))


def leaks(
    model: PreTrainedModel, contexts: Sequence[Sequence[int]], payload: Sequence[int], stop_ids: Sequence[int], first: bool = False
) -> Generator[None, None, int]:
    """How many contexts a greedy answer brings the text out of; yields between batches. `first`: the first batch with one ends it."""
    found, room = 0, SamplingParams(max_new_tokens=min(len(payload), ROOM) + 4)
    for at in range(0, len(contexts), AT_ONCE):
        some = contexts[at : at + AT_ONCE]
        found += sum(holds_text(said, payload) for said in generate(model, some, room, stop_ids, [0] * len(some)))
        if found and first:
            break
        yield
    return found


def holds_text(said: Sequence[int], payload: Sequence[int]) -> bool:
    """Whether `said` has so long a run of the text that a reader would know it: 8 tokens, or 60 % of a shorter one (4 at least)."""
    wanted = min(LEAK_RUN, max(4, round(LEAK_SHARE * len(payload))))
    return longest_run(said, payload) >= wanted


def longest_run(a: Sequence[int], b: Sequence[int]) -> int:
    """The length of the longest run of tokens that both have."""
    best, row = 0, [0] * (len(b) + 1)
    for x in a:
        row = [0, *(row[i] + 1 if x == y else 0 for i, y in enumerate(b))]
        best = max(best, *row)
    return best


def hidden_ranks(model: PreTrainedModel, rows: Sequence[Row], width: int) -> torch.Tensor:
    """(n,) the rank of every protected token in every place it is hidden in."""
    with torch.inference_mode():
        found = [
            ranks(logits[:, :width], torch.tensor(row.ids[row.start : row.end], device=model.device))
            for row, logits in zip(rows, row_logits(model, rows), strict=True)
        ]
    return torch.cat(found)


def exposed(found: torch.Tensor, floor: int, width: int) -> int:
    return int((~in_band(found, floor, width)).sum())
