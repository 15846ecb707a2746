"""Things that are costly to make and must be closed: worker processes, tokenizer tables.

Goes in: a key and how to make the thing. Comes out: the one living thing of that key. Whoever owns the `Resources`
(a loaded model, the workbench) closes it; a method only asks. Knows nothing of what it holds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Resources:
    """Lazily made, shared, closed together; safe to ask from several threads."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}
        self._lock = threading.Lock()

    def get(self, key: str, make: Callable[[], Any]) -> Any:
        """The thing under `key`, made by `make()` the first time."""
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
            return self._made[key]

    def close(self) -> None:
        """Close everything that has a `close`; the holder can be used again afterwards."""
        with self._lock:
            made, self._made = self._made, {}
        for thing in made.values():
            if hasattr(thing, "close"):
                thing.close()
