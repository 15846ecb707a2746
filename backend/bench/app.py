"""The bench of the app itself: a history of ten thousand runs, twenty visitors at once, closed pages, kills at any moment.

Goes in: a data directory (what is measured lies in a temporary folder inside it), which part. Comes out: bars and figures. The parts are in
`app_store`, `app_visitors` and `app_crash`; pages are held against axe-core by the browser tests (tests/browser).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from backend.bench import Report, app_crash, app_store, app_visitors
from backend.errors import InvalidRequest

PARTS = ("history", "visitors", "crash")


def run(quick: bool, data_dir: Path, part: str | None = None, seed: int = 0) -> Report:
    """All parts, or one: `history` (list, search, open, size), `visitors` (streams, closed pages), `crash` (kill -9)."""
    if part is not None and part not in PARTS:
        raise InvalidRequest(f"part must be one of {', '.join(PARTS)}, got {part!r}.", "part")
    wanted = PARTS if part is None else (part,)
    bars, figures, rows = [], {}, []
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-app-", dir=data_dir) as name:
        folder = Path(name)
        if "history" in wanted:
            more, told = app_store.measure(folder / "history", quick, seed)
            bars, figures = [*bars, *more], {**figures, **told}
        if "visitors" in wanted:
            more, told = app_visitors.measure(folder / "visitors", quick)
            bars, figures = [*bars, *more], {**figures, **told}
        if "crash" in wanted:
            more, told, rows = app_crash.measure(folder / "crash", quick, seed)
            bars, figures = [*bars, *more], {**figures, **told}
    return Report(bars, figures, rows=rows)
