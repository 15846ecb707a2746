"""What the evidence says together: each family's vote, what can't be concluded, one paragraph.

Goes in: readings, gaps, changes, controls. Comes out: a `Conclusion`. Pure: runs nothing. "Contaminated" needs two families of evidence that
don't depend on each other: how likely the answers are, how the model behaves, what happens when neurons think with another model's values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from backend.contamination.controls import outside
from backend.contamination.indicators import ALL, BEHAVIOUR, FAILED, INTERVENTION, LIKELIHOOD, Gap, Reading

LEAK, NONE, OPEN = "leak", "none", "open"
CONTAMINATED, CLEAN, UNDECIDED = "contaminated", "no sign", "undecided"
LEAST_AUC, LEAST_GAP = 0.6, 0.05  # less than that is no leak worth the name, however many items make it certain
PRIMARY = (("reference", FAILED), ("reference", ALL), ("min_k_pp", ALL), ("loss", ALL))


@dataclass(frozen=True)
class Patch:
    """What patching did on the reported halves: outcomes' shares before and after, the fall on leaked items beyond that on fresh ones (`beyond`,
    with its interval), and what random neurons left."""

    k: int
    source: str
    leaked: Mapping[str, Any]
    fresh: Mapping[str, Any] | None
    beyond: Mapping[str, float] | None
    random: Sequence[float]


@dataclass(frozen=True)
class Evidence:
    """All that the verdict rests on. `role_of_source`: twin or base; `made_fresh`: fresh items are leaked ones with other numbers."""

    suspect: str
    n_leaked: int
    n_report: int
    n_fresh: int
    has_base: bool
    has_twin: bool
    role_of_source: str
    made_fresh: bool
    power: str
    readings: Sequence[Reading]
    gap: Gap
    patch: Patch | None = None


@dataclass(frozen=True)
class Vote:
    """What one family says (leak, none, open) and why, in plain words."""

    family: str
    says: str
    why: str


@dataclass(frozen=True)
class Conclusion:
    """`state`: contaminated, no sign, undecided; `sentence` is the paragraph; `cannot` lists what this audit can't tell."""

    state: str
    sentence: str
    votes: tuple[Vote, ...] = ()
    cannot: tuple[str, ...] = field(default=())

    @property
    def holds(self) -> bool | None:
        return {CONTAMINATED: True, CLEAN: False}.get(self.state)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "holds": self.holds}


def conclude(evidence: Evidence) -> Conclusion:
    votes = (_likelihood(evidence.readings), _behaviour(evidence.gap), _intervention(evidence.patch))
    state, lead = _state(evidence, votes)
    return Conclusion(state, " ".join([lead, *_figures(evidence, votes), *_limits(evidence)]), votes, tuple(cannot(evidence)))


def _state(evidence: Evidence, votes: Sequence[Vote]) -> tuple[str, str]:
    leak, none = ([v.family for v in votes if v.says == said] for said in (LEAK, NONE))
    if len(leak) >= 2:
        return CONTAMINATED, f"{evidence.suspect} is contaminated: {_and(leak)} agree."
    if base_suspect(evidence.gap):
        return UNDECIDED, f"Nothing can be said about {evidence.suspect}: its base itself gets more of the leaked items right than of the fresh ones."
    if leak:
        return UNDECIDED, f"Undecided: only {leak[0]} points to a leak in {evidence.suspect}, and one family of evidence is not enough."
    if len(none) >= 2:
        return CLEAN, f"No sign of contamination in {evidence.suspect}: {_and(none)} find none."
    return UNDECIDED, f"Undecided: too little can be told about {evidence.suspect} from this."


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# Votes ------------------------------------------------------------------------------------------------------------------------------------


def _likelihood(readings: Sequence[Reading]) -> Vote:
    """By the first indicator of a fixed list that could be measured: none is chosen for what it says."""
    known = {(r.name, r.subset): r for r in readings if r.auc is not None}
    chosen = next((known[name] for name in PRIMARY if name in known), None)
    if chosen is None:
        return Vote(LIKELIHOOD, OPEN, "too few leaked or fresh items to compare likelihoods")
    auc = chosen.auc or {}
    what = {"reference": "log-probability beyond the base's", "min_k_pp": "Min-K %++", "loss": "log-probability"}[chosen.name]
    where = " on items that the base fails" if chosen.subset == FAILED else ""
    why = f"{what}{where} ranks a leaked item above a fresh one {_percent(auc['value'])} of the time ({_range(auc)}; chance is 50)"
    return Vote(LIKELIHOOD, _vote(auc["value"], auc["low"] > 0.5, auc["high"], LEAST_AUC), why)


