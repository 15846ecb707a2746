"""What a visitor does, in a real browser: the whole app around a method that spells its prompt, so that no test waits for a model."""

from __future__ import annotations

import gc
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from app import build_app, launch_options
from backend.workbench import Workbench
from panels import PANELS
from tests.panels.fake import Speller, fake_workbench

expect.set_options(timeout=30_000)  # a busy machine is no failure
pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]

LOCAL = {"127.0.0.1", "localhost", "", None}
CUT_OFF = re.compile("AbortError|Connection errored out|Failed to fetch")
PAGES = ["", *(panel.PATH for panel in PANELS)]
HOSTILE = [
    "${document.body.classList.add('pwned')}", "{{constructor.constructor('document.body.id=1')()}}",
    "<img/src=x/onerror=document.body.classList.add('pwned')>", "<script>document.body.classList.add('pwned')</script>",
    "`${1+1}`", "\\", "</span><b>out</b>", "a\u202eb", "zero\u200bwidth", "&lt;",
]  # fmt: skip


@dataclass
class House:
    """A served app: its address, its workbench, and the hand on its method's gate."""

    url: str
    workbench: Workbench
    speller: Speller


@contextmanager
def held(speller: Speller, position: int) -> Iterator[None]:
    """Inside, runs wait before the token at this position; afterwards those that still wait go on."""
    speller.held.clear()
    speller.gate.clear()
    speller.hold_at = position
    yield
    speller.hold_at = None
    speller.gate.set()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page of one's own that fails its test on errors. Leaving a page cuts its open streams off; Gradio logs that, and it is none."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(60_000)
    page, problems = context.new_page(), []
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" and not CUT_OFF.search(said.text) else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url) if urlsplit(request.url).hostname not in LOCAL else None)
    yield page
    context.close()
    assert problems == []


def serve(folder: Path, public: bool) -> Iterator[House]:
    speller = Speller()
    workbench = fake_workbench(folder, speller, public)
    demo = build_app(workbench)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    yield House(url, workbench, speller)
    demo.close()
    workbench.close()
    with warnings.catch_warnings():  # gradio leaves its event loops to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def house(quiet_gradio: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    yield from serve(tmp_path_factory.mktemp("local"), public=False)


