"""What a routed run asks for: its options, its lanes, and what is known before it starts.

Goes in: a `RunRequest`. Comes out: parsed options, the baseline requests, the request of a replay, or an `InvalidRequest`. Runs no model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.errors import InvalidRequest
from backend.options import option, parse_options
from backend.types import RunRequest, check_number

SMALL, LARGE = "small", "large"
STRATEGIES = ("neural", "entropy", "margin", "top1", "random", "oracle", "every_k", "always", "never")
# the highest threshold of each strategy that compares a score with one
SCORED = {"neural": 1.0, "entropy": 15.0, "margin": 1.0, "top1": 1.0, "random": 1.0}
UNITS = {"neural": "a probability", "entropy": "nats", "margin": "a difference of probabilities", "top1": "a probability", "random": "a chance"}
ASSUMED_BUDGET = 0.1
BUDGETS = ("own", "request", "router", "assumed")
LANES = {
    "neural": "routed", "entropy": "routed by entropy", "margin": "routed by margin", "top1": "routed by first choice", "random": "routed at random",
    "oracle": "large wherever they differ", "every_k": "large at every k-th token", "always": "large only", "never": "small only",
}  # fmt: skip
NAMES = {"entropy": "entropy", "random": "random"}
THRESHOLD_HELP = (
    "The large model is asked where the score is at least this. neural: the router's probability; entropy: nats; margin: 1 minus the "
    "distance of the two best probabilities; top1: 1 minus the best one; random: 1 minus the share asked at random."
)


@dataclass(frozen=True)
class Options:
    """Who says the next token."""

    strategy: str = option("neural", "How it is decided whether the large model is asked.", choices=STRATEGIES)
    threshold: float = option(0.5, THRESHOLD_HELP, low=0.0, high=max(SCORED.values()))
    target_fraction: float = option(0.0, "Share of large tokens to aim at, instead of a threshold; 0 leaves it to the threshold.", low=0.0, high=1.0)
    router: str = option("shipped/pocket", "The trained router that the strategy neural asks.")
    every: int = option(8, "The k of every k-th token.", low=1, high=10_000)
    opinions: bool = option(True, "Note what the large model thinks of the small one's tokens; reads the end of the answer after it.")
    force: list = option([], 'What-if: [[position, "small" or "large"], …] decides there, whatever the strategy says.')
    controls: list = option([], "A replay's recorded thresholds: [[position, value], …], used instead of the slider.")
    budget_from: str = option("own", "Where the target of a baseline comes from; names its lane.", choices=BUDGETS)

    @property
    def scored(self) -> bool:
        return self.strategy in SCORED

    def forced(self) -> dict[int, str]:
        return dict(self.force)

    def recorded(self) -> dict[int, float]:
        return dict(self.controls)


def parse(request: RunRequest) -> Options:
    """The options of a request; raises `InvalidRequest` for what no strategy could do."""
    options = parse_options(Options, request.options)
    if options.scored:
        check_threshold(options.strategy, options.threshold, "options.threshold")
    elif options.target_fraction:
        known = ", ".join(SCORED)
        raise InvalidRequest(f"options.target_fraction needs a strategy with a score ({known}), not {options.strategy}.", "options.target_fraction")
    for entry in options.force:
        if not _pair(entry) or entry[1] not in (SMALL, LARGE):
            raise InvalidRequest(f'options.force must hold [position, "small"] or [position, "large"], got {entry!r}.', "options.force")
    for entry in options.controls:
        if not _pair(entry) or not options.scored:
            raise InvalidRequest(f"options.controls must hold [position, threshold] of a strategy with a score, got {entry!r}.", "options.controls")
        check_threshold(options.strategy, entry[1], "options.controls")
    return options


def _pair(entry: Any) -> bool:
    return isinstance(entry, (list, tuple)) and len(entry) == 2 and type(entry[0]) is int and entry[0] >= 0


def check_threshold(strategy: str, value: Any, where: str) -> None:
    """Raise `InvalidRequest` unless this strategy's scores can be compared with `value`."""
    high = SCORED[strategy]
    try:
        check_number(where, value, 0, high)
    except InvalidRequest as error:
        raise InvalidRequest(f"{where} of {strategy} must be {UNITS[strategy]} between 0 and {high:g}, got {value!r}.", where) from error


def lane(request: RunRequest) -> str:
    """The lane in plain words; that of a baseline says where its budget comes from."""
    options = parse_options(Options, request.options)
    if options.budget_from == "own" or options.strategy not in NAMES:
        return LANES[options.strategy]
    name = NAMES[options.strategy]
    if options.budget_from == "request":
        return f"{name} at the same budget"
    whose = "as the router expects" if options.budget_from == "router" else "assumed"
    return f"{name} at {options.target_fraction * 100:.3g} % large tokens ({whose})"


def baselines(request: RunRequest, expected: Callable[[Options], float | None] = lambda options: None) -> list[RunRequest]:
    """Each model alone and, for a strategy that looks at the tokens, entropy and random at the same budget.

    A run with a plain threshold has no budget before it ran: then `expected(options)` says which share that threshold gave on the
    router's calibration prompts; where nobody knows, a tenth is assumed, and the lane says so.
    """
    options = parse(request)
    if options.strategy in ("always", "never"):
        return []
    plain = request.with_options(target_fraction=0.0, force=[], controls=[], threshold=Options().threshold)
    lanes = [plain.with_options(strategy="always"), plain.with_options(strategy="never")]
    if options.strategy not in ("neural", "entropy", "margin", "top1"):
        return lanes
    share, origin = budget(options, expected)
    rivals = [name for name in NAMES if name != options.strategy]
    return lanes + [plain.with_options(strategy=name, target_fraction=share, budget_from=origin) for name in rivals]


def budget(options: Options, expected: Callable[[Options], float | None]) -> tuple[float, str]:
    """The share of large tokens that a rival lane gets, and where it comes from."""
    if options.target_fraction:
        return options.target_fraction, "request"
    share = expected(options)
    return (ASSUMED_BUDGET, "assumed") if share is None else (min(max(round(share, 3), 0.001), 1.0), "router")


def replay(request: RunRequest, events: Sequence[Mapping[str, Any]]) -> RunRequest:
    """The request that gives these events again: the thresholds that were moved while it ran become part of it."""
    moved = [[e["position"], e["value"]] for e in events if e["event"] == "control" and e["name"] == "threshold"]
    return request.with_options(controls=moved) if moved else request
