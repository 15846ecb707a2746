"""The recorded runs that ship: which example, which lanes beside it; made anew by `python -m backend record`.

Goes in: a workbench, a name. Comes out: the lines of one group behind a `recorded` header, as `assets/runs` keeps them. A page opens on
its recording, so that a visitor sees a real result at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from backend import commands, examples
from backend.errors import InvalidRequest, WorkbenchError
from backend.types import RunContext, RunRequest
from backend.workbench import Workbench

# A panel's recording: the example it runs, and the options of the lanes that stand beside it before its baselines.
RECORDINGS: Mapping[str, tuple[str, tuple[Mapping[str, Any], ...]]] = {
    "structured": ("structured-record", ()),
    "speculative": ("speculative-table", ({"drafter": "lookup"}, {"drafter": "recycling"})),
    "routing": ("routing-problem", ()),
    "contamination": ("contamination-leaked-item", ()),
    "hidden_text": ("hidden_text-planted", ()),
}


def lanes(workbench: Workbench, name: str) -> list[RunRequest]:
    """The requests of a recording, its example first, baselines last; raises `InvalidRequest` for a name there is none of."""
    if name not in RECORDINGS:
        raise InvalidRequest(f"There is no recording {name!r}; there are {', '.join(RECORDINGS)}.", "name")
    example, more = RECORDINGS[name]
    request = next(e.request for e in examples.load() if e.name == example)
    return [request, *(request.with_options(**options) for options in more), *workbench.baselines(request)]


def record(workbench: Workbench, name: str) -> str:
    """Run the group and give the file's text; raises `WorkbenchError` if a lane does not complete."""
    run_id = ""
    for line in workbench.run_group(lanes(workbench, name), RunContext()):
        event = json.loads(line)
        if event["event"] == "started":
            run_id = run_id or event["run"]
        if event["event"] == "failed":
            raise WorkbenchError(f"{name}: {event['error']}")
    return "\n".join(commands.exported(workbench.store, run_id, "local")) + "\n"
