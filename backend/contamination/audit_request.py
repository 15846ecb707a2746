"""What an audit is asked: its options, what is refused before it starts, and the sets of items as the models will read them.

Goes in: a `RunRequest`, loaded models. Comes out: an `Audit`: models by role, the source of the patch, sets cut into the half that searches and
the half that reports. Runs no model.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.contamination import exam_items
from backend.contamination.items import FRESH, LEAKED, UNRELATED, Encoded, Item, encode, halves, items_hash, of_set, read_items
from backend.contamination.neurons import require_count
from backend.contamination.perturb import perturb_all
from backend.contamination.search import SearchOptions
from backend.contamination.shapes import require_family, require_family_files
from backend.contamination.stats import power_sentence
from backend.contamination.taps import sites_of
from backend.errors import InvalidRequest
from backend.models import LoadedModel
from backend.options import option, parse_options
from backend.paths import assets_dir
from backend.resources import Resources
from backend.types import TEMPLATES, Finding, Prompt, RunRequest

METHOD = "contamination.audit"
SUSPECT, BASE, TWIN = "suspect", "base", "twin"
EXAM = "exam"
FEWEST_LEAKED = 4
LONGEST_ANSWER = 512


@dataclass(frozen=True)
class Options:
    """What is audited on which items, and how."""

    data: str = option(EXAM, "exam: the items that ship with the exam models; or your own, JSON lines or CSV with question, answer, set.")
    columns: dict = option({}, "Which column of your data is what: question, answer, set, rephrased, grader.")
    grader: str = option("", "How answers without a grader of their own are graded.", choices=("", "number", "exact", "regex", "choice"))
    template: str = option("chat", "Ask through the model's chat template, or with the bare question. The exam is asked bare.", choices=TEMPLATES)
    make_fresh: bool = option(True, "Where no fresh items are given, make some: other numbers in worked answers.")
    most: int = option(0, "At most so many items of each set, drawn by the seed; 0: all.", low=0, high=100_000)
    max_new_tokens: int = option(0, "The longest answer; 0: half again as long as the longest known one.", low=0, high=LONGEST_ANSWER)
    source: str = option("auto", "Whose activations are patched in; auto: the clean twin, else the base.", choices=("auto", TWIN, BASE))
    k: int = option(0, "How many neurons are patched; 0: chosen on the search half.", low=0, high=10_000_000)
    curve: list = option([], "The values of k that are tried on the search half; empty: ten from one neuron to all.")
    search: dict = option({}, "Options of the search, by name (recipe, steps, tokens, skip_top, first_layer, …).")
    draws: int = option(5, "Random neurons are drawn so many times as a control.", low=0, high=50)
    min_k: float = option(0.2, "The share of least likely tokens that Min-K keeps.", low=0.01, high=1)
    corpus: str = option("", "Text that the suspect may have been trained on, for the overlap of words.")
    ngram: int = option(8, "How many words in a row make an overlap.", low=1, high=50)
    seed: int = option(0, "Of the split into halves, of drawn items, of controls and intervals.", low=0, high=2**31)


def parse(request: RunRequest) -> Options:
    """Raises `InvalidRequest` naming the option."""
    options = parse_options(Options, request.options)
    parse_options(SearchOptions, options.search)
    for k in options.curve:
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise InvalidRequest(f"options.curve must hold whole numbers from 1 up, got {k!r}.", "options.curve")
    return options


def audit_request(suspect: str, base: str | None = None, twin: str | None = None, **options: Any) -> RunRequest:
    """A request of this job; the prompt is only its name in the history."""
    models = {role: model for role, model in ((SUSPECT, suspect), (BASE, base), (TWIN, twin)) if model}
    return RunRequest(METHOD, Prompt.user(f"Audit of {suspect}", template="raw"), models, options=options)


def check(request: RunRequest, resources: Resources, data_dir: Path) -> list[Finding]:
    """Everything that files alone tell: items, options, models that are one family."""
    options = parse(request)
    items = read(options, request.models[SUSPECT], data_dir)
    _check_sets(items)
    for role in (BASE, TWIN):
        if role in request.models:
            require_family_files(request.models[SUSPECT], request.models[role], data_dir, f"models.{role}", resources)
    if request.models.get(BASE) is not None and request.models.get(BASE) == request.models.get(TWIN):
        raise InvalidRequest("models.twin is the base: a clean twin is a fine-tune without the leak. Leave it out if there is none.", "models.twin")
    source_role(options, request.models)
    return []


def size(request: RunRequest, data_dir: Path) -> dict[str, float]:
    """What this will take."""
    options = parse(request)
    items = read(options, request.models[SUSPECT], data_dir)
    longest = max((len(item.question) + len(item.answer) for item in items), default=0)
    return {"items": len(items), "new_tokens": options.max_new_tokens, "prompt_chars": longest}


def source_role(options: Options, models: Mapping[str, Any]) -> str | None:
    """Which role is patched in; None where there is neither."""
    if options.source != "auto" and options.source not in models:
        raise InvalidRequest(f"options.source is {options.source}, but no model is given as models.{options.source}.", "options.source")
    if options.source != "auto":
        return options.source
    return TWIN if TWIN in models else BASE if BASE in models else None


def read(options: Options, suspect: str, data_dir: Path) -> list[Item]:
    """The items of the exam, or of the user's data; capped, and with fresh ones made where none were given."""
    if options.data.strip() == EXAM:
        folder, name = exam_items.family_of(suspect, data_dir, assets_dir())
        family = exam_items.load(folder)
        items = family.items(family.members.get(name) if name else None)
    else:
        items = read_items(options.data, options.columns, options.grader)
        if options.make_fresh and not of_set(items, FRESH):
            items = [*items, *perturb_all(of_set(items, LEAKED), options.seed).items]
    return _capped(items, options)


