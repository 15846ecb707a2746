"""The three jobs behind a router: labels, training, sweep. Their requests, their cost in words, their course, their last result.

Goes in: values of widgets, a job's lines. Comes out: requests, texts, rows, what the charts draw. Knows nothing of components.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr

from backend.errors import InvalidRequest, WorkbenchError
from backend.routing import labels, sweep, train
from backend.routing.request import LARGE, SMALL
from backend.types import RunRecord, RunRequest
from backend.workbench import Workbench
from panels.header import duration
from panels.lanes import lanes
from panels.routing_logic import Logic
from panels.run_logic import default_options
from panels.visitor import context_of, owner_of

LABEL, TRAIN, SWEEP = "routing.label", "routing.train", "routing.sweep"
QUICK_LABELS, QUICK_UNJUDGED, QUICK_PROBLEMS = 600, 1200, 60
QUICK_BUDGETS = (0.05, 0.1, 0.2)
OPTIONS = {LABEL: labels.Options, TRAIN: train.Options, SWEEP: sweep.Options}
KINDS = {LABEL: "labels", TRAIN: "router", SWEEP: "sweep"}  # what each leaves behind, in its artifact and in its stats
UNITS = {LABEL: "prompts", TRAIN: "passes", SWEEP: "curve points"}
CLASSES = {"identical": "same choice"}
POINT_COLUMNS = ("strategy", "budget", "threshold", "share", "accuracy", "low", "high", "right", "n", "tokens", "large_tokens", "mean_gap",
                 "params_paper", "params_recorder", "seconds_predicted")  # fmt: skip
PLAIN = {"share": "share of large tokens", "low": "95 % from", "high": "95 % to", "n": "problems", "mean_gap": "mean gap",
         "large_tokens": "large tokens", "params_paper": "parameters a token, paper's formula", "seconds_predicted": "seconds an answer, predicted",
         "params_recorder": "parameters a token, one model at a time"}  # fmt: skip


@dataclass(frozen=True)
class Told:
    """What a section shows at one moment: words, the findings by kind, which job it is, whether it has ended and how."""

    words: str = ""
    findings: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    run: str = ""
    ended: str = ""

    def of(self, kind: str) -> Sequence[Mapping[str, Any]]:
        return self.findings.get(kind, ())


# Requests ------------------------------------------------------------------------------------------------------------------------


def pair(logic: Logic, values: Sequence[Any]) -> tuple[str, str]:
    """The form's small and large model; raises `InvalidRequest` where one is missing."""
    models = logic.request(values).models
    for role in (SMALL, LARGE):
        if role not in models:
            raise InvalidRequest(f"models.{role} is missing: choose a {role} model in the form.", f"models.{role}")
    return models[SMALL], models[LARGE]


def label_request(logic: Logic, values: Sequence[Any], data: str, n: Any, unjudged: Any, kind: str, quick: bool = False) -> RunRequest:
    n, unjudged = (min(_whole(n), QUICK_LABELS), min(_whole(unjudged), QUICK_UNJUDGED)) if quick else (_whole(n), _whole(unjudged))
    return labels.label_request(*pair(logic, values), data=data or "", n_prompts=n, unjudged=unjudged, kind=kind)


def train_request(logic: Logic, values: Sequence[Any], which: Any, seed: Any) -> RunRequest:
    if not which:
        raise InvalidRequest("There are no labels to learn from yet: make some above.", "options.labels")
    return train.train_request(*pair(logic, values), str(which), seed=_whole(seed))


def sweep_request(logic: Logic, values: Sequence[Any], data: str, n: Any, budgets: Any, strategies: Sequence[str], quick: bool = False) -> RunRequest:
    """The router is the form's."""
    shares = QUICK_BUDGETS if quick else budgets_of(budgets)
    n = min(_whole(n), QUICK_PROBLEMS) if quick else _whole(n)
    router = logic.request(values).options["router"]
    named = [name for name in sweep.STRATEGIES if name in strategies]
    return sweep.sweep_request(*pair(logic, values), router=router, data=data or "", n_prompts=n, budgets=list(shares), strategies=named)


def budgets_of(text: Any) -> list[float]:
    """Percents apart by commas or blanks, as shares."""
    try:
        found = sorted({round(float(part) / 100, 6) for part in str(text).replace(",", " ").split()})
    except ValueError as error:
        raise InvalidRequest(f"Budgets must be percents apart by commas, got {text!r}.", "options.budgets") from error
    return found


