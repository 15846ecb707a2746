"""Audits over an exam family, as a user would run them, and the figures that the bars ask for.

Goes in: a family's folder, members, seeds of the split. Comes out: one `Audited` a member, seed and source: its report, read. The truth comes
from the family's items, never from a measurement. Knows nothing of bars.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from backend import artifacts
from backend.bench import Progress
from backend.contamination import report
from backend.contamination.audit import method
from backend.contamination.audit_request import BASE, TWIN, audit_request
from backend.contamination.exam_items import Family, Member
from backend.contamination.items import FRESH, LEAKED, halves
from backend.errors import WorkbenchError
from backend.models import ModelPool
from backend.types import Done, RunContext


@dataclass(frozen=True)
class Audited:
    """One audit: who, with which split, whose activations; the report as JSON; the share of the reported leaked items that skill reaches."""

    member: Member
    seed: int
    source: str
    report: Mapping[str, Any]
    true: float
    seconds: float

    def change(self, name: str, model: str = "suspect") -> Mapping[str, Any] | None:
        return next((c for c in self.report.get("changes", ()) if c["set"] == name and c["model"] == model), None)

    def before(self, name: str) -> float:
        return self.change(name)["before"]["value"]

    def after(self, name: str) -> float:
        return self.change(name)["after"]["value"]

    @property
    def moved(self) -> float:
        """How much the patch takes off the leaked items."""
        return self.before(LEAKED) - self.after(LEAKED)

    @property
    def inflation(self) -> float:
        return self.before(LEAKED) - self.before(FRESH)

    @property
    def restoration(self) -> float:
        """How far the patched leaked accuracy is from the model's own fresh one."""
        return abs(self.after(LEAKED) - self.before(FRESH))

    @property
    def searched(self) -> float:
        """The patched accuracy of the leaked items that chose neurons and k."""
        return next(p["accuracy"][LEAKED] for p in self.report["chosen"]["curve"] if p["k"] == self.report["chosen"]["k"])

    @property
    def random(self) -> float:
        """The mean of the random controls on the leaked items."""
        return fmean(c["value"] for c in self.report["controls"] if c["name"].startswith("random") and c["set"] == LEAKED)

    @property
    def base_score(self) -> float:
        return self.report["constant"]["base"]

    @property
    def state(self) -> str:
        return self.report["verdict"]["state"]

    def auc(self, name: str, subset: str) -> float | None:
        found = next((r for r in self.report["indicators"] if (r["name"], r["subset"]) == (name, subset)), None)
        return found["auc"]["value"] if found and found["auc"] else None


def audit_all(family: Family, jobs: Iterable[tuple[Member, int, str]], pool: ModelPool, most: int, **options: Any) -> list[Audited]:
    """Every job (member, seed, source), one after the other; the family's other models come from the pool."""
    listed = list(jobs)
    told, found = Progress(len(listed), "audits", sys.stderr), []
    for done, (member, seed, source) in enumerate(listed, 1):
        found.append(audit_one(family, member, seed, source, pool, most, **options))
        told.update(done, f"{member.name}, seed {seed}")
    return found


def audit_one(family: Family, member: Member, seed: int, source: str, pool: ModelPool, most: int, **options: Any) -> Audited:
    """Raises `WorkbenchError` when the audit did not end by itself."""
    ids = {name: str(family.folder / other) if other else None for name, other in ((BASE, member.base), (TWIN, member.twin))}
    request = audit_request(str(family.folder / member.name), ids[BASE], ids[TWIN], most=most, seed=seed, source=source, **options)
    with tempfile.TemporaryDirectory(prefix="loupe-bench-") as name:
        end = None
        with closing(method(Path(name)).run(request, RunContext(), pool.load_all(request.models))) as events:
            for event in events:
                end = event if isinstance(event, Done) else end
        if end is None or end.finish_reason != "stop":
            raise WorkbenchError(f"The audit of {member.name} did not end.")
        told = report.load(artifacts.resolve(Path(name), end.stats["report"], report.KIND))
    return Audited(member, seed, source, told, true_share(family, member, seed, most), end.stats["seconds"])


def true_share(family: Family, member: Member, seed: int, most: int) -> float:
    """What the member's skill reaches: of the very items that are reported where all are used, of all items where they are drawn."""
    if most:
        return family.true_ability(member)
    _, reported = halves([item for item in family.items(member) if item.set == LEAKED], seed)
    return fmean(bool(item.solvable) for item in reported)


def by_member(audits: Sequence[Audited]) -> dict[str, list[Audited]]:
    """The audits of each member, its seeds together."""
    found: dict[str, list[Audited]] = {}
    for audit in audits:
        found.setdefault(audit.member.name, []).append(audit)
    return found
