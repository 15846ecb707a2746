"""Where things lie: the data directory of this user and the assets that ship with the app.

Goes in: the environment. Comes out: paths; nothing is created. Knows nothing of what lies there.
"""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_dir


def data_dir() -> Path:
    """`LOUPE_DATA_DIR`, else the platform's folder for user data."""
    return Path(os.environ.get("LOUPE_DATA_DIR") or user_data_dir("loupe", appauthor=False)).expanduser()


def assets_dir() -> Path:
    """The `assets` folder beside `backend`."""
    return Path(__file__).resolve().parent.parent / "assets"
