"""Facts about a model folder on disk, read without loading its weights.

Goes in: a Hugging Face folder (config, tokenizer, safetensors). Comes out: its weight files, a hash over them, the manifest
that says where it came from; or a `ModelError` that names the model and what to do. Knows nothing of torch or of pools.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backend.errors import ModelError

MANIFEST = "loupe.json"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.msgpack", "*.h5")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt", "spiece.model")
MAX_HEADER = 100_000_000  # bytes; what the safetensors format itself allows

Report = Callable[[float, float | None, str], None]  # done, total, note


def ignore(done: float, total: float | None, note: str) -> None:
    """The listener of whoever does not care how far a download is."""


def write_json(path: Path, data: Any) -> None:
    """Write `data` beside `path` and rename, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=1, ensure_ascii=False)
    os.replace(name, path)


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`; empty when there is no file or it holds no JSON object (these files are caches or optional)."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return data if isinstance(data, dict) else {}


def weight_files(model_id: str, folder: Path) -> list[Path]:
    """The safetensors files of `folder`, sorted by name; raises `ModelError` when there are none or a shard is missing."""
    if not folder.is_dir():
        raise ModelError(f"{model_id}: there is no folder {folder}; check the path, or get the model first.")
    if not (folder / "config.json").is_file():
        hint = "give the .gguf file itself as the model" if list(folder.glob("*.gguf")) else "point at a folder in Hugging Face format"
        raise ModelError(f"{model_id}: {folder} has no config.json; {hint}.")
    index = read_json(folder / "model.safetensors.index.json").get("weight_map", {})
    files = sorted({folder / name for name in index.values()}) or sorted(folder.glob("*.safetensors"))
    missing = [f.name for f in files if not f.is_file()]
    if missing:
        raise ModelError(f"{model_id}: {len(missing)} weight file(s) are missing, the first is {missing[0]}; download the model again.")
    if not files:
        raise ModelError(f"{model_id}: {_no_weights(folder)}")
    return files


def _no_weights(folder: Path) -> str:
    if any(any(folder.glob(pattern)) for pattern in PICKLED):
        return "it has only pickled weights, which can run code when opened; convert them to safetensors and try again."
    return f"{folder} holds no .safetensors weights; download the model again."


def read_header(model_id: str, path: Path) -> dict[str, Any]:
    """The tensor table of one safetensors file; raises `ModelError` unless the file is exactly as long as it says."""
    size = path.stat().st_size
    broken = ModelError(f"{model_id}: {path.name} is corrupted or was cut off ({size:,} bytes); delete it and download the model again.")
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else MAX_HEADER
        if length >= MAX_HEADER or length + 8 > size:
            raise broken
        raw = file.read(length)
    try:
        header = json.loads(raw)
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError):
        raise broken from None
    if 8 + length + end != size:
        raise broken
    return tensors


def check_files(model_id: str, folder: Path) -> list[Path]:
    """The weight files, after a look at every header and at the tokenizer's files; raises `ModelError`."""
    files = weight_files(model_id, folder)
    for path in files:
        read_header(model_id, path)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(f"{model_id}: {folder} has no tokenizer; copy tokenizer.json and tokenizer_config.json of the model into it.")
    return files


def sha256_file(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """Hex sha256 of a file; `on_bytes` hears how many bytes are done."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            done += len(block)
            if on_bytes is not None:
                on_bytes(done)
    return digest.hexdigest()


def weights_hash(files: list[Path], on_bytes: Callable[[int], None] | None = None) -> str:
    """First 16 hex digits of sha256 over one file's content, or over the digests of several in the order given."""
    if len(files) == 1:
        return sha256_file(files[0], on_bytes)[:16]
    return hashlib.sha256("".join(sha256_file(f) for f in files).encode()).hexdigest()[:16]


def stamp(files: list[Path]) -> str:
    """Path, size and time of change of each file: differs when a file was replaced."""
    stats = [(str(f.resolve()), f.stat()) for f in files]
    return "|".join(f"{name}:{s.st_size}:{s.st_mtime_ns}" for name, s in stats)


def cached_hash(files: list[Path], data_dir: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """`weights_hash`, remembered in the data directory under the files' `stamp`."""
    key, cache = stamp(files), data_dir / "cache" / "hashes.json"
    known = read_json(cache).get(key)
    if not isinstance(known, str):
        known = weights_hash(files, on_bytes)
        write_json(cache, {**read_json(cache), key: known})
    return known


def folder_bytes(folder: Path) -> int:
    """Bytes on disk of everything in `folder`; 0 when it is not there."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
