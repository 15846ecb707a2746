"""What a person does with runs that are over: names, finds and repeats them, hands one on by a link and takes the link back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from backend.types import RunContext
from backend.workbench import Workbench
from panels.structured_logic import Logic
from tests.browser.test_journeys import CUT_OFF, House, open_panel, run, serve, tokens

expect.set_options(timeout=30_000)  # a busy machine is no failure
pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]
HOSTILE = "<img/src=x/onerror=document.body.classList.add('pwned')> ${document.body.id=1}"


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page of one's own that fails its test on errors, but for streams that leaving a page cuts off."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce", accept_downloads=True)
    context.set_default_timeout(60_000)
    page, problems = context.new_page(), []
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" and not CUT_OFF.search(said.text) else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    context.close()
    assert problems == []


@pytest.fixture(scope="module")
def house(quiet_gradio: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    yield from serve(tmp_path_factory.mktemp("history"), public=False)


def test_a_run_is_repeated_shared_read_by_a_stranger_and_taken_back(chromium: Browser, page: Page, house: House) -> None:
    open_panel(page, house)
    came = run(page, f"one {HOSTILE}")
    page.get_by_role("button", name="Run again").click()
    expect(page.locator("#strip .lp-sub")).to_contain_text("run again: with grammar: identical")
    assert tokens(page) == came
    page.get_by_role("button", name="Share …").click()
    offer = page.get_by_role("region", name="Sharing")
    expect(offer).to_contain_text(f"user: one {HOSTILE}")
    expect(offer).to_contain_text("stay with you")
    assert all(house.workbench.shares.share_id(record.id, "local") is None for record in house.workbench.store.runs("local"))
    page.get_by_role("button", name="Make the link").click()
    link = page.get_by_label("Link", exact=True).input_value()
    stranger = chromium.new_context().new_page()
    try:
        stranger.goto(link.replace("shared?", "?"))  # as a Space hands it to the first page
        expect(stranger.locator("#strip .lp-t")).to_have_count(len(came), timeout=60_000)
        assert tokens(stranger) == came and "/shared?run=s-" in stranger.url
        expect(stranger.locator("#strip .lp-sub")).to_contain_text("shared run, made on")
        assert stranger.evaluate("[document.body.className.includes('pwned'), document.body.id]") == [False, ""]
        stranger.get_by_role("link", name="Open these inputs in Structured generation").click()
        expect(stranger.get_by_label("Prompt", exact=True)).to_have_value(f"one {HOSTILE}", timeout=60_000)
        page.get_by_role("button", name="Stop sharing").click()
        page.get_by_role("button", name="Stop sharing: the link will open nothing").click()
        expect(offer).to_contain_text("Not shared any more")
        stranger.goto(link)
        expect(stranger.locator("#way")).to_contain_text("not shared, or no longer", timeout=60_000)
        assert HOSTILE not in stranger.content()
    finally:
        stranger.context.close()


def test_a_run_is_named_found_pinned_compared_and_taken_along(page: Page, house: House, tmp_path: Path) -> None:
    logic = Logic(house.workbench)
    for words in ("alpha here", "beta there"):
        said = logic.values(logic.presets[0].request)
        said[1] = words
        list(house.workbench.run_group(logic.lanes(logic.request(said), ["none"]), RunContext()))
    page.goto(f"{house.url}history")
    entry = page.locator(".lp-run", has_text="alpha here")
    entry.get_by_role("button", name="Edit").click()
    page.get_by_label("Title", exact=True).fill(f"A title {HOSTILE}")
    page.get_by_label("Tags").fill("Red, odd")
    page.get_by_label("Note", exact=True).fill("zebras\nand more")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".lp-run", has_text="A title").locator(".lp-chip")).to_have_text(["odd", "red"])
    page.locator(".lp-run", has_text="beta there").get_by_role("button", name="Pin", exact=True).click()
    expect(page.locator(".lp-run-pinned")).to_contain_text("beta there")
    for name in ("Compare: beta there", f"Compare: A title {HOSTILE}"):
        page.get_by_label(name).check()
    compare = page.get_by_role("link", name="Compare").get_attribute("href")
    assert set(compare.split("=")[1].split(",")) == {
        page.locator(".lp-run", has_text=words).get_attribute("data-run") for words in ("beta", "A title")
    }
    page.locator(".lp-chip", has_text="red").click()
    expect(page.locator(".lp-run")).to_have_count(1)
    page.locator(".lp-run-open").click()
    expect(page.locator("#strip .lp-t")).to_have_count(4)
    page.locator("#acts summary").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="JSON lines").click()
    download.value.save_as(tmp_path / "run.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["text"] for line in lines if line["event"] == "token"] == tokens(page)
    assert page.evaluate("[document.body.className.includes('pwned'), document.body.id]") == [False, ""]


@pytest.fixture(scope="module")
def public_house(quiet_gradio: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    yield from serve(tmp_path_factory.mktemp("public-history"), public=True)


def test_on_a_public_instance_only_the_visitors_own_tokens_can_be_looked_into(page: Page, public_house: House) -> None:
    open_panel(page, public_house)
    run(page, "mine alone")
    page.locator("#strip .lp-t").nth(1).click()
    expect(page.locator("#strip .lp-card")).to_contain_text("What it had in mind")
    house = public_house.workbench
    (record,) = [house.store.find(run_id) for run_id in _run_ids(house) if house.store.find(run_id).lane == "with grammar"]
    share = house.shares.share(record.id, record.owner)
    page.goto(f"{public_house.url}shared?run={share}")
    page.locator("#strip .lp-t").nth(1).click()
    expect(page.locator("#strip .lp-card")).to_contain_text("not computed for a shared run here")


def _run_ids(workbench: Workbench) -> list[str]:
    """All runs of the database, whoever's."""
    with workbench.store.open() as db:
        return [run_id for (run_id,) in db.execute("SELECT id FROM runs")]
