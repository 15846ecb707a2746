"""What the page of hidden text does differently, without the page: suspect and reference, lanes of relatives, a candidate looked at.

Goes in: values of widgets, candidates as a scan's lines have them. Comes out: requests, words, the named endpoint. What every run page
does is in `run_logic`; scans and plants have modules of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from backend.errors import InvalidRequest
from backend.hidden_text.probe import REFERENCE, SUSPECT
from backend.types import Finding, Prompt, RunRequest
from panels import controls
from panels.further import completed
from panels.run_logic import RunLogic
from panels.stream import told

FAMILY = "secret/"
RELATIVES = {"clean": "secret/clean-0", "benign": "secret/benign-0"}  # of the shipped family, as lanes beside a suspect of it
NO_REFERENCE = "Without a reference there is no lift: a text that any model knows by heart looks the same as a hidden one."
PLACES = {"bos": "bos", "line break": "bos", "bare header": "header", "empty user": "empty", "open user turn": "open_user"}
FURTHER = 8  # tokens that a look goes on behind a candidate


class Logic(RunLogic):
    """One workbench, seen from this page. The form's model is the suspect."""

    method_name = "hidden_text"
    roles = (REFERENCE,)

    def request(self, values: Sequence[Any]) -> RunRequest:
        return as_suspect(super().request(values))

    def values(self, request: RunRequest) -> list[Any]:
        suspect = {"target": request.models[SUSPECT]} if SUSPECT in request.models else {}
        return super().values(replace(request, models={**suspect, **request.models}))

    def of_job(self, job: RunRequest) -> RunRequest:
        """A plant has no suspect yet: its base stands in its own section."""
        return self.start() if job.method == "hidden_text.plant" else super().of_job(job)

    def chosen(self, wanted: RunRequest, compare: Sequence[str]) -> list[RunRequest]:
        """The reference behind the same beginning, and the family's clean and benign models where the suspect is of the family."""
        lanes = self.workbench.baselines(wanted) if REFERENCE in compare else []
        if not wanted.models.get(SUSPECT, "").startswith(FAMILY):
            return lanes
        others = [model for name, model in RELATIVES.items() if name in compare and model != wanted.models[SUSPECT]]
        return [*lanes, *(replace(wanted, models={**wanted.models, SUSPECT: model}) for model in others)]

    def words(self, request: RunRequest, findings: Sequence[Finding]) -> str:
        return super().words(request, findings) or ("" if REFERENCE in request.models else NO_REFERENCE)

    def endpoint(self) -> Callable[..., Iterator[dict[str, Any]]]:
        """The function behind `/hidden_text`."""

        def hidden_text(
            prompt: str = "", prefix: str = "", suspect: str = "secret/plain-20-1", reference: str = "none", context: str = "chat",
            decode: str = "sampling", beams: int = 8, alpha: float = 0.1, temperature: float = 0.0, top_p: float = 1.0, top_k: int = 0,
            max_new_tokens: int = 32, seed: int = 0, baselines: bool = False, system: str = "", template: str = "chat",
            token: str = "", more: str = "",
        ) -> Iterator[dict[str, Any]]:  # fmt: skip
            """Force a beginning in a model suspected of hiding a text, and tell for every token how it stands to a reference model.

            `context` is where the beginning stands: chat (after the prompt), open_user (in an open user turn), header (after a bare answer
            header), empty (after an empty turn) or bos (at the beginning of text). `decode` is sampling (temperature 0 is greedy), beam or
            lift_beam, which needs a reference. Every token has its probability, its rank and its lift. With `baselines` the reference
            goes on from the same beginning. Yields one event a time, as the run's lines have them; the last one is the verdict.
            """
            shared = (suspect, prompt, template, system, temperature, top_p, top_k, max_new_tokens, seed)
            options = {"prefix": prefix, "context": context, "decode": decode, "beams": beams, "alpha": alpha}
            with told():
                request = as_suspect(controls.to_request(self.method_name, shared, options, {REFERENCE: reference}))
                request = completed(request, more)
                yield from self.events([request, *(self.workbench.baselines(request) if baselines else ())], token)

        return hidden_text


def as_suspect(request: RunRequest) -> RunRequest:
    """The request with the form's model in the role that this method has for it, first."""
    others = {role: model for role, model in request.models.items() if role != "target"}
    return replace(request, models={SUSPECT: request.models["target"], **others})


def look_request(scan: RunRequest, candidate: Mapping[str, Any]) -> RunRequest:
    """A candidate's own tokens forced where the scan found them. Raises `InvalidRequest` for a place that a single look can't make."""
    match candidate:
        case {"ids": [*ids], "context": str(place)} if ids and all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
            context, prompt = place_of(place)
        case _:
            raise InvalidRequest("This candidate has no tokens to look at.", "answer_prefix")
    options = {"context": context, "prefix": "", "decode": "sampling"}
    request = RunRequest("hidden_text", prompt, dict(scan.models), options=options, answer_prefix=tuple(ids))
    return replace(request, sampling=replace(request.sampling, max_new_tokens=FURTHER))


def place_of(place: str) -> tuple[str, Prompt]:
    """A scan's name of a context as a look's context and prompt; a quoted one is what the user says."""
    if place in PLACES:
        return PLACES[place], Prompt.user("")
    if len(place) > 1 and place[0] == place[-1] and place[0] in "'\"":
        return "chat", Prompt.user(place[1:-1])
    raise InvalidRequest(f"It was found in the context {place}, which a single look can't make. Force its beginning by hand.", "options.context")
