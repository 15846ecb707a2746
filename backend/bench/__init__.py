"""Benches: figures against bars, one module a capability.

Goes in: a bench's name and its arguments. Comes out: a table for a person and, last, one JSON line for a program
(`{"bench", "bars", "figures", "device", "versions"}`). A bench module has `run(quick, data_dir, **options) -> Report`; progress goes to
standard error. Knows nothing of how a figure comes about.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO

from backend.errors import InvalidRequest

BENCHES = {"structured": "backend.bench.structured", "startup": "backend.bench.startup", "pocket": "backend.bench.pocket",
           "speculative": "backend.bench.speculative", "routing": "backend.bench.routing",
           "contamination": "backend.bench.contamination", "hidden_text": "backend.bench.hidden_text",
           "app": "backend.bench.app"}  # fmt: skip
PACKAGES = ("torch", "transformers", "xgrammar", "jsonschema")


@dataclass(frozen=True)
class Bar:
    """One figure and what is asked of it. `value` None: it could not be measured here, and `holds` is None too."""

    name: str
    value: float | None
    bar: str
    holds: bool | None


@dataclass(frozen=True)
class Report:
    """What a bench hands back: its bars, the counts behind them, the device it ran on, and a row for each case worth a look."""

    bars: list[Bar]
    figures: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    rows: list[str] = field(default_factory=list)


def at_most(name: str, value: float | None, limit: float, unit: str = "") -> Bar:
    """A bar that holds when `value` is not above `limit`."""
    return Bar(name, value, f"≤ {limit:g}{unit}", None if value is None else value <= limit)


def run_bench(name: str, quick: bool = False, *, data_dir: Path, **options: Any) -> Report:
    """Run one bench and print what it found; raises `InvalidRequest` for a name or an option that there is none of."""
    if name not in BENCHES:
        raise InvalidRequest(f"There is no bench {name!r}; there are {', '.join(BENCHES)}.", "name")
    report = import_module(BENCHES[name]).run(quick, data_dir, **options)
    print_report(name, report, sys.stdout)
    return report


def print_report(name: str, report: Report, out: TextIO) -> None:
    """The rows, the table, and the JSON line at the end."""
    for row in report.rows:
        print(row, file=out)
    for key, value in report.figures.items():
        print(f"{key:<44} {_shown(value):>12}", file=out)
    print(file=out)
    width = max(len(bar.name) for bar in report.bars)
    for bar in report.bars:
        verdict = {True: "holds", False: "does not hold", None: "not measured"}[bar.holds]
        print(f"{bar.name:<{width}}  {_shown(bar.value):>10}  {bar.bar:>10}  {verdict}", file=out)
    line = {"bench": name, "bars": [asdict(bar) for bar in report.bars], "figures": dict(report.figures)}
    print(json.dumps({**line, "device": report.device, "versions": versions()}, ensure_ascii=False), file=out, flush=True)


def _shown(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def versions() -> dict[str, str]:
    """The packages that a figure may depend on, as installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


class Progress:
    """How far a bench is, on one line of standard error, with a rate and the time left."""

    def __init__(self, total: int, unit: str, out: TextIO, clock: Callable[[], float] = time.perf_counter) -> None:
        self._total, self._unit, self._out, self._clock = total, unit, out, clock
        self._start = self._last = clock()

    def update(self, done: int, note: str = "") -> None:
        """Say so, at most about twice a second."""
        now = self._clock()
        if done < self._total and now - self._last < 0.5:
            return
        self._last = now
        rate = done / max(now - self._start, 1e-9)
        left = (self._total - done) / rate if rate else 0.0
        text = f"{done}/{self._total} {self._unit}, {rate:.2f}/s, {left:.0f} s left {note}"
        end = "\n" if done >= self._total or not self._out.isatty() else "\r"
        print(f"{text:<78.78}", end=end, file=self._out, flush=True)


def reporter(unit: str, out: TextIO) -> Callable[[float, float | None, str], None]:
    """A listener of `(done, total, note)` that shows a `Progress` from its first call on."""
    shown: list[Progress] = []

    def tell(done: float, total: float | None, note: str) -> None:
        if not shown:
            shown.append(Progress(int(total or 0), unit, out))
        shown[0].update(int(done), note)

    return tell
