"""What the page of small-large routing does differently, without the page.

Goes in: values of widgets, what the strip's threshold and cards send. Comes out: requests, the words of the pair check, the named endpoint.
The form's model is the large one. What every run page does is in `run_logic`, what the jobs do in `routing_jobs`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import gradio as gr

from backend import artifacts
from backend.errors import InvalidRequest, WorkbenchError
from backend.pairs import check_files
from backend.paths import assets_dir
from backend.routing.request import LARGE, SMALL
from backend.routing.router import read_card
from backend.types import Finding, RunRequest
from backend.workbench import Workbench
from panels import controls, reopening, routing_sweeps
from panels.further import completed
from panels.lanes import row
from panels.records import looked
from panels.run_logic import RunLogic
from panels.stream import told
from panels.visitor import context_of, owner_of

LISTS = ("force", "controls")  # options that the form shows as JSON
TOP = 5  # alternatives of each model on a card


class Logic(RunLogic):
    """One workbench, seen from this page."""

    method_name = "routing"
    roles = (SMALL,)

    def __init__(self, workbench: Workbench) -> None:
        super().__init__(workbench)
        self._recording, self._sweep = self.recorded, routing_sweeps.shipped_line()
        self.recorded = with_sweep(self._recording, self._sweep)

    # Widgets and requests -----------------------------------------------------------------------------------------------------

    def request(self, values: Sequence[Any]) -> RunRequest:
        """The request that the form stands for; its model is the large one."""
        wanted = super().request(values)
        models = {LARGE if role == "target" else role: model for role, model in wanted.models.items()}
        lists = {name: as_list(name, wanted.options[name]) for name in LISTS}
        return replace(wanted, models=models, options={**wanted.options, **lists, "budget_from": "own"})

    def values(self, request: RunRequest) -> list[Any]:
        models = {"target" if role == LARGE else role: model for role, model in request.models.items()}
        lists = {name: json.dumps(request.options[name]) if request.options.get(name) else "" for name in LISTS}
        return super().values(replace(request, models=models, options={**request.options, **lists, "budget_from": "own"}))

    def chosen(self, wanted: RunRequest, compare: Sequence[str]) -> list[RunRequest]:
        """The baselines whose strategy was ticked, in the method's order."""
        return [baseline for baseline in self.workbench.baselines(wanted) if baseline.options["strategy"] in compare]

    def first(self, token: Any, query: Mapping[str, str], choices: Any) -> tuple[list[Any], str | None]:
        """As on every page, but what was chosen elsewhere only comes along if it was chosen for this large model: other prompts say
        little to a pair. A sweep of the visitor's own replaces the recorded one in the picture."""
        large = self.start().models.get(LARGE)
        kept = choices if isinstance(choices, Mapping) and choices.get("model") == large else None
        values, text = super().first(token, query, kept)
        opened = reopening.asked(self.workbench, token, query.get("run"), routing_sweeps.METHOD)
        own = routing_sweeps.line_of(opened.lines, routing_sweeps.named(opened)) if opened else None
        line = own or routing_sweeps.newest_line(self.workbench, owner_of(self.workbench.public, token))
        if text is None and line is None:
            return values, None
        return values, with_sweep(self._recording if text is None else text, line or self._sweep)

    # Before a run -------------------------------------------------------------------------------------------------------------

    def words(self, request: RunRequest, findings: Sequence[Finding]) -> str:
        """What the pair check found, and whether the router is this pair's."""
        report = check_files(request.models[SMALL], request.models[LARGE], self.workbench.data_dir, assets_dir(), self.workbench.resources)
        if report is None:
            pair = "Whether the two go together is checked once both are here."
        else:
            pair = f"{'!' if report.warnings or report.a == report.b else '✓'} {report.sentence}"
        return "\n".join(filter(None, (super().words(request, findings), pair, *self._router_words(request))))

    def _router_words(self, request: RunRequest) -> list[str]:
        if request.options["strategy"] != "neural":
            return []
        try:
            pair = read_card(artifacts.resolve(self.workbench.data_dir, request.options["router"], "router"))["pair"]
        except WorkbenchError as error:
            return [f"! {error}"]
        if all(pair[role]["id"] == request.models[role] for role in (SMALL, LARGE)):
            return []
        return [f"! This router was trained for {pair[SMALL]['id']} with {pair[LARGE]['id']}: train one for this pair below, or choose entropy."]

    def routers(self) -> list[tuple[str, str]]:
        """Routers to choose from: label and id. On a public instance nobody's are offered to another; an id can be typed in."""
        found = artifacts.listed(self.workbench.data_dir, "router")
        return [(_router_label(one), one.id) for one in found if not self.workbench.public or one.id.startswith(artifacts.SHIPPED)]

    def text_with_newest(self, token: Any, text: str) -> str:
        """A strip's text with the visitor's newest sweep behind it, for the picture."""
        line = routing_sweeps.newest_line(self.workbench, owner_of(self.workbench.public, token))
        return text if line is None else text + row(line)

    # Runs ---------------------------------------------------------------------------------------------------------------------

    def inspect(self, run_id: str, position: int, token: str) -> dict[str, Any]:
        """Both models' first choices for the card."""
        return looked(self.workbench, run_id, position, token, TOP)

    def steer(self, token: Any, event: Any) -> None:
        """Move the threshold of a run of one's own that is under way; one that has just ended needs it no more."""
        match event:
            case {"run": str(run), "value": int() | float() as value}:
                owner = owner_of(self.workbench.public, token)
                if any(record.id == run for record in self.workbench.store.runs(owner, method=self.method_name, status="running")):
                    self.workbench.control(run, "threshold", float(value))
            case _:
                raise WorkbenchError("The threshold came without a run or without a number.")

    def force(self, request: gr.Request, token: Any, event: Any) -> Iterator[str]:
        """The lines of a run that lets the other model speak at one token and goes on from there."""
        match event:
            case {"run": str(run), "position": int(position), "token_id": int(token_id), "who": str(who)} if who in (SMALL, LARGE):
                context = context_of(self.workbench, token, request)
                wanted = forced(self.workbench.branch(run, position, token_id, context.owner), position, who)
                lane = f"what if: {who} at token {position}"
                return self.workbench.run(wanted, replace(context, parent_run_id=self._parent(run), lane=lane))
            case _:
                raise WorkbenchError("The card sent no token to go on from.")

    def endpoint(self) -> Callable[..., Iterator[dict[str, Any]]]:
        """The function behind `/routing`."""

        def routing(
            prompt: str, strategy: str = "neural", target_fraction: float = 0.0, threshold: float = 0.5, large: str = "pocket/large",
            small: str = "pocket/small", router: str = "shipped/pocket", temperature: float = 0.0, top_p: float = 1.0, top_k: int = 0,
            max_new_tokens: int = 128, seed: int = 0, baselines: bool = False, system: str = "", template: str = "chat", every: int = 8,
            opinions: bool = True, token: str = "", more: str = "",
        ) -> Iterator[dict[str, Any]]:  # fmt: skip
            """Let a small model write and a large one step in where the small one is in doubt, and tell for every token who said it and why.

            `strategy` is neural (a trained `router` decides), entropy, margin, top1, random, oracle, every_k, always (large only) or never
            (small only). The large model is asked where the score reaches `threshold`; a `target_fraction` above 0 asks for that share of
            large tokens instead. Temperature 0 is greedy. With `baselines` each model alone and entropy and random at the same budget follow.
            Yields one event a time, as the run's lines have them; the last one is the verdict.
            """
            shared = (large, prompt, template, system, temperature, top_p, top_k, max_new_tokens, seed)
            options = {"strategy": strategy, "threshold": threshold, "target_fraction": target_fraction, "router": router, "every": every,
                       "opinions": opinions}  # fmt: skip
            with told():
                said = controls.to_request(self.method_name, shared, options, {SMALL: small})
                models = {LARGE if role == "target" else role: model for role, model in said.models.items()}
                request = replace(said, models=models)
                request = completed(request, more)
                yield from self.events([request, *(self.workbench.baselines(request) if baselines else ())], token)

        return routing


