"""What visitors of a public instance may use: settings with safe defaults, read once, and what they refuse.

Goes in: the environment, requests, and the sizes that methods give of their jobs. Comes out: nothing, or an `InvalidRequest` that names the limit.
Knows neither models nor the store; who may use which model and which artifact is `owned`'s to say.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any

from backend.errors import InvalidRequest
from backend.types import RunRequest, check_number

PREFIX = "LOUPE_"
MEGABYTE = 2**20
# What a job's size is told in: the limit that holds for it, and its words.
UNITS = {
    "items": ("max_items", "prompts or items"), "prompt_chars": ("max_prompt_chars", "characters a prompt"),
    "new_tokens": ("max_new_tokens", "tokens an answer"), "scan_tokens": ("max_scan_tokens", "tokens times contexts"),
    "seconds": ("max_job_s", "seconds"),
}  # fmt: skip


def setting(default: int | tuple[str, ...], help: str, low: int = 1, high: int = 10**9) -> Any:
    """A limit with its meaning and its own limits; the variable is `LOUPE_` and its name."""
    return field(default=default, metadata={"help": help, "low": low, "high": high})


@dataclass(frozen=True)
class Limits:
    """What one visitor, and all of them together, may use of a shared machine."""

    max_new_tokens: int = setting(512, "tokens of an answer", 1, 100_000)
    max_prompt_chars: int = setting(8_000, "characters of a prompt with its system message", 1, 10_000_000)
    max_option_chars: int = setting(50_000, "characters of one option of a run: a grammar, a text", 1, 10_000_000)
    max_upload_mb: int = setting(2, "megabytes of an uploaded file, and of the data that a job brings", 1, 10_000)
    max_items: int = setting(2_000, "prompts or items of a job", 1, 10_000_000)
    max_scan_tokens: int = setting(500_000, "vocabulary times contexts of a scan for hidden text", 1, 10**12)
    max_job_s: int = setting(1_800, "seconds a job may run; then it ends with what it has", 1, 10**7)
    max_jobs: int = setting(1, "jobs of one visitor at a time", 0, 1_000)
    max_open_jobs: int = setting(20, "jobs of all visitors that run or wait", 0, 10_000)
    max_runs: int = setting(200, "entries in one visitor's history; then her oldest goes that is neither shared nor pinned", 1, 10_000_000)
    max_database_mb: int = setting(500, "megabytes of the database; then the oldest entry goes that is neither shared nor pinned", 1, 10_000_000)
    shared_inspect: int = setting(0, "1: whoever has a run's link may have the model say what else was possible at its tokens", 0, 1)
    public_models: tuple[str, ...] = setting(("smollm2", "pocket/*", "exam/*", "secret/*"), "models that visitors may use, separated by commas")
    public_jobs: tuple[str, ...] = setting(
        ("measure", "routing.*", "speculative.*", "contamination.*", "hidden_text.scan"), "jobs that visitors may start, separated by commas"
    )

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Limits:
        """The settings of an environment; raises `InvalidRequest` naming the variable."""
        found = {spec.name: environment[variable(spec.name)].strip() for spec in fields(cls) if environment.get(variable(spec.name), "").strip()}
        return cls(**{spec.name: _value(spec.name, found[spec.name], spec) for spec in fields(cls) if spec.name in found})

    def __post_init__(self) -> None:
        for spec in fields(self):
            if not isinstance(spec.default, tuple):
                check_number(variable(spec.name), getattr(self, spec.name), spec.metadata["low"], spec.metadata["high"], integer=True)

    @property
    def upload_bytes(self) -> int:
        return self.max_upload_mb * MEGABYTE

    @property
    def database_bytes(self) -> int:
        return self.max_database_mb * MEGABYTE

    def allows_model(self, model_id: str) -> bool:
        """Whether the list has this id. A `*` stands for a name, never for a path: an id with a second slash is none of the list's."""
        return model_id.count("/") <= 1 and ".." not in model_id and any(fnmatchcase(model_id, pattern) for pattern in self.public_models)

    def allows_job(self, method: str) -> bool:
        return any(fnmatchcase(method, pattern) for pattern in self.public_jobs)


def told() -> str:
    """Every setting with its default and its meaning, a line each."""
    lines = ["settings of a public instance, from the environment:"]
    for spec in fields(Limits):
        default = ",".join(spec.default) if isinstance(spec.default, tuple) else str(spec.default)
        lines += [f"  {variable(spec.name)}={default}", f"      {spec.metadata['help']}"]
    return "\n".join(lines)


def variable(name: str) -> str:
    """The environment's name of a setting."""
    return PREFIX + name.upper()


def _value(name: str, text: str, spec: Any) -> Any:
    if isinstance(spec.default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    low, high = spec.metadata["low"], spec.metadata["high"]
    if not text.lstrip("-").isdecimal():
        raise InvalidRequest(f"{variable(name)} must be a whole number between {low:,} and {high:,}, got {text!r}.", variable(name))
    return int(text)


# What a request may be ---------------------------------------------------------------------------------------------------------------


def check_request(limits: Limits, request: RunRequest, job: bool, size: Mapping[str, float]) -> None:
    """Raise unless tokens, prompt, options and a job's size are within the limits."""
    check_number("sampling.max_new_tokens", request.sampling.max_new_tokens, 0, limits.max_new_tokens, integer=True)
    check_number("answer_prefix, in tokens,", len(request.answer_prefix), 0, limits.max_new_tokens, integer=True)
    n_chars = sum(len(message["content"]) for message in request.prompt.messages) + len(request.prompt.system or "")
    if n_chars > limits.max_prompt_chars:
        raise InvalidRequest(f"The prompt may have at most {limits.max_prompt_chars:,} characters here, it has {n_chars:,}.", "prompt")
    if job:
        _check_job(limits, request, size)
        return
    for name, value in request.options.items():
        if len(str(value)) > limits.max_option_chars:
            raise InvalidRequest(f"options.{name} may have at most {limits.max_option_chars:,} characters here.", f"options.{name}")


def _check_job(limits: Limits, request: RunRequest, size: Mapping[str, float]) -> None:
    if not limits.allows_job(request.method):
        raise InvalidRequest(f"{request.method} is not run on this instance. On a machine of your own Loupe runs it.", "method")
    n_bytes = len(json.dumps(dict(request.options), ensure_ascii=False).encode())
    if n_bytes > limits.upload_bytes:
        raise InvalidRequest(f"A job's data may have at most {limits.max_upload_mb} MB here, this is {n_bytes / MEGABYTE:.1f} MB.", "options")
    for unit, asked in size.items():
        name, words = UNITS[unit]
        if asked > getattr(limits, name):
            told = "no end" if math.isinf(asked) else f"{asked:,.0f}"
            raise InvalidRequest(f"A job may take at most {getattr(limits, name):,} {words} here, this one asks for {told}.", "options")


def check_jobs(limits: Limits, n_own: int, n_all: int) -> None:
    """Raise if a visitor with `n_own` open jobs may not start another, or nobody may."""
    if n_own >= limits.max_jobs:
        many = "One job" if limits.max_jobs == 1 else f"{limits.max_jobs} jobs"
        raise InvalidRequest(f"{many} a visitor at a time here: wait for yours, or stop it." if limits.max_jobs else "No jobs are run here.")
    if n_all >= limits.max_open_jobs:
        raise InvalidRequest(f"{n_all} jobs are running or waiting here already, which is as many as there may be. Try again later.")
