"""One model, one question: the logits after each of the last n of these ids.

Goes in: a causal language model, and plain lists of token ids or blocks of tokens that only the device has read. Comes out: logits (and, if
asked, the last hidden states). Between calls it keeps the keys and values of the longest common prefix and computes only the rest; rollback,
catch-up and prefix reuse follow from that. Knows nothing of text, sampling, grammars or methods.
Property: cached equals uncached, for any sequence of edits, appended blocks, trees and commits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, overload

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from backend.errors import ModelError
from backend.fixed_cache import FixedWidth, real_rows
from backend.forward_call import ForwardCall, capabilities, model_name
from backend.tree_masks import ROOT, TreeShape, check_parents, is_chain, tree_arguments, tree_shape


@dataclass(frozen=True, eq=False)
class Block:
    """The block appended last, not committed yet: `tokens` `(k,)`, and its tree, or None for a chain."""

    tokens: torch.Tensor
    shape: TreeShape | None


class Decoder:
    """A model with its cache. Not thread-safe: all calls come from the device's one thread.

    `n_computed` counts the tokens that ran through the model since the decoder was made. If a forward breaks off, everything is forgotten.

    Reproducible mode (`width`): every logit after the first call's ids is the same to the last bit however the tokens came in blocks. The
    ids of the first `hold` or `logits` of an empty decoder are the prompt, which all runs to be compared must begin with; what follows is
    computed in forwards of `width` rows, over keys of constant length `room` (prompt + answer + width). Going back into the prompt begins
    anew. Trees are refused there: a tree's keys lie in another order, and sums in another order round differently.
    """

    def __init__(self, model: PreTrainedModel, name: str | None = None, width: int | None = None, room: int | None = None) -> None:
        """Raises `ModelError` if the model keeps its state in a form that nobody can hand it back in (RWKV, xLSTM, …), or, with a width,
        can't roll back; `ValueError` for a width or a room that can't be."""
        self.model = model
        self.name = name or model_name(model)
        self.capabilities = capabilities(model)
        self.n_computed = 0
        self._call = ForwardCall(model, self.name)
        if width is not None and not self.capabilities.rollback:
            raise ModelError(f"{self.name} can't run in blocks of one width: their padding can't be taken out of its state again.")
        self._fixed = None if width is None else FixedWidth(self._call, self.name, width, room)
        self._shape: TreeShape | None = None  # the last tree's: static trees come again and again
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next call starts with an empty cache."""
        if self._fixed is not None:
            self._fixed.n_prompt = 0
        self._clear()

    def _clear(self) -> None:
        self._ids: list[int] = []
        self._unread: list[torch.Tensor | list[int]] = []  # appended chains behind `_ids`, whose ids the host may not know
        self._n_held = 0  # tokens of both
        self._block: Block | None = None  # in the cache behind them
        self._long = False  # whether the cache's keys are turned the long way
        self._cache: Cache = (self._fixed or self._call).new_cache()

    # Lists of ids ---------------------------------------------------------------------------------------------------------------

    def logits(self, ids: Sequence[int], last: int = 1) -> torch.Tensor:
        """`(last, V)` float32 on the model's device: the logits after each of the last `last` ids.

        At least the last `last` tokens are computed, whatever the cache holds. Raises `ValueError` unless `1 <= last <= len(ids)`,
        `ModelError` if the model can't read so many tokens, or if it would have to roll back and can't.
        """
        return self._forward(list(ids), last).float()

    def logits_and_hidden(self, ids: Sequence[int], last: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        """Like `logits`, with the hidden states that they were read from: `(last, V)` float32 and `(last, d)` in the model's dtype."""
        with head_input(self.model) as seen:
            logits = self._forward(list(ids), last)
        return logits.float(), self._joined(seen)[-last:]

    def hold(self, ids: Sequence[int]) -> None:
        """Hold exactly these ids: rolled back to the common prefix, the rest computed. Raises `ModelError` like `logits`."""
        ids = list(ids)
        self._call.check_length(len(ids))
        self._settle()
        if ids != self._ids:
            self._advance(ids, 0)

    def _forward(self, ids: list[int], last: int) -> torch.Tensor:
        """Compute what the cache lacks; (last, V) in the model's dtype."""
        if not 1 <= last <= len(ids):
            raise ValueError(f"last must be between 1 and the number of ids ({len(ids)}), got {last}.")
        self._call.check_length(len(ids))
        self._settle()
        return self._advance(ids, last)

    def _advance(self, ids: list[int], last: int) -> torch.Tensor:
        """Roll back as far as needed and compute the rest; the logits of the last of it, at least one row if anything was computed."""
        keep = self._reusable(ids, last)
        self._roll_back(self._n_held - keep)
        if keep == len(ids):
            return torch.empty(0)
        with self._growing():
            logits = self._read(torch.tensor(ids[keep:], device=self.model.device), max(last, 1), keep)
            self._ids, self._n_held, self._long = ids, len(ids), self._call.long_rope(len(ids))
        return logits

    def _read(self, tokens: torch.Tensor, last: int, held: int, **more: Any) -> torch.Tensor:
        """One block `(T,)` through the model, behind `held` tokens; (last, V) in the model's dtype."""
        self.n_computed += len(tokens)
        return (self._fixed or self._call)(tokens, self._cache, last, fresh=held == 0, **more)

    @contextmanager
    def _growing(self) -> Iterator[None]:
        """Layers grow one after another: if the forward breaks off (memory, Ctrl+C) they differ in length and must not be met again."""
        done, n_computed = False, self.n_computed
        try:
            yield
            done = True
        finally:
            if not done:
                self.reset()
                self.n_computed = n_computed

    def _reusable(self, ids: list[int], last: int) -> int:
        """How many of the cached tokens this call can build on."""
        if self._call.long_rope(len(ids)) != self._long:
            return 0
        common = common_prefix(self._ids, ids)
        keep = min(common, len(ids) - last)
        if self._fixed is None or keep >= self._fixed.n_prompt:
            return keep
        if common < self._fixed.n_prompt:
            self._fixed.n_prompt = 0
        return 0

    def _roll_back(self, n_tokens: int) -> None:
        """Take tokens out at the end of the cache and of `_ids`."""
        if not n_tokens:
            return
        if not self.capabilities.rollback:
            raise self._no_rollback(self._n_held, self._n_held - n_tokens)
        if n_tokens == self._n_held:
            self._clear()
            return
        self._cache.crop(-n_tokens)
        self._n_held -= n_tokens
        del self._ids[self._n_held :]

    def _no_rollback(self, held: int, keep: int) -> ModelError:
        why = f"{self.name} can't roll back: it folds all tokens it has read into one state, without a way to take one out again"
        return ModelError(f"{why} (it has read {held}, only {keep} of them are still wanted). Choose a model with an attention cache.")

    # Blocks ---------------------------------------------------------------------------------------------------------------------

    @overload
    def append(self, tokens: Sequence[int] | torch.Tensor, parents: Sequence[int] | None = None, hidden: Literal[False] = False) -> torch.Tensor: ...

    @overload
    def append(
        self, tokens: Sequence[int] | torch.Tensor, parents: Sequence[int] | None = None, *, hidden: Literal[True]
    ) -> tuple[torch.Tensor, torch.Tensor]: ...

    def append(
        self, tokens: Sequence[int] | torch.Tensor, parents: Sequence[int] | None = None, hidden: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Compute a block behind what is held: `(k, V)` float32, the logits after each token given its path alone; with `hidden` also
        the states `(k, d)` that they were read from.

        `tokens` are `(k,)` int64 on the model's device (whose values the host does not read here, so nothing waits) or a list. `parents[i]`
        is the node that i stands behind, -1 for what is held; None is a chain. Then `commit` says what stays. Without it a tree is
        forgotten by the next call, and a chain stays. Raises `ValueError` for parents that are no tree, or that branch in reproducible
        mode; `ModelError` if the model can't read so many tokens, or reads no trees.
        """
        tokens = torch.as_tensor(tokens, dtype=torch.long, device=self.model.device)
        shape = self._tree(tokens, parents)
        self._fold_block()
        self._call.check_length(self._n_held + (len(tokens) if shape is None else shape.deepest + 1))
        if not hidden:
            return self._append(tokens, shape).float()
        with head_input(self.model) as seen:
            logits = self._append(tokens, shape)
        return logits.float(), self._joined(seen)[-len(tokens) :]

    def commit(self, kept: Sequence[int], tokens: Sequence[int]) -> None:
        """Of the block appended last keep the rows `kept`, a path from its root, whose ids are `tokens`; forget the rest of it.

        Raises `ValueError` if no block is open, or for rows that are no path; `ModelError` if the model would have to roll back and can't.
        """
        kept, tokens = list(kept), list(tokens)
        block = self._block
        if block is None:
            raise ValueError("commit needs a block appended by the call before; there is none.")
        if len(kept) != len(tokens):
            raise ValueError(f"tokens must hold one id for each of the {len(kept)} rows kept, got {len(tokens)}.")
        k, m = len(block.tokens), len(kept)
        check_path(kept, block)
        if m < k and not self.capabilities.rollback:
            raise self._no_rollback(self._n_held + k, self._n_held + m)
        if kept != list(range(m)):
            self._gather(kept)
        self._drop(k - m)
        self._block = None
        if m:
            self._unread.append(tokens)
            self._n_held += m

    def _tree(self, tokens: torch.Tensor, parents: Sequence[int] | None) -> TreeShape | None:
        """The tree's shape, or None for a chain."""
        if tokens.dim() != 1 or not len(tokens):
            raise ValueError(f"tokens must be one row of at least one id, got shape {tuple(tokens.shape)}.")
        if parents is None:
            return None
        check_parents(parents, len(tokens))
        if is_chain(parents):
            return None
        if self._fixed is not None:
            why = "a tree's keys lie in another order, and sums in another order round differently"
            raise ValueError(f"parents must be a chain in reproducible mode ({why}); cut the tree to its best path.")
        if not self.capabilities.trees:
            raise ModelError(f"{self.name} can't read a tree of tokens at once: nothing tells it which of them stand behind which. Draft one chain.")
        if self._shape is None or self._shape.parents != tuple(parents):
            self._shape = tree_shape(parents, self.model.device)
        return self._shape

    def _append(self, tokens: torch.Tensor, shape: TreeShape | None) -> torch.Tensor:
        """The forward; (k, V) in the model's dtype."""
        with self._growing():
            logits = self._chain(tokens) if shape is None else self._branches(tokens, shape)
            self._block = Block(tokens, shape)
        return logits

    def _branches(self, tokens: torch.Tensor, shape: TreeShape) -> torch.Tensor:
        self.n_computed += len(tokens)
        return self._call.rows(tokens[None], self._cache, len(tokens), **tree_arguments(self.model, shape, self._n_held))[0]

    def _chain(self, tokens: torch.Tensor) -> torch.Tensor:
        """Each row as if its token were the last (a block may straddle the border where LongRoPE turns all angles)."""
        k = len(tokens)
        short = min(k, max(0, self._call.rope_border - self._n_held))
        parts = []
        if short:
            parts.append(self._chain_part(tokens[:short], tokens[:0], False))
        if short < k:
            parts.append(self._chain_part(tokens[short:], tokens[:short], True))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _chain_part(self, tokens: torch.Tensor, before: torch.Tensor, long: bool) -> torch.Tensor:
        """Rows behind what is held and `before`, all with the same angles; reads everything anew if the cache has the other ones."""
        held = self._n_held + len(before)
        if held == 0 or self._long == long:
            self._long = long
            return self._read(tokens, len(tokens), held)
        parts = [torch.as_tensor(part, dtype=torch.long, device=tokens.device) for part in (self._ids, *self._unread, before, tokens)]
        self._cache, self._long = self._call.new_cache(), long
        return self._read(torch.cat(parts), len(tokens), 0)

    def _settle(self) -> None:
        """Know the ids of everything that is held: reads what was appended and not told."""
        if self._block is None and not self._unread:
            return
        self._fold_block()
        for part in self._unread:
            self._ids.extend(part if isinstance(part, list) else part.tolist())
        self._unread = []

    def _fold_block(self) -> None:
        """What becomes of a block that nobody committed: a chain stays, a tree goes."""
        if self._block is None:
            return
        k = len(self._block.tokens)
        if self._block.shape is None:
            self._unread.append(self._block.tokens)
            self._n_held += k
        else:
            self._drop(k)
        self._block = None

    def _gather(self, kept: list[int]) -> None:
        """Move the kept nodes' keys and values together, right behind what is held."""
        slots = torch.tensor(kept, device=self.model.device) + self._n_held
        with torch.inference_mode():
            for layer in self._cache.layers:
                if layer.is_initialized:  # one that reads another layer's keys (Gemma 3n) stays empty
                    _move(layer.keys, slots, self._n_held)
                    _move(layer.values, slots, self._n_held)

    def _drop(self, n_slots: int) -> None:
        """Take slots of the open block out at the end of the cache."""
        if n_slots:
            self._cache.crop(-n_slots)

    def _joined(self, seen: list[torch.Tensor]) -> torch.Tensor:
        """What went into the head, (T, d): several parts if tokens went one by one, or in blocks of one width."""
        parts = [part[0] for part in seen]
        if self._fixed is not None:
            parts = real_rows(parts, self._fixed.real)
        return torch.cat(parts)


def check_path(kept: Sequence[int], block: Block) -> None:
    """`ValueError` unless these rows are a path from the block's root."""
    parents = range(-1, len(block.tokens) - 1) if block.shape is None else block.shape.parents
    before = ROOT
    for row in kept:
        if not 0 <= row < len(parents) or parents[row] != before:
            raise ValueError(f"kept must be a path from the root of a block of {len(parents)} rows, got {list(kept)}.")
        before = row


def _move(states: torch.Tensor, slots: torch.Tensor, to: int) -> None:
    slots = slots.to(states.device)
    states[:, :, to : to + len(slots)] = states.index_select(2, slots)  # ascending slots, copied first: nothing is overwritten unread


@contextmanager
def head_input(model: PreTrainedModel) -> Iterator[list[torch.Tensor]]:
    """Collects what goes into the output head, `(n, T, d)`, during the forwards inside: the last hidden states and no other layer's."""
    seen: list[torch.Tensor] = []
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix of two lists. Halving keeps all comparing in C: about 10 µs for thousands of ids."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while low < high - 1:
        middle = (low + high) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle)
    return low
