"""What a visitor of a public instance is told beside Run: what is kept of a run, how long, who sees it; and the switch that keeps nothing.

Goes in: a workbench, the head of a page. Comes out: the notice, the switch, the visitor's API token, where one can sign in the button for it;
nothing on one's own machine. Knows the limits and the visitor, not what is run.
"""

from __future__ import annotations

import os
from typing import Any

import gradio as gr
from gradio.context import Context

from backend import snapshots
from backend.errors import WorkbenchError
from backend.public import Limits
from backend.workbench import Workbench
from panels.header import Top
from panels.said import said, shown
from panels.visitor import ACCOUNT, accounts_known, bare, keeps, marked, owner_of

QUIET = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
CALLS = "Programs send it as token: with it their runs stand in your History. Whoever has it sees your runs."


def place(workbench: Workbench, head: Top) -> None:
    """Lay the notice out and wire it."""
    if not workbench.public:
        return
    keep = gr.Checkbox(True, label="Keep my runs", elem_id="keep", container=False)
    words = said("", "notice", live=True)
    with gr.Accordion("API token", open=False, elem_id="api-token"):
        own = said("", "token", "loupe-mono")
        said(CALLS)
    if accounts_known():
        _sign_in()

    def state(token: str) -> tuple[bool, str, str]:
        return keeps(token), shown(told(workbench, token)), shown(bare(token))

    def switch(token: str, on: bool) -> tuple[str, str]:
        now = marked(token, bool(on))
        return now, shown(told(workbench, now))

    head.ready.then(state, [head.visitor], [keep, words, own], **QUIET)
    keep.input(switch, [head.visitor, keep], [head.visitor, words], **QUIET)


def _sign_in() -> None:
    """Gradio's button; its look at who is signed in would else be an endpoint for everybody."""
    button = gr.LoginButton(size="sm", elem_id="sign-in")
    check, button.load_event_to_attach = button._check_login_status, None
    Context.root_block.load(check, None, [button], **QUIET)


def told(workbench: Workbench, token: Any) -> str:
    """The notice for this visitor; nothing before she is known."""
    try:
        has, _ = workbench.guard.kept(owner_of(workbench.public, token))
    except WorkbenchError:
        return ""
    where = snapshots.words(workbench.snapshots, "SPACE_ID" in os.environ)
    return notice(workbench.guard.limits, has, keeps(token), signed_in=bare(token).startswith(ACCOUNT), where=where)


def notice(limits: Limits, has: int, keep: bool, signed_in: bool = False, where: str = "") -> str:
    """What is kept, how long, and who sees it, in plain words."""
    if not keep:
        return ("Your runs are deleted when they have ended: nothing to find again, to look into or to share. Jobs (measure, scan, audit, sweep …) "
                "are kept all the same, since they outlive this page; delete them in History.")  # fmt: skip
    who = "your account" if signed_in else "a random token in this browser"
    minutes = max(1, limits.max_job_s // 60)
    return " ".join(part for part in (
        f"Kept: prompt, settings, models and answer of each run, under {who}; no name, no address.",
        "Nobody else sees them unless you share one; whoever runs this instance can.",
        f"You have {has:,} of {limits.max_runs:,}; with one more the oldest goes that is neither pinned nor shared."
        if has >= limits.max_runs else f"You have {has:,} of {limits.max_runs:,}, after which the oldest goes that is neither pinned nor shared.",
        f"A job ends after {minutes} min with what it has.",
        where,
        "Delete or export them in History.",
    ) if part)  # fmt: skip
