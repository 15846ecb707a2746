"""The neurons of a model, within reach: which modules they go through, and hooks that read or replace them for the length of a forward.

Goes in: a causal language model. Comes out: `Sites`, and context managers around forwards. A neuron is one coordinate of the vector that a
feed-forward block hands to its down-projection, so a pre-hook there sees it (Zhu et al. 2025, arXiv 2506.04142, section 3). Knows nothing of
what is searched, of benchmarks or of decoding. A hook never outlives its `with`, whatever happens inside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from backend.errors import ModelError
from backend.forward_call import is_stateful, model_name, takes_dynamic_cache

Columns = Mapping[int, Tensor | None]  # layer to the neurons wanted there, (k,) int64; None is the whole layer
Taken = Mapping[int, Sequence[Tensor]]  # layer to one (n, T, k) a forward, or (n * T, k), as the model has it
Edit = Callable[[Tensor], Tensor | None]  # what a layer's vector becomes; None leaves it: (n, T, width), of OPT (n * T, width)

ATTENTION = re.compile(r"(?:^|\.)\w*att(?:n|ention)\w*\.", re.IGNORECASE)
EXPERTS = re.compile(r"(?:^|[._])(?:experts?|moe)(?:[._]|$)", re.IGNORECASE)
USUAL = re.compile(r"(?:^|\.)(?:down_proj|c_proj|dense_4h_to_h|fc2|fc_out|w2)$")  # asked only where the shapes leave a choice
PROBE_TOKENS = 4


@dataclass(frozen=True)
class Sites:
    """The down-projection of every decoder layer: `names` of the modules, `widths` of what goes in (neurons), `hidden_size` of what comes out."""

    names: tuple[str, ...]
    widths: tuple[int, ...]
    hidden_size: int

    @property
    def n_neurons(self) -> int:
        return sum(self.widths)

    @property
    def starts(self) -> tuple[int, ...]:
        """Where each layer begins when all neurons stand in one row."""
        return tuple(sum(self.widths[:layer]) for layer in range(len(self.widths)))

    def whole(self) -> dict[int, None]:
        """Every neuron, as columns."""
        return dict.fromkeys(range(len(self.names)))

    def place(self, flat: int) -> tuple[int, int]:
        """Layer and number of the neuron that stands at `flat` in the one row."""
        layer = max(i for i, start in enumerate(self.starts) if start <= flat)
        return layer, flat - self.starts[layer]


def sites_of(loaded: Any) -> Sites:
    """The sites of a loaded model, found and probed once and kept with it."""
    return loaded.resources.get("neuron sites", lambda: find_sites(loaded.model, loaded.id))


def find_sites(model: PreTrainedModel, name: str | None = None) -> Sites:
    """The sites, by rule: in each decoder layer, outside attention, the linear map that gives the hidden size; a probe forward confirms that
    each is passed once, at its width. Raises `ModelError` with the reason for what can't be hooked."""
    name = name or model_name(model)
    if is_stateful(model) or not takes_dynamic_cache(model):
        raise _refused(name, "some of its layers fold what they read into a state of their own; only attention models can be patched")
    path, layers = _decoder_layers(model, name)
    hidden = model.config.get_text_config(decoder=True).hidden_size
    found = [_site(layer, hidden, i, name) for i, layer in enumerate(layers)]
    sites = Sites(tuple(f"{path}.{i}.{site}" for i, (site, _) in enumerate(found)), tuple(width for _, width in found), hidden)
    _probe(model, sites, name)
    return sites


def _refused(name: str, reason: str) -> ModelError:
    return ModelError(f"The neurons of {name} can't be reached: {reason}.")


def _decoder_layers(model: PreTrainedModel, name: str) -> tuple[str, nn.ModuleList]:
    """The list of decoder layers and its path: as long as the config says and, of several such lists, the heaviest."""
    n_layers = model.config.get_text_config(decoder=True).num_hidden_layers
    lists = [(path, m) for path, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == n_layers]
    if not lists:
        raise _refused(name, f"no list of {n_layers} decoder layers was found in it")
    return max(lists, key=lambda pair: sum(p.numel() for p in pair[1].parameters()))


