"""Puts the rooms together: methods, models, store, workbench.

Goes in: a data directory. Comes out: a `Workbench` ready to run. The list of methods stands here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from backend import measure
from backend.contamination import audit
from backend.contamination import method as contamination
from backend.hidden_text import job as scan
from backend.hidden_text import method as hidden_text
from backend.hidden_text import plant
from backend.method import Method
from backend.model_service import ModelService
from backend.models import ModelPool
from backend.paths import assets_dir
from backend.routing import labels, sweep, train
from backend.routing import method as routing
from backend.speculative import evaluate
from backend.speculative import method as speculative
from backend.store import Store
from backend.structured import method as structured
from backend.workbench import Workbench


def methods(data_dir: Path) -> Mapping[str, Method]:
    """Every method by name; a new capability adds its line. Artifacts (routers, labels) lie in `data_dir`."""
    made = (structured.method(), speculative.method(), *(room.method(data_dir) for room in (routing, contamination, hidden_text)))
    singles = {m.name: m for m in made}
    jobs = (evaluate.method(), measure.method(singles), *(job.method(data_dir) for job in (labels, train, sweep, audit, scan, plant)))
    return {**singles, **{m.name: m for m in jobs}}


def leave_a_core() -> None:
    """One core less for the model than there are: the page, the grammar's process and a browser on the same machine need it.

    Measured on two cores beside one other busy process: 34 ms a token with one thread, 87 (median) to 316 (mean) with two, because a
    thread that loses its core makes the other wait at each of some 270 barriers a token. `OMP_NUM_THREADS` overrides.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
        torch.set_num_threads(max(1, min(torch.get_num_threads(), cores - 1)))


def open_workbench(data_dir: Path, *, public: bool = False, program: str = "the app") -> Workbench:
    leave_a_core()
    return Workbench(data_dir, methods(data_dir), ModelService(ModelPool(data_dir, assets_dir())), Store(data_dir), public=public, program=program)
