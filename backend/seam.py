"""The seam between the web process and a GPU that is lent by the turn (ZeroGPU): one call, a request in, event lines out.

Goes in: a `Turn` (one press of Run: its lanes) or a `Look` (one step of a run), both picklable. Comes out: texts, each an index of a lane
and a JSON line. The function runs in a forked process that has the methods and its own models but no store, no stream, no page: it may
end with any turn, so nothing that it changes is seen here. Knows `spaces`, the package that lends the GPU, by one name only.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any, Protocol

from backend.errors import InvalidRequest, WorkbenchError
from backend.lane_lines import LaneJob, Line, broke, lane_lines, log
from backend.method import Method
from backend.types import Failed, Progress, RunContext, RunRequest, check_number

ON = ("1", "t", "true")
BASE_S = 10.0  # a worker's start and the way of the weights to the GPU
LOOKED = "looked"
WHERE = "gpu"
NO_CONTROL = "This Space borrows its GPU by the turn: what is asked goes in at the start, so nothing can be moved while a run is under way."
NO_CALL = "This Space borrows its GPU by the turn, for runs alone. Run Loupe on a machine of your own for this."


class Models(Protocol):
    """Where a turn gets its models from: what was placed before the turns began, a pool for the rest."""

    def load_all(self, models: Mapping[str, str]) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Settings:
    """`most_s`: the longest turn that is asked for; `tokens_per_s`: how fast a lane is taken to be when the length of a turn is
    guessed; `preload`: model ids that are placed on the GPU at the start."""

    most_s: float = 60.0
    tokens_per_s: float = 15.0
    preload: tuple[str, ...] = ("smollm2",)

    def __post_init__(self) -> None:
        check_number("LOUPE_GPU_SECONDS", self.most_s, 5, 600)
        check_number("LOUPE_GPU_TOKENS_PER_S", self.tokens_per_s, 0.1, 10_000)

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Settings:
        """From `LOUPE_GPU_SECONDS`, `LOUPE_GPU_TOKENS_PER_S` and `LOUPE_PRELOAD` (ids with commas between them)."""
        found: dict[str, Any] = {}
        for name, variable in (("most_s", "LOUPE_GPU_SECONDS"), ("tokens_per_s", "LOUPE_GPU_TOKENS_PER_S")):
            if variable in environment:
                found[name] = _number(variable, environment[variable])
        if "LOUPE_PRELOAD" in environment:
            found["preload"] = tuple(name.strip() for name in environment["LOUPE_PRELOAD"].split(",") if name.strip())
        return cls(**found)


def _number(variable: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InvalidRequest(f"{variable} must be a number, got {text!r}.", variable) from error


@dataclass(frozen=True)
class Turn:
    """The lanes of one press of Run, in their order; `controls` is what was in the first lane's mailbox when it began."""

    lanes: tuple[LaneJob, ...]
    controls: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Look:
    """One step to compute anew: the request as JSON, the answer's ids, which of them, and how many candidates to give."""

    request: str
    ids: tuple[int, ...]
    position: int
    k: int


@dataclass(frozen=True)
class Placed:
    """Models that lie on the GPU already, and the pool for all others, which a turn loads while it lasts."""

    pool: Models
    placed: Mapping[str, Any]

    def load_all(self, models: Mapping[str, str]) -> Mapping[str, Any]:
        others = {role: model_id for role, model_id in models.items() if model_id not in self.placed}
        loaded = self.pool.load_all(others) if others else {}
        return {role: loaded[role] if role in loaded else self.placed[model_id] for role, model_id in models.items()}


@dataclass(frozen=True)
class Rooms:
    """What the other process has by inheritance: methods and models. Made before the first turn, never pickled."""

    methods: Mapping[str, Method]
    models: Models


def gpu_lines(rooms: Rooms, job: Turn | Look) -> Iterator[str]:
    """The whole call. Closing it between two lines ends the run that is under way; hooks are gone by then, since no method yields with one
    installed. What goes wrong is a `failed` line: an exception would have to be unpickled on the other side."""
    if isinstance(job, Look):
        yield f"0 {_looked(rooms, job)}"
        return
    for index, lane in enumerate(job.lanes):
        yield f"{index} {Progress(0, None, 'getting ready').to_line()}"
        mail = dict(job.controls) if index == 0 else {}
        context = RunContext(group=lane.group, lane=lane.lane, control=partial(_emptied, mail))
        method = rooms.methods[lane.asked().method]
        with closing(lane_lines(lane, method, partial(_ready, rooms, lane, method), context)) as lines:
            for line in lines:
                yield f"{index} {line.text}"


def _emptied(mail: dict[str, Any]) -> dict[str, Any]:
    """What is in the mailbox, once."""
    found = dict(mail)
    mail.clear()
    return found


def _ready(rooms: Rooms, lane: LaneJob, method: Method) -> Mapping[str, Any]:
    request = lane.asked()
    models = rooms.models.load_all(request.models)
    if lane.warm and method.warm is not None:
        method.warm(request, models)
    return models


