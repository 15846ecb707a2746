"""The requests that ship: presets of the panels, examples of the command line, cases of the tests.

Goes in: `assets/examples/index.json` and the request files beside it. Comes out: requests with a title and a note; recorded runs.
Knows nothing of models: an example says which it wants.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from backend.paths import assets_dir
from backend.types import RunRequest


@dataclass(frozen=True)
class Example:
    """One shipped request. `name` is its file's stem, `panel` the method it belongs to."""

    name: str
    panel: str
    title: str
    note: str
    request: RunRequest
    path: Path


def load() -> list[Example]:
    """All shipped examples in the order of the index."""
    folder = assets_dir() / "examples"
    entries = json.loads((folder / "index.json").read_text())
    return [_example(folder / entry["file"], entry) for entry in entries]


def _example(path: Path, entry: dict[str, str]) -> Example:
    request = RunRequest.from_json(json.loads(path.read_text()))
    return Example(path.stem, entry["panel"], entry["title"], entry["note"], request, path)


def recorded(name: str) -> list[str]:
    """The lines of a run that ships with the repository (`assets/runs/NAME.jsonl`), its `recorded` header first."""
    return (assets_dir() / "runs" / f"{name}.jsonl").read_text().splitlines()


def recorded_run(run_id: str) -> tuple[RunRequest, list[str]] | None:
    """Request and lines of the lane `run_id` of a shipped recording, or None."""
    for path in sorted((assets_dir() / "runs").glob("*.jsonl")):
        with path.open(encoding="utf-8") as file:
            requests = json.loads(file.readline())["requests"]
            if run_id in requests:
                return RunRequest.from_json(requests[run_id]), lane_lines(file.read().splitlines(), run_id)
    return None


def lane_lines(lines: list[str], run_id: str) -> list[str]:
    """The lines of one lane out of a group's."""
    lane, inside = [], False
    for line in lines:
        event = json.loads(line)
        if event["event"] == "started":
            inside = event["run"] == run_id
        if inside and event["event"] != "verdict":
            lane.append(line)
    return lane
