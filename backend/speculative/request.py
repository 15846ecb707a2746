"""What a speculative run asks for: its options, its lanes, and what is known before it starts.

Goes in: a `RunRequest`. Comes out: parsed options, the baseline request, warnings or an `InvalidRequest`. Runs no model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from backend.errors import InvalidRequest
from backend.options import option, parse_options
from backend.resources import Resources
from backend.types import Finding, RunRequest

DRAFTERS = ("auto", "none", "model", "lookup", "recycling", "tree")
WITH_MODEL = ("model", "tree")
WITH_TREE = ("auto", "recycling", "tree")
LAWS = ("coupled", "residual")
MODES = ("fast", "reproducible")
LANES = {"auto": "auto", "none": "plain", "model": "draft model", "lookup": "prompt lookup", "recycling": "Token Recycling", "tree": "LLMCad tree"}
TARGET, DRAFT = "target", "draft"
MOST_NODES = 80


@dataclass(frozen=True)
class Options:
    """Who drafts, how much, and under which law drafts are accepted."""

    drafter: str = option("auto", "Who proposes the next tokens; none is plain decoding.", choices=DRAFTERS)
    gamma: int = option(0, "Tokens drafted a round by a draft model or a lookup; 0 chooses it from the measured costs.", low=0, high=32)
    ngram: int = option(3, "Prompt lookup: the longest run of last tokens that is looked for earlier in the text.", low=1, high=8)
    nodes: int = option(0, "Size of the tree of Token Recycling or LLMCad; 0 chooses it from the measured costs.", low=0, high=MOST_NODES)
    branch: float = option(0.3, "LLMCad: a candidate with more than this confidence opens a branch.", low=0.01, high=1.0)
    fallback: float = option(0.01, "LLMCad: drafting stops below this cumulative confidence; it adjusts itself. 0 never stops.", low=0.0, high=0.9)
    law: str = option(
        "coupled", "When sampling: one noise for drafter and target (the same text as plain), or rejection with residual.", choices=LAWS
    )
    mode: str = option("fast", "Reproducible: every forward has one width, so bits don't depend on what was drafted.", choices=MODES)
    width: int = option(8, "Reproducible: rows of every forward.", low=2, high=32)


def lane(request: RunRequest) -> str:
    """The lane in plain words, with the option that tells two lanes of one drafter apart."""
    options = parse_options(Options, request.options)
    name = LANES[options.drafter]
    size = {"model": options.gamma, "lookup": options.gamma, "recycling": options.nodes, "tree": options.nodes}.get(options.drafter, 0)
    return f"{name} {size}" if size else name


def baselines(request: RunRequest) -> list[RunRequest]:
    """Plain decoding of the same prompt and seed, under the same law and mode."""
    if parse_options(Options, request.options).drafter == "none":
        return []
    models = {role: model for role, model in request.models.items() if role == TARGET}
    return [replace(request.with_options(drafter="none"), models=models)]


def drafted_by(request: RunRequest, name: str) -> RunRequest:
    """The same request with another drafter, and only the models that this one uses."""
    models = {role: model for role, model in request.models.items() if role != DRAFT or name in WITH_MODEL}
    return replace(request.with_options(drafter=name), models=models)


def check(request: RunRequest, resources: Resources) -> list[Finding]:
    """Raises `InvalidRequest` where a drafter lacks its model; warns of a mode that cuts trees."""
    options = parse_options(Options, request.options)
    if options.drafter in WITH_MODEL and not request.models.get(DRAFT):
        raise InvalidRequest(
            f"models.draft is missing: the drafter {LANES[options.drafter]!r} needs a second model with the target's tokens. "
            "Without one there are prompt lookup, Token Recycling and auto.",
            "models.draft",
        )
    found = []
    if options.drafter in WITH_MODEL and request.models[DRAFT] == request.models[TARGET]:
        found.append(warning("Draft and target are the same model: everything will be accepted, and nothing can be faster."))
    if options.mode == "reproducible" and options.drafter in WITH_TREE:
        found.append(
            warning("Reproducible mode verifies only each tree's best branch: a tree's keys lie in another order, and sums round differently.")
        )
    return found


def warning(text: str) -> Finding:
    return Finding("warning", {"text": text})