def _looked(rooms: Rooms, job: Look) -> str:
    request = RunRequest.from_json(json.loads(job.request))
    try:
        inspect = rooms.methods[request.method].inspect
        if inspect is None:
            raise WorkbenchError(f"{request.method} has nothing to look into token by token.")
        found = inspect(request, rooms.models.load_all(request.models), list(job.ids), job.position, job.k)
    except WorkbenchError as error:
        return Failed(str(error), error.where).to_line()
    except Exception as error:  # it must not cross as an object: the web process may be unable to unpickle it
        log.exception("a look inside broke")
        return Failed(str(broke(error).error)).to_line()
    return json.dumps({"event": LOOKED, "data": found}, ensure_ascii=False)


class Seam:
    """The web process's side: asks for a turn, hands over its lines."""

    def __init__(self, rooms: Rooms, settings: Settings, lend: Callable[..., Any] | None = None) -> None:
        """`lend` is `spaces.GPU`; without one the call stays in this process."""
        self.settings = settings
        call = partial(gpu_lines, rooms)
        self._call = call if lend is None else lend(call, duration=self.seconds)

    def lines(self, job: Turn | Look) -> Iterator[tuple[int, Line]]:
        """`(index of the lane, line)` of a turn. Whatever `spaces` raises (no quota, turn cut off) becomes a `WorkbenchError`."""
        try:
            with closing(self._call(job)) as texts:
                for text in texts:
                    index, _, line = text.partition(" ")
                    yield int(index), Line.read(line)
        except Exception as error:  # anything may come across, and every lane must end with a line
            raise gpu_error(error, self.seconds(job)) from error

    def look(self, job: Look) -> dict[str, Any]:
        """What a `Look` found; raises `WorkbenchError`."""
        for _, line in self.lines(job):
            data = json.loads(line.text)
            if data["event"] == LOOKED:
                return data["data"]
            raise WorkbenchError(data["error"], data.get("where"))
        raise WorkbenchError("The GPU turn ended without an answer.", WHERE)

    def seconds(self, job: Turn | Look) -> int:
        """How long a turn is asked for: what it may cost at most, as far as that is known, and never more than a turn may last."""
        asked = [] if isinstance(job, Look) else [lane.asked() for lane in job.lanes]
        if any(request.options.get("quick") is True for request in asked):
            return math.ceil(self.settings.most_s)  # a quick job: minutes on a processor, nobody knows beforehand on a GPU
        return math.ceil(min(self.settings.most_s, BASE_S + sum(map(tokens_asked, asked)) / self.settings.tokens_per_s))

    def check_job(self, request: RunRequest) -> None:
        """Raise `InvalidRequest` unless the job is one that may fit in a turn: a measurement short enough, or a quick variant."""
        if request.options.get("quick") is True:
            return
        wanted = math.ceil(BASE_S + tokens_asked(request) / self.settings.tokens_per_s)
        if request.method != "measure":
            raise InvalidRequest(f"This is longer than a GPU turn here ({self.settings.most_s:g} s). Run Loupe on a machine of your own for it.")
        if wanted > self.settings.most_s:
            raise InvalidRequest(f"This may take {wanted} s, a GPU turn here lasts at most {self.settings.most_s:g}: fewer tokens, repeats or lanes.")


def tokens_asked(request: RunRequest) -> int:
    """How many tokens a request may take, its prefix (one forward) left out; of a measurement, all its repeats."""
    lanes = request.options.get("lanes")
    if request.method == "measure" and isinstance(lanes, Sequence):
        one = sum(tokens_asked(RunRequest.from_json(lane)) for lane in lanes)
        return one * (int(request.options.get("repeats", 8)) + 1)
    return request.sampling.max_new_tokens


def gpu_error(error: Exception, seconds: int) -> WorkbenchError:
    """Why there was no turn, or why it ended, in a visitor's words. `spaces` raises errors that carry a title and a message."""
    title, message = str(getattr(error, "title", "")), str(getattr(error, "message", "") or error).strip()
    if title.startswith("ZeroGPU quota") or title.startswith("ZeroGPU pending"):
        return WorkbenchError(f"No GPU time is left for you today: {message}", WHERE)
    if title.startswith("ZeroGPU illegal"):
        return WorkbenchError(f"A turn of {seconds} s is longer than you may ask for: {message}. Ask for fewer tokens or lanes.", WHERE)
    if "aborted" in message:
        why = f"it took longer than the {seconds} s it was lent for, or ran out of memory"
        return WorkbenchError(f"The GPU turn was cut off ({message}): {why}.", WHERE)
    if title.startswith("ZeroGPU") or "No GPU" in message:
        return WorkbenchError(f"The GPU could not be had: {message}.", WHERE)
    log.error("the GPU turn broke", exc_info=error)
    return WorkbenchError(f"The GPU turn broke ({type(error).__name__}: {message}). The log has the details.", WHERE)


def on_zero_gpu(environment: Mapping[str, str] = os.environ) -> bool:
    return environment.get("SPACES_ZERO_GPU", "").lower() in ON


def lender() -> Callable[..., Any] | None:
    """`spaces.GPU` where the GPU is lent, else None. The package patches torch, so it must be the first to import it."""
    if not on_zero_gpu():
        return None
    try:
        return import_module("spaces").GPU
    except ImportError:
        log.warning("SPACES_ZERO_GPU is set but the package spaces is not installed; models run in this process")
        return None
