"""Hidden text in a real browser: one journey, scan to candidate to look to plant to scan, around methods whose lines a test knows by heart."""

from __future__ import annotations

import csv
import gc
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from playwright.sync_api import Page, expect

from app import build_app, launch_options
from tests.panels.fake import fake_workbench
from tests.panels.fake_hidden import CALIBRATION, TEXTS

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]


class House(SimpleNamespace):
    """The app under test: its address."""

    url: str


@pytest.fixture(scope="module")
def house(quiet_gradio: None, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[House]:
    workbench = fake_workbench(tmp_path_factory.mktemp("local"))
    demo = build_app(workbench)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_port=free_port(), **launch_options())
    yield House(url=url)
    demo.close()
    workbench.close()
    with warnings.catch_warnings():  # gradio leaves its event loops to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_from_a_recording_to_a_scan_a_candidate_and_its_tokens(page: Page, house: House) -> None:
    page.goto(f"{house.url}hidden_text")
    view = page.locator("#scan-view")
    expect(view.locator(".lp-sub")).to_contain_text("recorded run")
    expect(view.locator(".lp-dots .lp-dot-best").first).to_be_visible()
    page.get_by_role("button", name="A planted model", exact=True).click()
    expect(page.locator("#scan-words")).to_contain_text("Quick: 2 contexts")
    page.locator("#scan-start").click()
    expect(view.locator(".lp-verdict")).to_contain_text(CALIBRATION)
    expect(view.locator(".lp-candidates thead th")).to_have_text(["rank", "text", "score", "lift", "found by"])
    expect(view.locator(".lp-found-text")).to_have_text(list(TEXTS))
    expect(view.locator(".lp-map-name")).to_have_text("forced token, bos: 100 % of the vocabulary")
    assert page.locator("#scan-view b").count() == 0, "what a model wrote is no markup"
    view.get_by_label("all columns").check()
    expect(view.locator(".lp-candidates thead th")).to_have_count(5 + 19)
    view.locator(".lp-found-text").first.click()
    expect(view.locator(".lp-found-detail")).to_contain_text(CALIBRATION)
    view.get_by_label("show the answer").check()
    expect(view.locator(".lp-found-answer")).to_contain_text("None of these candidates holds it")
    saves_both_files(page)
    view.get_by_role("button", name="Look at it token by token").click()
    expect(page.locator("#strip .lp-t.lp-lift")).to_have_count(5)
    expect(page.locator("#strip .lp-t.lp-lift-below")).to_have_count(2)
    expect(page.locator("#strip .lp-lifts")).to_be_visible()


def saves_both_files(page: Page) -> None:
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download CSV").first.click()
    rows = list(csv.DictReader(Path(saved.value.path()).read_text(encoding="utf-8").splitlines()))
    assert [row["text"] for row in rows] == [TEXTS[0], TEXTS[1], f"'{TEXTS[2]}"], "a formula is no formula"
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download JSON lines").click()
    assert [json.loads(line)["text"] for line in Path(saved.value.path()).read_text(encoding="utf-8").splitlines()] == list(TEXTS)


def test_a_plant_is_made_verified_and_scanned_at_one_click(page: Page, house: House) -> None:
    page.goto(f"{house.url}hidden_text")
    expect(page.locator("#scan-words")).to_contain_text("Quick")
    page.get_by_role("button", name="Plant: hide a text").click()
    page.get_by_label("Its name").fill("key")
    page.locator("#plant-start").click()
    expect(page.locator("#plant-words")).to_contain_text("mine/key holds the text")
    expect(page.locator("#plant-facts")).to_contain_text("0 of 200")
    page.get_by_role("button", name="Scan it: mine/key").click()
    expect(page.locator("#scan-view .lp-lane-head")).to_contain_text("mine/key")


def test_the_tour_is_a_link_on_the_home_page_and_one_press(page: Page, house: House) -> None:
    page.goto(house.url)
    page.get_by_role("link", name="Plant a text, scan, find it").click()
    tour = page.locator("#scan-tour")
    expect(tour).to_be_focused()
    expect(page.locator("#scan-words")).to_contain_text("Quick")  # all that comes by itself has come
    expect(page.locator("#scan-steps")).not_to_contain_text("Step")  # a link runs nothing
    page.keyboard.press("Enter")
    expect(page.locator("#scan-steps")).to_contain_text("Step 3 of 3")
    expect(page.locator("#scan-view .lp-lane-head")).to_contain_text("mine/tour")
    expect(page.locator("#scan-view .lp-found-text").first).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_is_accessible_with_all_unfolded_and_fits_a_phone(page: Page, house: House, axe: Callable[[Page], list[str]], theme: str) -> None:
    page.goto(f"{house.url}hidden_text?__theme={theme}")
    page.locator("#scan-view .lp-found-text").first.click()
    for name in ("What to try", "Plant: hide a text", "Evidence"):
        page.get_by_role("button", name=name).click()
    expect(page.locator("#plant-payload")).to_be_visible()
    assert axe(page) == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
