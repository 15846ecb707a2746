"""What the page of structured generation does differently, without the page.

Goes in: values of widgets. Comes out: requests, the words of the linter, the named endpoint. What every run page does is in `run_logic`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from backend.types import Finding, RunRequest
from panels import controls, measuring
from panels.further import completed
from panels.run_logic import RunLogic
from panels.stream import told


class Logic(RunLogic):
    """One workbench, seen from this page."""

    method_name = "structured"

    def chosen(self, wanted: RunRequest, compare: Sequence[str]) -> list[RunRequest]:
        return measuring.chosen_baselines(self.workbench, wanted, compare)

    def lanes_to_measure(self, wanted: RunRequest, compare: Sequence[str]) -> list[RunRequest]:
        return measuring.lanes_to_measure(self.workbench, wanted, compare)

    def words(self, request: RunRequest, findings: Sequence[Finding]) -> str:
        return lint_words(findings, request.options["kind"])

    def endpoint(self) -> Callable[..., Iterator[dict[str, Any]]]:
        """The function behind `/structured`."""

        def structured(
            prompt: str, grammar: str, kind: str = "json_schema", model: str = "smollm2", temperature: float = 0.0, top_p: float = 1.0,
            top_k: int = 0, max_new_tokens: int = 128, seed: int = 0, baselines: bool = False, system: str = "", template: str = "chat",
            whitespace: str = "fixed", token: str = "", more: str = "",
        ) -> Iterator[dict[str, Any]]:  # fmt: skip
            """Generate text that follows a grammar, and tell for every token what the grammar did to it.

            `grammar` is a JSON Schema, a regular expression, an EBNF grammar or a structural tag, as `kind` says (json_schema, json, regex,
            ebnf, structural_tag). Temperature 0 is greedy. With `baselines` the same request follows without grammar and with the grammar
            written into the prompt. Yields one event a time, as the run's lines have them; the last one is the verdict.
            """
            shared = (model, prompt, template, system, temperature, top_p, top_k, max_new_tokens, seed)
            options = {"kind": kind, "grammar": grammar, "whitespace": whitespace}
            with told():
                request = controls.to_request(self.method_name, shared, options)
                request = completed(request, more)
                yield from self.events([request, *(self.workbench.baselines(request) if baselines else ())], token)

        return structured


def lint_words(findings: Sequence[Finding], kind: str) -> str:
    """Findings as lines, path first; or that nothing was found, in the words of the kind."""
    if not findings:
        return "✓ every keyword is enforced" if kind == "json_schema" else "✓ no complaint"
    return "\n".join(_finding_words(finding.data) for finding in findings)


def _finding_words(data: Mapping[str, Any]) -> str:
    parts = (data.get("path"), data.get("keyword"), data.get("effect"))
    return "! " + " · ".join(str(part) for part in parts if part) + (f": {data['message']}" if data.get("message") else "")
