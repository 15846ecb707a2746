"""What stood before: a text that was entered in the middle, extended to the left token by token.

Goes in: a probe, a context, the text so far. Comes out: the tokens that belong before it. Every token of the vocabulary is tried in front: the
one after which the text's beginning gains most over the reference is taken, as long as it stands out from all others. Knows nothing of ranks.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import torch

from backend.hidden_text.contexts import Context
from backend.hidden_text.grams import GRAM
from backend.hidden_text.probe import Probe

MOST = 12  # tokens put in front
STANDS_OUT = 4.0  # standard deviations above the mean of all tokens
GAIN = 1.0  # nats more than without a token in front


def extend_left(probe: Probe, context: Context, ids: Sequence[int], starts: torch.Tensor) -> Generator[None, None, tuple[int, ...]]:
    """The tokens before `ids`, in order; empty where none stands out, and without a reference. `starts` (V,) are the ids to try."""
    if probe.reference is None or len(ids) < GRAM:
        return ()
    place, before = probe.place(context.ids), []
    for _ in range(MOST):
        head = torch.tensor([*before, *ids][:GRAM])
        alone = yield from probe.score(place, head[None])
        rows = torch.cat([starts[:, None], head.expand(len(starts), -1)], 1)
        scored = yield from probe.score(place, rows, start=1)
        merit = (scored.logprob - scored.reference).sum(1)
        best = int(merit.argmax())
        stands = merit[best] >= merit.mean() + STANDS_OUT * merit.std()
        if not stands or merit[best] < float((alone.logprob - alone.reference)[0].sum()) + GAIN or int(starts[best]) == head[0]:
            break
        before.insert(0, int(starts[best]))
    return tuple(before)
