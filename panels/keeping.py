"""How long the history of this instance is kept, under the head of its page.

Goes in: a workbench. Comes out: one line where a disk may go with a restart, nothing where it stays. Knows snapshots by their words.
"""

from __future__ import annotations

import os

from backend.snapshots import words
from backend.workbench import Workbench
from panels.header import Top
from panels.said import said, shown

QUIET = {"show_progress": "hidden", "api_visibility": "private", "queue": False}


def kept(workbench: Workbench) -> str:
    """The words as they are now."""
    return words(workbench.snapshots, "SPACE_ID" in os.environ)


def keeping(workbench: Workbench, head: Top) -> None:
    """Lay out the line and say it anew with each load."""
    now = kept(workbench)
    if now:
        head.ready.then(lambda: shown(kept(workbench)), None, [said(now, "keeping")], **QUIET)
