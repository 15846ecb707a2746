"""Looking inside one step of a run, and going another way from there.

Goes in: a run id and a position. Comes out: the step's candidates, recomputed by the run's own method, or the request of a
branch. Knows stored, recorded and running runs alike; it queues for the device like a short run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from backend import examples
from backend.errors import WorkbenchError
from backend.seam import Look
from backend.shares import is_share_id
from backend.types import RunRecord, RunRequest

if TYPE_CHECKING:
    from backend.workbench import Workbench


class Inspector:
    """Bound to one workbench."""

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench

    def inspect(self, run_id: str, position: int, k: int, reader: str) -> dict[str, Any]:
        """`reader`: an owner, or the share id under which the run may be read."""

        def look() -> dict[str, Any]:
            request, lines = self._find(run_id, reader)
            method = self._workbench.method(request.method)
            if method.inspect is None:
                raise WorkbenchError(f"{method.title} has nothing to look into token by token.")
            tokens = answer_tokens(lines)
            token, ids = at(tokens, position), [t["id"] for t in tokens]
            self._check_models(request)
            if seam is not None:
                data = seam.look(Look(json.dumps(request.to_json(), ensure_ascii=False), tuple(ids), position, k))
            else:
                data = method.inspect(request, self._workbench.models.load_all(request.models), ids, position, k)
            return {"run": run_id, "position": position, "token": token, **data}

        seam = self._workbench.seam
        return self._workbench.call(look, through_seam=True)

    def branch(self, run_id: str, position: int, token_id: int, owner: str) -> RunRequest:
        request, lines = self._find(run_id, owner)
        tokens = answer_tokens(lines)
        at(tokens, position)
        replay = self._workbench.method(request.method).replay
        if replay is not None:
            request = replay(request, [json.loads(line) for line in lines])
        prefix = [t["id"] for t in tokens[:position]] + [token_id]
        left = max(1, request.sampling.max_new_tokens + len(request.answer_prefix) - len(prefix))
        return replace(request, answer_prefix=tuple(prefix), sampling=replace(request.sampling, max_new_tokens=left))

    def _find(self, run_id: str, reader: str) -> tuple[RunRequest, Sequence[str]]:
        """A recording that ships is everybody's; a run is its owner's, and theirs who have its link."""
        shipped = examples.recorded_run(run_id)
        if shipped is not None:
            return shipped
        record = self._shared(run_id, reader) if is_share_id(reader) else self._workbench.store.get(run_id, reader)
        return record.request, record.lines

    def _shared(self, run_id: str, share_id: str) -> RunRecord:
        records, _ = self._workbench.shares.open(share_id)
        record = next((record for record in records if record.id == run_id), None)
        if record is None:
            raise WorkbenchError(f"There is no run {run_id} here.")
        if self._workbench.public and not self._workbench.guard.limits.shared_inspect:
            raise WorkbenchError("What else was possible is not computed for a shared run here. Open its inputs in the panel and run them.")
        return record

    def _check_models(self, request: RunRequest) -> None:
        for model_id in request.models.values():
            if not self._workbench.models.state(model_id).present:
                raise WorkbenchError(f"Load {model_id} to look inside.")


def answer_tokens(lines: Sequence[str]) -> list[dict[str, Any]]:
    return [event for event in map(json.loads, lines) if event["event"] == "token"]


def at(tokens: Sequence[dict[str, Any]], position: int) -> dict[str, Any]:
    if not 0 <= position < len(tokens):
        raise WorkbenchError(f"This run has no token {position}; it has {len(tokens)}.")
    return tokens[position]
