"""The job `routing.label`: which tokens of the large model's answers matter to the small one.

Goes in: a pair, problems (ours or a user's lines), how to judge. Comes out: an artifact of kind `labels`, what it counted, and examples.
What a label means stands in `labelling`. Goes on where it was after a stop or a restart: whole chunks are on disk.

`finding` kinds: `class` {class, n, share}; `example` {class, prompt, position, before, small [id, text], large [id, text],
small_continuation, large_continuation, expected}; `warning` {text}.
`stats`: `labels` (artifact id), `kind`, `n_prompts` (judged), `unjudged` (more of them), `n_positions` (of the judged), `right` (share of the large
model's answers, None without graders), `classes` {class: n}, `seconds`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from backend import artifacts
from backend.errors import InvalidRequest, WorkbenchError
from backend.method import Method
from backend.options import option, parse_options
from backend.resources import Resources
from backend.routing.label_files import KIND, read_labels, shards, write_notes, write_shard
from backend.routing.labelling import CLASSES, DIVERGENT, UNGRADED, Chunk, Pair, Rule, label
from backend.routing.pace import Pace, Stopped, earlier
from backend.routing.router import Member
from backend.routing.tasks import Problem, chosen, read_lines
from backend.types import Artifact, Done, Event, Finding, Prompt, RunContext, RunRecord, RunRequest, Verdict

CHUNK = 96  # prompts; about 7 s of one core on the pocket pair
EXAMPLES = 12  # of each class
FEW = 50  # fewer divergent positions than this train no router
KINDS = ("outcome", "kl", "mismatch")


@dataclass(frozen=True)
class Options:
    """What to label and how to judge."""

    data: str = option("", "JSON lines with prompt, answer and grader (number, exact, regex, choice); empty: pocket word problems.")
    n_prompts: int = option(3000, "How many problems are judged; of your own lines, the first ones.", low=10, high=100_000)
    unjudged: int = option(6000, "More problems of which only is noted where the choices differ: cheap, and half of what a router must know.",
                           low=0, high=1_000_000)  # fmt: skip
    seed: int = option(1, "Which pocket problems.", low=0, high=2**31)
    kind: str = option("outcome", "A token counts when the final answer flips, when the laws are far apart, or when the choices differ.",
                       choices=KINDS)  # fmt: skip
    kl_nats: float = option(1.0, "For kl: from how many nats between both laws on a token counts.", low=0.0, high=60.0)
    max_new_tokens: int = option(160, "The longest answer.", low=1, high=32_768)


def label_request(small: str, large: str, **options: Any) -> RunRequest:
    return RunRequest("routing.label", Prompt.user("Label tokens"), {"small": small, "large": large}, options=options)


def check(request: RunRequest, resources: Resources) -> list[Finding]:
    options = parse_options(Options, request.options)
    if not options.data.strip():
        return []
    bare = [number for number, p in enumerate(read_lines(options.data), 1) if p.answer is None]
    if bare and options.kind == "outcome":
        raise InvalidRequest(f"Problem {bare[0]} of the dataset has no answer to grade; give one, or judge by kl or mismatch.", "options.data")
    return []


def size(request: RunRequest) -> dict[str, float]:
    """What this will take."""
    options = parse_options(Options, request.options)
    longest = max((len(p.prompt) for p in read_lines(options.data)), default=0) if options.data.strip() else 0
    return {"items": options.n_prompts + options.unjudged, "new_tokens": options.max_new_tokens, "prompt_chars": longest}


def run(request: RunRequest, context: RunContext, models: Mapping[str, Any], data_dir: Path) -> Iterator[Event]:
    options = parse_options(Options, request.options)
    pair = Pair.of(models["small"], models["large"])
    problems = chosen(options.data, options.n_prompts + options.unjudged, options.seed)
    begun = next(earlier(context, "artifact", KIND), None)
    artifact_id, folder = (begun["id"], artifacts.resolve(data_dir, begun["id"], KIND)) if begun else artifacts.create(data_dir, KIND)
    if not begun:
        write_notes(folder, _notes(options, pair))
        yield Artifact(artifact_id, KIND, {"state": "begun"})
    start, shown = context.clock(), Counter(e["class"] for e in earlier(context, "finding", "example"))
    chunks, there = cut(len(problems), options.n_prompts), len(shards(folder))
    pace = Pace(context, len(problems), chunks[there - 1].stop if there else 0)
    try:
        for number, span in list(enumerate(chunks))[there:]:
            some = problems[span.start : span.stop]
            rule = Rule(options.kind if span.start < options.n_prompts else "none", options.kl_nats, options.max_new_tokens)
            chunk = yield from pace.work(label(pair, some, rule, span.start), "prompts labelled", len(some))
            write_shard(folder, number, chunk, some)
            yield pace.now("prompts labelled")
            yield from _examples(pair, some, chunk, shown)
        yield from _conclude(artifact_id, folder, options, pair, problems, context.clock() - start)
    except Stopped:
        yield Done("cancelled", "Stopped; what is labelled stays.", {"labels": artifact_id, "n_prompts": pace.done})


def cut(n: int, n_judged: int) -> list[range]:
    """The chunks of n prompts; none holds both judged ones (the first `n_judged`) and others."""
    border = min(n, n_judged)
    starts = [*range(0, border, CHUNK), *range(border, n, CHUNK)]
    return [range(a, b) for a, b in zip(starts, [*starts[1:], n], strict=True)]


def _notes(options: Options, pair: Pair) -> dict[str, Any]:
    members = {role: asdict(Member.of(m)) for role, m in (("small", pair.small), ("large", pair.large))}
    task = "pocket word problems" if not options.data.strip() else "own lines"
    return {"pair": members, "task": task, "options": {k: v for k, v in asdict(options).items() if k != "data"}, "finished": False}


def _examples(pair: Pair, problems: Sequence[Problem], chunk: Chunk, shown: Counter[str]) -> Iterator[Finding]:
    """A few of each class with both continuations; of what was not branched, the large model's only."""
    branches = {branch.row: branch.ids for branch in chunk.branches}
    for label_id, name in enumerate(CLASSES):
        rows = (chunk.columns["label"] == label_id).nonzero().flatten().tolist()
        for row in rows[:: max(1, len(rows) // 4)]:
            if shown[name] >= EXAMPLES or label_id == UNGRADED:
                break
            shown[name] += 1
            yield Finding("example", _example(pair, problems, chunk, row, name, branches.get(row)))


def _example(pair: Pair, problems: Sequence[Problem], chunk: Chunk, row: int, name: str, went_on: list[int] | None) -> dict[str, Any]:
    small, large, position, prompt = (int(chunk.columns[c][row]) for c in ("small", "large", "position", "prompt"))
    index = prompt - int(chunk.columns["prompt"].min())
    answer = chunk.answers[index]
    said = pair.text([small, *went_on]) if went_on is not None else pair.text(answer[position:]) if small == large else ""
    decode = pair.large.tokenizer.decode
    return {
        "class": name, "prompt": problems[index].prompt, "position": position, "before": pair.text(answer[:position]),
        "small": [small, decode([small])], "large": [large, decode([large])], "small_continuation": said,
        "large_continuation": pair.text(answer[position:]), "expected": problems[index].answer,
    }  # fmt: skip


def _conclude(artifact_id: str, folder: Path, options: Options, pair: Pair, problems: Sequence[Problem], seconds: float) -> Iterator[Event]:
    """Counts; a grader that never matched is an error, since every position would be ungraded."""
    write_notes(folder, {**_notes(options, pair), "finished": True})
    labels = read_labels(folder)
    judged = labels.right[: labels.n_judged]
    graded = judged[judged >= 0]
    if options.kind == "outcome" and not (graded == 1).any():
        write_notes(folder, _notes(options, pair))
        raise WorkbenchError(_never_right(problems[0], len(graded)), "options.data")
    inside = labels.columns["prompt"] < labels.n_judged
    counts = torch.bincount(labels.columns["label"][inside].int(), minlength=len(CLASSES)).tolist()
    total, known = sum(counts), sum(counts[:UNGRADED])
    for name, n in zip(CLASSES, counts, strict=True):
        yield Finding("class", {"class": name, "n": n, "share": n / (total if name == "ungraded" else known or 1)})
    if counts[DIVERGENT] < FEW:
        yield Finding("warning", {"text": f"Only {counts[DIVERGENT]} tokens matter here; a router needs {FEW} or more. Take more prompts."})
    right = float((graded == 1).float().mean()) if len(graded) else None
    classes = dict(zip(CLASSES, counts, strict=True))
    summary = {
        "kind": options.kind, "n_prompts": labels.n_judged, "unjudged": labels.n_prompts - labels.n_judged, "n_positions": total,
        "right": right, "classes": classes,
    }  # fmt: skip
    yield Artifact(artifact_id, KIND, summary)
    yield Done("stop", sentence(summary), {"labels": artifact_id, **summary, "seconds": round(seconds, 2)})


def _never_right(problem: Problem, n: int) -> str:
    expected = f"the grader {problem.grader} looked for {problem.answer!r} in the first one"
    return f"The large model got none of {n} problems right, so nothing can turn wrong: {expected}. Check the answers and their grader."


def sentence(summary: Mapping[str, Any]) -> str:
    """The counts in plain words."""
    classes = summary["classes"]
    known = sum(n for name, n in classes.items() if name != "ungraded") or 1
    identical, divergent = (100 * classes[name] / known for name in ("identical", "divergent"))
    graded = "" if summary["right"] is None else f" The large model got {100 * summary['right']:.0f} % of the answers right."
    how = {
        "outcome": "matter: with the small model's token there, the answer is spoiled", "mismatch": "would have been others",
        "kl": "are so far apart in both laws that they count",
    }[summary["kind"]]  # fmt: skip
    return (
        f"{identical:.1f} % of the tokens of {summary['n_prompts']} answers are what the small model would have said; {divergent:.1f} % {how}."
        f"{graded}"
    )


def verdict(records: Sequence[RunRecord]) -> Verdict:
    stats = records[0].stats
    return Verdict(sentence(stats) if "classes" in stats else records[0].text or str(records[0].error or ""), stats, None)


def method(data_dir: Path) -> Method:
    """The job; artifacts lie in `data_dir`."""
    return Method(
        name="routing.label", title="Label tokens", question="Which tokens of the large model's answers matter?", Options=Options,
        roles=("small", "large"), run=partial(run, data_dir=data_dir), check=check, baselines=lambda request: [], lane=lambda request: "labels",
        verdict=verdict, size=size, job=True,
    )  # fmt: skip
