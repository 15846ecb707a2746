"""Which neurons hold a memorised benchmark: scores, an exact check of the best, ranks combined.

Goes in: a suspect, its base, a clean twin where there is one, items as ids (the half that is for searching). Comes out: `Ranked`, every neuron in
order: by learnt gates, or by ranks. Raw units are never added (in a sum of root mean squares and accuracies one of them decides
alone): ranks are. Nothing is generated, but by the reference's own recipe, which is here for comparison. Knows nothing of files, events or what the
order is used for.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from backend.contamination.exact import group_drops
from backend.contamination.gates import Plan, learn_gates, likelihood
from backend.contamination.neurons import Neurons, require_count
from backend.contamination.reference import reference_scores
from backend.contamination.scores import Known, Scores, measure
from backend.contamination.shapes import require_same_shape
from backend.contamination.taps import Sites, sites_of
from backend.errors import InvalidRequest
from backend.options import option
from backend.types import Progress

RECIPES = ("gates", "ranks", "reference")
LARGE = 4096  # neurons; from here on a step costs seconds
STEPS, ROWS = (600, 40), (96, 4)  # how many steps, on how many leaked and as many clean items, in a small model and in a large one
TOKENS = ("last", "completion")
SCORES = ("rms", "effect", "gradient", "exact")
Result = TypeVar("Result")


@dataclass(frozen=True)
class SearchOptions:
    """What is scored and how the ranks are combined. A score's weight is its say in the mean of ranks; 0 leaves it out."""

    recipe: str = option(
        "gates", "By gates learnt for all neurons at once, by combined ranks, or as published (raw sum, generated groups).", choices=RECIPES
    )
    steps: int = option(0, "Steps in which gates are learnt; 0: 600 in a small model, 40 in a large one.", low=0, high=100_000)
    rows: int = option(0, "Leaked items a step, and as many clean ones; 0: 96 for a small model, 4 for a large one.", low=0, high=100_000)
    harm: float = option(4.0, "Weight of what clean answers lose beside what leaked ones do.", low=0, high=1000)
    seed: int = option(0, "By which lot items and gates are drawn.", low=0, high=2**31)
    tokens: str = option("last", "Compare activations at the last token of the prompt, or over the answer.", choices=TOKENS)
    rms: float = option(1.0, "Weight of the difference of activations.", low=0, high=100)
    effect: float = option(1.0, "Weight of the difference over what the neuron varies anyway.", low=0, high=100)
    gradient: float = option(1.0, "Weight of the estimated loss of the memorised answer.", low=0, high=100)
    exact: float = option(1.0, "Weight of the measured loss, for the neurons on the short-list.", low=0, high=100)
    shortlist: int = option(0, "How many of the best are checked exactly; 0 checks none.", low=0, high=1_000_000)
    group: int = option(16, "How many neurons are checked at once.", low=1, high=4096)
    exact_items: int = option(128, "On how many items the exact check measures.", low=1, high=100_000)
    skip_top: int = option(0, "How many of the very best are left out.", low=0, high=10_000_000)
    first_layer: int = option(0, "The first layer that may be patched.", low=0, high=10_000)
    last_layer: int = option(-1, "The last layer that may be patched; -1 is the model's last.", low=-1, high=10_000)

    def plan(self, sites: Sites, aim: float = -math.inf) -> Plan:
        """How gates are learnt in a model of this size."""
        large = sites.n_neurons > LARGE
        return Plan(self.steps or STEPS[large], self.rows or ROWS[large], self.harm, self.seed, aim)

    def layers(self, n_layers: int) -> range:
        """The layers that may be patched; raises `InvalidRequest` when they are none of this model's."""
        last = n_layers - 1 if self.last_layer == -1 else self.last_layer
        if not 0 <= self.first_layer <= last < n_layers:
            told = f"got {self.first_layer} to {last}"
            raise InvalidRequest(f"options.first_layer and last_layer must be a range within 0 to {n_layers - 1}, {told}.", "options.first_layer")
        return range(self.first_layer, last + 1)


@dataclass(frozen=True, eq=False)
class Ranked:
    """Every neuron that may be patched, best first, as its place in one row of all (`flat`); the scores of all neurons; what it cost."""

    flat: Tensor  # (m,) int64
    sites: Sites
    scores: dict[str, Tensor]  # (n_neurons,) float64 each
    options: SearchOptions
    reference: str
    generated_tokens: int = 0
    n_open: int = 0  # so many of the first have their gate open
    aim: float | None = None  # nats a token, how likely leaked answers might stay; None: not at all, or not learnt

    def __len__(self) -> int:
        """How many neurons can be taken."""
        return max(0, len(self.flat) - self.options.skip_top)

    def top(self, k: int) -> Neurons:
        """The best k behind those skipped; raises `InvalidRequest` when there are fewer."""
        require_count(k, len(self))
        skip = self.options.skip_top
        return Neurons.of([self.sites.place(flat) for flat in self.flat[skip : skip + k].tolist()])

    @property
    def magnitude(self) -> Tensor:
        """Root mean square of each neuron's activation, for controls of equal size."""
        return self.scores["magnitude"]

    def table(self, n: int) -> list[dict[str, Any]]:
        """The first n with their scores: rows for a map of layers and neurons."""
        rows = []
        for rank, flat in enumerate(self.flat[:n].tolist()):
            layer, neuron = self.sites.place(flat)
            told = {name: float(f"{values[flat].item():.4g}") for name, values in self.scores.items() if not values[flat].isnan()}
            rows.append({"rank": rank, "layer": layer, "neuron": neuron, **told})
        return rows

    def made(self) -> dict[str, Any]:
        """What to write beside the list."""
        told = {"reference": self.reference, "generated_tokens": self.generated_tokens, "n_open": self.n_open, "aim": self.aim}
        return {"search": asdict(self.options), **told}