def forced(branch: RunRequest, position: int, who: str) -> RunRequest:
    """A branch whose last token is not given but said by `who`; what was forced before that place lies in its prefix."""
    more = replace(branch.sampling, max_new_tokens=branch.sampling.max_new_tokens + 1)
    earlier = [entry for entry in branch.options.get("force", []) if entry[0] != position]
    return replace(branch, answer_prefix=branch.answer_prefix[:-1], sampling=more).with_options(force=[*earlier, [position, who]])


def as_list(name: str, value: Any) -> list[Any]:
    """A list written as JSON; nothing is the empty one."""
    if isinstance(value, list):
        return value
    try:
        found = json.loads(value) if isinstance(value, str) and value.strip() else []
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"options.{name} must be a JSON list, got {value!r}.", f"options.{name}") from error
    if not isinstance(found, list):
        raise InvalidRequest(f"options.{name} must be a JSON list, got {value!r}.", f"options.{name}")
    return found


def with_sweep(text: str, line: str | None) -> str:
    """A strip's text with a sweep for its picture, behind the header of a recording and before the first lane."""
    if line is None:
        return text
    lines = text.splitlines(keepends=True)
    header = 1 if lines and json.loads(lines[0])["event"] == "recorded" else 0
    return "".join(chain(lines[:header], [row(line)], lines[header:]))


def _router_label(one: artifacts.Listed) -> str:
    try:
        pair = read_card(one.path)["pair"]
        return one.id if one.id.startswith(artifacts.SHIPPED) else f"{pair[SMALL]['id']} with {pair[LARGE]['id']} · {one.id}"
    except WorkbenchError:
        return f"{one.id} (damaged)"
