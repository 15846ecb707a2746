"""Audits over an exam family, as a user would run them, and the figures that the bars ask for.

Goes in: a family's folder, members, seeds of the split. Comes out: one `Audited` a member, seed and source: its report, read. The truth comes
from the family's items, never from a measurement. Knows nothing of bars.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from backend import artifacts
from backend.bench import Progress
from backend.contamination import audit, report
from backend.contamination.audit_request import BASE, SUSPECT, TWIN, audit_request, parse, read
from backend.contamination.exam_items import Family, Member
from backend.contamination.items import FRESH, LEAKED, halves, of_set
from backend.errors import WorkbenchError
from backend.model_files import read_json, write_json
from backend.models import LoadedModel, ModelPool
from backend.types import Done, RunContext, RunRequest


@dataclass(frozen=True)
class Audited:
    """One audit: who, with which split, whose activations; the report as JSON; the shares of leaked items that skill reaches, of those that were
    reported (`true`) and of those that were searched."""

    member: Member
    seed: int
    source: str
    report: Mapping[str, Any]
    true: float
    true_searched: float

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
    def halves_apart(self) -> float:
        """How much farther from the truth one half of the leaked items ends than the other."""
        return abs((self.after(LEAKED) - self.true) - (self.searched - self.true_searched))

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


def audit_all(family: Family, jobs: Iterable[tuple[Member, int, str]], pool: ModelPool, most: int, kept: Path, **options: Any) -> list[Audited]:
    """Every job (member, seed, source), one after the other; the family's other models come from the pool."""
    listed = list(jobs)
    told, found = Progress(len(listed), "audits", sys.stderr), []
    for done, (member, seed, source) in enumerate(listed, 1):
        found.append(audit_one(family, member, seed, source, pool, most, kept, **options))
        told.update(done, f"{member.name}, seed {seed}")
        print(line(found[-1]), file=sys.stderr, flush=True)
    return found


def audit_one(family: Family, member: Member, seed: int, source: str, pool: ModelPool, most: int, kept: Path, **options: Any) -> Audited:
    """One audit; its report is kept in the folder `kept` and read from there the next time, unless models, items, options or the code of the
    audit are others by then. Raises `WorkbenchError` when the audit did not end by itself."""
    ids = {name: str(family.folder / other) if other else None for name, other in ((BASE, member.base), (TWIN, member.twin))}
    request = audit_request(str(family.folder / member.name), ids[BASE], ids[TWIN], most=most, seed=seed, source=source, **options)
    models = pool.load_all(request.models)
    file = kept / f"{key_of(family, request, models)}.json"
    if not file.is_file():
        write_json(file, _run(request, models))
    searched, reported = true_shares(request)
    return Audited(member, seed, source, read_json(file), reported, searched)


def key_of(family: Family, request: RunRequest, models: Mapping[str, LoadedModel]) -> str:
    """What a report depends on, as a hash."""
    facts = [sorted((role, model.hash) for role, model in models.items()), request.options, list(family.rows)]
    return hashlib.sha256(json.dumps([facts, code_of_the_audit()], sort_keys=True).encode()).hexdigest()[:24]


@cache
def code_of_the_audit() -> str:
    """As it was when this process first asked."""
    return "".join(path.read_text(encoding="utf-8") for path in sorted(Path(audit.__file__).parent.glob("*.py")))


def _run(request: RunRequest, models: Mapping[str, LoadedModel]) -> dict[str, Any]:
    """The report of an audit that ends."""
    with tempfile.TemporaryDirectory(prefix="loupe-bench-") as name:
        end = None
        with closing(audit.method(Path(name)).run(request, RunContext(), models)) as events:
            for event in events:
                end = event if isinstance(event, Done) else end
        if end is None or end.finish_reason != "stop":
            raise WorkbenchError(f"The audit of {request.models[SUSPECT]} did not end.")
        return report.load(artifacts.resolve(Path(name), end.stats["report"], report.KIND))


def true_shares(request: RunRequest) -> list[float]:
    """The shares of the leaked items, of the half that is searched and of the half that is reported, that the suspect's skill reaches."""
    options = parse(request)
    items = of_set(read(options, request.models[SUSPECT], Path()), LEAKED)
    return [fmean(bool(item.solvable) for item in half) for half in halves(items, options.seed)]


def by_member(audits: Sequence[Audited]) -> dict[str, list[Audited]]:
    """The audits of each member, its seeds together."""
    found: dict[str, list[Audited]] = {}
    for one in audits:
        found.setdefault(one.member.name, []).append(one)
    return found


def line(a: Audited) -> str:
    """One audit in a row, in per cent."""
    told = " ".join(f"{name} {100 * a.before(name):.1f} → {100 * a.after(name):.1f}" for name in (LEAKED, FRESH, "addition"))
    who = f"{a.member.name:<18} from {a.source:<4} seed {a.seed} k {a.report['chosen']['k']:<4}"
    return f"{who} true {100 * a.true:.1f} {told} random {100 * a.random:.1f} {a.state}"
