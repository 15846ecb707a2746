"""The capability as the workbench takes it: run, check, warm, inspect, and the record that names them.

Goes in: requests and loaded models; the data directory, where routers made here lie. Comes out: a `Method`. The package's docstring lists
`detail`, `stats` and `finding` kinds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from backend import artifacts
from backend.decoder import Decoder
from backend.errors import InvalidRequest, WorkbenchError
from backend.method import Method
from backend.model_files import stamp
from backend.pairs import PairReport, require_files, require_pair, same_law
from backend.paths import assets_dir
from backend.prompt import render
from backend.resources import Resources
from backend.routing.costs import costs_of
from backend.routing.generate import generate
from backend.routing.request import LARGE, SMALL, Options, baselines, lane, parse, replay
from backend.routing.router import Router, read_card, typical_scores
from backend.routing.strategies import Strategy, propose
from backend.routing.verdict import verdict
from backend.sampling import explain
from backend.types import Event, Finding, RunContext, RunRequest, SamplingParams

WARM_TOKENS = 8


def pair_of(models: Mapping[str, Any]) -> PairReport:
    return require_pair(models[SMALL], models[LARGE], f"models.{SMALL}")


def router_folder(options: Options, data_dir: Path) -> Path:
    try:
        return artifacts.resolve(data_dir, options.router, "router")
    except WorkbenchError as error:
        raise InvalidRequest(str(error), "options.router") from error


def router_of(options: Options, models: Mapping[str, Any], data_dir: Path) -> Router | None:
    """The router of the strategy `neural`, ready for this pair and kept with the small model; None where no router is asked."""
    if options.strategy != "neural":
        return None
    folder, small, large = router_folder(options, data_dir), models[SMALL], models[LARGE]

    def make() -> Router:
        router = Router.load(folder)
        router.check_pair(small, large)
        return router

    return small.resources.get(f"router for {large.id} {large.hash} {_stamp(folder)}", make)


def _stamp(folder: Path) -> str:
    return stamp(sorted(p for p in folder.iterdir() if p.is_file()))


def run(request: RunRequest, context: RunContext, models: Mapping[str, Any], data_dir: Path) -> Iterator[Event]:
    pair, router = pair_of(models), router_of(parse(request), models, data_dir)
    costs = costs_of(models[LARGE], _prompt_ids(request, models, pair), context.clock)
    return generate(request, context, models, pair, router, costs, typical(request, data_dir))


def _prompt_ids(request: RunRequest, models: Mapping[str, Any], pair: PairReport) -> list[int]:
    return render(request.prompt, models[LARGE if pair.template == models[LARGE].id else SMALL].tokenizer).ids


def check(request: RunRequest, resources: Resources, data_dir: Path) -> list[Finding]:
    """Refuses options that can't be, a pair that its files show to be none, a router that is missing or damaged; nothing is loaded for it."""
    options = parse(request)
    small, large = request.models[SMALL], request.models[LARGE]
    require_files(small, large, data_dir, assets_dir(), f"models.{SMALL}", resources)
    if options.strategy == "neural":
        folder = router_folder(options, data_dir)
        try:
            resources.get(f"router {_stamp(folder)}", lambda: Router.load(folder))
        except WorkbenchError as error:
            raise InvalidRequest(str(error), "options.router") from error
    return []


def warm(request: RunRequest, models: Mapping[str, Any], data_dir: Path) -> None:
    """Compare the models, load the router, run a few steps of both, time the large one: what a first lane would otherwise pay for all."""
    pair = pair_of(models)
    router_of(parse(request), models, data_dir)
    ids = _prompt_ids(request, models, pair)
    for role in (SMALL, LARGE):
        decoder = Decoder(models[role].model, models[role].id)
        for n in range(max(1, len(ids) - WARM_TOKENS), len(ids) + 1):
            decoder.logits(ids[:n])
    costs_of(models[LARGE], ids, time.perf_counter)


def inspect(request: RunRequest, models: Mapping[str, Any], ids: Sequence[int], position: int, k: int, data_dir: Path) -> dict[str, Any]:
    """The step before `ids[position]` again: what both models would say there, and how much in doubt the small one's favourite is."""
    pair, options = pair_of(models), parse(request)
    router = router_of(options, models, data_dir)
    seq = _prompt_ids(request, models, pair) + list(ids[:position])
    logits, hidden = Decoder(models[SMALL].model, models[SMALL].id).logits_and_hidden(seq)
    rows = {SMALL: same_law(pair, logits), LARGE: same_law(pair, Decoder(models[LARGE].model, models[LARGE].id).logits(seq), leads=True)}
    step = propose(rows[SMALL], SamplingParams(), torch.Generator(), None if router is None else router.score, hidden)
    score = None if options.strategy == "random" else Strategy(options, request.sampling.seed).score(step)
    top = {role: [{**one, "text": models[role].tokenizer.decode([one["id"]])} for one in explain(row[0], request.sampling, None, k)]
           for role, row in rows.items()}  # fmt: skip
    told = {"entropy": round(step.entropy, 4), "margin": round(step.best - step.second, 4), "top1": round(step.best, 4)}
    told |= ({} if step.router is None else {"router": round(step.router, 5)}) | ({} if score is None else {"score": round(score, 5)})
    return {**told, "vocabulary": pair.width, "models": {role: {"id": models[role].id, "top": top[role]} for role in (SMALL, LARGE)}}


def expected_share(request: RunRequest, data_dir: Path) -> Callable[[Options], float | None]:
    """Which share of large tokens a plain threshold gives, as the card of the request's router knows it from its calibration prompts;
    None where the router is another pair's, or knows nothing of the strategy."""

    def expected(options: Options) -> float | None:
        try:
            folder = artifacts.resolve(data_dir, options.router, "router")
            pair = read_card(folder)["pair"]
            if any(pair[role]["id"] != request.models.get(role) for role in (SMALL, LARGE)):
                return None
            return Router.load(folder).share(options.strategy, options.threshold)
        except (WorkbenchError, KeyError):
            return None  # no such router, or no such table: nobody knows

    return expected


def typical(request: RunRequest, data_dir: Path) -> list[float]:
    """How this strategy's scores usually lie on this pair, from the card of the request's router; nothing where no card knows."""
    options = parse(request)
    try:
        card = read_card(artifacts.resolve(data_dir, options.router, "router"))
    except WorkbenchError:
        return []
    ours = all(card["pair"][role]["id"] == request.models.get(role) for role in (SMALL, LARGE))
    return typical_scores(card, options.strategy) if ours and options.target_fraction else []


def method(data_dir: Path) -> Method:
    return Method(
        name="routing", title="Small-large routing", question="How few tokens of the large model are enough?", Options=Options,
        roles=(SMALL, LARGE), run=lambda request, context, models: run(request, context, models, data_dir),
        check=lambda request, resources: check(request, resources, data_dir),
        baselines=lambda request: baselines(request, expected_share(request, data_dir)), lane=lane, verdict=verdict,
        inspect=lambda request, models, ids, position, k: inspect(request, models, ids, position, k, data_dir),
        warm=lambda request, models: warm(request, models, data_dir), replay=replay, prompt_role=LARGE,
    )  # fmt: skip
