"""What a scan and a look ask for: their options, their roles, and what is known before anything is loaded.

Goes in: a `RunRequest`. Comes out: checked options, or an `InvalidRequest`. Runs no model.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from backend import artifacts
from backend.errors import InvalidRequest, WorkbenchError
from backend.hidden_text.contexts import KINDS
from backend.hidden_text.ledger import KIND
from backend.hidden_text.probe import REFERENCE, SUSPECT
from backend.model_files import read_json
from backend.model_source import resolve
from backend.options import option, parse_options
from backend.pairs import require_files
from backend.paths import assets_dir
from backend.resources import Resources
from backend.types import Finding, RunRequest

USER_TURNS = 4  # how often every token is said as the user's whole turn
PARTS = ("beam", "forced", "counters")
QUICK: dict[str, Any] = {"contexts": "bos, empty", "depth": 12, "beam_contexts": 24, "samples": 32, "user_tokens": False}
NOT_SETTINGS = ("budget_s", "keep", "ledger")  # how long to look and how much to show, not what to look at
SPECIFICITY = "Without a reference model nothing tells a hidden text from what any model knows by heart: expect ordinary boilerplate in this list."


@dataclass(frozen=True)
class ScanOptions:
    """What to try, how deep, and for how long."""

    beam: bool = option(True, "Beams from ordinary chat turns, scored by lift; needs a reference model.")
    forced: bool = option(True, "Force every token of the vocabulary at the start of an answer.")
    counters: bool = option(True, "Ways against a text trained to hide: branches by lift, contrastive decoding, leaks, user tokens.")
    contexts: str = option("bos, header, empty", "Where tokens are forced: bos, header, empty, neutral, separated by commas.")
    depth: int = option(32, "How many tokens the best starts are decoded to.", low=6, high=128)
    beam_contexts: int = option(120, "How many ordinary turns the beams start from.", low=1, high=400)
    beam_length: int = option(16, "Tokens of a beam.", low=8, high=64)
    samples: int = option(64, "Leaks sampled in each open context.", low=1, high=1024)
    user_tokens: bool = option(True, "Also say every token to the model, four times, as the user's whole turn (after the other counters).")
    budget_s: float = option(1500.0, "Seconds for the whole scan; 0 never cuts it short.", low=0, high=1e6)
    keep: int = option(50, "Candidates listed.", low=1, high=500)
    quick: bool = option(False, "Minutes instead: two contexts, twelve tokens deep, two dozen beam contexts.")
    ledger: str = option("", "Go on with an earlier scan of the same models: the id of its ledger.")

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(kind.strip() for kind in self.contexts.split(",") if kind.strip())

    def settings(self) -> dict[str, Any]:
        """What must agree for two scans' scores to be compared."""
        return {name: value for name, value in asdict(self).items() if name not in NOT_SETTINGS}


def scan_options(request: RunRequest) -> ScanOptions:
    options: ScanOptions = parse_options(ScanOptions, request.options)
    unknown = [kind for kind in options.kinds if kind not in KINDS]
    if unknown or not options.kinds:
        raise InvalidRequest(f"options.contexts must name some of {', '.join(KINDS)}, got {options.contexts!r}.", "options.contexts")
    if not (options.beam or options.forced or options.counters):
        raise InvalidRequest("options must leave something to do: beam, forced or counters.", "options.forced")
    if options.beam and not (options.forced or options.counters) and REFERENCE not in request.models:
        raise InvalidRequest("models.reference is missing: a lift beam compares with it. Add one, or force tokens.", "models.reference")
    return replace(options, **QUICK) if options.quick else options


def size(request: RunRequest, data_dir: Path) -> dict[str, float]:
    """What this will take: every token of the vocabulary in each context, and four times as a user's turn."""
    options = scan_options(request)
    path = resolve(request.models[SUSPECT], data_dir, assets_dir()).path
    vocabulary = read_json(path / "config.json").get("vocab_size", 0) if path is not None else 0
    times = len(options.kinds) * options.forced + USER_TURNS * (options.counters and options.user_tokens)
    return {"scan_tokens": vocabulary * times, "seconds": options.budget_s or math.inf}


def check_models(request: RunRequest, data_dir: Path, resources: Resources) -> list[Finding]:
    """Refuses a reference with another tokenizer, before anything is loaded; warns where there is none."""
    if REFERENCE not in request.models:
        return [Finding("warning", {"text": SPECIFICITY})]
    require_files(request.models[REFERENCE], request.models[SUSPECT], data_dir, assets_dir(), "models.reference", resources)
    return []


def check_scan(request: RunRequest, resources: Resources, data_dir: Path) -> list[Finding]:
    options = scan_options(request)
    if options.ledger:
        try:
            artifacts.resolve(data_dir, options.ledger, KIND)
        except WorkbenchError as error:
            raise InvalidRequest(str(error), "options.ledger") from error
    return check_models(request, data_dir, resources)
