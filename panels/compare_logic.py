"""What the compare page shows, without the page: which runs, what comparing them says, what could be added.

Goes in: a workbench, the visitor's token, ids of runs, words to search for (client input: anything may stand in it). Comes out: texts for
the page's components. No layout; the comparison itself is `backend.compare`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backend import compare_runs, examples
from backend.compare import LEAST_RUNS, Comparison, compare, comparison_json
from backend.compare_commands import option_defaults
from backend.compare_settings import excerpts
from backend.errors import WorkbenchError
from backend.history import Wanted
from backend.types import RunRecord, RunRequest
from backend.workbench import Workbench
from panels.records import excerpt
from panels.said import shown
from panels.visitor import owner_of

OPENS_ON = "routing"  # the recording that an empty page compares: one lane with the same tokens, two that part
ENTRIES = 8
VALUE_CHARS = 240
AN_ID = re.compile(r"s-[0-9a-f]{32}(?:\.[1-9])?|\b[0-9A-HJKMNP-TV-Z]{26}\b")
TOO_FEW = "One run alone says nothing: add another."
NO_TABLE = ""


@dataclass(frozen=True)
class View:
    """The values of the page's components: the comparison, and what stands in the tables under it. `job`: there are no tokens to look at."""

    ids: list[str]
    drawn: str
    settings: str = shown(NO_TABLE)
    figures: str = shown(NO_TABLE)
    findings: str = shown(NO_TABLE)
    same: str = shown(NO_TABLE)
    job: bool = False


class Comparing:
    """One workbench as the compare page asks it."""

    def __init__(self, workbench: Workbench) -> None:
        self.workbench = workbench
        self.titles = {name: method.title for name, method in workbench.methods.items()}
        self.defaults = option_defaults({name: method.Options for name, method in workbench.methods.items()})
        self.recordings = [_recording(path.read_text(encoding="utf-8").partition("\n")[0]) for path in _recorded()]

    # The comparison -----------------------------------------------------------------------------------------------------------

    def first(self, token: Any, runs: Any) -> View:
        """What a page that is opened shows: the runs of its link, else a recording; a run that can't be opened is told on the page."""
        ids = compare_runs.split(runs) if isinstance(runs, str) else []
        try:
            return self.view(token, ids or [self._opening()])
        except WorkbenchError as error:
            return View([], shown({"error": str(error), "runs": []}))

    def _opening(self) -> str:
        return next(iter(json.loads(examples.recorded(OPENS_ON)[0])["requests"]))

    def view(self, token: Any, ids: Any) -> View:
        """These runs beside each other; raises `WorkbenchError` for one that is not here, or for too many."""
        if not isinstance(ids, list) or not all(isinstance(run_id, str) for run_id in ids):
            raise WorkbenchError("The page sent no runs to compare.")
        owner, store = owner_of(self.workbench.public, token), self.workbench.store
        found = compare_runs.named(store, owner, ids)
        names, records = [name for name, _ in found], [record for _, record in found]
        told = {"runs": [self._chip(*of_run) for of_run in found], "public": compare_runs.public_ids(store, owner, names)}
        if len(records) < LEAST_RUNS:
            return View(names, shown({**told, "error": TOO_FEW}))
        compared = compare(records, self.defaults)
        drawn = {name: value for name, value in comparison_json(compared).items() if name in ("sentence", "basis", "columns")}
        tables = (settings(compared), figures(compared), findings(compared), same(compared))
        return View(names, shown({**told, **drawn}), *map(shown, tables), job=not compared.columns)

    def added(self, token: Any, ids: Sequence[str], run_id: Any) -> View:
        """One run more."""
        return self.view(token, [*ids, run_id])

    def _chip(self, run_id: str, record: RunRecord) -> dict[str, Any]:
        """A run as the head of the comparison names it, and where it can be read alone."""
        recorded = examples.recorded_run(run_id) is not None
        page = "" if recorded else f"shared?run={run_id.partition('.')[0]}" if compare_runs.SHARED.fullmatch(run_id) else f"history?run={run_id}"
        models = ", ".join(dict.fromkeys(record.request.models.values()))
        facts = ["recorded run" if recorded else "", self.titles.get(record.request.method, record.request.method), models, record.device or "",
                 "" if record.status == "completed" else record.status]  # fmt: skip
        return {"id": run_id, "name": record.title or record.lane or record.request.method, "facts": [fact for fact in facts if fact],
                "at": record.created_at, "prompt": excerpt(record.request.prompt.text), "page": page}  # fmt: skip

    # What could be added ------------------------------------------------------------------------------------------------------

    def found(self, token: Any, text: Any) -> str:
        """The picker's list as JSON: the run whose id or link the text holds, one's own runs with these words, recordings."""
        words = text.strip() if isinstance(text, str) else ""
        named = AN_ID.search(words)
        owner = owner_of(self.workbench.public, token)
        rows = self._one(owner, named[0]) if named else [*self._own(owner, words), *self._shipped(words)]
        return shown({"rows": rows[: 2 * ENTRIES]})

    def _one(self, owner: str, run_id: str) -> list[dict[str, Any]]:
        """The run of an id that was pasted, with the lanes beside it; nothing if there is none here."""
        try:
            lanes, _ = compare_runs.lanes_of(self.workbench.store, owner, run_id)
        except WorkbenchError:
            return []
        share = compare_runs.SHARED.fullmatch(run_id)
        return [self._entry(lanes, [compare_runs.lane_id(share[1], i) if share else lane.id for i, lane in enumerate(lanes)])]

    def _own(self, owner: str, words: str) -> list[dict[str, Any]]:
        store, made = self.workbench.store, []
        for entry in self.workbench.history.entries(owner, Wanted(text=words), limit=ENTRIES):
            lanes = store.group(entry.group, owner)[0] if entry.group and entry.lanes > 1 else [entry]
            made.append(self._entry(lanes, [lane.id for lane in lanes]))
        return made

    def _entry(self, lanes: Sequence[RunRecord], ids: Sequence[str]) -> dict[str, Any]:
        first = lanes[0]
        return self._row(first.request, [(i, lane.lane or "this run") for i, lane in zip(ids, lanes, strict=True)], first.title, first.created_at)

    def _shipped(self, words: str) -> list[dict[str, Any]]:
        """Recordings whose prompt or method has all of these words."""
        rows = [self._row(requests[0], [(i, self._lane(request)) for i, request in zip(ids, requests, strict=True)], "recorded run")
                for ids, requests in self.recordings]  # fmt: skip
        wanted = words.lower().split()
        return [row for row in rows if all(word in f"{row['prompt']} {row['panel']} {row['title']}".lower() for word in wanted)][:ENTRIES]

    def _lane(self, request: RunRequest) -> str:
        return self.workbench.lane(request) if request.method in self.workbench.methods else request.method

    def _row(self, request: RunRequest, lanes: Sequence[tuple[str, str]], title: str, at: str = "") -> dict[str, Any]:
        return {"prompt": excerpt(request.prompt.text), "panel": self.titles.get(request.method, request.method), "title": title, "at": at,
                "model": ", ".join(dict.fromkeys(request.models.values())), "lanes": [{"run": i, "name": name} for i, name in lanes]}  # fmt: skip


