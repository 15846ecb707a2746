"""What a patched run asks for: its options, its lanes, its neurons, and what is known before it starts.

Goes in: a `RunRequest`. Comes out: parsed options, the baseline requests, the list of neurons, or an `InvalidRequest`. Runs no model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from backend import artifacts
from backend.contamination import neurons as lists
from backend.contamination.neurons import Neurons, random_neurons
from backend.contamination.shapes import require_family_files
from backend.contamination.taps import Sites
from backend.errors import InvalidRequest, WorkbenchError
from backend.options import option, parse_options
from backend.resources import Resources
from backend.types import Finding, RunRequest

SUSPECT, SOURCE, BASE = "suspect", "source", "base"
ALL, RANDOM = "all", "random"
PATCHED = "patched"
SPEAKERS = {"none": SUSPECT, "source": SOURCE, "base": BASE}  # who speaks alone
LANES = {PATCHED: "patched", "none": "unpatched", "source": "source alone", "base": "base alone"}


@dataclass(frozen=True)
class Options:
    """Who speaks, and which neurons think another model's thoughts."""

    patch: str = option(PATCHED, "The suspect with the source's values in some neurons, or one of the models alone.", choices=tuple(LANES))
    neurons: str = option(ALL, "Which neurons: the id of a list that an audit made, all of them, or random ones.")
    k: int = option(0, "How many: the best of the list, or so many random ones; 0 takes the whole list.", low=0, high=100_000_000)


def parse(request: RunRequest) -> Options:
    """Raises `InvalidRequest` for what can't be together."""
    options = parse_options(Options, request.options)
    if options.patch == "base" and not request.models.get(BASE):
        raise InvalidRequest("models.base is missing: the base alone needs a model for it.", "models.base")
    if options.neurons == RANDOM and not options.k:
        raise InvalidRequest("options.k must say how many random neurons to take, got 0.", "options.k")
    if options.neurons == ALL and options.k:
        raise InvalidRequest(f"options.k must be 0 where all neurons are patched, got {options.k}.", "options.k")
    return options


def lane(request: RunRequest) -> str:
    """The lane in plain words; a patched one says how much of the model is not its own."""
    options = parse_options(Options, request.options)
    if options.patch != PATCHED:
        return LANES[options.patch]
    if options.neurons == ALL:
        return "patched, all neurons"
    if options.neurons == RANDOM:
        return f"patched, {options.k:,} random neurons"
    return f"patched, best {options.k:,} neurons" if options.k else "patched"


def baselines(request: RunRequest) -> list[RunRequest]:
    """The suspect unpatched, the source alone, and the base alone where it is another model."""
    if parse(request).patch != PATCHED:
        return []
    plain = replace(request.with_options(neurons=ALL, k=0), answer_prefix=())
    base = request.models.get(BASE)
    alone = ["none", "source", *(["base"] if base and base not in (request.models[SUSPECT], request.models[SOURCE]) else [])]
    return [plain.with_options(patch=name) for name in alone]


def chosen_neurons(request: RunRequest, sites: Sites, data_dir: Path) -> Neurons:
    """The neurons that the run patches; raises `InvalidRequest` for a list that is missing, damaged, too short or another model's."""
    options = parse(request)
    if options.patch != PATCHED:
        return Neurons({})
    if options.neurons == ALL:
        return Neurons.every(sites)
    if options.neurons == RANDOM:
        return random_neurons(sites, options.k, request.sampling.seed)
    found = read_list(options.neurons, data_dir)
    found = found.first(options.k) if options.k else found
    found.check(sites)
    return found


def read_list(name: str, data_dir: Path) -> Neurons:
    try:
        return lists.load(artifacts.resolve(data_dir, name, lists.KIND))[0]
    except WorkbenchError as error:
        raise InvalidRequest(str(error), "options.neurons") from error


def check(request: RunRequest, resources: Resources, data_dir: Path) -> list[Finding]:
    """Refuses options that can't be, models that their files show to be no family, a list that is not there; nothing is loaded for it."""
    options = parse(request)
    require_family_files(request.models[SUSPECT], request.models[SOURCE], data_dir, f"models.{SOURCE}", resources)
    if request.models.get(BASE) and request.models[BASE] != request.models[SOURCE]:
        require_family_files(request.models[SUSPECT], request.models[BASE], data_dir, f"models.{BASE}", resources)
    if options.patch == PATCHED and options.neurons not in (ALL, RANDOM):
        listed = read_list(options.neurons, data_dir)
        if options.k:
            listed.first(options.k)
    return []
