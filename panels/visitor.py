"""Whose runs these are.

Goes in: what a browser keeps for us. Comes out: the owner a run is stored under. On a local instance there is one owner; on a public one
each browser has a random token, and only its SHA-256 ever reaches the store.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from typing import Any

import gradio as gr

from backend.errors import WorkbenchError
from backend.types import RunContext
from backend.workbench import Workbench

LOCAL = "local"
TOKEN = re.compile(r"[0-9a-f]{32}")


def browser_secret() -> str:
    """What the browser's store is encrypted with. It outlives a restart, or every visitor would be a new one; it does not guard."""
    return os.environ.get("LOUPE_BROWSER_SECRET", "loupe-browser-state")


def visitor_state() -> gr.BrowserState:
    return gr.BrowserState("", storage_key="loupe-visitor", secret=browser_secret())


def mint(token: Any) -> str:
    """The token as it is, or a new one where there is none."""
    return token if isinstance(token, str) and TOKEN.fullmatch(token) else secrets.token_hex(16)


def owner_of(public: bool, token: Any) -> str:
    """The owner in the store. The token is client input: one that was not minted here is refused."""
    if not public:
        return LOCAL
    if not isinstance(token, str) or not TOKEN.fullmatch(token):
        raise WorkbenchError("This browser has no visitor token yet. Load the page again.")
    return hashlib.sha256(token.encode()).hexdigest()


def context_of(workbench: Workbench, token: Any, request: gr.Request | None) -> RunContext:
    """Who runs it, and from which page load (a tab's runs are stopped together)."""
    session = request.session_hash if request is not None else None
    return RunContext(owner=owner_of(workbench.public, token), session=session)


def stop_runs(workbench: Workbench, owner: str, session: str | None) -> None:
    """Ask every short run of this page load to stop, waiting ones too; jobs go on."""
    for status in ("queued", "running"):
        for record in workbench.store.runs(owner, status=status):
            if record.session == session and not workbench.methods[record.request.method].job:
                workbench.cancel(record.id)
