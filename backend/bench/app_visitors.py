"""Visitors of the app over HTTP, as many as stand in front of it at once, and pages that are opened and closed again.

Goes in: a folder, how many. Comes out: bars on tokens that were lost or went to another visitor, on the lag that the app adds to a token,
and on what closed pages leave behind. Speaks the protocol that the page itself speaks, with the same listener behind the same button.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from backend.bench import Bar, at_most
from backend.errors import WorkbenchError

ROOT = Path(__file__).resolve().parents[2]
CODE = """import sys
from app import build_app, launch_options
from backend.bench.app_server import serve
serve(build_app, launch_options, sys.argv[1:])"""
VISITORS, QUICK_VISITORS = 20, 3
TOKENS, QUICK_TOKENS = 300, 30
CYCLES, QUICK_CYCLES = 100, 10
INTERVAL_S = 0.1  # ten updates a second
LAG_MS = 250.0
SETTLE_S = 120.0  # only a busy machine needs it
AT_ONCE = 5  # pages that are open at a time when they are opened and closed
PAGE = "structured"


@dataclass
class Served:
    """The app under measurement: its address, and what it has alive."""

    address: str
    process: subprocess.Popen[str]

    def alive(self) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("count\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@contextmanager
def served(folder: Path, n_tokens: int, interval_s: float = INTERVAL_S) -> Iterator[Served]:
    """The app with a replay, on a free port; it ends when its input ends."""
    command = [sys.executable, "-c", CODE, str(folder), str(n_tokens), str(interval_s)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        if not address:
            raise WorkbenchError(f"The app ended by itself with code {process.wait()}.")
        yield Served(address, process)
    finally:
        process.stdin.close()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


@dataclass(frozen=True)
class Button:
    """Run on the page: the listener's number, the values of the form, and which of them is the prompt."""

    number: int
    trigger: int
    values: list[Any]
    prompt: int

    def pressed(self, prompt: str, session: str) -> dict[str, Any]:
        data = [prompt if i == self.prompt else value for i, value in enumerate(self.values)]
        return {"data": data, "fn_index": self.number, "session_hash": session, "event_data": None, "trigger_id": self.trigger}


def run_button(config: Mapping[str, Any]) -> Button:
    """Found in the app's own description of itself."""
    of_page = set(config["page"][PAGE]["components"])
    parts = {part["id"]: part["props"] for part in config["components"] if part["id"] in of_page}
    named = {props.get("elem_id"): part_id for part_id, props in parts.items()}
    for listener in config["dependencies"]:
        if [named["run"], "click"] in listener["targets"] and named["strip"] in listener["outputs"]:
            values = [parts[part].get("value") for part in listener["inputs"]]
            return Button(listener["id"], named["run"], values, listener["inputs"].index(named["prompt"]))
    raise WorkbenchError(f"The page {PAGE} has no button that runs.")


@dataclass
class Visit:
    """What one visitor saw: the strip's text as it grew, and how late each token came."""

    name: str
    text: str = ""
    lag_ms: list[float] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    read: int = 0

    def take(self, data: Any, moment: float) -> None:
        """A message: the whole text at first, then what was put at its end."""
        if isinstance(data, str):
            self.text = data
        for action, _, value in data if isinstance(data, list) else ():
            self.text = self.text + value if action == "append" else value
        end = self.text.rfind("\n") + 1
        for line in self.text[self.read : end].splitlines():
            event = json.loads(line)
            if event["event"] == "token":
                self.tokens.append(event["text"])
                self.lag_ms.append((moment - event["detail"]["at"]) * 1000)
        self.read = max(self.read, end)

    def faults(self, n_tokens: int) -> int:
        """Tokens that are missing, twice, or another visitor's."""
        wanted = [f"{self.name}.{i} " for i in range(n_tokens)]
        wrong = sum(a != b for a, b in zip(self.tokens, wanted, strict=False))
        return wrong + abs(len(self.tokens) - n_tokens)


