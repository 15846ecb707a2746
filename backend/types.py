"""What flows between the rooms: requests, context, events, records, verdicts.

Goes in and comes out: frozen dataclasses that turn into JSON and back. Standard library only; knows nothing of torch, SQLite or Gradio.
The exact lines, one JSON object each, are the truth of a run: the page, the CLI, the API, the store and a replay read the same ones.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar

from backend.errors import InvalidRequest

TEMPLATES = ("chat", "raw")
ROLES = ("system", "user", "assistant")
STATUSES = ("queued", "running", "completed", "cancelled", "failed", "interrupted")
FINISH_REASONS = ("stop", "length", "dead_end", "cancelled")


def check_number(name: str, value: Any, low: float, high: float, integer: bool = False) -> None:
    """Raise `InvalidRequest` naming field, limits and value unless `low <= value <= high`."""
    kinds = (int,) if integer else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value) or not low <= value <= high:
        kind = "a whole number" if integer else "a number"
        raise InvalidRequest(f"{name} must be {kind} between {low:g} and {high:g}, got {value!r}.", where=name)


def known_fields(cls: type, data: Any, where: str) -> dict[str, Any]:
    """`data` as keyword arguments of dataclass `cls`; an unknown key or a wrong shape is an `InvalidRequest`."""
    if not isinstance(data, Mapping):
        raise InvalidRequest(f"{where} must be an object, got {type(data).__name__}.", where=where)
    names = [f.name for f in fields(cls)]
    for key in data:
        if key not in names:
            raise InvalidRequest(f"{where} has no field {key!r}; it has {', '.join(names)}.", where=f"{where}.{key}")
    return dict(data)


@dataclass(frozen=True)
class SamplingParams:
    """How the next token is drawn. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 cut nothing; seed 0 is a seed.
    `max_new_tokens` counts what comes after `answer_prefix`; 0 only reads the prefix."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("sampling.temperature", self.temperature, 0, 10)
        check_number("sampling.top_p", self.top_p, 0.0001, 1)
        check_number("sampling.top_k", self.top_k, 0, 1_000_000, integer=True)
        check_number("sampling.max_new_tokens", self.max_new_tokens, 0, 100_000, integer=True)
        check_number("sampling.seed", self.seed, 0, 2**53, integer=True)


@dataclass(frozen=True)
class Prompt:
    """What is said to the model. `chat` goes through the model's template, `raw` is the text of the messages as it stands."""

    messages: tuple[Mapping[str, str], ...]
    template: str = "chat"
    system: str | None = None

    def __post_init__(self) -> None:
        if self.template not in TEMPLATES:
            raise InvalidRequest(f"prompt.template must be one of {', '.join(TEMPLATES)}, got {self.template!r}.", "prompt.template")
        if not isinstance(self.messages, (list, tuple)) or not self.messages:
            raise InvalidRequest("prompt.messages must hold at least one message.", "prompt.messages")
        for index, message in enumerate(self.messages):
            where = f"prompt.messages[{index}]"
            if not isinstance(message, Mapping) or set(message) != {"role", "content"} or not isinstance(message["content"], str):
                raise InvalidRequest(f"{where} must be an object with a role and a content.", where)
            if message["role"] not in ROLES:
                raise InvalidRequest(f"{where}.role must be one of {', '.join(ROLES)}, got {message['role']!r}.", where)
        if self.system is not None and not isinstance(self.system, str):
            raise InvalidRequest("prompt.system must be a text.", "prompt.system")
        object.__setattr__(self, "messages", tuple(dict(m) for m in self.messages))

    @classmethod
    def user(cls, text: str, template: str = "chat", system: str | None = None) -> Prompt:
        return cls(({"role": "user", "content": text},), template, system)

    @property
    def text(self) -> str:
        """The last message: what a list of runs shows."""
        return self.messages[-1]["content"]

    @classmethod
    def from_json(cls, data: Any) -> Prompt:
        """A text stands for one user message."""
        if isinstance(data, str):
            return cls.user(data)
        data = known_fields(cls, data, "prompt")
        if "messages" not in data:
            raise InvalidRequest("prompt.messages must hold at least one message.", "prompt.messages")
        return cls(**data)


@dataclass(frozen=True)
class RunRequest:
    """What can be run again, by anybody, with the same outcome. `models` maps role to model id; `options` belongs to the method."""

    method: str
    prompt: Prompt
    models: Mapping[str, str]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    options: Mapping[str, Any] = field(default_factory=dict)
    answer_prefix: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.method, str) or not self.method:
            raise InvalidRequest("method must be a name.", "method")
        if not isinstance(self.models, Mapping) or not all(isinstance(v, str) and v for v in self.models.values()):
            raise InvalidRequest("models must map each role to a model id.", "models")
        prefix = self.answer_prefix
        if not isinstance(prefix, (list, tuple)) or not all(type(i) is int and i >= 0 for i in prefix):
            raise InvalidRequest("answer_prefix must be a list of token ids.", "answer_prefix")
        object.__setattr__(self, "answer_prefix", tuple(prefix))

    @classmethod
    def from_json(cls, data: Any) -> RunRequest:
        data = known_fields(cls, data, "request")
        for name in ("method", "prompt", "models"):
            if name not in data:
                raise InvalidRequest(f"request.{name} is missing.", name)
        data["prompt"] = Prompt.from_json(data["prompt"])
        data["sampling"] = SamplingParams(**known_fields(SamplingParams, data.get("sampling", {}), "sampling"))
        if not isinstance(data.get("options", {}), Mapping):
            raise InvalidRequest("options must be an object.", "options")
        return cls(**data)

    def to_json(self) -> dict[str, Any]:
        data = asdict(self)
        data["prompt"]["messages"] = list(data["prompt"]["messages"])
        data["answer_prefix"] = list(self.answer_prefix)
        return data

    def with_options(self, **changes: Any) -> RunRequest:
        return replace(self, options={**self.options, **changes})


