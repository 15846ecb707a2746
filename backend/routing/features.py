"""What a router sees of one step of the small model, in units that mean the same for any pair.

Goes in: the small model's logits, its last hidden state and the token that it proposes. Comes out: rows of features. Knows nothing of
routers, labels or the large model. Nothing here has a scale of its own: log-probabilities instead of logits, hidden states and embeddings
divided by their own spread. The layout of a row is law `(k + 3)`, hidden `(d)`, embedding `(d)`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

TOP_K = 32
FLOOR = -30.0  # log-probabilities below are all alike; it also keeps masked ids (-inf) out of sums
MORE = 3  # entropy, margin, log-probability of the proposed token


def law_features(logits: Tensor, token_ids: Tensor, k: int = TOP_K) -> Tensor:
    """`(n, k + 3)` float32 of `logits` `(n, V)` float32 and `token_ids` `(n,)` int64: the k best log-probabilities, the entropy in nats,
    the distance of the best two, the log-probability of the proposed token. Raises `ValueError` with fewer than k ids."""
    if logits.shape[-1] < k:
        raise ValueError(f"logits must have at least {k} columns, got {logits.shape[-1]}.")
    logprobs = torch.log_softmax(logits, -1).clamp_(min=FLOOR)
    best = logprobs.topk(k, -1).values  # sorted
    spread = -(logprobs.exp() * logprobs).sum(-1, keepdim=True)
    return torch.cat([best, spread, best[:, :1] - best[:, 1:2], logprobs.gather(1, token_ids[:, None])], 1)


def entropy(logits: Tensor) -> Tensor:
    """`(n,)` nats."""
    logprobs = torch.log_softmax(logits, -1).clamp_(min=FLOOR)
    return -(logprobs.exp() * logprobs).sum(-1)


def spread_free(states: Tensor) -> Tensor:
    """Hidden states or embeddings `(n, d)` at mean 0 and spread 1 each, float32."""
    states = states.float()
    return functional.layer_norm(states, states.shape[-1:])


def join(law: Tensor, hidden: Tensor, embedding: Tensor) -> Tensor:
    """`(n, k + 3 + 2 d)` float32: what goes into a router; `hidden` and `embedding` are already free of scale."""
    return torch.cat([law, hidden, embedding], 1)


def of_step(logits: Tensor, hidden: Tensor, token_ids: Tensor, table: Tensor, k: int = TOP_K) -> Tensor:
    """The same from a step as it comes; `table` `(V, d)` are the small model's input embeddings."""
    return join(law_features(logits, token_ids, k), spread_free(hidden), spread_free(functional.embedding(token_ids, table)))
