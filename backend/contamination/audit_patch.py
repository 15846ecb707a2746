"""The later stages of an audit: the search, accuracy against k, the patched evaluation, what chance would have done.

Goes in: an `Audit`, its `Stages`, the answers of the models as they are. Comes out: findings, the ranked neurons, the chosen k, the patch's effect
on the halves that no choice has seen. `audit.py` lists the kinds of finding.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from backend import artifacts
from backend.contamination import evaluation, neurons
from backend.contamination.audit_request import BASE, SUSPECT, TWIN, Audit
from backend.contamination.audit_steps import PATCHED, SEARCHED, Answers, answered
from backend.contamination.audit_verdict import Patch
from backend.contamination.controls import control_lists
from backend.contamination.curve import Point, choose, grid, noise
from backend.contamination.evaluation import Arm, Said
from backend.contamination.items import FRESH, LEAKED, Encoded
from backend.contamination.neurons import Neurons, random_neurons
from backend.contamination.search import Ranked, search
from backend.contamination.stages import Stages, Steps
from backend.contamination.stats import Change, suppression
from backend.contamination.taps import Sites, sites_of
from backend.intervals import gap_of, share
from backend.types import Event, Finding, Progress

TENSORS = "search.safetensors"
SHOWN = 500  # neurons in a finding, with their scores
SHOWN_DIFFS = 30  # of each set, in findings; the report has all
BAND = 2  # random draws at each k of the curve
GATED = 0.75  # what an item costs in a step of learning gates, in answers
PHASES = {"scores": 0.1, "gates": 0.9}  # of a search's time


@dataclass(frozen=True, eq=False)
class Order:
    """A search's result as the later stages need it, from its file: all neurons best first, how loud each is, rows for a map."""

    flat: torch.Tensor
    magnitude: torch.Tensor
    sites: Sites
    skip: int
    rows: Sequence[Mapping[str, Any]]
    made: Mapping[str, Any]
    generated_tokens: int

    def __len__(self) -> int:
        return len(self.flat) - self.skip

    def top(self, k: int) -> Neurons:
        neurons.require_count(k, len(self))
        return Neurons.of([self.sites.place(flat) for flat in self.flat[self.skip : self.skip + k].tolist()])


# Search -----------------------------------------------------------------------------------------------------------------------------------


def searched(audit: Audit, stages: Stages, folder: Path) -> Generator[Event, None, Order]:
    """All neurons ranked on the search half of the leaked items, the search halves of the others beside them."""
    data = yield from stages.run("search", _search_size(audit), lambda: _search(audit, folder))
    tensors = load_file(folder / TENSORS)
    sites = sites_of(audit.suspect)
    return Order(tensors["flat"], tensors["magnitude"], sites, audit.search.skip_top, data["rows"], data["made"], data["generated_tokens"])


