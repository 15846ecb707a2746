"""A stored run taken back to its page: the lanes that were ticked beside it, a measurement's conclusion, a job's section with what it found.

Goes in: a page that is laid out, `?run=` of its address. Comes out: listeners that fill what the form's own fields do not hold. What the form holds
is in `run_logic`; how a job's lines are told is its section's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from backend.errors import WorkbenchError
from backend.rerun import earlier
from backend.shares import is_share_id
from backend.types import RunRecord, RunRequest
from backend.workbench import Workbench
from panels.records import opened
from panels.said import shown
from panels.visitor import owner_of

if TYPE_CHECKING:
    from panels.run_logic import RunLogic
    from panels.run_page import Page

MEASURE = "measure"
AT_ONCE = {"show_progress": "hidden", "api_visibility": "private", "queue": False}


def asked(workbench: Workbench, token: Any, run_id: Any, *methods: str) -> RunRecord | None:
    """The run of one of these methods that the address names, one's own or a shared one; None where it names none. What is wrong with an id is
    told by the page's own opening."""
    if not isinstance(run_id, str) or not run_id:
        return None
    try:
        record = opened(workbench, owner_of(workbench.public, token), run_id)[0]
    except WorkbenchError:
        return None
    return record if record.request.method in methods else None


def section(page: Page, workbench: Workbench, method: str, accordion: gr.Accordion | None, choice: Sequence[Component], out: Sequence[Component],
            values: Callable[[RunRequest], Sequence[Any]], found: Callable[[RunRecord], Sequence[Any]]) -> None:  # fmt: skip
    """A page that opens with a job of `method` unfolds its section: `values` fill its choice, `found` what the job's course fills."""
    folded = [accordion] if accordion is not None else []
    outputs = [*folded, *choice, *out]

    def fill(request: gr.Request, token: str) -> list[Any]:
        record = asked(workbench, token, request.query_params.get("run"), method)
        if record is None:
            return [gr.skip()] * len(outputs)
        return [*(gr.Accordion(open=True) for _ in folded), *values(record.request), *found(record)]

    page.head.ready.then(fill, [page.head.visitor], outputs, **AT_ONCE)


def wire(page: Page, logic: RunLogic, workbench: Workbench) -> None:
    """What every run page brings back: the lanes ticked beside the run, and what a measurement said."""
    form, stage = page.form, page.stage
    offered = [value for _, value in form.compare.choices]

    def fill(request: gr.Request, token: str) -> tuple[Any, Any, Any]:
        record = asked(workbench, token, request.query_params.get("run"), MEASURE, logic.method_name)
        if record is None:
            return gr.skip(), gr.skip(), gr.skip()
        wanted, beside = lanes_of(workbench, token, request.query_params["run"], record)
        words = shown(record.text or record.error or "") if record.request.method == MEASURE else shown("")
        return ticks(logic, wanted, beside, offered), gr.Column(visible=record.request.method == MEASURE), words

    page.head.ready.then(fill, [page.head.visitor], [form.compare, stage.offer, stage.cost], **AT_ONCE)


def lanes_of(workbench: Workbench, token: Any, run_id: str, record: RunRecord) -> tuple[RunRequest, list[RunRequest]]:
    """The request of a run, and those of the lanes beside it; of a measurement the ones that it repeated."""
    if record.request.method == MEASURE:
        requests = [RunRequest.from_json(lane) for lane in record.request.options["lanes"]]
    elif is_share_id(run_id):
        requests = [lane.request for lane in workbench.shares.open(run_id)[0]]
    else:
        requests = [lane.request for lane in earlier(workbench, record.id, owner_of(workbench.public, token))]
    wanted = requests[0] if record.request.method == MEASURE else record.request
    return wanted, [request for request in requests if request != wanted]


def ticks(logic: RunLogic, wanted: RunRequest, beside: Sequence[RunRequest], offered: Sequence[str]) -> list[str]:
    """The choices whose lanes, as the page would run them now, are all among those that ran beside it."""
    found = []
    for name in offered:
        try:
            lanes = [lane for lane in logic.lanes(wanted, [name]) if lane != wanted]
        except WorkbenchError:
            continue  # what was chosen then can't be run here now; the run itself opens all the same
        if lanes and all(lane in beside for lane in lanes):
            found.append(name)
    return found