def _behaviour(gap: Gap) -> Vote:
    figure, what = gap.net, "right answers on leaked beyond fresh items, the base's own gap taken off"
    if figure is None:
        figure, what = gap.own, "right answers on leaked beyond fresh items"
    if figure is None:
        figure, what = gap.reworded, "right answers in the original wording beyond another one"
    if figure is None:
        return Vote(BEHAVIOUR, OPEN, "neither fresh nor rephrased items to compare answers on")
    why = f"{what}: {_points(figure['value'])} points ({_range(figure, signed=True)})"
    return Vote(BEHAVIOUR, _vote(figure["value"], figure["low"] > 0, figure["high"], LEAST_GAP), why)


def _intervention(patch: Patch | None) -> Vote:
    if patch is None:
        return Vote(INTERVENTION, OPEN, "no base and no clean twin to take activations from")
    if patch.beyond is None:
        return Vote(INTERVENTION, OPEN, "without fresh items a fall on leaked items may be plain damage")
    beyond = patch.beyond
    cost = f"{_points(beyond['value'])} points more than fresh ones ({_range(beyond, signed=True)})"
    why = f"{patch.k} neurons of the {patch.source} cost leaked items {cost}"
    says = _vote(beyond["value"], beyond["low"] > 0, beyond["high"], LEAST_GAP)
    if says == LEAK and patch.random and not outside(patch.leaked["after"]["value"], patch.random):
        return Vote(INTERVENTION, OPEN, f"{why}, but random neurons do as much")
    return Vote(INTERVENTION, says, why)


def _vote(value: float, certain: bool, high: float, least: float) -> str:
    if certain and value >= least:
        return LEAK
    return NONE if high < least else OPEN


def base_suspect(gap: Gap) -> bool:
    """Whether the base itself does better on leaked items, by more than chance and more than a little."""
    return gap.base is not None and gap.base["low"] > 0 and gap.base["value"] >= LEAST_GAP


# Words ------------------------------------------------------------------------------------------------------------------------------------


def _figures(evidence: Evidence, votes: Sequence[Vote]) -> list[str]:
    said = [f"{vote.family.capitalize()}: {vote.why}." for vote in votes]
    patch = evidence.patch
    if patch is not None:
        leaked, fresh = patch.leaked, patch.fresh
        text = f"Patched, the leaked items fall from {_percent(leaked['before']['value'])} to {_percent(leaked['after']['value'])}"
        if fresh is not None:
            text += f"; fresh items, {_percent(fresh['before']['value'])} before, move by {_points(fresh['delta']['value'])} points"
        if patch.random:
            text += f"; as many random neurons leave {_percent(min(patch.random))} to {_percent(max(patch.random))} of the leaked ones"
        said.append(f"{text}.")
    return said


def _limits(evidence: Evidence) -> list[str]:
    if evidence.patch is not None and evidence.role_of_source == "base":
        return ["The source is the raw base: the patch also takes what honest tuning put into these neurons, so the patched score may be too low."]
    return []


def cannot(evidence: Evidence) -> list[str]:
    """What this audit can't tell, and what is missing to tell it."""
    said = []
    if not evidence.has_base:
        said.append("Without the base model nobody can tell a leak from items that are just easy, and the base's own knowledge stays unknown.")
    if evidence.patch is None:
        said.append("Without a base or a clean twin there is no patched score and no neurons: how much of the score is memory stays open.")
    elif evidence.role_of_source == "base":
        said.append("Without a clean twin the patched score can't be told from the loss of honest tuning.")
    else:
        said.append("What the suspect honestly learnt and the twin did not may be lost by the patch; fresh items show how much.")
    if not evidence.n_fresh:
        said.append("Without fresh items over-suppression can't be seen: a patch that only does damage would look the same.")
    if evidence.made_fresh:
        said.append("The fresh items are leaked ones with other numbers: whoever learnt the solution and not only the answer gets them right too.")
    if base_suspect(evidence.gap):
        said.append("A base that saw the items itself makes reference and patch blind: the patch puts the leak back.")
    return [*said, evidence.power]


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _range(figure: Mapping[str, float], signed: bool = False) -> str:
    low, high = 100 * figure["low"], 100 * figure["high"]
    return f"{low:+.1f} to {high:+.1f}" if signed else f"{low:.1f} to {high:.1f}"