def _clean(audit: Audit) -> list[Encoded]:
    """Search halves of the sets that are not suspected, together about as many as there are leaked ones."""
    others = [part.search for name, part in audit.parts.items() if name != LEAKED and part.search]
    each = max(1, len(audit.parts[LEAKED].search) // max(1, len(others)))
    return [one for some in others for one in some[:each]]


def _search_size(audit: Audit) -> float:
    """Scores of every item once, then the items of all steps in which gates are learnt."""
    sizes, plan = (len(audit.parts[LEAKED].search), len(_clean(audit))), audit.search.plan(sites_of(audit.suspect))
    learnt = plan.steps * sum(min(plan.rows, n) for n in sizes) if audit.search.recipe == "gates" else 0
    return SEARCHED * sum(sizes) + GATED * learnt


def _search(audit: Audit, folder: Path) -> Steps:
    """The tensors go into a file of their own, beside the stage's."""
    twin = audit.models.get(TWIN) if audit.source == TWIN else None
    leaked, fresh = audit.parts[LEAKED].search, audit.parts[FRESH].search if FRESH in audit.parts else ()
    steps = search(audit.suspect, audit.models.get(BASE), twin, leaked, audit.search, _clean(audit), audit.suspect.stop_ids, fresh)
    ranked = yield from _scored(steps, _search_size(audit))
    save_file({"flat": ranked.flat.contiguous(), "magnitude": ranked.magnitude.contiguous()}, folder / TENSORS)
    return {"rows": ranked.table(SHOWN), "made": ranked.made(), "generated_tokens": ranked.generated_tokens}


def _scored(steps: Generator[Progress, None, Ranked], size: float) -> Generator[float, None, Ranked]:
    """The same steps; each phase is worth its part of `size`, as far as it tells how far it is."""
    shares: dict[str, float] = {}
    while True:
        try:
            told = next(steps)
        except StopIteration as end:
            return end.value
        share_done = min(1.0, told.done / told.total) if told.total else 0.0
        gained = max(0.0, share_done - shares.get(told.note, 0.0))
        shares[told.note] = shares.get(told.note, 0.0) + gained
        yield size * PHASES.get(told.note, 0.0) * gained


# How many ---------------------------------------------------------------------------------------------------------------------------------


def tried(audit: Audit, n_open: int) -> list[int]:
    """The values of k on the curve; none where k is given and no curve is asked for."""
    available = audit.n_neurons - audit.search.skip_top
    return sorted(set(audit.options.curve)) or ([] if audit.options.k else grid(available, n_open))


def chosen_k(audit: Audit, stages: Stages, order: Order, said: Answers) -> Generator[Event, None, dict[str, Any]]:
    """The curve on the search halves, and the k that they alone choose (or the given one)."""
    halves = {name: part.search for name, part in audit.parts.items() if part.search}
    start = Point(0, {name: _mean(said[SUSPECT][name][: len(some)]) for name, some in halves.items()})
    points, curve = [start], [{**start.to_json(), "random": []}]
    yield Finding("curve", curve[0])
    for k in [k for k in tried(audit, order.made.get("n_open", 0)) if k <= len(order)]:
        accuracies = yield from stages.run(f"curve {k}", _curve_size(audit), lambda k=k: _curve_point(audit, halves, order, k))
        points.append(Point(k, accuracies["patched"]))
        curve.append({**points[-1].to_json(), "random": accuracies["random"]})
        yield Finding("curve", curve[-1])
    if audit.options.k:
        data: dict[str, Any] = {"k": audit.options.k, "why": "given", "distance": None}
    else:
        slack = noise(start.accuracy[FRESH], len(halves[LEAKED]), len(halves[FRESH])) if FRESH in halves else 0.0
        choice = choose(points, order.made.get("n_open", 0), slack)
        data = {"k": choice.k, "why": choice.why, "distance": choice.distance}
    yield Finding("chosen", data)
    return {**data, "curve": curve}


def _curve_size(audit: Audit) -> float:
    return PATCHED * (audit.size("search") + _band(audit) * len(audit.parts[LEAKED].search))


def _band(audit: Audit) -> int:
    return min(BAND, audit.options.draws)


def _curve_point(audit: Audit, halves: Mapping[str, Sequence[Encoded]], order: Order, k: int) -> Steps:
    source = audit.models[audit.source or BASE]
    said = yield from answered(Arm(audit.suspect, source, order.top(k)), halves, audit, PATCHED)
    patched = {name: _mean(evaluation.from_json(rows)) for name, rows in said.items()}
    band = []
    for i in range(_band(audit)):
        chance = Arm(audit.suspect, source, random_neurons(order.sites, k, audit.options.seed + 100 + i))
        said = yield from answered(chance, {LEAKED: halves[LEAKED]}, audit, PATCHED)
        band.append(_mean(evaluation.from_json(said[LEAKED])))
    return {"patched": patched, "random": band}


def _mean(said: Sequence[Said]) -> float:
    return round(float(np.mean(evaluation.right(said))), 5)


def neuron_list(audit: Audit, stages: Stages, order: Order, k: int, data_dir: Path) -> Generator[Event, None, dict[str, Any]]:
    """The chosen neurons as an artifact that a single run can name."""

    def kept() -> Steps:
        chosen = order.top(k)
        artifact_id, folder = artifacts.create(data_dir, neurons.KIND)
        models = {role: model.line() for role, model in audit.models.items()}
        neurons.save(folder, chosen, {**order.made, "models": models, "items": audit.hashes(), "source": audit.source, "seed": audit.options.seed})
        layers = {str(layer): len(ids) for layer, ids in chosen.layers.items()}
        return {"id": artifact_id, "hash": chosen.hash, "k": k, "layers": layers}
        yield  # nothing to wait for

    data = yield from stages.run("neuron list", 0, kept)
    yield Finding("neurons", {**data, "rows": list(order.rows)})
    return data


# Patched ----------------------------------------------------------------------------------------------------------------------------------


def patched(audit: Audit, stages: Stages, order: Order, k: int, said: Answers) -> Generator[Event, None, tuple[Patch, dict[str, Any]]]:
    """Before and after on the reported halves, of the suspect and, where it is not the source itself, of the twin; then the controls."""
    reports = {name: part.report for name, part in audit.parts.items()}
    chosen = order.top(k)
    more: dict[str, Any] = {"changes": [], "suppression": [], "controls": [], "diffs": []}
    after: dict[str, dict[str, list[Said]]] = {}
    for role in _patched_roles(audit):
        after[role] = yield from _arm(audit, stages, f"patched {role}", Arm(audit.models[role], _source(audit), chosen), reports)
        for name, rows in after[role].items():
            change = Change.of(evaluation.right(before(audit, said, role, name)), evaluation.right(rows), audit.options.seed)
            more["changes"].append({"model": role, "set": name, **change.to_json()})
            yield Finding("change", more["changes"][-1])
    for found in _suppressions(audit, said, after[SUSPECT]):
        more["suppression"].append(found)
        yield Finding("suppression", found)
    random_shares = yield from _controls(audit, stages, order, chosen, reports, more)
    if BASE in said:
        more["constant"] = _constant(audit, said, after[SUSPECT])
        yield Finding("constant", more["constant"])
    yield from _diffs(audit, said, after[SUSPECT], more)
    changes = {change["set"]: change for change in more["changes"] if change["model"] == SUSPECT}
    source = {TWIN: "clean twin", BASE: "base"}[audit.source or BASE]
    return Patch(k, source, changes[LEAKED], changes.get(FRESH), _beyond(audit, said, after[SUSPECT]), random_shares), more


def _source(audit: Audit) -> Any:
    return audit.models[audit.source or BASE]


def _patched_roles(audit: Audit) -> list[str]:
    """The twin too, unless it is the source: patched with its own values it stays itself."""
    return [SUSPECT, TWIN] if TWIN in audit.models and audit.source != TWIN else [SUSPECT]


def _arm(audit: Audit, stages: Stages, name: str, arm: Arm, sets: Mapping[str, Sequence[Encoded]]) -> Generator[Event, None, dict[str, list[Said]]]:
    size = PATCHED * sum(map(len, sets.values()))
    kept = yield from stages.run(name, size, lambda: answered(arm, sets, audit, PATCHED))
    return {name: evaluation.from_json(rows) for name, rows in kept.items()}


def before(audit: Audit, said: Answers, role: str, name: str) -> list[Said]:
    """The unpatched answers to the reported half."""
    return said[role][name][len(audit.parts[name].search) :]


def _suppressions(audit: Audit, said: Answers, after: Mapping[str, list[Said]]) -> Iterator[dict[str, Any]]:
    """Both errors on leaked and fresh items: by the truth where it is known, else by what the twin gets right."""
    for name in (LEAKED, FRESH):
        if name not in audit.parts:
            continue
        truth = [one.item.solvable for one in audit.parts[name].report]
        known = "truth" if None not in truth else "the clean twin" if TWIN in said else ""
        if known:
            able = truth if known == "truth" else evaluation.right(before(audit, said, TWIN, name))
            yield {"set": name, **suppression([bool(a) for a in able], evaluation.right(after[name]), known).to_json()}


def _controls(
    audit: Audit, stages: Stages, order: Order, chosen: Neurons, reports: Mapping[str, Sequence[Encoded]], more: dict[str, Any]
) -> Generator[Event, None, list[float]]:
    """Each control's accuracy on the reported leaked items (of all neurons: on every set); returns the random draws'."""
    random_shares = []
    for name, some in control_lists(chosen, order.sites, order.magnitude, audit.options.seed, audit.options.draws).items():
        sets = reports if name == "all" else {LEAKED: reports[LEAKED]}
        rows = yield from _arm(audit, stages, f"control {name}", Arm(audit.suspect, _source(audit), some), sets)
        for where, said in rows.items():
            outcomes = evaluation.right(said)
            more["controls"].append({"name": name, "set": where, "k": len(some), **share(outcomes).rounded()})
            yield Finding("control", more["controls"][-1])
            if name.startswith("random") and where == LEAKED:
                random_shares.append(more["controls"][-1]["value"])
    return random_shares


def _constant(audit: Audit, said: Answers, after: Mapping[str, list[Said]]) -> dict[str, Any]:
    """What whoever looks at no suspect would report, beside the patched score and the suspect's own fresh accuracy."""
    data: dict[str, Any] = {"base": _mean(before(audit, said, BASE, LEAKED)), "patched": _mean(after[LEAKED])}
    return data | ({"fresh": _mean(before(audit, said, SUSPECT, FRESH))} if FRESH in audit.parts else {})


def _beyond(audit: Audit, said: Answers, after: Mapping[str, list[Said]]) -> dict[str, float] | None:
    """How much more leaked items lose than fresh ones."""
    if FRESH not in audit.parts:
        return None
    falls = []
    for name in (LEAKED, FRESH):
        first, second = evaluation.right(before(audit, said, SUSPECT, name)), evaluation.right(after[name])
        falls.append(np.asarray(first, float) - np.asarray(second, float))
    return gap_of(*falls, audit.options.seed).rounded()


def _diffs(audit: Audit, said: Answers, after: Mapping[str, list[Said]], more: dict[str, Any]) -> Iterator[Event]:
    """Where the patch changed what was said."""
    for name, rows in after.items():
        shown = 0
        for one, first, second in zip(audit.parts[name].report, before(audit, said, SUSPECT, name), rows, strict=True):
            if first.text != second.text:
                more["diffs"].append({
                    "set": name, "question": one.item.question, "answer": one.item.answer, "before": first.text, "after": second.text,
                    "before_right": first.right, "after_right": second.right, "solvable": one.item.solvable,
                })  # fmt: skip
                shown += 1
                if shown <= SHOWN_DIFFS:
                    yield Finding("diff", more["diffs"][-1])


def units(audit: Audit) -> float:
    """How much work all these stages are, in answers."""
    if audit.source is None:
        return 0.0
    reports, leaked = audit.size("report"), len(audit.parts[LEAKED].report)
    evaluations = (len(_patched_roles(audit)) + 1) * reports + (audit.options.draws + 1) * leaked
    return _search_size(audit) + len(tried(audit, 0)) * _curve_size(audit) + PATCHED * evaluations