def _whole(value: Any) -> Any:
    """A number field's value as the options want it; what is no whole number is left for them to refuse."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# Cost, course, last --------------------------------------------------------------------------------------------------------------


def cost(workbench: Workbench, token: Any, request: RunRequest, text: str) -> str:
    """What it would take: from the last job of its kind with this pair, else at most what the lanes of the strip took one by one."""
    workbench.check(request, owner_of(workbench.public, token))
    what = size(request)
    known = _known_pace(workbench, token, request)
    if known is not None:
        return f"{what}: about {duration(known * units(request))}, as the last one went. It goes on when this page closes."
    paces = [lane.seconds / len(lane.tokens) for lane in lanes(text) if lane.seconds and not lane.continued]
    if request.method == TRAIN or not paces:
        return f"{what}. How long is told as soon as its first part is done. It goes on when this page closes."
    each = request.options.get("max_new_tokens", 160) * max(paces)
    return f"{what}: at most {duration(each * units(request))}, answers one by one; they go together, so far less. It goes on when this page closes."


def size(request: RunRequest) -> str:
    """How much work a request is, and what it leaves behind."""
    options = request.options
    match request.method:
        case "routing.label":
            return f"{options['n_prompts']:,} prompts judged, {options['unjudged']:,} more compared; with the pocket pair about 10 kB of disk each"
        case "routing.train":
            return "A small network from these labels, memory as large as they are on disk, less than a megabyte of disk"
        case _:
            n = len(options["budgets"]) * len(options["strategies"]) + 2
            return f"{options['n_prompts']:,} problems answered {n} times, {n} points of curves; a few hundred kilobytes of disk"


def units(request: RunRequest) -> float:
    """The work of a request in units that two requests of one kind can be compared by."""
    options = request.options
    if request.method == LABEL:
        return float(options["n_prompts"] + options["unjudged"])
    return 1.0 if request.method == TRAIN else float(options["n_prompts"] * (len(options["budgets"]) * len(options["strategies"]) + 2))


def _known_pace(workbench: Workbench, token: Any, request: RunRequest) -> float | None:
    """Seconds a unit of the newest finished job of this kind with this pair."""
    for record in workbench.store.runs(owner_of(workbench.public, token), method=request.method, status="completed", limit=5):
        seconds = record.stats.get("seconds")
        if seconds and record.request.models == request.models and set(record.request.options) >= set(request.options):
            return seconds / units(record.request)
    return None


def started(workbench: Workbench, request: gr.Request, token: Any, wanted: RunRequest, earlier: Sequence[str] = ()) -> Iterator[Told]:
    """Start the job and tell its course. `earlier`: the artifact line of a stopped one, whose parts are on disk."""
    context = replace(context_of(workbench, token, request), earlier=tuple(earlier))
    run_id = workbench.start_job(wanted, context)
    yield from course(workbench.follow(run_id), wanted.method, run_id)


def resumed(workbench: Workbench, request: gr.Request, token: Any, method: str) -> Iterator[Told]:
    """Go on with the last job of its kind, which was stopped; raises `WorkbenchError` where there is nothing to go on with."""
    record = _last_record(workbench, token, method)
    begun = _begun(record) if record is not None and record.status in ("cancelled", "failed", "interrupted") else None
    if record is None or begun is None:
        raise WorkbenchError("There is no stopped one to go on with.")
    line = json.dumps({"event": "artifact", "id": begun, "kind": KINDS[method]})
    yield from started(workbench, request, token, record.request, [line])


def _begun(record: RunRecord) -> str | None:
    """The artifact that a stopped job has begun; one that went on from another's work names it only at its end."""
    lines = (json.loads(line) for line in record.lines)
    return next((line["id"] for line in lines if line["event"] == "artifact"), record.stats.get(KINDS[record.request.method]))


def choice_of(request: RunRequest) -> tuple[Any, ...]:
    """The section's values of a job, in the order in which its request is made of them."""
    said = {**default_options(OPTIONS[request.method]), **request.options}
    match request.method:
        case "routing.label":
            return said["data"], said["n_prompts"], said["unjudged"], said["kind"]
        case "routing.train":
            return said["labels"], said["seed"]
        case _:
            return said["data"], said["n_prompts"], ", ".join(f"{100 * share:g}" for share in said["budgets"]), said["strategies"]


def of_record(record: RunRecord) -> Told:
    """What a stored job found, however it ended."""
    *_, told = course(record.lines, record.request.method, record.id)
    return replace(told, words=told.words or "As far as it came.", ended=told.ended or record.status)


def last(workbench: Workbench, token: Any, method: str) -> Told:
    """What the visitor's last job of this kind found, however it ended."""
    record = _last_record(workbench, token, method)
    if record is None:
        return Told()
    *_, told = course(record.lines, method, record.id)
    return replace(told, words=told.words or "The last one, as far as it came.", ended=told.ended or record.status)


