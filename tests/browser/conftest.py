"""One Chromium a session, a fresh context a test, and what no page may ever do.

Goes in: nothing. Comes out: `page` (fails its test on a console or page error and on a request that leaves the host), `axe` (the
serious and critical violations of a page), `free_port`. Knows no page of ours. Without a Chromium or axe-core the tests are skipped.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
PATIENCE_MS = 60_000  # a busy machine is no failure
LOCAL = {"127.0.0.1", "localhost", "", None}

# Gradio's queue counts its events with what pandas has deprecated; as errors these would kill the queue's bookkeeping.
FOREIGN = ("ignore:'future.no_silent_downcasting' is deprecated", "ignore:The copy keyword is deprecated")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings(*FOREIGN))


AXE = "async (left_out) => (await axe.run({exclude: left_out}, {resultTypes: ['violations']})).violations"
# Gradio 6.31 shows this for a moment where a plot's script is still loading; `aria-label` is not allowed on a plain div.
UPSTREAM = [['div.empty[aria-label="Empty value"]']]


@pytest.fixture(scope="session", autouse=True)
def quiet_gradio() -> Iterator[None]:
    """No telemetry, no look-ups: the app under test stays on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """A port nobody has. Gradio's own search tries taken ones first and leaves their sockets open."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    return find


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium on this machine")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu", *QUIET])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page in a context of its own; afterwards nothing may have gone wrong on it."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    page, problems = context.new_page(), []
    page.on("console", lambda message: problems.append(f"console: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(f"page error: {error}"))
    page.on("request", lambda request: problems.append(f"left the host: {request.url}") if _leaves(request.url) else None)
    yield page
    context.close()
    assert problems == []


def _leaves(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in LOCAL


@pytest.fixture(scope="session")
def axe() -> Callable[[Page], list[str]]:
    """`axe(page)`: the serious and critical violations as words, but for what stands in `UPSTREAM`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "loupe-tests" / "node_modules" / "axe-core" / "axe.min.js"
    script = Path(os.environ.get("LOUPE_AXE") or cache)
    if not script.is_file():
        pytest.skip("no axe-core; tests/run fetches it")
    source = script.read_text(encoding="utf-8")

    def violations(page: Page) -> list[str]:
        page.add_script_tag(content=source)
        found: list[dict[str, Any]] = page.evaluate(AXE, UPSTREAM)
        return [f"{v['id']}: {node['html'][:160]}" for v in found if v["impact"] in ("serious", "critical") for node in v["nodes"]]

    return violations
