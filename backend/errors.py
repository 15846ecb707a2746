"""Errors whose text a person reads.

Goes in: what went wrong, in words, and where. Comes out: one exception family. Knows nothing of models, pages or SQL.
"""

from __future__ import annotations


class WorkbenchError(Exception):
    """Something a user can mend. `str(error)` is shown as it stands; `where` names the field (`options.grammar`), if any."""

    def __init__(self, message: str, where: str | None = None) -> None:
        super().__init__(message)
        self.where = where


class InvalidRequest(WorkbenchError):
    """The request can't run as it is written; nothing was run (CLI exit code 2)."""


class ModelError(WorkbenchError):
    """A model is missing, gated, corrupted, too large, not causal, or lacks what a method needs."""


class EngineError(WorkbenchError):
    """Foreign code in a worker process refused, ran out of time or out of memory."""
