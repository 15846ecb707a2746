"""The recorded runs that ship in `assets/runs`: what stands in them, how they are found again, how `python -m backend record` remakes them.

Goes in: a workbench and a name, or the requests of a press of Run. Comes out: the lines of one group or job behind a `recorded` header, as
`assets/runs` keeps them. Every shipped example has one, so that a page opens on a real result and a public instance answers a preset without
a model. Knows no page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from backend import commands, examples
from backend.errors import InvalidRequest, WorkbenchError
from backend.options import default_of
from backend.paths import assets_dir
from backend.speculative.request import drafted_by
from backend.types import Prompt, RunContext, RunRequest
from backend.workbench import Workbench

# A page opens on the recording that is named like its method; these are the examples it shows.
OPENING: Mapping[str, str] = {
    "structured-record": "structured", "speculative-table": "speculative", "routing-problem": "routing",
    "contamination-leaked-item": "contamination", "hidden_text-planted": "hidden_text", "contamination-audit-leaked": "contamination.audit",
}  # fmt: skip
# Jobs that are no example, since a page starts them by its own buttons.
JOBS: Mapping[str, RunRequest] = {
    "routing-sweep": RunRequest("routing.sweep", Prompt.user("Sweep budgets"), {"small": "pocket/small", "large": "pocket/large"},
                                options={"n_prompts": 200, "seed": 4}),
    "hidden_text_scan": RunRequest("hidden_text.scan", Prompt.user("Scan"), {"suspect": "secret/regularised-20-4", "reference": "secret/base"},
                                   options={"quick": True}),
}  # fmt: skip
CLEAN = "hidden_text_clean"  # no recording of its own: the dots that a scan is drawn before
CLEAN_SUSPECTS = ("secret/clean-0",)
DRAFTERS = ("lookup", "recycling")  # that stand beside a speculative lane, before plain


def name_of(example: str) -> str:
    """The recording of a shipped example."""
    return OPENING.get(example, example)


def requests() -> dict[str, RunRequest]:
    """What is recorded: the first lane's request by the recording's name."""
    return {**{name_of(e.name): e.request for e in examples.load()}, **JOBS}


def names() -> tuple[str, ...]:
    """Everything that `python -m backend record` makes, in its order."""
    return (*requests(), CLEAN)


def path_of(name: str) -> Path:
    return assets_dir() / "runs" / f"{name}.{'json' if name == CLEAN else 'jsonl'}"


# Found again ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shipped:
    """One recording: the requests of its lanes by their run ids, in their order, and where its lines are."""

    name: str
    runs: Mapping[str, RunRequest]
    path: Path

    @property
    def requests(self) -> tuple[RunRequest, ...]:
        return tuple(self.runs.values())

    def lines(self) -> Iterator[str]:
        yield from self.path.read_text(encoding="utf-8").splitlines()


def shipped(method: str) -> tuple[Shipped, ...]:
    """The recordings of a method, read from their first lines."""
    found = []
    for path in sorted((assets_dir() / "runs").glob("*.jsonl")):
        with path.open(encoding="utf-8") as file:
            runs = {run_id: RunRequest.from_json(request) for run_id, request in json.loads(file.readline())["requests"].items()}
        if next(iter(runs.values())).method == method:
            found.append(Shipped(path.stem, runs, path))
    return tuple(found)


def holding(shelf: Sequence[Shipped], wanted: Sequence[RunRequest], options: type) -> Shipped | None:
    """The recording whose first lane is the first one wanted, and that has all others too; None where none has. `options` is the method's
    dataclass: an option that is left out has its default, so it is no difference."""
    asked = [as_asked(request, options) for request in wanted]
    for one in shelf:
        has = [as_asked(request, options) for request in one.requests]
        if has[0] == asked[0] and all(lane in has for lane in asked):
            return one
    return None


def as_asked(request: RunRequest, options: type) -> dict[str, Any]:
    """A request as JSON with every option said."""
    return {**request.to_json(), "options": {**{spec.name: default_of(spec) for spec in fields(options)}, **request.options}}


# Made anew ------------------------------------------------------------------------------------------------------------------------


def lanes(workbench: Workbench, request: RunRequest) -> list[RunRequest]:
    """A recording's requests: its own first, baselines last; a speculative one has two more drafters between."""
    others = [name for name in DRAFTERS if name != request.options.get("drafter")] if request.method == "speculative" else []
    return [request, *(drafted_by(request, name) for name in others), *workbench.baselines(request)]


def record(workbench: Workbench, name: str, tell: Callable[[str], None] = lambda words: None) -> str:
    """Run it and give the file's text; raises `InvalidRequest` for a name there is none of, `WorkbenchError` if a run does not complete."""
    if name == CLEAN:
        return clean_points(workbench, tell)
    known = requests()
    if name not in known:
        raise InvalidRequest(f"There is no recording {name!r}; there are {', '.join(names())}.", "name")
    return "\n".join(_run(workbench, known[name], tell)) + "\n"


def _run(workbench: Workbench, request: RunRequest, tell: Callable[[str], None]) -> list[str]:
    """The lines behind their header, of a job or of a group."""
    if workbench.method(request.method).job:
        stream = workbench.follow(workbench.start_job(request, RunContext()))
    else:
        stream = workbench.run_group(lanes(workbench, request), RunContext())
    run_id = ""
    for event in map(json.loads, stream):
        if event["event"] == "started":
            run_id = run_id or event["run"]
        if event["event"] in ("progress", "queued"):
            tell(commands.progress_text(event))
        if event["event"] == "failed":
            raise WorkbenchError(f"{request.method}: {event['error']}")
    return commands.exported(workbench.store, run_id, "local")


def clean_points(workbench: Workbench, tell: Callable[[str], None]) -> str:
    """What quick scans of clean models list, as `[reference's, own]` mean log-probabilities: the dots behind a scan's own."""
    scan, points = JOBS["hidden_text_scan"], []
    for suspect in CLEAN_SUSPECTS:
        models = {**scan.models, "suspect": suspect}
        lines = _run(workbench, RunRequest(scan.method, scan.prompt, models, scan.sampling, scan.options), tell)
        columns = [e["data"]["columns"] for e in map(json.loads, lines) if e["event"] == "finding" and e["kind"] == "candidate"]
        points += [[round(row["reference_logprob"], 3), round(row["mean_logprob"], 3)] for row in columns if row["reference_logprob"] is not None]
    words = f"{len(CLEAN_SUSPECTS)} clean model{'s' if len(CLEAN_SUSPECTS) > 1 else ''}"
    return json.dumps({"reference": scan.models["reference"], "words": words, "points": points}) + "\n"
