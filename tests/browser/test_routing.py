"""Routing in a real browser: the page around a pair that spells the prompt, so that no test waits for a model."""

from __future__ import annotations

import csv
import gc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from playwright.sync_api import Page, expect

from backend.workbench import Workbench
from panels import controls, routing
from panels.lanes import lanes
from panels.routing_logic import Logic
from panels.theme import launch_options as look
from tests.panels.fake import fake_workbench
from tests.panels.fake_routing import Router

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]

WORDS = "one two three four five six seven"  # three and six score high; the large model disagrees at five
PAGES_CSS = Path(__file__).parents[2] / "assets" / "pages.css"


class House(SimpleNamespace):
    """The page under test: its address, its workbench, and the gate of its runs."""

    url: str
    workbench: Workbench
    router: Router


@pytest.fixture(scope="module")
def house(quiet_gradio: None, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[House]:
    router = Router()
    workbench = fake_workbench(tmp_path_factory.mktemp("local"), router=router)
    with gr.Blocks(title="Loupe") as demo:
        routing.build(workbench, demo)
    options = look()
    head = f"{options.pop('head', '')}<style>{PAGES_CSS.read_text()}</style>"
    _, url, _ = demo.queue(max_size=64).launch(prevent_thread_lock=True, quiet=True, server_port=free_port(), head=head, **options)
    yield House(url=url, workbench=workbench, router=router)
    demo.close()
    workbench.close()
    with warnings.catch_warnings():  # gradio leaves its event loops to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def open_run(page: Page, house: House, prompt: str = WORDS, compare: tuple[str, ...] = ("always", "never"), query: str = "") -> None:
    """A finished comparison, opened by its link."""
    logic = Logic(house.workbench)
    values = logic.values(logic.start().with_options(target_fraction=0.0, threshold=0.5))
    values[controls.SHARED.index("prompt")] = prompt
    values[0] = values[len(controls.SHARED)] = "smollm2"  # the fake model that is here, so that a card can look inside
    text = "".join(f"{line}\n" for line in logic.run(SimpleNamespace(session_hash="t"), "", compare, values))
    page.goto(f"{house.url}?run={lanes(text)[0].run}{query}")
    expect(page.locator("#strip .lp-lane")).to_have_count(1 + len(compare))
    expect(page.locator("#strip .lp-lane-meta").last).to_contain_text("finished")


def test_from_a_run_to_a_card_a_what_if_and_another_threshold(page: Page, house: House) -> None:
    open_run(page, house)
    routed = page.locator("#strip .lp-lane").first
    # who said what: by class, and by a cue that needs no colour
    expect(routed.locator(".lp-t.lp-large")).to_have_text([" three", " six"])
    expect(routed.locator(".lp-t.lp-disagrees")).to_have_text([" five"])
    expect(routed.locator(".lp-lane-facts")).to_contain_text("large 2 of 7 tokens (28.6 %) · gaps 3.0 on average, 3 at most")
    expect(routed.locator(".lp-lane-facts")).to_contain_text("predicted 1.90 ×, in this run 2.00 ×")
    # a stored run re-colours at once
    slider = page.locator("#strip .lp-threshold input")
    slider.fill("400")
    expect(routed.locator(".lp-would-large")).to_have_text(["one", " two", " four", " five", " seven"])
    slider.fill("990")
    expect(routed.locator(".lp-would-small")).to_have_text([" three", " six"])
    expect(page.locator("#strip .lp-threshold-words")).to_contain_text("asked at 0 of 7 tokens")
    page.get_by_role("button", name="as it ran").click()
    expect(routed.locator(".lp-would-small")).to_have_count(0)
    # the card
    routed.locator(".lp-t", has_text="six").click()
    card = page.locator("#strip .lp-card")
    for words in ("router's probability", "0.30 nats", "wrong", "3 tokens", "small 0.4 ms"):
        expect(card).to_contain_text(words)
    expect(card.locator("caption")).to_have_text(["What small had in mind", "What large had in mind"])
    # what if the small model had spoken
    card.get_by_role("button", name="small here").click()
    forced = page.locator("#strip .lp-lane").last
    expect(forced.locator(".lp-lane-head")).to_contain_text("what if: small at token 5")
    expect(forced.locator(".lp-t.lp-small").first).to_have_text(" six")
    expect(forced.locator(".lp-by-hand")).to_have_text([" six"])


def test_the_slider_steers_a_run_that_is_under_way(page: Page, house: House) -> None:
    page.goto(house.url)
    expect(page.locator("#prompt textarea")).not_to_have_value("")
    page.locator("#prompt textarea").fill(WORDS)
    page.locator("#target-fraction input").fill("0")
    for name in ("large only", "small only", "entropy, same budget"):
        page.get_by_role("checkbox", name=name).uncheck()
    house.router.hold_at = 3
    try:
        page.get_by_role("button", name="Run", exact=True).click()
        expect(page.locator("#strip .lp-threshold-words")).to_contain_text("decides for the tokens still to come")
        with page.expect_response(lambda answer: '"value":0.02' in (answer.request.post_data or "")):
            page.locator("#strip .lp-threshold input").fill("300")
    finally:
        house.router.gate.set()
    lane = page.locator("#strip .lp-lane").first
    expect(lane.locator(".lp-lane-meta")).to_contain_text("finished")
    expect(lane.locator(".lp-lane-facts")).to_contain_text("threshold moved to 0.027 at token")
    expect(lane.locator(".lp-t.lp-large").last).to_have_text(" seven")
    house.router.hold_at = None


def test_a_sweep_draws_the_picture_and_is_saved_as_csv(page: Page, house: House) -> None:
    open_run(page, house)
    page.get_by_role("button", name="Sweep: accuracy").click()
    page.get_by_role("button", name="Start", exact=True).last.click()
    expect(page.locator("#sweep-words")).to_contain_text("the large one 80 %")
    expect(page.locator("#sweep-pareto .js-plotly-plot")).to_be_visible()
    picture = page.locator("#strip .lp-pareto")
    expect(picture.locator(".lp-pareto-square")).to_have_count(2)
    expect(picture.locator(".lp-pareto-share")).to_have_text("this run 28.6 %")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download CSV").click()
    rows = list(csv.DictReader(Path(saved.value.path()).read_text(encoding="utf-8").splitlines()))
    assert [row["strategy"] for row in rows] == ["small", "large", "neural", "entropy"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_is_accessible_with_all_unfolded_and_fits_a_phone(page: Page, house: House, axe: Callable[[Page], list[str]], theme: str) -> None:
    open_run(page, house, "start <img/src=x/onerror=document.body.id='pwned'> <b>bold</b> three four five", query=f"&__theme={theme}")
    page.locator("#strip .lp-t.lp-large").first.click()
    for name in ("Evidence", "Labels", "Train", "Sweep"):
        page.get_by_role("button", name=name).first.click()
    expect(page.locator("#sweep-n input")).to_be_visible()
    assert page.evaluate("document.body.id") == "" and page.locator("#strip img, #strip b").count() == 0
    assert axe(page) == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
