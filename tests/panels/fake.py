"""A workbench without a model, for the pages' tests: the real workbench and store around a method that spells out its prompt.

Goes in: a folder. Comes out: a `Workbench` whose structured runs answer with the prompt's last message, a word a token, held up by a
gate where a test wants to see a run in mid-flight. Knows no torch model.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend import measure
from backend.contamination import audit
from backend.contamination import method as contamination
from backend.errors import InvalidRequest
from backend.method import Method
from backend.model_service import ModelState
from backend.store import Store
from backend.structured.request import Options, baselines, lane
from backend.types import Done, Event, Finding, RunContext, RunRecord, RunRequest, Token, Verdict
from backend.workbench import Workbench
from tests.panels.fake_drafting import drafting_methods
from tests.panels.fake_hidden import hidden_methods
from tests.panels.fake_routing import Router, routing_methods


class FakeModels:
    """One model that is always here and never loaded."""

    def load_all(self, models: Mapping[str, str], progress: Any = None) -> dict[str, Any]:
        return {}

    def holding(self, models: Mapping[str, str]) -> AbstractContextManager[None]:
        return nullcontext()

    def state(self, model_id: str) -> ModelState:
        return ModelState(model_id == "smollm2", "" if model_id == "smollm2" else "not here yet")

    def fetch(self, model_id: str) -> None:
        return None

    def choices(self) -> list[tuple[str, str]]:
        return [("smollm2", "smollm2")]

    def describe(self, model_id: str) -> dict[str, Any]:
        return {"id": model_id, "parameters": 134515008, "chat_template": True}

    def close(self) -> None:
        return None


@dataclass
class Speller:
    """The method's run: the prompt's words as tokens. With the gate closed it waits before the token at `hold_at`."""

    hold_at: int | None = None
    gate: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)

    def run(self, request: RunRequest, context: RunContext, models: Mapping[str, Any]) -> Iterator[Event]:
        words = request.prompt.text.split(" ")
        stop = min(len(words), len(request.answer_prefix) + request.sampling.max_new_tokens)
        said: list[str] = []
        for position, word in enumerate(words[:stop]):
            if position == self.hold_at:
                self.held.set()
                while not self.gate.wait(0.01) and not context.cancelled():
                    pass
            if context.cancelled():
                break
            prefix = position < len(request.answer_prefix)
            said.append(word if position == 0 else f" {word}")
            source = "prefix" if prefix else ("model", "narrowed", "overridden", "only")[position % 4]
            detail = {"allowed": 4, "kept": 0.5} if source != "model" else {}
            yield Token(position, 100 + position, said[-1], -0.5 - position, source, detail)
        reason = "cancelled" if context.cancelled() else "stop" if stop == len(words) else "length"
        yield Done(reason, "".join(said), {"valid": True, "state": "valid", "n_tokens": len(said)})


def check(request: RunRequest, resources: Any) -> list[Finding]:
    grammar = request.options.get("grammar", "")
    if "broken" in grammar:
        raise InvalidRequest("Line 3, column 9: this is <b>broken</b>.", "options.grammar")
    if "uniqueItems" in grammar:
        return [Finding("lint", {"path": "$.a", "keyword": "uniqueItems", "effect": "not enforced", "message": ""})]
    return []


def look(request: RunRequest, models: Mapping[str, Any], ids: Any, position: int, k: int) -> dict[str, Any]:
    other = {"id": 7, "text": " other", "p": 0.5, "final_p": 0.9, "cut": None}
    top = [other, {"id": 8, "text": "no", "p": 0.3, "final_p": 0, "cut": "grammar"}]
    return {"allowed": 4, "kept": 0.5, "models": {"target": {"top": top}}}


def verdict(records: list[RunRecord]) -> Verdict:
    return Verdict(f"Valid. {len(records)} lanes spelled.", {}, True)


def fake_workbench(folder: Path, speller: Speller | None = None, public: bool = False,
                   router: Router | None = None) -> Workbench:  # fmt: skip
    """Close it after use."""
    method = Method(
        name="structured", title="Structured generation", question="?", Options=Options, roles=("target",), run=(speller or Speller()).run,
        check=check, baselines=baselines, lane=lane, verdict=verdict, inspect=look,
    )  # fmt: skip
    routing = routing_methods(router)
    drafting, hidden = drafting_methods(), hidden_methods()
    singles = {"structured": method, "speculative": drafting["speculative"], "hidden_text": hidden["hidden_text"],
               "routing": routing["routing"]}  # fmt: skip
    patching = contamination.method(folder)  # the real ones: a page is laid out without them being run
    singles[patching.name] = patching
    methods = {**singles, "contamination.audit": audit.method(folder), **drafting, **hidden, **routing, "measure": measure.method(singles)}
    return Workbench(folder, methods, FakeModels(), Store(folder), public=public)