def _recorded() -> list[Any]:
    return sorted((examples.assets_dir() / "runs").glob("*.jsonl"))


def _recording(header: str) -> tuple[list[str], list[RunRequest]]:
    requests = json.loads(header)["requests"]
    return list(requests), [RunRequest.from_json(request) for request in requests.values()]


# Tables -----------------------------------------------------------------------------------------------------------------------


def settings(compared: Comparison) -> list[dict[str, Any]] | str:
    """What was set differently, a row a field."""
    rows = [_row("setting", row.name, excerpts(row.values, VALUE_CHARS)) for row in compared.settings]
    return rows or "Nothing: request, models, device and versions are the same."


def figures(compared: Comparison) -> list[dict[str, Any]]:
    return [_row("figure", row.name, row.values) for row in compared.figures]


def findings(compared: Comparison) -> list[dict[str, Any]] | str:
    """How many findings of each kind a run has, and how many of them the reference has too."""
    rows = []
    for row in compared.findings:
        others = [f"{count}, {shared} as in run 1" if count else 0 for count, shared in zip(row.counts[1:], row.shared[1:], strict=True)]
        rows.append(_row("kind", row.kind, [row.counts[0], *others]))
    return rows or "None of these runs found anything."


def same(compared: Comparison) -> dict[str, Any]:
    return {name: excerpts([value], VALUE_CHARS)[0] for name, value in compared.same.items()}


def _row(head: str, name: str, values: Sequence[Any]) -> dict[str, Any]:
    return {head: name, **{f"run {i}": value for i, value in enumerate(values, start=1)}}
