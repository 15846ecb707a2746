"""Does this model read trees rightly? Measured on the model itself, since an unknown architecture may do anything with a mask.

Goes in: a causal language model. Comes out: yes or no. Knows nothing of texts or methods.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from backend.decoder import Decoder
from backend.forward_call import capabilities

PARENTS = (-1, 0, 1, 0, 3, -1, 5)  # two branches behind what is held, one of them parted again: three leaves, 2, 4 and 6
PATHS = ((0, 1, 2), (0, 3, 4), (5, 6))
REACH = 64  # a sliding window up to this long is gone past
TOLERANCE = 4.0  # times the difference that two right ways of computing a chain show


def trees_work(model: PreTrainedModel, name: str) -> bool:
    """Whether a small tree's logits are those of its paths, and decoding goes on rightly behind a path that was kept.

    The yardstick is the difference between the same chain read at once and token by token. A few short forwards; cache the answer.
    A forward that breaks on the tree's masks counts as a no.
    """
    if not capabilities(model).trees:
        return False
    try:
        return _agree(model, name)
    except torch.OutOfMemoryError:
        raise  # says nothing about trees
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError):
        return False


def _agree(model: PreTrainedModel, name: str) -> bool:
    context, tokens = _ids(model)
    decoder, oracle = Decoder(model, name), Decoder(model, name)
    decoder.hold(context)
    tree = decoder.append(tokens, PARENTS)
    paths = [[tokens[i] for i in path] for path in PATHS]
    rows = [oracle.logits(context + path, len(path)) for path in paths]
    worst = max(_distance(tree[list(path)], row) for path, row in zip(PATHS, rows, strict=True))
    decoder.commit(PATHS[1], paths[1])
    worst = max(worst, _distance(decoder.append(tokens[:1]), oracle.logits([*context, *paths[1], tokens[0]])))
    return worst <= TOLERANCE * _noise(oracle, context, paths[0], rows[0])


def _noise(decoder: Decoder, context: list[int], path: list[int], together: torch.Tensor) -> float:
    """How far rounding alone takes two right answers apart; at least a few units in the last place of the largest logit."""
    decoder.hold(context)
    alone = torch.cat([decoder.append([token]) for token in path])
    least = 8 * torch.finfo(decoder.model.dtype).eps * float(together.abs().max())
    return max(_distance(alone, together), least)


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """NaN counts as far."""
    return float((a - b).abs().max().nan_to_num(nan=float("inf")))


def _ids(model: PreTrainedModel) -> tuple[list[int], list[int]]:
    """A context (past the sliding window, if that is short) and a tree's tokens: spread over the vocabulary, all nodes unlike."""
    config = model.config.get_text_config(decoder=True)
    window = getattr(config, "sliding_window", None) or 0
    length = max(12, window + 3 if window <= REACH else 0)
    spread = [(101 + 977 * i) % config.vocab_size for i in range(length + len(PARENTS))]
    return spread[:length], spread[length:]
