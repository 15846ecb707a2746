"""Comparing in a real browser: from a link to the differences, one more run, a link for others; nothing that a model wrote acts."""

from __future__ import annotations

import gc
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from playwright.sync_api import Page, expect

from backend.types import Prompt, RunContext, RunRequest
from backend.workbench import Workbench
from panels import compare
from panels.theme import launch_options as look
from tests.panels.fake import fake_workbench

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]

PAGES_CSS = Path(__file__).parents[2] / "assets" / "pages.css"
SAME = [f"word{i}" for i in range(90)]
FIRST = " ".join(["one", "two", "three", *SAME, "end"])
OTHER = " ".join(["one", "<b>2</b>", "three", *SAME, "a\u202eb", "end"])
HOSTILE = "${document.body.classList.add('pwned')} {{1+1}} <img/src=x/onerror=document.body.classList.add('pwned')>"


class House(SimpleNamespace):
    """The page under test: its address and its workbench."""

    url: str
    workbench: Workbench


@pytest.fixture(scope="module")
def house(quiet_gradio: None, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[House]:
    workbench = fake_workbench(tmp_path_factory.mktemp("local"))
    with gr.Blocks(title="Loupe") as demo:
        gr.HTML("<h1>Loupe</h1>")
    with demo.route(compare.TITLE, compare.PATH, show_in_navbar=compare.SHOW_IN_NAVBAR):
        compare.build(workbench, demo)
    options = look()
    head = f"{options.pop('head', '')}<style>{PAGES_CSS.read_text()}</style>"
    _, url, _ = demo.queue(max_size=64).launch(prevent_thread_lock=True, quiet=True, server_port=free_port(), head=head, **options)
    yield House(url=f"{url}compare", workbench=workbench)
    demo.close()
    workbench.close()
    with warnings.catch_warnings():  # gradio leaves its event loops to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def ran(house: House, *prompts: str) -> list[str]:
    """The ids of one press of Run, a lane a prompt."""
    requests = [RunRequest("structured", Prompt.user(prompt), {"target": "smollm2"}, options={"grammar": "{}"}) for prompt in prompts]
    events = [json.loads(line) for line in house.workbench.run_group(requests, RunContext())]
    return [event["run"] for event in events if event["event"] == "started"]


def test_from_a_link_to_the_differences_one_more_run_and_a_link_for_others(page: Page, house: House) -> None:
    ids = ran(house, FIRST, OTHER)
    page.goto(f"{house.url}?runs={','.join(ids)}")
    expect(page.locator("#compare .lp-verdict")).to_contain_text("Run 2 (with grammar) parts from run 1 at token 1, 2 tokens differ.")
    expect(page.locator("#cmp-settings td").first).to_have_text("prompt.messages[0].content")
    # a token that differs is marked by more than colour; a stretch that is the same is folded, and a line without a difference stands once
    differs = page.locator(".lp-cmp-row .lp-d-parts")
    expect(differs).to_have_text([" <b>2</b>", " aRLOb"])
    assert int(differs.first.evaluate("node => getComputedStyle(node).fontWeight")) >= 600
    expect(page.locator(".lp-cmp-fold")).to_contain_text("the same in all runs")
    # by keyboard from one difference to the next, around the end
    page.get_by_role("button", name="Next difference").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".lp-d[aria-current]")).to_have_attribute("data-i", "1")
    page.keyboard.press("n")
    expect(page.locator(".lp-cmp-acts .lp-quiet")).to_have_text("difference 2 of 2")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".lp-d[aria-current]")).to_have_attribute("aria-label", "Run 2, space aRLOb, differs")
    expect(page.locator(".lp-cmp-here tbody tr")).to_have_count(2)
    page.keyboard.press("n")
    expect(page.locator(".lp-d[aria-current]")).to_have_attribute("data-i", "1")
    page.locator(".lp-cmp-fold").click()
    expect(page.locator(".lp-cmp-fold")).to_have_count(0)
    # one more run, found by its words; the address follows
    third = ran(house, "quite another walrus")[0]
    page.get_by_role("button", name="Add a run").click()
    page.locator("#find-run input, #find-run textarea").fill("walrus")
    page.get_by_role("button", name="Add with grammar of quite another walrus").click()
    expect(page.locator(".lp-cmp-run")).to_have_count(3)
    assert page.url.endswith(f"?runs={','.join([*ids, third])}")
    page.get_by_role("button", name="Make it run 1: run 3, with grammar").click()
    expect(page.locator(".lp-cmp-prompt").first).to_have_text("quite another walrus")
    page.get_by_role("button", name="Remove: run 1, with grammar").click()
    expect(page.locator(".lp-cmp-run")).to_have_count(2)
    # a link for others names shares
    share = house.workbench.shares.share(ids[0], "local")
    page.goto(f"{house.url}?runs={','.join(ids)}")
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator(".lp-cmp-link")).to_have_value(f"{house.url}?runs={share},{share}.2")
    page.goto(page.locator(".lp-cmp-link").input_value())
    expect(page.locator("#compare .lp-verdict")).to_contain_text("2 tokens differ")
    assert page.locator(".lp-cmp-row .lp-d-parts").all_text_contents() == [" <b>2</b>", " aRLOb"]


def test_what_a_model_wrote_does_nothing_here(page: Page, house: House) -> None:
    ids = ran(house, HOSTILE, f"{HOSTILE} more")
    page.goto(f"{house.url}?runs={','.join(ids)}")
    expect(page.locator(".lp-cmp-row .lp-d").filter(has_text="onerror")).to_have_count(2)
    page.get_by_role("button", name="Add a run").click()
    expect(page.locator(".lp-pick-row").first).to_contain_text("{{1+1}}")
    assert not page.locator("body.pwned").count() and not page.locator("#compare img, #picker img").count()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_serious_for_a_screen_reader_and_a_phone_needs_no_sideways_scroll(
    page: Page, house: House, axe: Callable[[Page], list[str]], theme: str
) -> None:
    ids = ran(house, FIRST, OTHER)
    page.goto(f"{house.url}?runs={','.join(ids)}&__theme={theme}")
    page.get_by_role("button", name="Next difference").click()
    page.get_by_role("button", name="Add a run").click()
    expect(page.locator(".lp-pick-row").first).to_be_visible()
    assert axe(page) == []
    page.set_viewport_size({"width": 390, "height": 800})
    expect(page.locator(".lp-cmp-picture svg[role=img]")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
