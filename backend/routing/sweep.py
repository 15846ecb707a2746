"""The job `routing.sweep`: accuracy against the share of large tokens, for the router and what it has to beat.

Goes in: the pair, a router, problems that it was not trained on, budgets. Comes out: one point an arm, areas under the curves, their differences
with paired intervals. Thresholds are those that gave each budget on the router's calibrate split; the share on the axis is the one that came
of it here. Goes on with the arms that are left after a stop or a restart.

`finding` kinds: `point` {strategy, budget, threshold, share, accuracy, low, high, right, n, tokens, large_tokens, mean_gap, params_paper,
params_recorder, seconds_predicted} (one row a point, complete for a table; `low` and `high` Wilson's 95 %; parameters a token by the paper's
formula and by its recorder's; seconds an answer in a single stream, predicted from measured forwards); `area` {strategy, value, low, high} (mean
share of the gap recovered up to 30 % large tokens); `difference` {first, second, value, low, high}; `warning` {text}.
`stats`: `sweep` (artifact id), `n`, `small`, `large` (accuracies), `points` (arms), `areas`, `differences`, `seconds`.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from backend import artifacts
from backend.errors import InvalidRequest
from backend.method import Method
from backend.model_files import write_json
from backend.options import option, parse_options
from backend.pocket.scores import wilson
from backend.resources import Resources
from backend.routing.bootstrap import Estimate, Outcome, compare
from backend.routing.labelling import Pair
from backend.routing.lockstep import LARGE, SMALL, STRATEGIES, Answer, Arm, route
from backend.routing.pace import Pace, Stopped, earlier
from backend.routing.price import Price
from backend.routing.router import Router
from backend.routing.tasks import Problem, chosen, read_lines
from backend.types import Artifact, Done, Event, Finding, Prompt, RunContext, RunRecord, RunRequest, Verdict

KIND = "sweep"
ROWS = 128
QUICK = (0.03, 0.05, 0.08, 0.13, 0.2, 0.3)
FULL = (0.01, 0.02, 0.03, 0.045, 0.06, 0.08, 0.1, 0.12, 0.14, 0.17, 0.2, 0.25, 0.3)


@dataclass(frozen=True)
class Options:
    """What is swept over which problems."""

    router: str = option("shipped/pocket", "The router.")
    data: str = option("", "JSON lines with prompt, answer and grader; empty: pocket word problems that the router has not seen.")
    n_prompts: int = option(200, "How many problems.", low=10, high=100_000)
    seed: int = option(3, "Which pocket problems; also of random routing and of the intervals.", low=0, high=2**31)
    budgets: list = option(list(QUICK), "Shares of large tokens to aim at.")
    strategies: list = option(list(STRATEGIES), f"Which curves: {', '.join(STRATEGIES)}.")
    max_new_tokens: int = option(160, "The longest answer.", low=1, high=32_768)


def sweep_request(small: str, large: str, **options: Any) -> RunRequest:
    return RunRequest("routing.sweep", Prompt.user("Sweep budgets"), {"small": small, "large": large}, options=options)


def check(request: RunRequest, resources: Resources, data_dir: Path) -> list[Finding]:
    options = parse_options(Options, request.options)
    for budget in options.budgets:
        if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not 0 < budget < 1:
            raise InvalidRequest(f"options.budgets must hold shares between 0 and 1, got {budget!r}.", "options.budgets")
    for strategy in options.strategies:
        if strategy not in STRATEGIES:
            raise InvalidRequest(f"options.strategies must be among {', '.join(STRATEGIES)}, got {strategy!r}.", "options.strategies")
    if not options.budgets or not options.strategies:
        raise InvalidRequest("A sweep needs at least one budget and one strategy.", "options.budgets")
    if options.data.strip() and any(p.answer is None for p in read_lines(options.data)):
        raise InvalidRequest("Every problem of a sweep needs an answer to be graded.", "options.data")
    artifacts.resolve(data_dir, options.router, "router")
    return []


def size(request: RunRequest) -> dict[str, float]:
    """What this will take."""
    options = parse_options(Options, request.options)
    longest = max((len(p.prompt) for p in read_lines(options.data)), default=0) if options.data.strip() else 0
    return {"items": options.n_prompts, "new_tokens": options.max_new_tokens, "prompt_chars": longest}


@dataclass(frozen=True)
class Sweep:
    """What all arms share."""

    pair: Pair
    router: Router
    problems: Sequence[Problem]
    prompts: list[list[int]]
    room: list[int]
    price: Price
    seed: int


def run(request: RunRequest, context: RunContext, models: Mapping[str, Any], data_dir: Path) -> Iterator[Event]:
    options, start = parse_options(Options, request.options), context.clock()
    sweep = _prepare(options, context, models, data_dir)
    begun = next(earlier(context, "artifact", KIND), None)
    artifact_id, folder = (begun["id"], artifacts.resolve(data_dir, begun["id"], KIND)) if begun else artifacts.create(data_dir, KIND)
    if not begun:
        yield Artifact(artifact_id, KIND, {"state": "begun"})
    arms, told = list(_arms(options, sweep.router)), {(e["strategy"], e["budget"]) for e in earlier(context, "finding", "point")}
    outcomes = {arm.name: found for arm in arms if (found := _kept(folder, arm)) is not None}
    pace = Pace(context, len(arms), len(outcomes))
    try:
        for arm in arms:
            if arm.name not in outcomes:
                steps = _arm(sweep, arm)
                answers = yield from pace.work(steps, f"{arm.strategy} {_percent(arm)}", 1, pieces=160)
                outcomes[arm.name] = _keep(folder, arm, sweep, answers)
            if (arm.strategy, arm.budget) not in told:
                yield Finding("point", _point(sweep, arm, folder, outcomes[arm.name]))
        yield from _conclude(artifact_id, arms, outcomes, options, context.clock() - start)
    except Stopped:
        yield Done("cancelled", "Stopped; the arms that are done stay.", {"sweep": artifact_id, "points": len(outcomes)})


def _percent(arm: Arm) -> str:
    return "alone" if arm.strategy in (SMALL, LARGE) else f"at {100 * arm.budget:g} %"


def _prepare(options: Options, context: RunContext, models: Mapping[str, Any], data_dir: Path) -> Sweep:
    pair = Pair.of(models["small"], models["large"])
    router = Router.load(artifacts.resolve(data_dir, options.router, "router"))
    router.check_pair(pair.small, pair.large)
    problems = chosen(options.data, options.n_prompts, options.seed, router.marks)
    if not problems:
        raise InvalidRequest("The router was trained on every problem of this dataset; a sweep needs others.", "options.data")
    prompts = [pair.prompt_ids(p) for p in problems]
    room = [min(options.max_new_tokens, pair.context - len(ids)) for ids in prompts]
    return Sweep(pair, router, problems, prompts, room, Price.of(pair, router, prompts[0], context.clock), options.seed)


def _arms(options: Options, router: Router) -> Iterator[Arm]:
    """Both models alone, then each strategy at each budget."""
    yield Arm(SMALL)
    yield Arm(LARGE, 1.0)
    for strategy in options.strategies:
        for budget in sorted(options.budgets):
            yield Arm(strategy, budget, 1 - budget if strategy == "random" else router.threshold(strategy, budget))


def _arm(sweep: Sweep, arm: Arm) -> Generator[None, None, list[Answer]]:
    """All answers of one arm; rows of like length go together."""
    order = sorted(range(len(sweep.prompts)), key=lambda i: len(sweep.prompts[i]))
    answers: dict[int, Answer] = {}
    for at in range(0, len(order), ROWS):
        some = order[at : at + ROWS]
        texts = [sweep.prompts[i] for i in some], [sweep.room[i] for i in some]
        found = yield from route(sweep.pair, sweep.router, *texts, arm, sweep.seed + at)
        answers |= dict(zip(some, found, strict=True))
    return [answers[i] for i in range(len(order))]


def _keep(folder: Path, arm: Arm, sweep: Sweep, answers: list[Answer]) -> Outcome:
    """Grade the answers and write down what came of each prompt."""
    right = [int(p.right(sweep.pair.text(a.ids))) for p, a in zip(sweep.problems, answers, strict=True)]
    gaps = np.bincount([gap for a in answers for gap in a.gaps] or [0]).tolist() if any(a.gaps for a in answers) else []
    data = {"right": right, "tokens": [len(a.ids) for a in answers], "large": [len(a.gaps) for a in answers], "gaps": gaps}
    write_json(_file(folder, arm), data)
    return _outcome(data)


def _kept(folder: Path, arm: Arm) -> Outcome | None:
    file = _file(folder, arm)
    return _outcome(json.loads(file.read_text())) if file.exists() else None


def _file(folder: Path, arm: Arm) -> Path:
    return folder / f"arm-{arm.name}.json"


def _outcome(data: Mapping[str, Any]) -> Outcome:
    return Outcome(*(np.asarray(data[name]) for name in ("right", "tokens", "large")))


def _point(sweep: Sweep, arm: Arm, folder: Path, outcome: Outcome) -> dict[str, Any]:
    right, n, tokens, large = (int(x) for x in (outcome.right.sum(), len(outcome.right), outcome.tokens.sum(), outcome.large.sum()))
    low, high = wilson(right, n)
    gaps = json.loads(_file(folder, arm).read_text())["gaps"]
    mean_gap = sum(gap * count for gap, count in enumerate(gaps)) / large if large else None
    return {
        "strategy": arm.strategy, "budget": arm.budget, "threshold": arm.threshold, "share": large / tokens, "accuracy": right / n, "low": low,
        "high": high, "right": right, "n": n, "tokens": tokens, "large_tokens": large, "mean_gap": mean_gap,
        **sweep.price.params(arm, large / tokens), "seconds_predicted": sweep.price.seconds(arm, tokens, gaps) / n,
    }  # fmt: skip


def _conclude(artifact_id: str, arms: Sequence[Arm], outcomes: Mapping[str, Outcome], options: Options, seconds: float) -> Iterator[Event]:
    small, large = outcomes[SMALL], outcomes[LARGE]
    if large.accuracy <= small.accuracy:
        yield Finding("warning", {"text": "The large model is no better than the small one on these problems: there is nothing to route for."})
    curves = {s: [outcomes[arm.name] for arm in arms if arm.strategy == s] for s in options.strategies}
    each, differences = compare(curves, small, large, options.seed) if large.accuracy > small.accuracy else ({}, {})
    for name, found in each.items():
        yield Finding("area", {"strategy": name, **asdict(found)})
    for (first, second), found in differences.items():
        yield Finding("difference", {"first": first, "second": second, **asdict(found)})
    stats = {
        "sweep": artifact_id, "n": len(small.right), "small": small.accuracy, "large": large.accuracy, "points": len(arms),
        "areas": {name: asdict(found) for name, found in each.items()},
        "differences": {f"{a} - {b}": asdict(found) for (a, b), found in differences.items()},
    }  # fmt: skip
    yield Artifact(artifact_id, KIND, stats)
    yield Done("stop", sentence(small, large, curves, differences), {**stats, "seconds": round(seconds, 2)})


def sentence(small: Outcome, large: Outcome, curves: Mapping[str, Sequence[Outcome]], differences: Mapping[tuple[str, str], Estimate]) -> str:
    """What the curves say in plain words."""
    head = f"The small model gets {100 * small.accuracy:.0f} % right, the large one {100 * large.accuracy:.0f} %."
    arms = [arm for arm in next(iter(curves.values())) if arm.share <= 0.15]
    if arms:
        best, name = max(arms, key=lambda arm: arm.share), next(iter(curves))
        head += f" With {100 * best.share:.0f} % large tokens the strategy {name} gets {100 * best.accuracy:.0f} %."
    for (a, b), found in differences.items():
        if (a, b) == ("neural", "entropy"):
            sure = "no measurable difference from" if found.low <= 0 <= found.high else "above" if found.value > 0 else "below"
            head += f" Up to 30 % the router's curve is {abs(100 * found.value):.0f} points {sure} entropy's."
    return head


def verdict(records: Sequence[RunRecord]) -> Verdict:
    record = records[0]
    found = record.stats.get("differences", {}).get("neural - entropy")
    return Verdict(record.text or str(record.error or ""), record.stats, found["low"] > 0 if found else None)


def method(data_dir: Path) -> Method:
    """The job; artifacts lie in `data_dir`."""
    return Method(
        name="routing.sweep", title="Sweep budgets", question="How few tokens of the large model are enough?", Options=Options,
        roles=("small", "large"), run=partial(run, data_dir=data_dir), check=partial(check, data_dir=data_dir), baselines=lambda request: [],
        lane=lambda request: "sweep", verdict=verdict, size=size, job=True,
    )  # fmt: skip
