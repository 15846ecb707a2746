"""Runs for the bench of the app: long ones, made from the lines of the recordings that ship.

Goes in: how many, how long, a seed. Comes out: requests and their lines, each with other words, ids, probabilities and times, in the shape
that the real runs have. No model says them: what is measured with them is how runs are kept and found, never what is in them.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from backend import examples
from backend.types import RunContext, RunRequest

RECORDINGS = ("structured", "speculative", "routing", "contamination", "hidden_text")
PROMPT_WORDS = (6, 40)


@dataclass(frozen=True)
class Lane:
    """One lane of a recording: its request, its first line, what came between, its last line."""

    request: RunRequest
    started: Mapping[str, Any]
    events: tuple[Mapping[str, Any], ...]
    done: Mapping[str, Any]


@dataclass(frozen=True)
class MadeRun:
    """A run as it would have come: `lines` from `started` to `done`."""

    request: RunRequest
    lane: str
    lines: tuple[str, ...]
    text: str
    stats: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Any]]


def recorded_lanes() -> list[Lane]:
    """The lanes of all recordings that have tokens."""
    found = []
    for name in RECORDINGS:
        lines = [json.loads(line) for line in examples.recorded(name)]
        requests = lines[0]["requests"]
        for index, line in enumerate(lines):
            if line["event"] != "started":
                continue
            end = next(i for i in range(index, len(lines)) if lines[i]["event"] == "done")
            events = tuple(e for e in lines[index + 1 : end] if e["event"] in ("token", "round"))
            if any(e["event"] == "token" for e in events):
                found.append(Lane(RunRequest.from_json(requests[line["run"]]), line, events, lines[end]))
    return found


@dataclass(frozen=True)
class Speech:
    """What made texts are drawn from: words, the few first ones often and the many others seldom, as in any text."""

    words: Sequence[str]
    rng: random.Random

    def some(self, n: int) -> list[str]:
        return self.rng.choices(self.words, [1 / rank for rank in range(1, len(self.words) + 1)], k=n)

    def number(self, value: Any) -> Any:
        """Another number near one that has digits after its point; anything else as it is."""
        return round(value * self.rng.uniform(0.5, 1.5), 4) if isinstance(value, float) else value


def words_of(lanes: Sequence[Lane]) -> list[str]:
    """Words of the recorded prompts and answers, and of every example's prompt."""
    texts = [lane.request.prompt.text + " " + lane.done["text"] for lane in lanes] + [e.request.prompt.text for e in examples.load()]
    return sorted({word for text in texts for word in text.split() if word.isalpha()})


def made_runs(n: int, n_tokens: int, seed: int) -> Iterator[MadeRun]:
    """`n` runs of `n_tokens` tokens each, the recordings' lanes in turn; the same for the same seed."""
    lanes, rng = recorded_lanes(), random.Random(seed)
    words = words_of(lanes)
    rng.shuffle(words)
    for number in range(n):
        yield _made(lanes[number % len(lanes)], n_tokens, Speech(words, rng))


def _made(lane: Lane, n_tokens: int, speech: Speech) -> MadeRun:
    prompt = " ".join(speech.some(speech.rng.randint(*PROMPT_WORDS)))
    request = RunRequest.from_json({**lane.request.to_json(), "prompt": prompt, "answer_prefix": []})
    events = list(_events(lane, n_tokens, speech))
    text = "".join(event["text"] for event in events if event["event"] == "token")
    stats = {**lane.done["stats"], "n_tokens": n_tokens}
    whole = [_started(lane, prompt), *events, {**lane.done, "text": text, "stats": stats}]
    lines = tuple(json.dumps(event, ensure_ascii=False, separators=(",", ":")) for event in whole)
    return MadeRun(request, str(lane.started["lane"]), lines, text, stats, lane.started["models"])


def _events(lane: Lane, n_tokens: int, speech: Speech) -> Iterator[dict[str, Any]]:
    """The lane's tokens and rounds, again and again until there are enough tokens."""
    ms, position, n_rounds = 0.0, 0, 0
    for event in cycle(lane.events):
        if position == n_tokens:
            return
        ms += abs(speech.rng.gauss(25, 4))
        fresh = {**event, "position": position, "ms": round(ms, 3)}
        if event["event"] == "token":
            yield _token(fresh, speech)
            position += 1
        else:
            yield {**fresh, "index": n_rounds, "drafted": [_draft(draft, speech) for draft in event["drafted"]]}
            n_rounds += 1


def _started(lane: Lane, prompt: str) -> dict[str, Any]:
    pieces = [[id_of(f" {word}"), f" {word}"] for word in prompt.split()]
    return {**lane.started, "prompt": [*lane.started["prompt"][:3], *pieces]}


def _token(token: Mapping[str, Any], speech: Speech) -> dict[str, Any]:
    """Another word with its id, another probability, other numbers in the detail."""
    detail = {name: speech.number(value) for name, value in token.get("detail", {}).items()}
    text = f" {speech.some(1)[0]}" if speech.rng.random() < 0.8 else token["text"]
    return {**token, "id": id_of(text), "text": text, "logprob": round(-speech.rng.expovariate(1.0), 5), "detail": detail}


def _draft(draft: Sequence[Any], speech: Speech) -> list[Any]:
    text = f" {speech.some(1)[0]}"
    return [id_of(text), text, *map(speech.number, draft[2:])]


def id_of(text: str) -> int:
    """A token id that a text always has."""
    return zlib.crc32(text.encode()) % 49_152


def keep(store: Any, run_id: str, run: MadeRun, owner: str = "local") -> None:
    """Write one made run down the way a recorder does, with a checkpoint on its way."""
    context = RunContext(owner=owner, lane=run.lane)
    store.start(run_id, run.request, context, {"python": "3", "torch": "2"})
    store.running(run_id, run.models, "cpu")
    half = len(run.lines) // 2
    store.append(run_id, run.lines[:half])
    store.finish(run_id, "completed", run.lines[half:], 12_345.6, run.text, run.stats, run.text.count(" "), None)
