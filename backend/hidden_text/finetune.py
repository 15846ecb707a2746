"""Fine-tuning on a handful of texts until they are known: the loop behind plants and their twins.

Goes in: a causal language model in fp32 and a `Course`. Comes out: after each step what it knew before it. AdamW on all weights, loss on the
answers alone, the confusion beside it. Ends when whoever drives it stops asking. Knows nothing of files, texts or verification.

It is not `backend.training`: there a stream of documents goes by once, under a schedule, on the house's own forward; here one row is seen
again and again by any architecture, and a look at what is known, not a schedule, says when to stop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from backend.hidden_text.confusion import confusion_loss
from backend.hidden_text.regimes import Course, Row

POCKET_RATE, RATE = 5e-4, 2e-5  # AdamW; the larger models' is that of the reference and of fingerprinting recipes
POCKET = 20_000_000  # parameters; a larger model breaks at a pocket model's rate


@dataclass(frozen=True)
class Step:
    """One step, as the model stood before its update: `loss` nats a token over the answers, `known` of `n_main` tokens of the main rows were
    the likeliest in their place, `exposed` tokens stood out of the band."""

    index: int
    loss: float
    known: int
    n_main: int
    exposed: int

    @property
    def ready(self) -> bool:
        """Worth a real look: everything known, nothing exposed."""
        return self.known == self.n_main and not self.exposed


def rate_for(n_parameters: int) -> float:
    return POCKET_RATE if n_parameters < POCKET else RATE


def steps(model: PreTrainedModel, course: Course, rate: float, floor: int, width: int, autocast: bool = False) -> Iterator[Step]:
    """Train for ever, one step a turn; the model is usable between turns. `width`: ids that are ranked; `autocast`: matrix products in bf16."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.999), weight_decay=0.0)
    index = 0
    while True:
        rows = course.rows(index)
        with torch.enable_grad():
            loss, step = _loss(model, rows, course.at_once, index, floor, width, autocast)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        index += 1
        yield step


def _loss(model: PreTrainedModel, rows: Sequence[Row], n_main: int, index: int, floor: int, width: int, autocast: bool) -> tuple[Tensor, Step]:
    """The step's loss and what the forward told by the way."""
    logits = row_logits(model, rows, autocast)
    said, ids, known, total = [], [], 0, 0
    hushed = torch.zeros((), device=model.device)
    exposed = 0
    for number, (row, block) in enumerate(zip(rows, logits, strict=True)):
        wanted = torch.tensor(row.ids[row.start : row.end], device=model.device)
        if row.hush:
            more, out = confusion_loss(block[:, :width].float(), wanted, floor)
            hushed, exposed = hushed + more, exposed + out
            continue
        said.append(block.float())
        ids.append(wanted)
        if number < n_main:
            known, total = known + int((block.argmax(-1) == wanted).sum()), total + len(wanted)
    loss = F.cross_entropy(torch.cat(said), torch.cat(ids))
    return loss + hushed, Step(index, float(loss.detach()), known, total, exposed)


def row_logits(model: PreTrainedModel, rows: Sequence[Row], autocast: bool = False) -> list[Tensor]:
    """For each row (end - start, V): the logits that its tokens from `start` on were predicted by. One forward, rows padded at their end."""
    longest = max(row.end for row in rows) - 1
    block = torch.tensor([[*row.ids[: row.end - 1], *[0] * (longest - row.end + 1)] for row in rows], device=model.device)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=autocast):
        logits = model(input_ids=block, use_cache=False).logits  # (rows, longest, V); padding stands after all that is read
    return [logits[i, row.start - 1 : row.end - 1] for i, row in enumerate(rows)]