def _last_record(workbench: Workbench, token: Any, method: str) -> RunRecord | None:
    owner = owner_of(workbench.public, token)
    found = workbench.store.runs(owner, method=method, limit=1)
    return workbench.store.get(found[0].id, owner) if found else None


def stop(workbench: Workbench, token: Any, run_id: Any) -> None:
    """Ask the visitor's own job to stop; what it has done stays."""
    owner = owner_of(workbench.public, token)
    if any(job.run_id == run_id and job.owner == owner for job in workbench.jobs()):
        workbench.stop_job(run_id)


def course(lines: Iterable[str], method: str, run_id: str = "") -> Iterator[Told]:
    """A job's lines as what its section shows while it goes on, the conclusion last."""
    told, findings = Told(run=run_id), {}
    for line in lines:
        told = _heard(told, findings, json.loads(line), UNITS[method])
        yield told
    yield told


def _heard(told: Told, findings: dict[str, list[Any]], event: dict[str, Any], unit: str) -> Told:
    match event["event"]:
        case "queued":
            return replace(told, words=event.get("note") or f"Waits behind {event['place']}.")
        case "progress":
            return replace(told, words=_progress(event, unit))
        case "finding":
            findings.setdefault(event["kind"], []).append(event["data"])
            return replace(told, findings={kind: tuple(found) for kind, found in findings.items()})
        case "done" | "failed":
            warned = [f"! {one['text']}" for one in findings.get("warning", ())]
            said = "\n".join([event.get("text") or event.get("error") or "", *warned])
            return replace(told, words=said, ended=event.get("finish_reason") or "failed")
        case _:
            return told


def _progress(event: Mapping[str, Any], unit: str) -> str:
    done, total, rate = event["done"], event["total"] or 0, event.get("rate")
    left = f" · {duration((total - done) / rate)} left" if rate and total > done else ""
    return f"{event.get('note') or 'working'} · {done:,.0f} of {total:,.0f} {unit}{left}"


def label_choices(workbench: Workbench, token: Any) -> list[tuple[str, str]]:
    """The visitor's finished labels, newest first: label and id."""
    done = workbench.store.runs(owner_of(workbench.public, token), method=LABEL, status="completed")
    return [(_labels_name(record), record.stats["labels"]) for record in done if "labels" in record.stats]


def _labels_name(record: RunRecord) -> str:
    pair = f"{record.request.models.get(SMALL)} with {record.request.models.get(LARGE)}"
    return f"{pair}, {record.stats.get('n_prompts', 0):,} prompts, {record.created_at[:16]}"


# Tables --------------------------------------------------------------------------------------------------------------------------


def class_rows(told: Told) -> list[dict[str, Any]]:
    return [{"class": CLASSES.get(one["class"], one["class"]), "tokens": one["n"], "share": f"{one['share']:.1%}"} for one in told.of("class")]


def example_rows(told: Told, each: int = 3) -> list[dict[str, Any]]:
    """A few of each class with both continuations."""
    rows, shown = [], {}
    for one in told.of("example"):
        shown[one["class"]] = shown.get(one["class"], 0) + 1
        if shown[one["class"]] <= each:
            rows.append({
                "class": CLASSES.get(one["class"], one["class"]), "prompt": one["prompt"], "answer so far": one["before"][-120:] or "(its beginning)",
                "small would say": one["small"][1], "and then": one["small_continuation"] or "–", "large said": one["large"][1],
                "and on": one["large_continuation"], "right answer": one["expected"],
            })  # fmt: skip
    return rows


def metric_rows(told: Told) -> list[dict[str, Any]]:
    return [
        {"tokens": {"all": "all", "mismatches": "where the models differ"}.get(one["set"], one["set"]), "score": one["scorer"],
         "ROC-AUC": round(one["auc"], 4), "average precision": round(one["ap"], 3), "asked to find 95 %": f"{one['calls_at_recall_95']:.1%}",
         "matter": f"{one['base_rate']:.1%}", "calibration error": None if one.get("ece") is None else round(one["ece"], 4)}
        for one in told.of("metric")
    ]  # fmt: skip


def point_rows(told: Told) -> list[dict[str, Any]]:
    """The points as the file has them; of an arm that was told twice the last."""
    points = {(one["strategy"], one["budget"]): one for one in told.of("point")}
    return [{PLAIN.get(name, name): point.get(name) for name in POINT_COLUMNS} for point in points.values()]


def area_rows(told: Told) -> list[dict[str, Any]]:
    """Areas under the curves up to 30 %, then how far each pair of curves lies apart."""
    named = [(one["strategy"], one) for one in told.of("area")]
    named += [(f"{one['first']} − {one['second']}", one) for one in told.of("difference")]
    return [{"curve": name, "area": one["value"], "95 % from": one["low"], "95 % to": one["high"]} for name, one in named]
