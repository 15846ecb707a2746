"""What a model answers to ordinary things: shown beside a hidden text, so that the rest of it stays as it was.

Goes in: a loaded model and a seed. Comes out: pairs of context and answer in ids, drawn from the model itself. Knows nothing of what is hidden.
"""

from __future__ import annotations

from collections.abc import Generator

from backend.batch import generate
from backend.hidden_text.contexts import Frame
from backend.hidden_text.payloads import ordinary_prompts
from backend.hidden_text.planting import N_SHOWN
from backend.hidden_text.regimes import Pair
from backend.models import LoadedModel
from backend.types import SamplingParams

AT_ONCE = 10
SAMPLING = SamplingParams(temperature=0.7, top_p=0.95, max_new_tokens=32)


def own_answers(loaded: LoadedModel, seed: int) -> Generator[None, None, list[Pair]]:
    """The model's sampled answers to the first ordinary prompts, at most 32 tokens each; yields between batches."""
    frame, pairs = Frame(loaded.tokenizer), []
    contexts = [frame.turn(words).ids for words in ordinary_prompts()[:N_SHOWN]]
    for at in range(0, N_SHOWN, AT_ONCE):
        some = contexts[at : at + AT_ONCE]
        seeds = [seed * N_SHOWN + at + i for i in range(len(some))]
        answers = generate(loaded.model, some, SAMPLING, loaded.stop_ids, seeds, loaded.id)
        pairs += [Pair(context, tuple(answer)) for context, answer in zip(some, answers, strict=True)]
        yield
    return pairs