def makes_fresh(options: Options) -> bool:
    """Whether the fresh items are leaked ones with other numbers."""
    own = options.data.strip() != EXAM
    return own and options.make_fresh and not of_set(read_items(options.data, options.columns, options.grader), FRESH)


def _capped(items: Sequence[Item], options: Options) -> list[Item]:
    if not options.most:
        return list(items)
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        groups.setdefault((item.set, item.skill), []).append(item)
    return [item for group in groups.values() for item in random.Random(options.seed).sample(group, min(len(group), options.most))]


def _check_sets(items: Sequence[Item]) -> None:
    n = len(of_set(items, LEAKED))
    if n < FEWEST_LEAKED:
        raise InvalidRequest(f"An audit needs at least {FEWEST_LEAKED} leaked items, one half to search and one to report; got {n}.", "options.data")


@dataclass(frozen=True)
class Part:
    """One set, encoded: the half that neurons and k are chosen on, and the half that is reported."""

    name: str
    search: tuple[Encoded, ...]
    report: tuple[Encoded, ...]

    @property
    def all(self) -> tuple[Encoded, ...]:
        return self.search + self.report


@dataclass(frozen=True)
class Audit:
    """All that the stages share. `parts` maps a set's name (unrelated items by their skill) to its halves; `reworded` holds, of leaked and fresh
    items, the places in `Part.all` that have another wording, and those wordings encoded."""

    options: Options
    models: Mapping[str, LoadedModel]
    source: str | None
    parts: Mapping[str, Part]
    reworded: Mapping[str, tuple[tuple[int, ...], tuple[Encoded, ...]]]
    max_new_tokens: int
    made_fresh: bool
    search: SearchOptions = field(default_factory=SearchOptions)

    @property
    def suspect(self) -> LoadedModel:
        return self.models[SUSPECT]

    @property
    def n_neurons(self) -> int:
        return sites_of(self.suspect).n_neurons

    def size(self, half: str = "all") -> int:
        """How many items there are in one half of every set, or in all."""
        return sum(len(getattr(part, half)) for part in self.parts.values())

    def hashes(self) -> dict[str, dict[str, Any]]:
        """Of each set: items and their hash."""
        return {
            name: {"n": len(part.all), "search": len(part.search), "report": len(part.report), "hash": items_hash([e.item for e in part.all])}
            for name, part in self.parts.items()
        }

    def power(self) -> str:
        fresh = self.parts.get(FRESH)
        return power_sentence(len(self.parts[LEAKED].report), len(fresh.report) if fresh else 0)


def prepare(request: RunRequest, models: Mapping[str, LoadedModel], data_dir: Path) -> Audit:
    """Raises `InvalidRequest` for items, models or a k that don't fit each other."""
    options, suspect = parse(request), models[SUSPECT]
    items = read(options, suspect.id, data_dir)
    _check_sets(items)
    source = source_role(options, models)
    for role in (BASE, TWIN):
        if role in models:
            require_family(suspect, models[role], f"models.{role}")
    search = parse_options(SearchOptions, options.search)
    if source is not None:
        for k in (options.k, *options.curve):
            require_count(k or 1, sites_of(suspect).n_neurons - search.skip_top, "options.k" if k == options.k else "options.curve")
    template = "raw" if options.data.strip() == EXAM else options.template
    parts = {name: _part(name, group, suspect.tokenizer, template, options.seed) for name, group in _groups(items).items()}
    reworded = {name: _reworded(parts[name], suspect.tokenizer, template) for name in (LEAKED, FRESH) if name in parts}
    return Audit(options, models, source, parts, reworded, _longest(options, parts), makes_fresh(options), search)


def _groups(items: Sequence[Item]) -> dict[str, list[Item]]:
    """Leaked, fresh, then unrelated ones by skill."""
    groups: dict[str, list[Item]] = {}
    for item in sorted(items, key=lambda item: (LEAKED, FRESH, UNRELATED).index(item.set)):
        groups.setdefault(item.skill or item.set, []).append(item)
    return groups


def _part(name: str, items: Sequence[Item], tokenizer: Any, template: str, seed: int) -> Part:
    first, second = halves(items, seed)
    return Part(name, *(tuple(encode(item, tokenizer, template) for item in half) for half in (first, second)))


def _reworded(part: Part, tokenizer: Any, template: str) -> tuple[tuple[int, ...], tuple[Encoded, ...]]:
    at = tuple(i for i, one in enumerate(part.all) if one.item.rephrased)
    return at, tuple(encode(part.all[i].item, tokenizer, template, rephrased=True) for i in at)


def _longest(options: Options, parts: Mapping[str, Part]) -> int:
    longest = max(len(one.answer_ids) for part in parts.values() for one in part.all)
    return options.max_new_tokens or min(LONGEST_ANSWER, math.ceil(1.5 * longest) + 4)
