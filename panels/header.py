"""The top of every page: navigation, the running job with Open and Stop, and who the visitor is.

Goes in: a workbench and the Blocks being built. Comes out: the visitor's browser state and the event after which it can be relied on.
Knows jobs by their words, not what they do.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from backend.errors import WorkbenchError
from backend.jobs import JobState
from backend.workbench import Workbench
from panels.stream import told
from panels.visitor import arrival, owner_of, visitor_state

ASSETS = Path(__file__).resolve().parent.parent / "assets"
EVERY_S = 2
# What the token's card says when it asks to look inside a run: a component's script can't read the browser's encrypted store.
KNOWN = "(token) => { window.loupeVisitor = token; }"


class Top(NamedTuple):
    """`ready` is the load event; what needs the visitor on load goes in `ready.then`."""

    visitor: gr.BrowserState
    ready: Any


def top(workbench: Workbench, demo: gr.Blocks) -> Top:
    """Lay out the head of the page that is being built."""
    gr.Navbar(main_page_name="Loupe")
    visitor = visitor_state()
    script = (ASSETS / "job.js").read_text(encoding="utf-8")
    look = {"elem_id": "job", "elem_classes": ["loupe-job"], "apply_default_css": False}
    job = gr.HTML("", html_template='<div class="lp-job"></div>', js_on_load=script, **look)
    timer = gr.Timer(EVERY_S)

    def tick(token: str) -> str:
        return job_line(workbench, token)

    def stop(token: str, event: gr.EventData) -> None:
        stop_job(workbench, token, event._data.get("run"))

    timer.tick(tick, [visitor], [job], queue=False, show_progress="hidden", api_visibility="private")
    job.stop(stop, [visitor], None, queue=False, show_progress="hidden", api_visibility="private")
    ready = demo.load(arrival(), [visitor], [visitor], queue=False, show_progress="hidden", api_visibility="private")
    ready.then(None, [visitor], None, js=KNOWN, show_progress="hidden", api_visibility="private")
    return Top(visitor, ready)


def own_jobs(workbench: Workbench, token: Any) -> list[JobState]:
    """The visitor's jobs, the running one first; none before the visitor is known."""
    try:
        owner = owner_of(workbench.public, token)
    except WorkbenchError:
        return []  # the first tick may come before the visitor's token
    return [job for job in workbench.jobs() if job.owner == owner]


def job_line(workbench: Workbench, token: Any) -> str:
    """The header's job as JSON for its component, or nothing."""
    jobs = own_jobs(workbench, token)
    if not jobs:
        return ""
    more = f" · {len(jobs) - 1} more waiting" if len(jobs) > 1 else ""
    return json.dumps({"run": jobs[0].run_id, "words": words(jobs[0]) + more}, ensure_ascii=False).replace("<", "\\u003c")


def stop_job(workbench: Workbench, token: Any, run_id: Any) -> None:
    """Stop a job of one's own."""
    with told():
        if any(job.run_id == run_id for job in own_jobs(workbench, token)):
            workbench.stop_job(run_id)


def words(job: JobState) -> str:
    """A job in a few words: what, how far, how long still."""
    if job.waiting:
        return f"{job.title} · waits behind {job.waiting}"
    parts = [job.title]
    if job.total:
        parts.append(f"{100 * job.done / job.total:.0f} %")
    if job.eta_s is not None:
        parts.append(f"{duration(job.eta_s)} left")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """Seconds in words that fit a line."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
