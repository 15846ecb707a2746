"""Puts the rooms together: methods, models, store, workbench.

Goes in: a data directory. Comes out: a `Workbench` ready to run. The list of methods stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from backend import measure
from backend.method import Method
from backend.model_service import ModelService
from backend.models import ModelPool
from backend.paths import assets_dir
from backend.store import Store
from backend.structured.method import method as structured_method
from backend.workbench import Workbench


def methods() -> Mapping[str, Method]:
    """Every method by name; a new capability adds its line."""
    singles = {m.name: m for m in (structured_method(),)}
    return {**singles, "measure": measure.method(singles)}


def open_workbench(data_dir: Path, *, public: bool = False, program: str = "the app") -> Workbench:
    return Workbench(data_dir, methods(), ModelService(ModelPool(data_dir, assets_dir())), Store(data_dir), public=public, program=program)
