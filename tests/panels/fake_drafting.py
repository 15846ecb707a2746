"""Speculation without a model, for the pages' tests: a method that drafts the prompt's words, some of them wrong, and a job over prompts.

Goes in: requests. Comes out: the lines that a real run has (rounds, then their tokens) around words that are plainly the prompt's. What
was drafted follows from the words alone, so a test can count it by hand. Requests, lanes and verdict are the real ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from backend.method import Method
from backend.speculative import evaluate, trace
from backend.speculative.request import Options, baselines, check, lane
from backend.speculative.verdict import verdict
from backend.types import Done, Event, Finding, Progress, Round, RunContext, RunRequest, Token

GAMMA = 3
RIGHT = 2  # of the three drafted words the last is wrong
COSTS = {"step_ms": 2.0, "widths": [1, 2, 5, 9, 17], "v": [1.0, 1.1, 1.2, 1.4, 1.8], "c": 0.25, "noise": 0.01}
SPANS = {"prefill": 1.0, "draft": 0.4, "verify": 4.0, "host": 0.2}
BY = {"auto": "lookup"}


def spelled(request: RunRequest) -> list[str]:
    words = request.prompt.text.split(" ")
    return [word if i == 0 else f" {word}" for i, word in enumerate(words)][: request.sampling.max_new_tokens + len(request.answer_prefix)]


def run(request: RunRequest, context: RunContext, models: Mapping[str, Any]) -> Iterator[Event]:
    """The first word by itself, then rounds of two right words, a wrong one and its correction."""
    words, drafter = spelled(request), request.options.get("drafter", "auto")
    given = len(request.answer_prefix)
    for at in range(min(max(given, 1), len(words))):
        yield Token(at, 100 + at, words[at], -0.5, "prefix" if at < given else "model", {"margin": 1.5})
    at, rounds = max(given, 1), []
    while at < len(words) and not context.cancelled():
        line = drafted_round(words, at, len(rounds), drafter)
        rounds.append({"drafted": line.drafted, "parents": line.parents, "accepted": line.accepted, "path": line.path})
        yield line
        for i, word in enumerate(words[at : at + line.accepted + 1]):
            source = "draft" if i < line.accepted else "correction" if line.rejected else "bonus" if line.drafted else "model"
            by = {"by": BY.get(drafter, drafter)} if source == "draft" else {}
            yield Token(at + i, 100 + at + i, word, -0.5, source, {"round": line.index, "margin": 1.5, **by})
        at += line.accepted + 1
    stats = {"drafter": drafter, "law": "greedy", "mode": "fast", "n_tokens": len(words), **trace.summarize(rounds), "ttft_ms": 2.0,
             "ms_per_token": 2.0 if drafter == "none" else 1.25, "spans": SPANS, "costs": COSTS}  # fmt: skip
    yield Done("cancelled" if context.cancelled() else "stop", "".join(words), stats)


def drafted_round(words: list[str], at: int, index: int, drafter: str) -> Round:
    """A chain of three; for the tree drafters the wrong word is the second choice beside the first right one."""
    spans = {"draft": 0.2, "verify": 2.0, "host": 0.1}
    if drafter == "none":
        return Round(index, at, [], [], 0, spans=spans)
    right, by = words[at : at + RIGHT], BY.get(drafter, drafter)
    drafted = [[100 + at + i, word, 0.9 - 0.2 * i, 0.8, by] for i, word in enumerate(right)]
    parents, path = list(range(-1, len(right) - 1)), list(range(len(right)))
    if len(right) < RIGHT or at + RIGHT >= len(words):
        return Round(index, at, drafted, parents, len(right), path, spans=spans)
    wrong = [99, " wrong", 0.3, 0.02, by]
    if drafter in ("recycling", "tree"):
        return Round(index, at, [drafted[0], wrong, drafted[1]], [-1, -1, 0], RIGHT, [0, 2], spans=spans)
    rejected = {"id": 99, "text": " wrong", "node": RIGHT, "p": 0.02, "q": 0.3, "draw": 0.61}
    return Round(index, at, [*drafted, wrong], [*parents, RIGHT - 1], RIGHT, path, rejected, spans)


def look(request: RunRequest, models: Mapping[str, Any], ids: Any, position: int, k: int) -> dict[str, Any]:
    return {"models": {"target": {"top": [{"id": 7, "text": " other", "p": 0.5, "final_p": 0.9, "cut": None}]}}}


def evaluated(request: RunRequest, context: RunContext, models: Mapping[str, Any]) -> Iterator[Event]:
    """One row a prompt and lane, each lane twice as fast as plain; ends early when asked to."""
    rows = []
    cases = evaluate.read_cases(request.options["prompts"], request.options.get("most", 0))
    for number, case in enumerate(cases):
        yield Progress(number, len(cases), case.kind or "prompts")
        if context.cancelled():
            break
        for wanted in evaluate.lanes_of(request, case.prompt):
            plain = wanted.options["drafter"] == "none"
            rows.append({
                "prompt": number, "kind": case.kind, "lane": lane(wanted), "n_tokens": 8, "rounds": 4, "accepted": 0 if plain else 4,
                "tokens_per_round": 1.0 if plain else 2.0, "ms_per_token": 2.0 if plain else 1.0, "speedup": 1.0 if plain else 2.0,
                "identical": True, "first_divergence": None, "cause": None, "per_position": [] if plain else [[4, 4]],
            })  # fmt: skip
            yield Finding("row", rows[-1])
    summaries = evaluate.summarize_rows(rows)
    yield from (Finding("summary", summary) for summary in summaries)
    yield Done("cancelled" if context.cancelled() else "stop", evaluate.words(summaries), {"lanes": summaries, "n_prompts": len(cases)})


def drafting_methods() -> dict[str, Method]:
    """`speculative` and `speculative.evaluate` by name."""
    single = Method(
        name="speculative", title="Speculative decoding", question="?", Options=Options, roles=("target",), run=run, check=check,
        baselines=baselines, lane=lane, verdict=verdict, inspect=look,
    )  # fmt: skip
    job = Method(
        name="speculative.evaluate", title="Drafters over a prompt set", question="?", Options=evaluate.Options, roles=("target",),
        run=evaluated, check=evaluate.check, baselines=lambda request: [], lane=lambda request: "evaluation", verdict=evaluate.verdict,
        job=True,
    )  # fmt: skip
    return {single.name: single, job.name: job}
