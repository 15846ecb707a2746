"""A model id becomes a folder in Hugging Face format.

Goes in: an id (`smollm2`, `pocket/large`, `mine/NAME`, a folder, a `.gguf` file, a hub id), the data directory and the assets.
Comes out: a `Source` that says what the id means, and a folder on disk, fetched or converted where it has to be; or a
`ModelError`. Knows nothing of loaded models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.errors import ModelError
from backend.gguf_convert import check_gguf, convert, making
from backend.model_files import MANIFEST, Report, cached_hash, check_files, folder_bytes, ignore, read_json
from backend.model_hub import download
from backend.smollm2 import get_smollm2

SHIPPED = ("pocket", "exam", "secret")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
KINDS = "smollm2, a shipped model (pocket/NAME), mine/NAME, a folder, a .gguf file, or a Hugging Face id like org/name"

@dataclass(frozen=True)
class Source:
    """What an id means. `kind`: smollm2, shipped, mine, folder, gguf, hub; `path` is the folder or the .gguf file, `repo` the hub id."""

    id: str
    kind: str
    path: Path | None = None
    repo: str | None = None

    @property
    def origin(self) -> str:
        """Where the weights come from, in one word or, for a folder with a manifest, what the manifest says."""
        if self.kind in ("hub", "gguf"):
            return self.kind
        said = read_json(self.path / MANIFEST).get("origin") if self.path else None
        return said if isinstance(said, str) else self.kind


def resolve(model_id: str, data_dir: Path, assets_dir: Path) -> Source:
    """What `model_id` means; touches no network and loads nothing. Raises `ModelError` for what can't be an id or a path."""
    if not model_id or "\0" in model_id:
        raise ModelError(f"{model_id!r} is not a model id; use {KINDS}.")
    family, slash, name = model_id.partition("/")
    if model_id == "smollm2":
        return Source(model_id, "smollm2", data_dir / "models" / "smollm2")
    if slash and family in (*SHIPPED, "mine"):
        if not NAME.fullmatch(name):
            raise ModelError(f"{model_id}: {name!r} is not a name; use letters, digits, dots, dashes and underscores.")
        kind, root = ("mine", data_dir) if family == "mine" else ("shipped", assets_dir)
        return Source(model_id, kind, root / "models" / family / name)
    path = Path(model_id).expanduser()
    if model_id.lower().endswith(".gguf"):
        return Source(model_id, "gguf", path)
    if path.is_dir() or path.is_absolute() or model_id.startswith((".", "~")):
        return Source(model_id, "folder", path)
    if HUB_ID.fullmatch(model_id):
        return Source(model_id, "hub", repo=model_id)
    raise ModelError(f"{model_id!r} is neither a known model nor a path; use {KINDS}.")


def get(model_id: str, data_dir: Path, assets_dir: Path, progress: Report = ignore) -> Path:
    """The model's folder, downloaded or converted first where needed; its files are complete (headers read, no weights loaded).

    Raises `ModelError`: missing, gated, no network, only pickled weights, cut off, no tokenizer, not a GGUF file."""
    source = resolve(model_id, data_dir, assets_dir)
    if source.kind == "hub":
        folder = download(model_id, progress)
    elif source.kind == "gguf":
        folder = _converted(source, data_dir, progress)
    else:
        assert source.path is not None
        folder = source.path
        if source.kind == "smollm2":
            get_smollm2(folder, data_dir / "downloads", progress)
        elif not folder.is_dir():
            raise ModelError(f"{model_id}: {_missing(source)}")
    check_files(model_id, folder)
    return folder


def _missing(source: Source) -> str:
    assert source.path is not None
    if source.kind == "folder":
        return f"there is no folder {source.path}; check the path."
    siblings = sorted(p.name for p in source.path.parent.glob("*") if (p / "config.json").is_file())
    known = f"there are: {', '.join(siblings)}" if siblings else "there is none yet; smollm2 works on every machine"
    return f"no such model in {source.path.parent}; {known}."


def _converted(source: Source, data_dir: Path, progress: Report) -> Path:
    """`data_dir/models/gguf/SHA`, made the first time this file's content is seen."""
    assert source.path is not None
    check_gguf(source.id, source.path)
    total = source.path.stat().st_size
    digest = cached_hash([source.path], data_dir, lambda done: progress(done, total, "reading the GGUF file"))
    target = data_dir / "models" / "gguf" / digest
    with making(target) as part:
        if part is not None:
            progress(0, 1, "converting the GGUF file")
            convert(source.id, source.path, part, facts={"file": source.path.name})
            progress(1, 1, "converting the GGUF file")
    return target


def list_models(data_dir: Path, assets_dir: Path) -> list[dict[str, Any]]:
    """One row a model that this machine has or can always get: id, kind, present, bytes on disk, origin, path."""
    ids = ["smollm2"]
    for root, families in ((assets_dir, SHIPPED), (data_dir, ("mine",))):
        for family in families:
            folders = sorted((root / "models" / family).glob("*/config.json"))
            ids += [f"{family}/{config.parent.name}" for config in folders if NAME.fullmatch(config.parent.name)]
    rows = [_row(resolve(model_id, data_dir, assets_dir)) for model_id in ids]
    for folder in sorted((data_dir / "models" / "gguf").glob("*")):
        if (folder / MANIFEST).is_file():
            rows.append({**_row(Source(str(folder), "folder", folder)), "file": read_json(folder / MANIFEST).get("file")})
    return rows


def _row(source: Source) -> dict[str, Any]:
    assert source.path is not None
    present = (source.path / "config.json").is_file()
    return {
        "id": source.id,
        "kind": source.kind,
        "present": present,
        "bytes": folder_bytes(source.path) if present else 0,
        "origin": source.origin if present else None,
        "path": str(source.path),
    }
