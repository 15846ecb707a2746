"""What the page of speculative decoding does differently, without the page.

Goes in: values of widgets. Comes out: the lanes of a comparison, words, the named endpoint. What every run page does is in `run_logic`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from backend.errors import InvalidRequest
from backend.speculative.request import DRAFT, LANES, WITH_MODEL, drafted_by
from backend.types import Finding, RunRequest
from panels import controls
from panels.further import completed
from panels.lanes import lanes
from panels.run_logic import RunLogic
from panels.stream import told

PLAIN = "none"
ORDER = ("auto", "lookup", "recycling", "model", "tree", PLAIN)  # of lanes and choices; plain last, the others are compared with it
MOST = 4


def choices() -> list[tuple[str, str]]:
    """Drafters as a person ticks them: words and value."""
    return [(LANES[name], name) for name in ORDER]


class Logic(RunLogic):
    """One workbench, seen from this page."""

    method_name = "speculative"
    roles = (DRAFT,)

    def lanes(self, wanted: RunRequest, compare: Sequence[str]) -> list[RunRequest]:
        """The wanted drafter, the ticked ones, plain last. A draft model goes only to drafters that use it: where it does not fit, the
        others run all the same. Raises `InvalidRequest` for more than four drafters."""
        first = wanted.options["drafter"]
        names = [name for name in (first, *(d for d in ORDER if d in compare and d != first)) if name != PLAIN]
        if len(names) > MOST:
            raise InvalidRequest(f"Up to {MOST} drafters stand side by side, beside plain; {len(names)} are chosen.", "options.drafter")
        return [drafted_by(wanted, name) for name in (*names, *([PLAIN] if PLAIN in (first, *compare) else []))]

    def lanes_to_measure(self, wanted: RunRequest, compare: Sequence[str]) -> list[RunRequest]:
        return self.lanes(wanted, [*compare, PLAIN])

    def of_job(self, job: RunRequest) -> RunRequest:
        """An evaluation brings its own prompts, but template and system message are those of the form."""
        wanted = super().of_job(job)
        if job.method == "measure":
            return wanted
        return replace(wanted, prompt=replace(wanted.prompt, template=job.prompt.template, system=job.prompt.system))

    def words(self, request: RunRequest, findings: Sequence[Finding]) -> str:
        """The method's warnings; else, where a draft model was chosen for a drafter that needs none, that it stays unused."""
        if findings or DRAFT not in request.models or request.options["drafter"] in WITH_MODEL:
            return super().words(request, findings)
        return f"{_capital(LANES[request.options['drafter']])} needs no draft model; the one chosen serves the lanes beside it."

    def first(self, token: Any, query: Mapping[str, str], choices: Any) -> tuple[list[Any], str | None]:
        """As on every page; the draft model that a lane beside the opened one used is brought back too."""
        values, text = super().first(token, query, choices)
        used, at = drafts_used(text or ""), len(controls.SHARED)
        return ([*values[:at], used[0], *values[at + 1 :]] if used else values), text

    def endpoint(self) -> Callable[..., Iterator[dict[str, Any]]]:
        """The function behind `/speculative`."""

        def speculative(
            prompt: str, drafter: str = "auto", model: str = "smollm2", draft: str = "none", gamma: int = 0, nodes: int = 0, ngram: int = 3,
            temperature: float = 0.0, top_p: float = 1.0, top_k: int = 0, max_new_tokens: int = 128, seed: int = 0, baselines: bool = False,
            system: str = "", template: str = "chat", law: str = "coupled", mode: str = "fast", branch: float = 0.3, fallback: float = 0.01,
            width: int = 8, token: str = "", more: str = "",
        ) -> Iterator[dict[str, Any]]:  # fmt: skip
            """Write the text that plain decoding would write, from drafts that the model checks, and tell for every round what was drafted.

            `drafter` is auto, lookup, recycling, model, tree or none (plain decoding); model and tree need a `draft` model with the same
            tokens. `gamma` and `nodes` 0 choose the draft's size from measured costs. Temperature 0 is greedy. With `baselines` plain
            decoding follows, and the verdict says whether the texts are the same. Yields one event a time, as the run's lines have them.
            """
            shared = (model, prompt, template, system, temperature, top_p, top_k, max_new_tokens, seed)
            options = {"drafter": drafter, "gamma": gamma, "nodes": nodes, "ngram": ngram, "law": law, "mode": mode, "branch": branch,
                       "fallback": fallback, "width": width}  # fmt: skip
            with told():
                request = controls.to_request(self.method_name, shared, options, {DRAFT: draft})
                request = completed(request, more)
                yield from self.events([request, *(self.workbench.baselines(request) if baselines else ())], token)

        return speculative


def drafts_used(text: str) -> list[str]:
    """The draft models of a strip's lanes, in their order."""
    started = [event for lane in lanes(text) for event in lane.events if event["event"] == "started"]
    return [event["models"][DRAFT]["id"] for event in started if DRAFT in event.get("models", {})]


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]
