"""What a Space needs of the repository: its card, its packages, and an app that lets the lender of a GPU come first."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
KEYS = {"title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file", "short_description", "models", "datasets",
        "tags", "pinned", "license", "header", "fullWidth", "thumbnail", "suggested_hardware", "startup_duration_timeout", "hf_oauth",
        "hf_oauth_scopes", "hf_oauth_expiration_minutes", "disable_embedding", "preload_from_hub", "custom_headers"}  # fmt: skip
ZERO_GPU_TORCH = ("2.9.1", "2.10.0", "2.11.0")
ZERO_GPU_PYTHON = ("3.10", "3.12")


@pytest.fixture(scope="module")
def card():
    return yaml.safe_load((ROOT / "README.md").read_text().split("---\n")[1])


@pytest.fixture(scope="module")
def requirements():
    lines = (line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    return {r.name: r for r in map(Requirement, filter(None, lines))}


def test_the_card_has_keys_that_a_space_knows_and_values_it_takes(card):
    assert set(card) <= KEYS and str(card["python_version"]) in ZERO_GPU_PYTHON
    assert isinstance(card["tags"], list) and isinstance(card["models"], list)
    assert re.fullmatch(r"\d+[smh]?", str(card["startup_duration_timeout"]))


def test_the_requirements_leave_zero_gpu_its_torch(requirements):
    assert all(requirements["torch"].specifier.contains(version) for version in ZERO_GPU_TORCH)
    assert requirements["gradio"].specifier.contains("6.31.0") and "spaces" not in requirements  # the platform brings its own


def run(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python code in a process whose path begins with a folder of the test's own."""
    path = {"PYTHONPATH": f"{folder}:{ROOT}", "PATH": "/usr/bin:/bin", "HOME": str(folder), **environment}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=path, capture_output=True, text=True, timeout=200)


def test_importing_the_app_imports_neither_torch_nor_gradio(tmp_path):
    told = run("import app, sys; print(sorted({'torch', 'gradio', 'transformers', 'spaces'} & set(sys.modules)))", tmp_path)
    assert told.stdout.strip() == "[]", told.stderr


def test_where_the_gpu_is_lent_its_lender_is_imported_before_torch(tmp_path):
    lender = "import sys\nprint('torch' in sys.modules, 'gradio' in sys.modules)\nsys.exit(42)\n"
    (tmp_path / "spaces.py").write_text(lender)
    code = f"import app; app.main(['--data-dir', {str(tmp_path / 'data')!r}])"
    told = run(code, tmp_path, SPACES_ZERO_GPU="true")
    assert told.returncode == 42 and told.stdout.strip() == "False False", told.stderr


def test_a_space_is_public_without_an_argument(monkeypatch):
    import app

    monkeypatch.delenv("SPACE_ID", raising=False)
    assert not app.parse([]).public
    monkeypatch.setenv("SPACE_ID", "someone/loupe")
    assert app.parse([]).public
