"""A visitor brings a run in, takes all of hers out and deletes them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from backend.paths import assets_dir
from tests.browser.test_journeys import House, serve

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]
RECORDING = assets_dir() / "runs" / "hidden_text.jsonl"


@pytest.fixture(scope="module")
def house(quiet_gradio: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    yield from serve(tmp_path_factory.mktemp("takeout"), public=False)


def test_a_file_comes_in_everything_goes_out_and_is_deleted(page: Page, house: House, tmp_path: Path) -> None:
    page.goto(f"{house.url}history")
    page.get_by_role("button", name="Take your runs with you").click()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Import an exported run").click()
    chooser.value.set_files(RECORDING)
    said = page.locator(".lp-takeout-said")
    expect(said).to_contain_text("2 runs are in your history now.")
    run_id = said.get_by_role("link").get_attribute("href").split("run=")[1]
    expect(page.locator(f"[data-run='{run_id}']")).to_be_visible()
    with page.expect_download() as listing:
        page.get_by_role("button", name="List as CSV").click()
    assert run_id in Path(listing.value.path()).read_text(encoding="utf-8")
    page.get_by_role("button", name="All runs as SQLite").click()
    with page.expect_download() as database:
        page.locator("#takeout-database").click()
    with closing(sqlite3.connect(database.value.path())) as db:
        assert db.execute("SELECT count(*) FROM runs WHERE id = ?", [run_id]).fetchone() == (1,)
    page.goto(f"{house.url}history?run={run_id}")
    expect(page.locator("#strip .lp-sub")).to_contain_text("imported from a file")
    page.get_by_role("button", name="Take your runs with you").click()
    page.get_by_role("button", name="Delete all my runs").click()
    assert house.workbench.history.count("local") == 1
    page.get_by_role("button", name="Delete them all for good").click()
    expect(said).to_contain_text("2 lanes deleted.")
    assert house.workbench.history.count("local") == 0
