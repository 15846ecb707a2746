"""What the page of contamination does differently in a single run, without the page.

Goes in: values of widgets. Comes out: requests of a patched answer and its lanes, words, the named endpoint. The form names a suspect, a clean
twin and a base; a patched run takes its activations from the twin, else from the base. What every run page does is in `run_logic`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from backend.contamination.request import ALL, BASE, PATCHED, RANDOM, SOURCE, SUSPECT, read_list
from backend.errors import InvalidRequest
from backend.types import Finding, Prompt, RunRequest
from panels import controls
from panels.further import completed
from panels.run_logic import RunLogic
from panels.stream import told

TARGET, TWIN = "target", "twin"
COMPARE = (("unpatched", "unpatched"), ("the source alone", "source alone"), ("the base alone", "base alone"), ("as many random neurons", RANDOM))


class Logic(RunLogic):
    """One workbench, seen from this page."""

    method_name = "contamination"
    roles = (TWIN, BASE)

    def picked(self, values: Sequence[Any]) -> dict[str, str]:
        """The form's models as an audit names them: suspect and, where they are chosen, twin and base."""
        models = super().request(values).models
        return {SUSPECT if role == TARGET else role: model for role, model in models.items()}

    def request(self, values: Sequence[Any]) -> RunRequest:
        return replace(super().request(values), models=run_models(self.picked(values)))

    def values(self, request: RunRequest) -> list[Any]:
        """The form's values; the source stands in the twin's place unless it is the base."""
        source, base = request.models.get(SOURCE), request.models.get(BASE)
        twin = source if source != base else None
        ours = {TARGET: request.models.get(SUSPECT, ""), **({TWIN: twin} if twin else {}), **({BASE: base} if base else {})}
        return super().values(replace(request, models=ours))

    def of_job(self, job: RunRequest) -> RunRequest:
        """An audit's twin, else its base, stands where a run has its source."""
        wanted, source = super().of_job(job), job.models.get(TWIN) or job.models.get(BASE)
        if TWIN not in job.models and SOURCE in wanted.models or source is None:
            return wanted
        models = {role: model for role, model in job.models.items() if role != TWIN}
        return replace(wanted, models={**models, SOURCE: source})

    def start(self) -> RunRequest:
        choices = self.workbench.models.choices()
        nothing = RunRequest(self.method_name, Prompt.user(""), {SUSPECT: choices[0][1]} if choices else {})
        return self.presets[0].request if self.presets else nothing

    def chosen(self, wanted: RunRequest, compare: Sequence[str]) -> list[RunRequest]:
        """The ticked baselines; as many random neurons where some, not all, are patched."""
        lanes = super().chosen(wanted, compare)
        k = patched_count(wanted, self.workbench.data_dir) if RANDOM in compare else 0
        return [*([wanted.with_options(neurons=RANDOM, k=k)] if k else []), *lanes]

    def words(self, request: RunRequest, findings: Sequence[Finding]) -> str:
        """The method's warnings; else whose activations are taken and where."""
        if findings:
            return super().words(request, findings)
        neurons = request.options["neurons"]
        where = "all neurons" if neurons == ALL else "random neurons" if neurons == RANDOM else "the neurons of that list"
        whose = "the base" if request.models[SOURCE] == request.models.get(BASE) else "the clean twin"
        return f"Patched from {whose} ({request.models[SOURCE]}), in {where}."

    def endpoint(self) -> Callable[..., Iterator[dict[str, Any]]]:
        """The function behind `/contamination`."""

        def contamination(
            prompt: str, suspect: str, source: str, base: str = "none", patch: str = "patched", neurons: str = "all", k: int = 0,
            temperature: float = 0.0, top_p: float = 1.0, top_k: int = 0, max_new_tokens: int = 128, seed: int = 0, baselines: bool = False,
            system: str = "", template: str = "chat", token: str = "", more: str = "",
        ) -> Iterator[dict[str, Any]]:  # fmt: skip
            """Write an answer while some neurons of the suspect take another model's values, and tell for every token what both would have said.

            `source` is the model whose activations are taken: a clean twin of the suspect, or its base. `neurons` is all, random (with `k`) or the
            id of a list that an audit made. Before the run it is checked that patching the suspect with its own values changes nothing. With
            `baselines` the suspect unpatched and the source alone follow. Yields one event a time, as the run's lines have them.
            """
            shared = (suspect, prompt, template, system, temperature, top_p, top_k, max_new_tokens, seed)
            with told():
                made = controls.to_request(self.method_name, shared, {"patch": patch, "neurons": neurons, "k": k}, {SOURCE: source, BASE: base})
                request = replace(made, models={SUSPECT if role == TARGET else role: model for role, model in made.models.items()})
                request = completed(request, more)
                yield from self.events([request, *(self.workbench.baselines(request) if baselines else ())], token)

        return contamination


def run_models(picked: Mapping[str, str]) -> dict[str, str]:
    """Models of a patched run; raises `InvalidRequest` where there is nothing to take activations from."""
    source = picked.get(TWIN) or picked.get(BASE)
    if source is None:
        raise InvalidRequest("Choose a clean twin or a base: a patch takes the activations of one of them.", f"models.{SOURCE}")
    models = {SUSPECT: picked[SUSPECT], SOURCE: source}
    return models | ({BASE: picked[BASE]} if BASE in picked else {})


def patched_count(request: RunRequest, data_dir: Any) -> int:
    """How many neurons of a list are patched; 0 where it is all of them, random ones, or none."""
    neurons = request.options["neurons"]
    if request.options["patch"] != PATCHED or neurons in (ALL, RANDOM):
        return 0
    return request.options["k"] or len(read_list(neurons, data_dir))
