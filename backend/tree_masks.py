"""A token tree as one forward's arguments: who sees whom, and at which position each node stands.

Goes in: a model's config, the parents of a block's nodes, the number of tokens held before it. Comes out: `attention_mask` and `position_ids`.
Knows nothing of caches, logits or methods. Property: a node's logits are those of its path alone.

Speculative verification of trees after SpecInfer (Miao et al., ASPLOS 2024, section 4.2): siblings hide each other.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from backend.fast_forward import GROUPED

ROOT = -1  # the parent of a node that stands right behind what is held
BOOLEAN = {"sdpa", GROUPED}  # attention that hides where a mask is False; eager attention adds its mask, and would only add 0 or 1
ADDITIVE = {"eager"}
MASKED_LAYERS = {"full_attention", "sliding_attention"}


@dataclass(frozen=True, eq=False)
class TreeShape:
    """A block's nodes: `depths` from 0, `within[i, j]` whether node i sees node j (its ancestors and itself). Both on the model's device too."""

    parents: tuple[int, ...]
    deepest: int
    depths: torch.Tensor  # (k,) int64
    within: torch.Tensor  # (k, k) bool


def is_chain(parents: Sequence[int]) -> bool:
    return all(parent == i - 1 for i, parent in enumerate(parents))


def check_parents(parents: Sequence[int], k: int) -> None:
    """`ValueError` unless there is one parent a node and each stands before its node."""
    if len(parents) != k:
        raise ValueError(f"parents must name one parent for each of the {k} tokens, got {len(parents)}.")
    for i, parent in enumerate(parents):
        if not ROOT <= parent < i:
            raise ValueError(f"parents[{i}] must be between -1 and {i - 1}, got {parent}.")


def tree_shape(parents: Sequence[int], device: torch.device) -> TreeShape:
    within = np.eye(len(parents), dtype=bool)
    depths: list[int] = []
    for i, parent in enumerate(parents):
        depths.append(0 if parent == ROOT else depths[parent] + 1)
        if parent != ROOT:
            within[i] |= within[parent]
    on_device = torch.tensor(depths, device=device), torch.from_numpy(within).to(device)
    return TreeShape(tuple(parents), max(depths), *on_device)


def tree_arguments(model: PreTrainedModel, shape: TreeShape, held: int) -> dict[str, Any]:
    """What the forward needs besides ids and cache: 4-D masks, one a layer type where the model wants it so, and positions `(1, k)`.

    A 4-D mask replaces the model's own, so a sliding window has to be cut here, by positions: siblings stand at the same one.
    """
    config = model.config.get_text_config(decoder=True)
    positions = held + shape.depths
    seen = torch.ones(len(shape.parents), held + len(shape.parents), dtype=torch.bool, device=shape.within.device)
    seen[:, held:] = shape.within
    masks = {kind: _form(model, config, _windowed(config, kind, seen, positions, held, shape)) for kind in _kinds(config)}
    layer_types = getattr(config, "layer_types", None)
    return {"attention_mask": masks if layer_types else next(iter(masks.values())), "position_ids": positions[None]}


def takes_trees(model: PreTrainedModel) -> bool:
    """Whether the masks above are known to be this model's: it takes positions, sees by masks alone (no alibi), in layers of known kinds."""
    config = model.config.get_text_config(decoder=True)
    known = _attention(model, config) in BOOLEAN | ADDITIVE and MASKED_LAYERS.issuperset(_kinds(config))
    chunked = getattr(config, "attention_chunk_size", None) is not None
    alibi = getattr(config, "alibi", False) or getattr(config, "position_embedding_type", None) == "alibi"
    takes_both = {"position_ids", "attention_mask"} <= set(inspect.signature(model.forward).parameters)
    return known and takes_both and not chunked and not alibi


def _kinds(config: Any) -> list[str]:
    """The layer types that need a mask. Without a list of them all layers are alike (Mistral's, Phi-3's slide)."""
    layer_types = getattr(config, "layer_types", None)
    if layer_types:
        return sorted(set(layer_types))
    return ["full_attention" if getattr(config, "sliding_window", None) is None else "sliding_attention"]


def _windowed(config: Any, kind: str, seen: torch.Tensor, positions: torch.Tensor, held: int, shape: TreeShape) -> torch.Tensor:
    """`seen`, without what lies outside a sliding layer's window."""
    window = getattr(config, "sliding_window", None)
    if kind != "sliding_attention" or window is None or held + shape.deepest < window:
        return seen
    columns = torch.cat([torch.arange(held, device=positions.device), positions])
    return seen & (columns > positions[:, None] - window)


def _form(model: PreTrainedModel, config: Any, seen: torch.Tensor) -> torch.Tensor:
    """(1, 1, k, T): bool, or what is to be added to the scores."""
    if _attention(model, config) in BOOLEAN:
        return seen[None, None]
    hidden = torch.finfo(model.dtype).min
    return torch.zeros(seen.shape, dtype=model.dtype, device=seen.device).masked_fill_(~seen, hidden)[None, None]


def _attention(model: PreTrainedModel, config: Any) -> str | None:
    return getattr(config, "_attn_implementation", None) or getattr(model.config, "_attn_implementation", None)
