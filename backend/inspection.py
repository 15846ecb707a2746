"""Looking inside one step of a run, and going another way from there.

Goes in: a run id and a position. Comes out: the step's candidates, recomputed by the run's own method, or the request of a
branch. Knows stored, recorded and running runs alike; it queues for the device like a short run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from backend import examples
from backend.errors import WorkbenchError
from backend.types import RunRequest

if TYPE_CHECKING:
    from backend.workbench import Workbench


class Inspector:
    """Bound to one workbench."""

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench

    def inspect(self, run_id: str, position: int, k: int, owner: str | None) -> dict[str, Any]:
        def look() -> dict[str, Any]:
            request, lines = self._find(run_id, owner)
            method = self._workbench.method(request.method)
            if method.inspect is None:
                raise WorkbenchError(f"{method.title} has nothing to look into token by token.")
            tokens = answer_tokens(lines)
            token = at(tokens, position)
            models = self._models(request)
            data = method.inspect(request, models, [t["id"] for t in tokens], position, k)
            return {"run": run_id, "position": position, "token": token, **data}

        return self._workbench.call(look)

    def branch(self, run_id: str, position: int, token_id: int, owner: str | None) -> RunRequest:
        request, lines = self._find(run_id, owner)
        tokens = answer_tokens(lines)
        at(tokens, position)
        replay = self._workbench.method(request.method).replay
        if replay is not None:
            request = replay(request, [json.loads(line) for line in lines])
        prefix = [t["id"] for t in tokens[:position]] + [token_id]
        left = max(1, request.sampling.max_new_tokens + len(request.answer_prefix) - len(prefix))
        return replace(request, answer_prefix=tuple(prefix), sampling=replace(request.sampling, max_new_tokens=left))

    def _find(self, run_id: str, owner: str | None) -> tuple[RunRequest, Sequence[str]]:
        shipped = examples.recorded_run(run_id)
        if shipped is not None:
            return shipped
        store = self._workbench.store
        record = store.get(run_id, owner) if owner is not None else store.find(run_id)
        return record.request, record.lines

    def _models(self, request: RunRequest) -> Mapping[str, Any]:
        for model_id in request.models.values():
            if not self._workbench.models.state(model_id).present:
                raise WorkbenchError(f"Load {model_id} to look inside.")
        return self._workbench.models.load_all(request.models)


def answer_tokens(lines: Sequence[str]) -> list[dict[str, Any]]:
    return [event for event in map(json.loads, lines) if event["event"] == "token"]


def at(tokens: Sequence[dict[str, Any]], position: int) -> dict[str, Any]:
    if not 0 <= position < len(tokens):
        raise WorkbenchError(f"This run has no token {position}; it has {len(tokens)}.")
    return tokens[position]
