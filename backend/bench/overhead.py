"""What a grammar adds to the time of a token, on the real model: the `measure` job over one example and its lane without grammar.

Goes in: a data directory with `smollm2`. Comes out: a bar (percent more a token) and the interval behind it. The scalars of every token
(log-probability, mass kept, favourite) are computed in the constrained lane as in any run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from backend import examples
from backend.bench import Bar, Progress, at_most
from backend.errors import WorkbenchError
from backend.house import open_workbench
from backend.measure import measure_request
from backend.types import RunContext

EXAMPLE = "structured-list"
REPEATS, QUICK_REPEATS = 12, 4
LIMIT_PERCENT = 5.0


def overhead(quick: bool, data_dir: Path) -> tuple[Bar, dict[str, Any]]:
    """The bar, and the figures that it comes from."""
    request = next(e.request for e in examples.load() if e.name == EXAMPLE)
    workbench = open_workbench(data_dir, program="the bench")
    try:
        lanes = [request, request.with_options(constrain="none")]
        job = measure_request(lanes, QUICK_REPEATS if quick else REPEATS)
        done = _follow(workbench, workbench.start_job(job, RunContext()))
    finally:
        workbench.close()
    ratio = done["stats"]["ratios"][0]
    low, high = ((ratio[name] - 1) * 100 for name in ("low", "high"))
    figures = {
        "grammar's cost a token, 95 % interval": f"{low:.2f} to {high:.2f} %",
        **{f"ms a token, {name}": round(ms, 2) for name, ms in done["stats"]["lanes"].items()},
    }
    return at_most("grammar's cost a token (Measure)", round((ratio["ratio"] - 1) * 100, 2), LIMIT_PERCENT, " %"), figures


def _follow(workbench: Any, run_id: str) -> dict[str, Any]:
    last: dict[str, Any] = {}
    progress = None
    for line in workbench.follow(run_id):
        last = json.loads(line)
        if last["event"] == "progress" and last["total"] > 1:
            progress = progress or Progress(int(last["total"]), "runs", sys.stderr)
            progress.update(int(last["done"]), last["note"])
    if last["event"] != "done":
        raise WorkbenchError(last.get("error", "The measurement did not end."))
    return last
