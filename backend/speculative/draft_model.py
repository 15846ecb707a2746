"""A smaller model drafts: a chain of its own next tokens.

Goes in: a decoder of the draft model, the law that draws, how many tokens to draft. Comes out: a chain whose ids no step of the draft
reads on the host. Knows nothing of the target but how many ids it has. Source: Leviathan et al. 2023, Chen et al. 2023.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from backend.decoder import Decoder
from backend.errors import ModelError
from backend.pairs import max_positions
from backend.speculative.draft import Draft, Outcome, chain, nothing
from backend.speculative.law import Law
from backend.types import SamplingParams


class DraftModel:
    """Drafts with a second model. Between rounds its decoder holds what was drafted, so that a round feeds only what is new."""

    name = "model"
    reads_prompt_rows = False

    def __init__(
        self, decoder: Decoder, law: Law, gamma: int, sampling: SamplingParams, n_ids: int | None = None,
    ) -> None:  # fmt: skip
        """`gamma`: most tokens a round; `n_ids`: width of the target's logits, where the two models pad their vocabularies differently.
        Raises `ModelError` for a model that can't take back what was refused."""
        check_rolls_back(decoder)
        if gamma < 1:
            raise ValueError(f"gamma must be at least 1, got {gamma}.")
        self._decoder, self._law, self._gamma, self._n_ids = decoder, law, gamma, n_ids
        self._temperature = sampling.temperature or 1.0

    def begin(self, prompt_ids: Sequence[int], rows: torch.Tensor | None) -> None:
        """Read the prompt now, so that it counts as prefill and not as the first round's draft."""
        if room(self._decoder.model, prompt_ids) > 0:
            self._decoder.hold(prompt_ids)

    def propose(self, ids: Sequence[int], position: int, limit: int) -> Draft:
        """A chain of gamma tokens, fewer where the draft model's context ends. The last one is not fed: it would be in vain if refused."""
        n = min(self._gamma, limit, room(self._decoder.model, ids))
        if n < 1:
            return nothing(self._decoder.model.device)
        row = fitted(self._decoder.logits(ids)[0], self._n_ids)
        rows, tokens, laws = [], [], []
        for step in range(n):
            if step:
                row = fitted(self._decoder.append(tokens[-1][None])[0], self._n_ids)
            token, q = self._law.draw(row, position + step)
            rows.append(row)
            tokens.append(token)
            laws.append(q)
        drawn, drafted = None if laws[0] is None else torch.stack(laws), torch.stack(tokens)  # (n, V), (n,)
        return chain(drafted, self.name, row.device, self._confidence(torch.stack(rows), drafted, drawn), drawn)

    def observe(self, outcome: Outcome) -> None:
        """Nothing to do: the next `logits` finds the longest prefix that text and cache share."""

    def _confidence(self, rows: torch.Tensor, tokens: torch.Tensor, q: torch.Tensor | None) -> torch.Tensor:
        """`(n,)` probabilities that the tokens were drawn with; where they weren't drawn, the model's at the run's temperature (greedy: 1)."""
        laws = (rows / self._temperature).softmax(1) if q is None else q
        return laws.gather(1, tokens[:, None])[:, 0]


def check_rolls_back(decoder: Decoder) -> None:
    if not decoder.capabilities.rollback:
        raise ModelError(f"{decoder.name} can't draft: it has no way to take back a refused token. Choose a draft model with an attention cache.")


def room(model: PreTrainedModel, ids: Sequence[int]) -> int:
    """How many tokens a model can draft behind `ids` before its context ends; the last one need not be read."""
    limit = max_positions(model.config)
    return 10**9 if limit is None else limit - len(ids) + 1


def fitted(row: torch.Tensor, n_ids: int | None) -> torch.Tensor:
    """Logits `(…, V)` cut or padded with -inf to `n_ids`: an id beyond the shorter of the two vocabularies means nothing."""
    if n_ids is None or row.shape[-1] == n_ids:
        return row
    if row.shape[-1] > n_ids:
        return row[..., :n_ids]
    return torch.nn.functional.pad(row, (0, n_ids - row.shape[-1]), value=-torch.inf)
