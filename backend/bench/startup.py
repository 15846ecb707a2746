"""The bench of starting up: from `python app.py` to the first token in a browser, with the model at hand.

Goes in: a data directory that has the model. Comes out: seconds to the first served page, to a usable page, to the first token of a run
that a click started. Drives the real app in a real Chromium; needs `playwright` (tests/requirements.txt).
"""

from __future__ import annotations

import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backend.bench import Report, at_most
from backend.errors import InvalidRequest
from backend.model_source import get
from backend.paths import assets_dir

LIMIT_S = 15.0
ROUNDS = 3
# a token stands there, and the note of the recording that the page opened on is gone
LIVE_TOKEN = "() => { const s = document.querySelector('#strip'); return s.querySelector('.lp-t') && !s.innerText.includes('recorded run'); }"
APP = Path(__file__).resolve().parents[2] / "app.py"
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]


def run(quick: bool, data_dir: Path) -> Report:
    """Start, click, wait for a token, stop; the median of some rounds (one with `quick`)."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise InvalidRequest("This bench drives a browser: pip install -r tests/requirements.txt first.", "name") from error
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    get("smollm2", data_dir, assets_dir())
    rounds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        for number in range(1 if quick else ROUNDS):
            rounds.append(_round(browser, data_dir))
            print(f"round {number + 1}: " + ", ".join(f"{k} {v:.1f} s" for k, v in rounds[-1].items()), file=sys.stderr)
        browser.close()
    figures = {name: round(statistics.median(r[name] for r in rounds), 2) for name in rounds[0]}
    return Report([at_most("start to first token in the browser", figures["first token"], LIMIT_S, " s")], figures)


def _round(browser: Any, data_dir: Path) -> dict[str, float]:
    """Seconds since the process was started, at each of the three moments."""
    start, seen = time.perf_counter(), {}
    with _app(data_dir) as address:
        seen["served"] = time.perf_counter() - start
        page = browser.new_page()
        page.goto(f"{address}/structured", wait_until="commit")
        button = page.get_by_role("button", name="Run", exact=True)
        button.wait_for(timeout=60_000)
        page.locator("#strip", has_text="recorded run").wait_for(timeout=60_000)
        seen["page"] = time.perf_counter() - start
        button.click()
        page.wait_for_function(LIVE_TOKEN, timeout=60_000)
        seen["first token"] = time.perf_counter() - start
        page.close()
    return seen


@contextmanager
def _app(data_dir: Path) -> Iterator[str]:
    """The app as a user starts it, on a free port, until it answers; ended afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(APP), "--host", "127.0.0.1", "--port", str(port), "--data-dir", str(data_dir)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield _answering(f"http://127.0.0.1:{port}", process)
    finally:
        process.kill()
        process.wait()


def _answering(address: str, process: subprocess.Popen[bytes]) -> str:
    while True:
        if process.poll() is not None:
            raise InvalidRequest(f"app.py ended by itself with code {process.returncode}.")
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
        else:
            return address