def search(suspect: Any, base: Any, twin: Any | None, items: Sequence[Known], options: SearchOptions, clean: Sequence[Known] = (),
           stop_ids: Collection[int] = (), fresh: Sequence[Known] = ()) -> Generator[Progress, None, Ranked]:  # fmt: skip
    """Rank the suspect's neurons; yields progress at least every two seconds or so, returns `Ranked`.

    The twin is the reference and the source where there is one, else the base. `items` are leaked ones, of which nothing is reported later; `clean`
    are others (fresh, unrelated), which say what a neuron is needed for anyway; `fresh` are such as the suspect never saw: in the mean leaked
    answers need not become unlikelier than theirs. Raises `InvalidRequest` for models that are no such family."""
    reference = twin or base
    require_same_shape(suspect, reference, "models.twin" if twin else "models.base")
    if twin is not None and base is not None:
        require_same_shape(suspect, base, "models.base")
    if not items:
        raise InvalidRequest("A search needs leaked items with their answers; there are none.", "options.data")
    sites = sites_of(suspect)
    allowed = allowed_neurons(sites, options)
    require_count(options.skip_top + 1, len(allowed), "options.skip_top")
    found = yield from _told(measure(suspect, reference, items, clean, options.tokens), len(items) + len(clean), "scores")
    scores, generated, n_open, aim = _named(found), 0, 0, -math.inf
    if options.recipe == "reference":
        causal, generated = yield from reference_scores(suspect, base, twin, items, stop_ids, sites)
        scores |= {"causal": causal, "sum": found.rms + causal}
        order = _descending(scores["sum"], allowed)
    else:
        order = combined(scores, options, allowed)
        if options.shortlist and options.exact:
            order, scores["exact"] = yield from _checked(suspect, reference, items, options, order, sites)
        if options.recipe == "gates":
            aim = yield from _told(likelihood(suspect, fresh), len(fresh), "scores")
            plan = options.plan(sites, aim)
            lean = yield from _told(learn_gates(suspect, reference, items, clean, allowed, plan), plan.steps, "gates")
            scores["gate"] = torch.full((sites.n_neurons,), torch.nan, dtype=torch.float64).index_copy_(0, allowed, lean)
            order, n_open = _descending(scores["gate"], allowed), int((lean > 0).sum())
    return Ranked(order, sites, scores, options, reference.id, generated, n_open, aim if math.isfinite(aim) else None)


def _named(found: Scores) -> dict[str, Tensor]:
    """`gradient` is what the leaked answers lose, less what the clean ones lose: a neuron that everything needs is no shortcut."""
    gradient = found.drop - found.harm.clamp(min=0)
    return {"rms": found.rms, "effect": found.effect, "gradient": gradient, "drop": found.drop, "harm": found.harm, "magnitude": found.magnitude}


def allowed_neurons(sites: Sites, options: SearchOptions) -> Tensor:
    """Places of all neurons in the layer range, `(m,)` int64."""
    layers = options.layers(len(sites.names))
    start = sites.starts[layers[0]]
    return torch.arange(start, start + sum(sites.widths[layer] for layer in layers))


def ranks(values: Tensor) -> Tensor:
    """0 for the largest, float64; equal ones keep their order, so that a list is the same every time."""
    order = torch.argsort(values, descending=True, stable=True)
    return torch.empty(len(values), dtype=torch.float64).index_copy_(0, order, torch.arange(len(values), dtype=torch.float64))


def combined(scores: dict[str, Tensor], options: SearchOptions, allowed: Tensor) -> Tensor:
    """Places in the order of the weighted mean of logarithms of ranks: the top of any list counts, and its tail, where all is noise, hardly does."""
    weights = {name: getattr(options, name) for name in SCORES[:3]}
    if not any(weights.values()):
        raise InvalidRequest("options.rms, effect and gradient can't all be 0: something has to rank the neurons.", "options.rms")
    total = sum(weight * torch.log1p(ranks(scores[name][allowed])) for name, weight in weights.items() if weight)
    return allowed[torch.argsort(total, stable=True)]


def _descending(values: Tensor, allowed: Tensor) -> Tensor:
    return allowed[torch.argsort(values[allowed], descending=True, stable=True)]


def _checked(
    suspect: Any, source: Any, items: Sequence[Known], options: SearchOptions, order: Tensor, sites: Sites
) -> Generator[Progress, None, tuple[Tensor, Tensor]]:
    """The short-list again, its order mixed with that of the measured loss of each one's group; the rest stays behind it as it was."""
    head, tail = order[: options.shortlist], order[options.shortlist :]
    groups = [[sites.place(flat) for flat in part.tolist()] for part in head.split(options.group)]
    some = sorted(items, key=lambda item: (item.prompt_ids, item.answer_ids))[: options.exact_items]
    drops = yield from _told(group_drops(suspect, source, some, groups), None, "exact check")
    per_neuron = drops.repeat_interleave(torch.tensor([len(group) for group in groups]))
    estimate = torch.log1p(torch.arange(len(head), dtype=torch.float64))
    total = estimate + options.exact * torch.log1p(ranks(per_neuron))
    exact = torch.full((sites.n_neurons,), torch.nan, dtype=torch.float64).index_copy_(0, head, per_neuron)
    return torch.cat([head[torch.argsort(total, stable=True)], tail]), exact


def _told(steps: Generator[int, None, Result], total: float | None, note: str) -> Generator[Progress, None, Result]:
    """The steps as progress."""
    while True:
        try:
            yield Progress(next(steps), total, note)
        except StopIteration as end:
            return end.value
