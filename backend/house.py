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
from backend.public import Limits
from backend.routing import labels, sweep, train
from backend.routing import method as routing
from backend.seam import Placed, Rooms, Seam, Settings, lender
from backend.snapshots import Snapshots, minutes_of, restore
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
    """The limits of a public instance are the environment's; raises `InvalidRequest` naming a variable that can't be."""
    leave_a_core()
    limits, rooms, pool = Limits.read(os.environ), methods(data_dir), ModelPool(data_dir, assets_dir())
    models = ModelService(pool, limits.allows_model if public else None)
    store, snapshots = open_store(data_dir)
    return Workbench(data_dir, rooms, models, store, public=public, limits=limits, program=program, seam=gpu_seam(rooms, pool), snapshots=snapshots)


def open_store(data_dir: Path) -> tuple[Store, Snapshots | None]:
    """The history; with `LOUPE_SNAPSHOT_DIR`, brought back from there where the disk is new, and copied there from now on."""
    folder = os.environ.get("LOUPE_SNAPSHOT_DIR")
    if not folder:
        return Store(data_dir), None
    minutes = minutes_of(os.environ)
    began = restore(Path(folder), data_dir / "loupe.db")
    store = Store(data_dir)
    return store, Snapshots(store.path, Path(folder), store.process_id, minutes, began)


def gpu_seam(rooms: Mapping[str, Method], pool: ModelPool) -> Seam | None:
    """Where the GPU is lent by the turn: the way to it, with the models that every visitor needs placed there beforehand."""
    lend = lender()
    if lend is None:
        return None
    settings = Settings.read(os.environ)
    return Seam(Rooms(rooms, Placed(pool, {model_id: pool.place(model_id) for model_id in settings.preload})), settings, lend)
