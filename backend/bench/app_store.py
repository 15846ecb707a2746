"""Ten thousand runs of three hundred tokens: how long a page waits for its list, a search, an opened run, and what they take on disk.

Goes in: a folder, a number of runs, a seed. Comes out: bars and figures, bytes by table. Measures the server's side of each request,
in this process; what a browser adds is not in it.
"""

from __future__ import annotations

import random
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from backend.bench import Bar, Progress, at_most
from backend.bench.app_runs import keep, made_runs, recorded_lanes, words_of
from backend.history import History, Wanted
from backend.store import Store, new_id

TOKENS, RUNS, QUICK_RUNS = 300, 10_000, 300
ASKED = 25  # requests of each kind; the slowest counts
LIMIT_MS, LIMIT_MB = 300.0, 60.0


def measure(folder: Path, quick: bool, seed: int, runs: int | None = None) -> tuple[list[Bar], dict[str, Any]]:
    """Fill a new database, then ask it. Its size is held against the bar only when it has all its runs."""
    n = runs or (QUICK_RUNS if quick else RUNS)
    store = Store(folder)
    ids, seconds = _fill(store, n, seed)
    history, rng = History(store), random.Random(seed)
    words = words_of(recorded_lanes())

    def opened() -> None:
        record = store.get(rng.choice(ids), "local")
        assert len(record.tokens()) == TOKENS

    def listed(wanted: Wanted) -> None:
        history.entries("local", wanted, limit=26)
        history.count("local", wanted)

    asked = {
        "first page": lambda: (listed(Wanted()), history.tags("local"), history.models("local")),
        "search": lambda: listed(Wanted(text=rng.choice(words))),
        "open": opened,
    }
    times = {name: [_ms(ask) for _ in range(ASKED)] for name, ask in asked.items()}
    store.close()
    megabytes = _compacted(store.path) / 1e6
    bars = [at_most(f"history, {name}, slowest of {ASKED}", round(max(values), 1), LIMIT_MS, " ms") for name, values in times.items()]
    whole = round(megabytes, 2) if n >= RUNS else None  # a small database is mostly pages that are not full yet
    bars.append(at_most(f"database, {RUNS} runs of {TOKENS} tokens", whole, LIMIT_MB, " MB"))
    figures = {f"history, {name}, median ms": round(statistics.median(values), 2) for name, values in times.items()}
    figures |= {"MB in all": round(megabytes, 3), "runs": n, "seed of the runs": seed, "ms to keep a run": round(seconds / n * 1000, 1)}
    return bars, figures | by_table(store.path)


def _fill(store: Store, n: int, seed: int) -> tuple[list[str], float]:
    progress, ids, start = Progress(n, "runs kept", sys.stderr), [], time.perf_counter()
    for number, run in enumerate(made_runs(n, TOKENS, seed), 1):
        ids.append(new_id())
        keep(store, ids[-1], run)
        progress.update(number)
    return ids, time.perf_counter() - start


def _ms(ask: Callable[[], Any]) -> float:
    start = time.perf_counter()
    ask()
    return (time.perf_counter() - start) * 1000


def _compacted(path: Path) -> int:
    """Bytes of the file once its write-ahead log is in it: what a person would find on the disk."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.stat().st_size


def by_table(path: Path) -> dict[str, float]:
    """Megabytes of the largest tables and indexes; nothing where SQLite was built without the table that knows."""
    with closing(sqlite3.connect(path)) as db:
        try:
            rows = db.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC LIMIT 8").fetchall()
        except sqlite3.OperationalError:
            return {}
    return {f"MB in {name}": round(size / 1e6, 3) for name, size in rows}