def never() -> bool:
    return False


@dataclass(frozen=True)
class RunContext:
    """Who runs it and where; never part of a replay. `clock` gives seconds and stands still while others have the device;
    `cancelled` says whether to stop; `control` hands over (once) what the page put in the mailbox; `earlier` are the lines that a
    resumed job already has; a run that is not `kept` is deleted when it has ended."""

    owner: str = "local"
    session: str | None = None
    group: str | None = None
    lane: str | None = None
    parent_run_id: str | None = None
    clock: Callable[[], float] = time.perf_counter
    cancelled: Callable[[], bool] = never
    control: Callable[[], Mapping[str, Any]] = dict
    earlier: tuple[str, ...] = ()
    kept: bool = True


@dataclass(frozen=True)
class Event:
    """One thing that happened. `tag` is the line's `event`; shown-only events are never stored."""

    tag: ClassVar[str]
    stored: ClassVar[bool] = True

    def to_line(self, **stamp: Any) -> str:
        """One JSON object without a line break; `stamp` adds what only the workbench knows (`ms`, `run`, …)."""
        data = {"event": self.tag, **{f.name: getattr(self, f.name) for f in fields(self)}, **stamp}
        return json.dumps({k: v for k, v in data.items() if v is not None}, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


@dataclass(frozen=True)
class Started(Event):
    """First line of a run: which models, and the prompt's tokens as `[id, text]` pairs, as the model sees them; `fixed` says why no
    control reaches it."""

    tag: ClassVar[str] = "started"
    run: str
    group: str | None
    lane: str | None
    method: str
    models: Mapping[str, Mapping[str, Any]]
    prompt: list[list[Any]]
    at: str
    warnings: list[str] | None = None
    fixed: str | None = None


@dataclass(frozen=True)
class Token(Event):
    """One answer token. `logprob` in nats under the model's own law (temperature 1, no mask) of the model that `source` names."""

    tag: ClassVar[str] = "token"
    position: int
    id: int
    text: str
    logprob: float
    source: str = "model"
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Round(Event):
    """One round of draft and verification (see CONTRACTS, "Lines")."""

    tag: ClassVar[str] = "round"
    index: int
    position: int
    drafted: list[list[Any]]
    parents: list[int]
    accepted: int
    path: list[int] = field(default_factory=list)
    rejected: Mapping[str, Any] | None = None
    spans: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding(Event):
    """A row for a table or a point for a chart; each method lists its kinds."""

    tag: ClassVar[str] = "finding"
    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Control(Event):
    """A control that the method read at this position; a replay uses these instead of the mailbox."""

    tag: ClassVar[str] = "control"
    name: str
    value: Any
    position: int


@dataclass(frozen=True)
class Artifact(Event):
    """Something made that outlives the run (a router, a neuron list, a report)."""

    tag: ClassVar[str] = "artifact"
    id: str
    kind: str
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class Progress(Event):
    """How far a load or a job is; `rate` in units a second."""

    tag: ClassVar[str] = "progress"
    stored: ClassVar[bool] = False
    done: float
    total: float | None = None
    note: str = ""
    rate: float | None = None


@dataclass(frozen=True)
class Queued(Event):
    """The run waits: `place` runs stand before it."""

    tag: ClassVar[str] = "queued"
    stored: ClassVar[bool] = False
    place: int
    note: str = ""


@dataclass(frozen=True)
class Done(Event):
    """Last line of a run that ended by itself or was cancelled. `text` is the whole answer; `stats` are the method's."""

    tag: ClassVar[str] = "done"
    finish_reason: str
    text: str
    stats: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed(Event):
    """Last line of a run that broke; `where` names the field at fault, if one is."""

    tag: ClassVar[str] = "failed"
    error: str
    where: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What a comparison says: one sentence in plain words, its figures, and whether the claim holds (None: nothing to claim)."""

    sentence: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    holds: bool | None = None


@dataclass(frozen=True)
class RunRecord:
    """One stored run: the request, the context, what came of it, and its lines; what its owner added; in lists, how many lanes it stands for."""

    id: str
    request: RunRequest
    status: str
    owner: str = "local"
    session: str | None = None
    group: str | None = None
    lane: str | None = None
    parent_run_id: str | None = None
    created_at: str = ""
    finished_at: str | None = None
    duration_ms: float | None = None
    device: str | None = None
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    stats: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    lines: tuple[str, ...] = ()
    title: str = ""
    note: str = ""
    pinned: bool = False
    tags: tuple[str, ...] = ()
    lanes: int = 1

    def events(self) -> list[dict[str, Any]]:
        """The stored lines as dictionaries."""
        return [json.loads(line) for line in self.lines]

    def tokens(self) -> list[dict[str, Any]]:
        return [e for e in self.events() if e["event"] == "token"]
