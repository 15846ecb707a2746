"""The first stages of an audit, for which no neuron is touched: sets, identity, answers, likelihoods, indicators; and, last, the verdict.

Goes in: an `Audit`, its `Stages`. Comes out: findings, and each stage's result. `audit.py` lists the kinds of finding. Knows nothing of searches.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from backend.contamination import evaluation, likelihood
from backend.contamination.audit_request import BASE, SUSPECT, TWIN, Audit
from backend.contamination.audit_verdict import Evidence, Patch, conclude
from backend.contamination.evaluation import Arm, Said, answer_all
from backend.contamination.identity import check_identity
from backend.contamination.indicators import Facts, Gap, Reading, accuracy_gap, readings
from backend.contamination.items import FRESH, LEAKED, Encoded
from backend.contamination.likelihood import Scores, forced
from backend.contamination.neurons import Neurons
from backend.contamination.overlap import overlaps
from backend.contamination.shipped import shipped_readings
from backend.contamination.stages import Stages, Steps
from backend.intervals import share
from backend.types import Event, Finding

REWORDED = "reworded"  # leaked items in their other wording, as a set of answers
FORCED, PATCHED, SEARCHED, IDENTITY = 0.2, 2.0, 4.0, 50.0  # what an item costs, in answers; the identity check as a whole
MOST_FEW = 40  # rows that the identity check may choose from

Answers = Mapping[str, Mapping[str, list[Said]]]  # role, then set


def tell_sets(audit: Audit) -> Iterator[Event]:
    for name, facts in audit.hashes().items():
        yield Finding("set", {"name": name, **facts})
    yield Finding("power", {"text": audit.power()})
    if FRESH not in audit.parts:
        yield Finding("warning", {"text": "There are no fresh items: what the patch damages can't be told from what it removes."})
    if audit.made_fresh and FRESH in audit.parts:
        n = len(audit.parts[FRESH].all)
        yield Finding("warning", {"text": f"{n} fresh items were made from leaked ones with other numbers, their answers calculated anew."})


def identity(audit: Audit, stages: Stages) -> Generator[Event, None, dict[str, Any]]:
    """Every time, resumed or not: patched with itself the model is itself. Raises `WorkbenchError` where it is not."""
    prompts = sorted((list(one.prompt_ids) for one in audit.parts[LEAKED].all[:MOST_FEW]), key=len)
    source = audit.models[audit.source or BASE]

    def checked() -> Steps:
        checking = check_identity(audit.suspect, source, prompts[:: max(1, len(prompts) // 3)], Neurons({}))
        while True:
            try:
                next(checking)
            except StopIteration as end:
                return end.value
            yield 1.0

    found = yield from stages.drive("identity check", IDENTITY, checked())
    yield found.finding()
    found.require()
    return dict(found.finding().data)


# Answers ----------------------------------------------------------------------------------------------------------------------------------


def answers(audit: Audit, stages: Stages) -> Generator[Event, None, Answers]:
    """Every model's own answers to every item."""
    said: dict[str, dict[str, list[Said]]] = {}
    for role in (SUSPECT, BASE, TWIN):
        if role in audit.models:
            sets = asked(audit, role)
            size = sum(map(len, sets.values()))
            kept = yield from stages.run(f"answers of the {role}", size, lambda role=role, sets=sets: answered(Arm(audit.models[role]), sets, audit))
            said[role] = {name: evaluation.from_json(rows) for name, rows in kept.items()}
            for name in audit.parts:
                yield Finding("accuracy", accuracy(role, name, evaluation.right(said[role][name])))
    return said


def asked(audit: Audit, role: str) -> dict[str, Sequence[Encoded]]:
    """What one model answers; the suspect also the other wordings of leaked items."""
    sets: dict[str, Sequence[Encoded]] = {name: part.all for name, part in audit.parts.items()}
    if role == SUSPECT and audit.reworded[LEAKED][0]:
        sets[REWORDED] = audit.reworded[LEAKED][1]
    return sets


def answered(arm: Arm, sets: Mapping[str, Sequence[Encoded]], audit: Audit, worth: float = 1.0) -> Steps:
    """One arm over several sets, as JSON."""
    found = {}
    for name, some in sets.items():
        said = yield from _scaled(answer_all(arm, some, audit.max_new_tokens), worth)
        found[name] = evaluation.to_json(said)
    return found


def _scaled(steps: Steps, worth: float) -> Steps:
    while True:
        try:
            yield worth * next(steps)
        except StopIteration as end:
            return end.value


def accuracy(role: str, name: str, outcomes: Sequence[bool], patched: str = "") -> dict[str, Any]:
    return {"model": role, "set": name, "patched": patched, **share(outcomes).rounded(), "n": len(outcomes)}


