"""A Space in a real browser: the GPU is lent by the turn, so nothing can be moved in mid-run; without a turn there is a recording to see."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from playwright.sync_api import Page, expect

from backend.seam import Rooms, Seam, Settings
from backend.snapshots import Snapshots
from backend.workbench import Workbench
from panels import history, routing
from panels.theme import launch_options as look
from tests.panels.fake import FakeModels, fake_workbench
from tests.panels.fake_routing import Router

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]
PAGES_CSS = Path(__file__).parents[2] / "assets" / "pages.css"


class NoQuota(Exception):
    """What the lender raises, as far as we read it."""

    title = "ZeroGPU quota exceeded"
    message = "You have exceeded your free ZeroGPU quota (60s requested vs. 3s left). Try again in 7:12:00."


@dataclass
class Lender:
    """Lends while there is quota."""

    quota: bool = True

    def __call__(self, call: Callable[..., Any], duration: Callable[..., float]) -> Callable[..., Iterator[str]]:
        def lent(job: object) -> Iterator[str]:
            if not self.quota:
                raise NoQuota
            yield from call(job)

        return lent


@dataclass
class House:
    """The pages under test, and the hands on their gate and their quota."""

    url: str
    workbench: Workbench
    router: Router
    lender: Lender = field(default_factory=Lender)


@pytest.fixture(scope="module")
def house(quiet_gradio: None, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[House]:
    router, lender, folder = Router(), Lender(), tmp_path_factory.mktemp("space")
    workbench = fake_workbench(folder, router=router)
    workbench.seam = Seam(Rooms(workbench.methods, FakeModels()), Settings(), lender)
    workbench.snapshots = Snapshots(workbench.store.path, folder / "bucket", workbench.store.process_id)
    with gr.Blocks(title="Loupe") as demo:
        routing.build(workbench, demo)
    with demo.route(history.TITLE, history.PATH):
        history.build(workbench, demo)
    options = look()
    head = f"{options.pop('head', '')}<style>{PAGES_CSS.read_text()}</style>"
    _, url, _ = demo.queue(max_size=64).launch(prevent_thread_lock=True, quiet=True, server_port=free_port(), head=head, **options)
    yield House(url, workbench, router, lender)
    demo.close()
    workbench.close()
    with warnings.catch_warnings():  # gradio leaves its event loops to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def run(page: Page, house: House) -> None:
    """Press Run once the form has its values: the linter has answered."""
    page.goto(house.url)
    expect(page.locator("#lint")).to_contain_text("✓")
    page.get_by_role("button", name="Run", exact=True).click()


def test_the_threshold_is_disabled_while_a_turn_lasts_and_says_why(page: Page, house: House) -> None:
    house.router.hold_at = 3
    run(page, house)
    slider, words = page.locator("#strip .lp-threshold input"), page.locator("#strip .lp-threshold-words")
    expect(words).to_contain_text("borrows its GPU by the turn")
    expect(slider).to_be_disabled()
    house.router.gate.set()
    expect(slider).to_be_enabled()
    expect(words).not_to_contain_text("borrows")


def test_without_quota_the_page_says_so_and_offers_its_recording(page: Page, house: House, axe: Callable[[Page], list[str]]) -> None:
    house.lender.quota = False
    run(page, house)
    strip = page.locator("#strip")
    expect(strip).to_contain_text("No GPU time is left for you today")
    expect(strip).to_contain_text("Try again in 7:12:00.")
    link = strip.get_by_role("link", name="See a recorded run")
    assert axe(page) == []
    link.click()
    expect(strip).to_contain_text("recorded run")
    expect(link).to_have_count(0)
    house.lender.quota = True


def test_the_history_says_what_the_last_snapshot_is(page: Page, house: House) -> None:
    page.goto(f"{house.url}history")
    expect(page.locator("#keeping")).to_contain_text("No snapshot yet.")
    assert house.workbench.snapshots is not None and house.workbench.snapshots.take() is not None
    page.reload()
    expect(page.locator("#keeping")).to_contain_text("Last snapshot less than a minute ago. Routers")
