"""One model, many rows at once: a shared prefix computed once, a rectangle that advances, rows that drop out.

Goes in: a causal language model and lists of token ids. Comes out: logits after each row's last token, or finished continuations.
Knows nothing of text, grammars or methods. Property: batched equals one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from backend.decoder import ForwardCall, capabilities, common_prefix, model_name
from backend.errors import ModelError
from backend.sampling import choose
from backend.types import SamplingParams


class Rows:
    """Rows of one rectangle, padded on the left, so that the tokens of a row stand side by side and window distances stay right.

    `logits` is `(n, V)` float32 on the model's device: after the last token of each row. `lengths` are the rows' tokens so far.
    """

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], name: str | None = None) -> None:
        """Reads all prompts. Raises `ValueError` without prompts or with an empty one, `ModelError` if the model can't be batched."""
        rows = [list(prompt) for prompt in prompts]
        if not rows or not all(rows):
            raise ValueError(f"prompts must hold at least one row and no empty one, got lengths {[len(row) for row in rows]}.")
        self._name = name or model_name(model)
        if not capabilities(model).batch:
            raise ModelError(f"{self._name} can't run many rows at once: padding would enter its state. Choose an attention model.")
        self._call = ForwardCall(model, self._name)
        self._device = model.device
        self._cache = self._call.new_cache()
        self.lengths = [len(row) for row in rows]
        self._check_lengths()
        self._pads = torch.tensor([max(self.lengths) - n for n in self.lengths], device=self._device)  # (n,)
        self._width = self._read_shared(rows)
        self.logits = self._forward(self._block(rows))

    def __len__(self) -> int:
        return len(self.lengths)

    def advance(self, ids: torch.Tensor | Sequence[int]) -> None:
        """Append one id to every row, `(n,)`, and compute `logits`."""
        block = torch.as_tensor(ids, dtype=torch.long, device=self._device)
        if block.shape != (len(self),):
            raise ValueError(f"ids must hold one id for each of the {len(self)} rows, got shape {tuple(block.shape)}.")
        self.lengths = [n + 1 for n in self.lengths]
        self._check_lengths()
        self.logits = self._forward(block[:, None])

    def keep(self, indices: Sequence[int]) -> None:
        """Drop all rows but these (in this order), and the columns that were padding in all that stay."""
        if not indices:
            raise ValueError("indices must name at least one row, got none.")
        index = torch.tensor(list(indices), device=self._device)
        self.lengths = [self.lengths[i] for i in indices]
        self.logits, self._pads = self.logits[index], self._pads[index]
        cut = int(self._pads.min())
        for layer in filled_layers(self._cache):
            layer.keys, layer.values = layer.keys[index, :, cut:], layer.values[index, :, cut:]
        self._pads, self._width = self._pads - cut, self._width - cut

    def _read_shared(self, rows: list[list[int]]) -> int:
        """Compute the prefix that all rows share once, and lay it into every row behind its padding; the number of columns laid."""
        shared = min(self.lengths) - 1
        for row in rows[1:]:
            shared = min(shared, common_prefix(rows[0], row))
        if shared:
            self._call.rows(torch.tensor([rows[0][:shared]], device=self._device), self._cache, 1)
            spread_prefix(self._cache, self._pads.tolist())
        return shared

    def _block(self, rows: list[list[int]]) -> torch.Tensor:
        """What is not in the cache yet, `(n, T)`: the end of each row. A short row brings some of its prefix along, since padding
        pushed that out of the columns laid; a row shorter than the block starts with zeros that the mask hides."""
        width = max(self.lengths) - self._width
        return torch.tensor([[0] * (width - len(row)) + row[-width:] for row in rows], device=self._device)

    def _forward(self, block: torch.Tensor) -> torch.Tensor:
        """Append `(n, T)` ids; (n, V) float32 after the last of them."""
        old, self._width = self._width, self._width + block.shape[1]
        columns = torch.arange(self._width, device=self._device)
        more = {}
        if self._pads.any():
            more["attention_mask"] = (columns >= self._pads[:, None]).long()  # (n, width)
        if self._call.takes_positions:
            more["position_ids"] = (columns[old:] - self._pads[:, None]).clamp(min=0)  # (n, T)
        return self._call.rows(block, self._cache, 1, **more)[:, -1].float()

    def _check_lengths(self) -> None:
        self._call.check_length(max(self.lengths))
        longest = max(self.lengths)
        if self._call.long_rope(longest):
            raise ModelError(f"{self._name} turns its rotary angles with the context's length; rows of {longest} tokens need one run each.")


def spread_prefix(cache: DynamicCache, pads: Sequence[int]) -> None:
    """Turn a cache of one row of s tokens into one of `len(pads)` rows of s columns: `pads[i]` zeros, then as much of the row as fits."""
    for layer in filled_layers(cache):
        layer.keys, layer.values = _spread(layer.keys, pads), _spread(layer.values, pads)


def filled_layers(cache: DynamicCache) -> list[DynamicLayer]:
    """The layers that hold something; one that reads another layer's keys (Gemma 3n) stays empty."""
    return [layer for layer in cache.layers if layer.is_initialized]


def _spread(states: torch.Tensor, pads: Sequence[int]) -> torch.Tensor:
    size = states.shape[2]
    rows = states.new_zeros(len(pads), *states.shape[1:])  # (n, heads, s, d_head)
    for row, pad in zip(rows, pads, strict=True):
        row[:, pad:] = states[0, :, : max(size - pad, 0)]
    return rows


def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    sampling: SamplingParams,
    stop_ids: Collection[int],
    seeds: Sequence[int],
    name: str | None = None,
) -> list[list[int]]:
    """Continue every prompt; one list of new ids each, ending with the stop id if one came before `sampling.max_new_tokens`.

    Row i draws from its own generator, seeded with `seeds[i]` (`sampling.seed` is not read), so it doesn't depend on its neighbours.
    Raises what `Rows` raises, and `ValueError` unless there is one seed a prompt.
    """
    if len(seeds) != len(prompts):
        raise ValueError(f"seeds must hold one seed for each of the {len(prompts)} prompts, got {len(seeds)}.")
    answers: list[list[int]] = [[] for _ in prompts]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    rows, live = Rows(model, prompts, name), list(range(len(prompts)))
    while True:
        chosen = _choose_all(rows.logits, sampling, [generators[i] for i in live])
        for i, token_id in zip(live, chosen, strict=True):
            answers[i].append(token_id)
        going = [at for at, i in enumerate(live) if answers[i][-1] not in stop_ids and len(answers[i]) < sampling.max_new_tokens]
        if not going:
            return answers
        if len(going) < len(live):
            rows.keep(going)
            live, chosen = [live[at] for at in going], [chosen[at] for at in going]
        rows.advance(chosen)


def _choose_all(logits: torch.Tensor, sampling: SamplingParams, generators: list[torch.Generator]) -> list[int]:
    if sampling.temperature == 0 and not logits.isnan().any():
        return logits.argmax(-1).tolist()
    return [choose(row, sampling, None, generator) for row, generator in zip(logits, generators, strict=True)]
