"""Prompt lookup: what followed these words the last time will follow them again.

Goes in: the ids of prompt and answer so far. Comes out: a chain of ids that followed the most recent earlier occurrence of the last n
of them. Knows no model. Source: Saxena, "Prompt Lookup Decoding" (2023); here the most recent match instead of the first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from backend.decoder import common_prefix
from backend.speculative.draft import Draft, Outcome, chain, nothing


class Lookup:
    """Drafts by copying. An index from every n-gram to its last two places makes a proposal cost the same for any length of text."""

    name = "lookup"
    reads_prompt_rows = False

    def __init__(self, ngram: int = 3, k: int = 8, device: torch.device | str = "cpu") -> None:
        """`ngram`: the longest run of ids to look for; `k`: how many ids to propose at most; `device`: where the draft is wanted."""
        if ngram < 1 or k < 1:
            raise ValueError(f"ngram and k must be at least 1, got {ngram} and {k}.")
        self._ngram, self._k, self._device = ngram, k, device
        self._forget()

    def _forget(self) -> None:
        self._text: list[int] = []
        # n-gram → where it ended last, and before that (0: never; an end is at least 1)
        self._ends: dict[tuple[int, ...], tuple[int, int]] = {}

    def begin(self, prompt_ids: Sequence[int], rows: torch.Tensor | None) -> None:
        self._forget()
        self._read(prompt_ids)

    def propose(self, ids: Sequence[int], position: int, limit: int) -> Draft:
        tokens, _ = self.match(ids, limit)
        return chain(tokens, self.name, self._device) if tokens else nothing(self._device)

    def observe(self, outcome: Outcome) -> None: ...

    def match(self, ids: Sequence[int], limit: int) -> tuple[list[int], int]:
        """What followed the longest n-gram (n ≤ `ngram`) that ends `ids` and was there before, the most recent time, and that n;
        `([], 0)` if there was none.

        At most `min(k, limit)` ids. The earlier place may overlap the end; a continuation that reaches the end of the text stops there
        (in a loop of period 2 it is two ids long), it doesn't go round.
        """
        self._read(ids)
        text = self._text
        for n in range(min(self._ngram, len(text) - 1), 0, -1):
            before = self._ends[tuple(text[-n:])][1]
            if before:
                return text[before : before + min(self._k, limit)], n
        return [], 0

    def _read(self, ids: Sequence[int]) -> None:
        """Take up what is new; begin anew if the text is not a continuation of what was read."""
        ids = list(ids)
        if common_prefix(self._text, ids) < len(self._text):
            self._forget()
        for end in range(len(self._text) + 1, len(ids) + 1):
            for n in range(1, min(self._ngram, end) + 1):
                gram = tuple(ids[end - n : end])
                self._ends[gram] = (end, self._ends.get(gram, (0, 0))[0])
        self._text = ids