async def visit(client: httpx.AsyncClient, button: Button, name: str, leave_after: int | None = None) -> Visit:
    """Press Run and read to the end, or leave after so many tokens: the connection closes, as a closed tab's does."""
    seen = Visit(name)
    (await client.post("/gradio_api/queue/join", json=button.pressed(name, f"session-{name}"))).raise_for_status()
    async with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": f"session-{name}"}) as answer:
        async for line in answer.aiter_lines():
            if not line.startswith("data:"):
                continue
            message = json.loads(line[5:])
            if message["msg"] == "process_generating":
                seen.take(message["output"]["data"][0], time.time())
            if message["msg"] in ("process_completed", "close_stream") or (leave_after is not None and len(seen.tokens) >= leave_after):
                return seen
    return seen


async def visits(address: str, names: list[str], leave_after: int | None = None, at_once: int | None = None) -> list[Visit]:
    """All these visitors, at once or so many at a time."""
    turns = asyncio.Semaphore(at_once or len(names))
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=120, limits=limits) as client:
        button = run_button((await client.get("/config")).json())

        async def one(name: str) -> Visit:
            async with turns:
                return await visit(client, button, name, leave_after)

        return list(await asyncio.gather(*map(one, names)))


def _finished(coming: Coroutine[Any, Any, list[Visit]]) -> list[Visit]:
    """What comes of it, in a thread of its own: the caller's may have a loop already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coming).result()


def streaming(folder: Path, n: int, n_tokens: int) -> tuple[list[Visit], float]:
    """`n` visitors at once; their visits and the 95th percentile of the lag."""
    with served(folder, n_tokens) as app:
        _finished(visits(app.address, ["warm"], leave_after=2))
        seen = _finished(visits(app.address, [f"v{i}" for i in range(n)]))
    lags = [ms for one in seen for ms in one.lag_ms]
    return seen, float(np.percentile(lags, 95)) if lags else float("inf")


def left_behind(folder: Path, cycles: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is alive before and after so many pages were opened, read for three tokens and closed."""
    with served(folder, 10_000, 0.02) as app:
        _finished(visits(app.address, [f"w{i}" for i in range(AT_ONCE)], leave_after=3, at_once=AT_ONCE))
        before = _settled(app, None)
        _finished(visits(app.address, [f"c{i}" for i in range(cycles)], leave_after=3, at_once=AT_ONCE))
        return before, _settled(app, before)


def _settled(app: Served, wanted: dict[str, Any] | None) -> dict[str, Any]:
    """What is alive once that is what was wanted, or once no run is; else what is still there when patience ends."""
    end = time.monotonic() + SETTLE_S
    while True:
        now = app.alive()
        if now == wanted or (wanted is None and now["runs"] == 0) or time.monotonic() > end:
            return now
        time.sleep(0.5)


def measure(folder: Path, quick: bool, visitors: int | None = None) -> tuple[list[Bar], dict[str, Any]]:
    """Bars on loss, lag and leftovers."""
    n, n_tokens = visitors or (QUICK_VISITORS if quick else VISITORS), QUICK_TOKENS if quick else TOKENS
    cycles = QUICK_CYCLES if quick else CYCLES
    seen, lag = streaming(folder / "visitors", n, n_tokens)
    before, after = left_behind(folder / "cycles", cycles)
    bars = [
        at_most(f"tokens lost or mixed, {n} visitors at once", sum(one.faults(n_tokens) for one in seen), 0),
        at_most("lag that the app adds, 95th percentile", round(lag, 1), LAG_MS, " ms"),
        at_most(f"kinds of things left after {cycles} closed pages", sum(before[kind] != after[kind] for kind in before), 0),
    ]
    return bars, {"visitors": n, "tokens a visitor": n_tokens, "alive before": json.dumps(before), "alive after": json.dumps(after)}