def _site(layer: nn.Module, hidden: int, index: int, name: str) -> tuple[str, int]:
    """Path in the layer and input width of its down-projection."""
    if any(EXPERTS.search(part) for part, _ in [*layer.named_modules(), *layer.named_parameters()]):
        raise _refused(name, f"layer {index} is a mixture of experts, whose hidden vectors pass through no module of their own")
    linear = {path: shape_of(m) for path, m in layer.named_modules() if shape_of(m) is not None and not ATTENTION.search(path)}
    fitting = [path for path, (_, out) in linear.items() if out == hidden]
    if len(fitting) > 1:
        fitting = [path for path in fitting if USUAL.search(path)]
    if len(fitting) != 1:
        seen = f"{len(fitting)} maps to the hidden size ({hidden})" if fitting else f"no map to the hidden size ({hidden})"
        raise _refused(name, f"layer {index} has {seen} outside its attention, where one feed-forward projection was expected")
    return fitting[0], linear[fitting[0]][0]


def shape_of(module: nn.Module) -> tuple[int, int] | None:
    """Input and output width of a linear map; None for any other module."""
    if isinstance(getattr(module, "in_features", None), int) and isinstance(getattr(module, "out_features", None), int):
        return module.in_features, module.out_features
    if type(module).__name__ == "Conv1D" and isinstance(getattr(module, "nf", None), int):
        return module.weight.shape[0], module.nf  # GPT-2's, which stores its weight the other way round
    return None


def _probe(model: PreTrainedModel, sites: Sites, name: str) -> None:
    """One forward: each site is passed exactly once, and what passes has the width that the weights say."""
    ids = torch.arange(PROBE_TOKENS, device=model.device)[None]
    with captured(model, sites, sites.whole()) as taken, torch.inference_mode():
        model(input_ids=ids, use_cache=False)
    for layer, passed in taken.items():
        width = sites.widths[layer]
        if len(passed) != 1 or passed[0].shape[-1] != width or passed[0].numel() != PROBE_TOKENS * width:
            shapes = ", ".join(str(tuple(x.shape)) for x in passed) or "nothing"
            wanted = f"one vector of {width} for each of {PROBE_TOKENS} tokens"
            raise _refused(name, f"through {sites.names[layer]} passed {shapes} in a probe, where {wanted} was expected")


@contextmanager
def hooked(model: PreTrainedModel, sites: Sites, edits: Mapping[int, Edit]) -> Iterator[None]:
    """Inside, each layer's vector goes through its edit on the way into the down-projection."""
    handles = []
    try:
        for layer, edit in edits.items():
            handles.append(model.get_submodule(sites.names[layer]).register_forward_pre_hook(_hook(edit)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(edit: Edit) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...] | None]:
    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        edited = edit(inputs[0])
        return None if edited is None else (edited, *inputs[1:])

    return hook


@contextmanager
def captured(model: PreTrainedModel, sites: Sites, columns: Columns) -> Iterator[dict[int, list[Tensor]]]:
    """Collects the named neurons of every forward inside: layer to a list of tensors, k wide."""
    taken: dict[int, list[Tensor]] = {layer: [] for layer in columns}

    def reading(layer: int, wanted: Tensor | None) -> Edit:
        def read(vector: Tensor) -> None:
            taken[layer].append(vector.clone() if wanted is None else vector.index_select(-1, wanted.to(vector.device)))

        return read

    with hooked(model, sites, {layer: reading(layer, wanted) for layer, wanted in columns.items()}):
        yield taken


@contextmanager
def patched(model: PreTrainedModel, sites: Sites, columns: Columns, values: Taken) -> Iterator[None]:
    """Every forward inside runs with the named neurons replaced by `values`, the first forward by the first of each layer, and so on.

    Raises `ValueError` when a forward has other rows or tokens than its values, or when the forwards are more or fewer than the values."""
    left = {layer: list(values[layer]) for layer in columns}

    def writing(layer: int, wanted: Tensor | None) -> Edit:
        def write(vector: Tensor) -> Tensor:
            if not left[layer]:
                raise ValueError(f"values of layer {layer} ran out: the forwards are more than those captured.")
            value = left[layer].pop(0).to(vector)
            if value.shape[:-1] != vector.shape[:-1]:
                raise ValueError(f"values of layer {layer} must be of shape {tuple(vector.shape[:-1])}, got {tuple(value.shape[:-1])}.")
            return value if wanted is None else vector.index_copy(-1, wanted.to(vector.device), value)

        return write

    with hooked(model, sites, {layer: writing(layer, wanted) for layer, wanted in columns.items()}):
        yield
    if any(left.values()):
        raise ValueError("values must be used up: the forwards were fewer than those captured.")
