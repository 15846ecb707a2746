"""What an audit found, as rows and words of a page.

Goes in: the text of a strip that shows an audit. Comes out: `Found`, and tables made of it. Pure: knows the audit's findings (listed in
`backend.contamination.audit`), not how they were measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backend.contamination.audit_request import METHOD
from backend.contamination.items import LEAKED
from panels.lanes import lanes

Rows = list[dict[str, Any]]
NAMES = {
    "loss": "log-probability", "reference": "log p beyond the base", "min_k": "Min-K %", "min_k_pp": "Min-K %++", "zlib": "log p by zlib",
    "rephrased": "original against rephrased", "entropy": "greedy entropy", "overlap": "n-gram overlap",
}  # fmt: skip
CONTROLS = {"as loud": "magnitude-matched", "all": "all neurons"}
SAYS = {"leak": "a leak", "none": "no leak", "open": "can't tell"}
DIFFS = 60


@dataclass(frozen=True)
class Found:
    """One audit: its run, the data of its findings by kind, its models' lines, its stats (empty until it ended)."""

    run: str = ""
    kinds: Mapping[str, Rows] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stats: Mapping[str, Any] = field(default_factory=dict)

    def of(self, kind: str) -> Rows:
        return self.kinds.get(kind, [])

    def one(self, kind: str) -> dict[str, Any]:
        """The last finding of a kind; empty where there is none."""
        return next(iter(self.of(kind)[-1:]), {})


def found_in(text: str) -> Found:
    """The last audit of a strip's text. The text comes back from the browser: lines that are no findings are passed over."""
    for lane in reversed(lanes(text)):
        start = next((e for e in lane.events if e["event"] == "started"), {})
        if start.get("method") == METHOD:
            kinds: dict[str, Rows] = {}
            for event in lane.events:
                if event["event"] == "finding" and isinstance(event.get("kind"), str) and isinstance(event.get("data"), dict):
                    kinds.setdefault(event["kind"], []).append(event["data"])
            return Found(lane.run, kinds, start.get("models") or {}, (lane.end or {}).get("stats") or {})
    return Found()


# Tables -----------------------------------------------------------------------------------------------------------------------------------


def effects(found: Found) -> Rows:
    """A row a set and model: share right of all items; on the reported half before, after, the paired change and McNemar's p."""
    changes = {(c["model"], c["set"]): c for c in found.of("change")}
    rows = []
    for one in found.of("accuracy"):
        change = changes.get((one["model"], one["set"]))
        row = {"set": one["set"], "model": one["model"], "all items": f"{spread(one)}, n {one['n']:,}"}
        if change:
            row |= {"before": spread(change["before"]), "patched": spread(change["after"]), "change": points(change["delta"])}
            row["p"] = p_value(change["p"])
        rows.append(row)
    return sorted(rows, key=lambda row: [r["set"] for r in rows].index(row["set"]))


def indicators(found: Found) -> Rows:
    """A row an indicator and subset: its AUC here, and what it reads where the truth is known."""
    return [
        {
            "indicator": NAMES.get(one["name"], one["name"]), "of": one["family"],
            "on": "items the base fails" if one["subset"] != "all" else "all items",
            "AUC": spread(one["auc"]) if one["auc"] else "too few items",
            "known leak reads": spread(one["shipped"]["heavy"]) if one["shipped"].get("heavy") else "–",
            "known clean reads": spread(one["shipped"]["clean"]) if one["shipped"].get("clean") else "–",
            "mean leaked": one["leaked"], "mean fresh": one["fresh"], "items": f"{one['n_leaked']:,} and {one['n_fresh']:,}",
        }
        for one in found.of("indicator")
    ]  # fmt: skip


def gaps(found: Found) -> dict[str, str]:
    """How much more of the leaked than of the fresh items is right."""
    gap = found.one("gap")
    names = {"own": "suspect: leaked beyond fresh", "base": "base: leaked beyond fresh", "net": "the suspect's own part",
             "reworded": "original beyond rephrased"}  # fmt: skip
    return {words: points(gap[name]) for name, words in names.items() if gap.get(name)}


def controls(found: Found) -> Rows:
    """What other neurons in as great a number would have done, and what needs no suspect at all."""
    rows = [
        {"control": CONTROLS.get(one["name"], one["name"]), "set": one["set"], "neurons": one["k"], "patched": spread(one)}
        for one in found.of("control")
    ]
    constant = found.one("constant")
    if constant:
        own = f"; the suspect's own fresh accuracy is {percent(constant['fresh'])}" if "fresh" in constant else ""
        words = f"{percent(constant['base'])}, the patched score is {percent(constant['patched'])}{own}"
        rows.append({"control": "report the base's score", "set": "leaked", "patched": words})
    return rows


def suppressions(found: Found) -> Rows:
    """Too little and too much, item by item."""
    return [
        {
            "set": one["set"],
            "still right by memory": f"{one['under']} of {one['unsolvable']}", "wrong though able": f"{one['over']} of {one['solvable']}",
            "ability known from": one["known"],
        }
        for one in found.of("suppression")
    ]  # fmt: skip


def votes(found: Found) -> Rows:
    return [{"evidence": one["family"], "says": SAYS.get(one["says"], one["says"]), "because": one["why"]} for one in found.of("vote")]


def cannot(found: Found) -> Rows:
    return [{"what can't be concluded": words} for words in found.one("verdict").get("cannot", ())]


def diffs(found: Found) -> Rows:
    """Items whose answer the patch changed, as they were found: those of the leaked set first, the lost ones before the others."""
    return sorted(found.of("diff")[:DIFFS], key=lambda one: (one["set"] != LEAKED, not one["before_right"] or one["after_right"]))


def basis(found: Found) -> dict[str, Any]:
    """On what all this was found: models, items and neurons by their hashes, the identity check."""
    models = {role: f"{line.get('id')} · {line.get('hash')} · {line.get('dtype')} on {line.get('device')}" for role, line in found.models.items()}
    sets = {f"items, {one['name']}": f"{one['n']:,} · {one['hash']}" for one in found.of("set")}
    neurons, chosen = found.one("neurons"), found.one("chosen")
    listed = {"neurons": f"{neurons['k']:,} · {neurons['hash']}", "list": neurons["id"]} if neurons else {}
    why = {"why so many": chosen["why"]} if chosen else {}
    check = {"identity check": found.one("identity")["sentence"]} if found.of("identity") else {}
    return {**models, **sets, **listed, **why, **check}


def questions(found: Found) -> list[str]:
    """The questions of the shown diffs, to look at token by token."""
    return list(dict.fromkeys(one["question"] for one in diffs(found)))


# Words of a figure ------------------------------------------------------------------------------------------------------------------------


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def spread(figure: Mapping[str, float]) -> str:
    """A share with its 95 % interval."""
    return f"{percent(figure['value'])} ({100 * figure['low']:.1f} to {100 * figure['high']:.1f})"


def points(figure: Mapping[str, float]) -> str:
    """A difference of shares with its interval, in points."""
    return f"{100 * figure['value']:+.1f} ({100 * figure['low']:+.1f} to {100 * figure['high']:+.1f})"


def p_value(p: float) -> str:
    return "below 0.001" if p < 0.001 else f"{p:.3f}"