def accuracies(audit: Audit, said: Answers) -> list[dict[str, Any]]:
    return [accuracy(role, name, evaluation.right(sets[name])) for role, sets in said.items() for name in audit.parts]


# Likelihoods and indicators -----------------------------------------------------------------------------------------------------------------


def facts(audit: Audit, stages: Stages, said: Answers) -> Generator[Event, None, dict[str, Facts]]:
    """What the indicators are made of, for leaked and fresh items."""
    scored: dict[str, dict[str, list[Scores]]] = {}
    for role in (SUSPECT, BASE):
        if role in audit.models:
            kept = yield from stages.run(f"likelihoods of the {role}", FORCED * _n_forced(audit), lambda role=role: _forced(audit, role))
            scored[role] = {name: likelihood.from_json(rows) for name, rows in kept.items()}
    return {name: _facts(audit, name, said, scored) for name in (LEAKED, FRESH) if name in audit.parts}


def _to_score(audit: Audit) -> dict[str, Sequence[Encoded]]:
    plain = {name: audit.parts[name].all for name in (LEAKED, FRESH) if name in audit.parts}
    return {**plain, **{f"{name} {REWORDED}": encoded for name, (_, encoded) in audit.reworded.items() if encoded}}


def _n_forced(audit: Audit) -> int:
    return sum(map(len, _to_score(audit).values()))


def _forced(audit: Audit, role: str) -> Steps:
    found = {}
    for name, some in _to_score(audit).items():
        scores = yield from _scaled(forced(audit.models[role], some, audit.options.min_k), FORCED)
        found[name] = likelihood.to_json(scores)
    return found


def _facts(audit: Audit, name: str, said: Answers, scored: Mapping[str, Mapping[str, list[Scores]]]) -> Facts:
    part, other = audit.parts[name], f"{name} {REWORDED}"
    base = scored.get(BASE, {})
    reworded = said[SUSPECT].get(REWORDED, []) if name == LEAKED else []
    texts = [one.item.question for one in part.all]
    return Facts(
        suspect=scored[SUSPECT][name], right=evaluation.right(said[SUSPECT][name]), entropy=[one.entropy for one in said[SUSPECT][name]],
        base=base.get(name, ()), base_right=evaluation.right(said[BASE][name]) if BASE in said else (),
        rephrased=audit.reworded[name][0], suspect_rephrased=scored[SUSPECT].get(other, ()), base_rephrased=base.get(other, ()),
        reworded_right=evaluation.right(reworded),
        overlap=overlaps(audit.options.corpus, texts, audit.options.ngram) if audit.options.corpus.strip() else (),
    )  # fmt: skip


def indicators(audit: Audit, measured: Mapping[str, Facts]) -> Generator[Event, None, tuple[list[Reading], Gap]]:
    """Each indicator's reading, beside what it reads where the truth is known."""
    shipped = shipped_readings()
    found = [
        replace(reading, shipped=shipped.get(reading.name, {}).get(reading.subset, {})) for reading in readings(measured[LEAKED], measured.get(FRESH))
    ]
    for reading in found:
        yield Finding("indicator", reading.to_json())
    gap = accuracy_gap(measured[LEAKED], measured.get(FRESH), audit.options.seed)
    yield Finding("gap", gap.to_json())
    return found, gap


# The end ------------------------------------------------------------------------------------------------------------------------------------


def verdict(audit: Audit, found: Sequence[Reading], gap: Gap, patch: Patch | None) -> Generator[Event, None, dict[str, Any]]:
    fresh = audit.parts.get(FRESH)
    evidence = Evidence(
        suspect=audit.suspect.id, n_leaked=len(audit.parts[LEAKED].all), n_report=len(audit.parts[LEAKED].report),
        n_fresh=len(fresh.all) if fresh else 0, has_base=BASE in audit.models, has_twin=TWIN in audit.models, role_of_source=audit.source or "",
        made_fresh=audit.made_fresh, power=audit.power(), readings=found, gap=gap, patch=patch,
    )  # fmt: skip
    conclusion = conclude(evidence)
    for vote in conclusion.votes:
        yield Finding("vote", asdict(vote))
    data = conclusion.to_json()
    yield Finding("verdict", {name: data[name] for name in ("state", "sentence", "cannot", "holds")})
    return data


def units(audit: Audit) -> float:
    """How much work these stages are, in answers."""
    answering = sum(sum(map(len, asked(audit, role).values())) for role in audit.models)
    scoring = FORCED * _n_forced(audit) * len([role for role in (SUSPECT, BASE) if role in audit.models])
    return answering + scoring + (IDENTITY if audit.source is not None else 0.0)
