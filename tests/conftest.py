"""Fixtures for all tests: a data directory of one's own, tiny models, the real model where it can be had."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest

from backend.errors import ModelError
from backend.paths import assets_dir


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """An empty data directory."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def smollm2_data_dir() -> Path:
    """A data directory that holds the real model; it outlives the session: `LOUPE_TEST_MODELS`, else the user's cache folder."""
    from backend.model_source import get

    folder = Path(os.environ.get("LOUPE_TEST_MODELS") or platformdirs.user_cache_dir("loupe-tests", appauthor=False))
    try:
        get("smollm2", folder, assets_dir())
    except ModelError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    return folder


@pytest.fixture(scope="session")
def smollm2_dir(smollm2_data_dir: Path) -> Path:
    """The real model's folder in Hugging Face format."""
    return smollm2_data_dir / "models" / "smollm2"


@pytest.fixture(scope="session")
def smollm2(smollm2_data_dir: Path) -> Iterator[object]:
    """The real model, loaded once (a `LoadedModel`)."""
    from backend.models import ModelPool

    pool = ModelPool(smollm2_data_dir, assets_dir())
    yield pool.load("smollm2")
    pool.close()


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model as a folder; tests that change it make their own."""
    from tests.tiny_models import save_tiny

    return save_tiny(tmp_path_factory.mktemp("tiny") / "model")
