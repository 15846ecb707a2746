"""Models as the workbench and the pages see them: is it here, how far is it, bring it, load it.

Goes in: model ids. Comes out: loaded models from the pool, states of downloads that go on in the background, passports. Knows
nothing of methods or runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from backend.errors import ModelError, WorkbenchError
from backend.model_files import Report
from backend.model_source import get, resolve
from backend.models import LoadedModel, ModelPool


@dataclass(frozen=True)
class ModelState:
    """`present`: the files are here. Else `note` says what is going on, `done` of `total` how far, `error` why it stopped."""

    present: bool
    note: str = ""
    done: float = 0
    total: float | None = None
    error: str | None = None
    fetching: bool = False


class ModelService:
    """A pool and the downloads into its data directory. `allowed`: which ids pages may offer, describe and fetch; None: any."""

    def __init__(self, pool: ModelPool, allowed: Callable[[str], bool] | None = None) -> None:
        self.pool, self._allowed = pool, allowed
        self._states: dict[str, ModelState] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()

    def load_all(self, models: Mapping[str, str], progress: Report | None = None) -> dict[str, LoadedModel]:
        return self.pool.load_all(models, progress)

    @contextmanager
    def holding(self, models: Mapping[str, str]) -> Iterator[None]:
        """While inside, these models stay in memory."""
        with self.pool.holding(list(models.values())):
            yield

    def state(self, model_id: str) -> ModelState:
        """Whether the model's files are here, or how far they are; touches no network."""
        with self._lock:
            if model_id in self._states and not self._states[model_id].present:
                return self._states[model_id]
        try:
            source = resolve(model_id, self.pool.data_dir, self.pool.assets_dir)
        except ModelError as error:
            return ModelState(False, error=str(error))
        if source.kind == "hub":
            return ModelState(True, "taken from the Hub when it is first used")
        here = source.path is not None and (source.path.is_file() or (source.path / "config.json").is_file())
        return ModelState(here, "" if here else "not here yet")

    def fetch(self, model_id: str) -> None:
        """Start to bring the model's files in the background; does nothing while that is going on."""
        self._require_allowed(model_id)
        with self._lock:
            thread = self._threads.get(model_id)
            if thread is not None and thread.is_alive():
                return
            self._states[model_id] = ModelState(False, "starting", fetching=True)
            thread = threading.Thread(target=self._fetch, args=(model_id,), name=f"get {model_id}", daemon=True)
            self._threads[model_id] = thread
        thread.start()

    def _fetch(self, model_id: str) -> None:
        def progress(done: float, total: float | None, note: str) -> None:
            self._set(model_id, ModelState(False, note, done, total, fetching=True))

        try:
            get(model_id, self.pool.data_dir, self.pool.assets_dir, progress)
        except (WorkbenchError, OSError) as error:
            self._set(model_id, replace(self._states[model_id], error=str(error), fetching=False))
        else:
            self._set(model_id, ModelState(True))

    def _set(self, model_id: str, state: ModelState) -> None:
        with self._lock:
            self._states[model_id] = state

    def choices(self) -> list[tuple[str, str]]:
        """`(label, id)` of what this machine has or can always get, and may be used here."""
        return [(row["id"], row["id"]) for row in self.pool.list() if self._allowed is None or self._allowed(row["id"])]

    def describe(self, model_id: str) -> dict[str, Any]:
        """The model's passport as JSON. Raises `ModelError` for a model that may not be used here."""
        self._require_allowed(model_id)
        return self.pool.describe(model_id).to_json()

    def _require_allowed(self, model_id: str) -> None:
        if self._allowed is not None and not self._allowed(model_id):
            raise ModelError(f"{model_id} is not one of this instance's models.")

    def close(self) -> None:
        self.pool.close()