@pytest.fixture(scope="module")
def public_house(quiet_gradio: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    yield from serve(tmp_path_factory.mktemp("public"), public=True)


def open_panel(page: Page, house: House, query: str = "") -> Page:
    """The structured page, wired and filled: the linter has answered, so the form's values have arrived."""
    page.goto(f"{house.url}structured{query}")
    expect(page.locator("#lint")).to_contain_text("✓")
    return page


def run(page: Page, prompt: str) -> list[str]:
    """Type a prompt, run it with Ctrl+Enter, wait for the verdict; returns the tokens shown."""
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#strip .lp-lane")).to_have_count(2)
    expect(page.locator("#strip .lp-verdict")).to_contain_text("2 lanes spelled")
    expect(page.locator("#strip .lp-t")).to_have_count(2 * len(prompt.split(" ")))
    return tokens(page)


def tokens(page: Page) -> list[str]:
    return page.locator("#strip .lp-t").all_text_contents()


def test_a_preset_runs_at_one_click_and_can_be_reopened_from_history(page: Page, house: House) -> None:
    open_panel(page, house)
    page.get_by_role("button", name="An ISO date").click()
    expect(page.locator("#strip .lp-verdict")).to_contain_text("2 lanes spelled")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value(re.compile("9th of March"))
    came = tokens(page)
    page.get_by_role("link", name="History").click()
    page.locator(".lp-run-open").first.click()
    expect(page.locator("#strip .lp-t")).to_have_count(len(came))
    assert tokens(page) == came and "?run=" in page.url
    page.reload()
    expect(page.locator("#strip .lp-t")).to_have_count(len(came))


def test_escape_stops_and_keeps_what_came(page: Page, house: House) -> None:
    open_panel(page, house)
    with held(house.speller, 3):
        page.get_by_label("Prompt", exact=True).fill("zero one two three four")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#strip .lp-t")).to_have_count(3)
        page.keyboard.press("Escape")
        expect(page.locator("#strip .lp-lane-meta").first).to_contain_text("stopped")
    came = tokens(page)
    record = house.workbench.store.runs("local", text="zero one two", status="cancelled")[0]
    assert came == ["zero", " one", " two"] == [token["text"] for token in house.workbench.store.get(record.id, "local").tokens()]
    page.get_by_role("link", name="History").click()
    page.locator(f"[data-run='{record.id}'] .lp-run-open").click()
    expect(page.locator("#strip .lp-t")).to_have_count(3)
    assert tokens(page) == came


def test_open_in_panel_fills_every_input(page: Page, house: House) -> None:
    open_panel(page, house)
    page.get_by_role("button", name="Sampling").click()
    page.get_by_label("Seed").fill("41")
    page.get_by_label("Temperature").fill("0.5")
    page.keyboard.press("Tab")
    run(page, "all inputs filled")
    page.get_by_role("link", name="History").click()
    page.get_by_role("link", name="Open in panel").first.click()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("all inputs filled")
    expect(page.locator("#strip .lp-t")).to_have_count(6)
    page.get_by_role("button", name="Sampling").click()
    expect(page.get_by_label("Seed")).to_have_value("41")
    expect(page.get_by_label("Temperature")).to_have_value("0.5")


def test_choices_travel_from_page_to_page(page: Page, house: House) -> None:
    open_panel(page, house)
    run(page, "remember me")
    page.get_by_role("link", name="Models").click()
    expect(page.locator("#passport")).to_contain_text("134,515,008")
    page.get_by_role("link", name="Structured").click()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("remember me")


def test_the_line_under_the_grammar_follows_the_typing(page: Page, house: House) -> None:
    open_panel(page, house)
    page.get_by_label("Grammar", exact=True).fill('{"uniqueItems": true}')
    expect(page.locator("#lint")).to_contain_text("$.a · uniqueItems · not enforced")
    page.get_by_label("Grammar", exact=True).fill('{"broken"}')
    expect(page.locator("#lint")).to_contain_text("Line 3, column 9: this is <b>broken</b>.")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("this is <b>broken</b>.")


def test_a_token_can_be_walked_to_opened_and_continued_by_keyboard_alone(page: Page, house: House) -> None:
    open_panel(page, house)
    run(page, "a b c d")
    page.locator("#strip .lp-t").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#strip .lp-card")).to_contain_text("other")
    page.get_by_role("button", name="Continue from here with space other").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#strip .lp-lane")).to_have_count(3)
    expect(page.locator("#strip .lp-t")).to_have_count(12)


def test_step_goes_on_by_one_token_a_press(page: Page, house: House) -> None:
    open_panel(page, house)
    page.get_by_label("Prompt", exact=True).fill("one two three")
    for n in (1, 3, 4):  # the first step is a lane of its own; the second adds a lane of two, which then grows
        page.get_by_role("button", name="Step").click()
        expect(page.locator("#strip .lp-t")).to_have_count(n)


def test_measure_says_its_cost_and_its_job_shows_on_every_page(page: Page, house: House) -> None:
    open_panel(page, house)
    run(page, "one two three four five six seven")
    page.get_by_role("button", name="Measure …").click()
    expect(page.locator("#cost")).to_contain_text("3 about")
    with held(house.speller, 5):
        page.get_by_role("button", name="Quick, 3 repeats").click()
        assert house.speller.held.wait(30)
        page.goto(f"{house.url}models")
        expect(page.locator("#job")).to_contain_text("Measure")
        page.locator("#job").get_by_role("button", name="Stop").click()
        expect(page.locator("#job button")).to_have_count(0)


def test_hostile_texts_are_inert_in_strip_card_chart_and_history(page: Page, house: House) -> None:
    open_panel(page, house)
    run(page, " ".join(HOSTILE))
    page.locator("#strip .lp-t").nth(2).click()
    page.get_by_role("button", name="Evidence").click()
    expect(page.locator("#along-text .js-plotly-plot")).to_be_visible()
    page.get_by_label("Grammar", exact=True).fill("".join(HOSTILE))
    expect(page.locator("#lint")).not_to_have_text("")
    assert_inert(page)
    page.goto(f"{house.url}history")
    expect(page.locator(".lp-run-open").first).to_contain_text("${document.body")
    page.locator(".lp-run-open").first.click()
    expect(page.locator("#strip .lp-t")).to_have_count(2 * len(HOSTILE))
    assert_inert(page)


def assert_inert(page: Page) -> None:
    assert page.evaluate("[document.body.className.includes('pwned'), document.body.id]") == [False, ""]
    assert page.locator("#strip img, #strip script, #strip b, #runs img, #runs script, #runs b, #lint img, #lint b").count() == 0


def test_history_filters_and_deletes_after_asking_once_more(page: Page, house: House) -> None:
    open_panel(page, house)
    run(page, "throw me away")
    page.goto(f"{house.url}history")
    page.get_by_label("Words in prompt").fill("throw away")
    expect(page.locator(".lp-run")).to_have_count(1)
    page.get_by_role("button", name="Delete", exact=True).click()
    assert len(house.workbench.store.runs("local", text="throw away")) == 2
    page.get_by_role("button", name="Delete all 2 lanes for good").click()
    expect(page.locator(".lp-run")).to_have_count(0)
    assert house.workbench.store.runs("local", text="throw away") == []


def test_two_visitors_at_once_do_not_see_each_others_tokens(chromium: Browser, page: Page, public_house: House) -> None:
    other = chromium.new_context()
    other.set_default_timeout(60_000)
    try:
        pages, words = (page, other.new_page()), ("alpha secret", "beta hidden")
        for visitor in pages:
            open_panel(visitor, public_house)
        for visitor, said in zip(pages, words, strict=True):
            run(visitor, said)
        for visitor, said, others in zip(pages, words, reversed(words), strict=True):
            assert "".join(tokens(visitor)) == said * 2
            visitor.goto(f"{public_house.url}history")
            expect(visitor.locator(".lp-run")).to_have_count(1)
            assert others not in visitor.content()
    finally:
        other.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_are_accessible_and_fit_a_phone(page: Page, house: House, axe: Callable[[Page], list[str]], theme: str) -> None:
    faults = {}
    open_panel(page, house)
    run(page, "one two three")
    for path in PAGES:
        page.goto(f"{house.url}{path}?__theme={theme}")
        expect(page.locator("h1")).to_be_visible()
        if path == "structured":
            expect(page.locator("#lint")).to_contain_text("✓")
            page.get_by_role("button", name="Evidence").click()
        if path == "history":
            page.locator(".lp-run-open").first.click()
            expect(page.locator("#strip .lp-t")).to_have_count(6)
        faults[path] = axe(page)
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        page.set_viewport_size({"width": 1280, "height": 900})
    assert {path: found for path, found in faults.items() if found} == {}
