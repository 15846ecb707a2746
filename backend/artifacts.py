"""Things that runs make and that outlive them: labels, routers, sweeps, neuron lists, reports.

Goes in: a data directory, a kind, an id. Comes out: folders: `artifacts/ID/` in the data directory for what was made here, a folder of the
assets for what ships (`shipped/NAME`). Each made folder says its kind in `artifact.json`. Knows nothing of what lies inside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ulid import ULID

from backend.errors import InvalidRequest
from backend.model_files import read_json, write_json
from backend.paths import assets_dir

SHIPPED = "shipped"
SHIPPED_FOLDERS = {"router": "routers"}  # kind to folder of the assets
ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
NOTE = "artifact.json"


@dataclass(frozen=True)
class Listed:
    """One artifact that is there."""

    id: str
    kind: str
    path: Path


def create(data_dir: Path, kind: str) -> tuple[str, Path]:
    """A new id and its empty folder."""
    artifact_id = str(ULID())
    folder = data_dir / "artifacts" / artifact_id
    write_json(folder / NOTE, {"kind": kind})
    return artifact_id, folder


def resolve(data_dir: Path, artifact_id: str, kind: str | None = None) -> Path:
    """The folder of an id; raises `InvalidRequest` when it can't be one, when nothing is there, or when it is of another kind."""
    family, _, name = artifact_id.partition("/")
    if family == SHIPPED and NAME.fullmatch(name):
        wanted = [SHIPPED_FOLDERS[kind]] if kind in SHIPPED_FOLDERS else list(SHIPPED_FOLDERS.values())
        folder = next((assets_dir() / f / name for f in wanted if (assets_dir() / f / name).is_dir()), None)
        if folder is None:
            raise InvalidRequest(f"Nothing ships under {artifact_id!r}; there are {_names(shipped())}.")
        return folder
    if not ID.fullmatch(artifact_id):
        raise InvalidRequest(f"{artifact_id!r} is not an artifact; use shipped/NAME, or the id that a job gave (26 letters and digits).")
    folder = data_dir / "artifacts" / artifact_id
    found = read_json(folder / NOTE).get("kind")
    if found is None:
        raise InvalidRequest(f"There is no artifact {artifact_id} here; it was removed, or made in another data directory.")
    if kind is not None and found != kind:
        raise InvalidRequest(f"Artifact {artifact_id} is of kind {found}, not {kind}.")
    return folder


def listed(data_dir: Path, kind: str) -> list[Listed]:
    """Every artifact of one kind: shipped ones first, then those made here, newest first."""
    made = [p for p in sorted((data_dir / "artifacts").glob("*/"), reverse=True) if read_json(p / NOTE).get("kind") == kind]
    return [one for one in shipped() if one.kind == kind] + [Listed(p.name, kind, p) for p in made]


def shipped() -> list[Listed]:
    """Everything that ships."""
    return [
        Listed(f"{SHIPPED}/{path.name}", kind, path)
        for kind, folder in SHIPPED_FOLDERS.items()
        for path in sorted((assets_dir() / folder).glob("*/"))
    ]


def _names(found: list[Listed]) -> str:
    return ", ".join(one.id for one in found) or "none"
