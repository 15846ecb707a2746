"""What a scan has done so far, one file a chunk: a scan that was stopped, or killed, goes on behind its last whole chunk.

Goes in: a folder, what the scan is (models, contexts, settings), chunks of columns. Comes out: the same chunks. Knows nothing of models.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from backend.errors import InvalidRequest, WorkbenchError
from backend.hidden_text.texts import Text
from backend.model_files import read_json, write_json

NOTES = "scan.json"
KIND = "scan"


class Ledger:
    """The chunks of one scan. `key` says what they are chunks of."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """Opens or begins it. Raises `InvalidRequest` when the folder holds another scan's chunks."""
        self.folder = folder
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        held = read_json(folder / NOTES)
        if held and held.get("key") != key:
            other = sorted(name for name in identity if held.get("identity", {}).get(name) != identity[name])
            raise InvalidRequest(f"The ledger {folder.name} is of another scan: it differs in {', '.join(other) or 'its form'}.", "options.ledger")
        if not held:
            _kept(lambda: write_json(folder / NOTES, {"key": key, "identity": dict(identity)}))
        self._there = {p.stem for p in folder.glob("*.safetensors")}

    def __contains__(self, name: str) -> bool:
        return name in self._there

    def __len__(self) -> int:
        return len(self._there)

    def write(self, name: str, columns: Mapping[str, Tensor | None]) -> None:
        """Beside its place first, then there: a kill leaves a whole chunk or none. Raises `WorkbenchError` when the disk is full."""
        part = self.folder / f".{name}.part"
        present = {key: column.contiguous() for key, column in columns.items() if column is not None}
        try:
            _kept(lambda: save_file(present, part))
            _kept(lambda: os.replace(part, self.folder / f"{name}.safetensors"))
        finally:
            part.unlink(missing_ok=True)
        self._there.add(name)

    def read(self, name: str) -> dict[str, Tensor] | None:
        """The chunk; None for one that can't be read (it is made again)."""
        try:
            return load_file(self.folder / f"{name}.safetensors")
        except (SafetensorError, OSError):
            self._there.discard(name)
            return None

    def write_texts(self, name: str, texts: Sequence[Text]) -> None:
        """A chunk that is texts, not columns. Raises like `write`."""
        _kept(lambda: write_json(self.folder / f"{name}.json", {"texts": [text.to_json() for text in texts]}))

    def read_texts(self, name: str) -> list[Text] | None:
        """None for a chunk that is not there, or can't be read."""
        try:
            return [Text.from_json(row) for row in read_json(self.folder / f"{name}.json")["texts"]]
        except (KeyError, TypeError, ValueError):
            return None


def _kept(save: Callable[[], object]) -> None:
    try:
        save()
    except (OSError, SafetensorError) as error:
        raise WorkbenchError(f"The scan can't keep what it finds ({error}). Free some space and start it again with this ledger.") from error
