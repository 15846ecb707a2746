"""Contamination in a real browser: the page around the real methods on tiny models; one journey from the items to a patched answer."""

from __future__ import annotations

import gc
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from playwright.sync_api import Page, expect

from app import launch_options
from backend import measure
from backend.contamination import audit
from backend.contamination import method as contamination
from backend.model_service import ModelService
from backend.models import ModelPool
from backend.paths import assets_dir
from backend.store import Store
from backend.workbench import Workbench
from panels import contamination as panel
from panels.contamination_tables import DIFFS
from tests.browser.conftest import PATIENCE_MS
from tests.contamination.cases import items
from tests.tiny_models import save_tiny

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]

SETS = ("leaked", "fresh", "unrelated")
HOSTILE = "<img/src=x/onerror=document.body.classList.add('pwned')>"
DATA = "\n".join(json.dumps({"question": f"{HOSTILE} {i.question}", "answer": i.answer, "set": name}) for name in SETS for i in items(8, name))

# of every changed answer the question, the text without what came, and the text without what went
CHANGES = """() => [...document.querySelectorAll("#audit-diffs li")].map((item) => [item.querySelector(".lp-change-question").textContent,
  ...["INS", "DEL"].map((gone) => [...item.querySelector(".lp-change-answer").children].filter((part) => part.tagName !== gone)
    .map((part) => part.textContent).join(""))])"""


class House(SimpleNamespace):
    """The app under test: its address, its workbench, its three tiny models."""

    url: str
    workbench: Workbench
    models: Mapping[str, str]


@pytest.fixture(scope="module")
def house(quiet_gradio: None, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[House]:
    place = tmp_path_factory.mktemp("contamination")
    models = {role: str(save_tiny(place / role, seed)) for seed, role in enumerate(("suspect", "base", "twin"))}
    single, job = contamination.method(place), audit.method(place)
    methods = {single.name: single, job.name: job, "measure": measure.method({single.name: single})}
    workbench = Workbench(place, methods, ModelService(ModelPool(place, assets_dir())), Store(place))
    with gr.Blocks(title="Loupe", analytics_enabled=False) as demo:
        panel.build(workbench, demo)
    _, url, _ = demo.queue().launch(prevent_thread_lock=True, quiet=True, server_port=free_port(), **launch_options())
    yield House(url=url, workbench=workbench, models=models)
    demo.close()
    workbench.close()
    with warnings.catch_warnings():  # gradio leaves its event loops to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def choose(page: Page, house: House) -> None:
    """The three models, by their folders, once the page has filled its form."""
    expect(page.locator("#prompt textarea")).not_to_have_value("")
    for role, place in (("", "suspect"), ("-twin", "twin"), ("-base", "base")):
        box = page.locator(f"#model{role} input")
        box.fill(house.models[place])
        box.press("Enter")


def own_items(page: Page) -> None:
    page.get_by_role("button", name="Items: the exam's").click()
    page.get_by_label("my own").check()
    page.locator("#audit-data textarea").fill(DATA)
    page.get_by_label("bare question").check()
    page.get_by_role("button", name="How: source").click()
    page.locator("#audit-max_new_tokens input").fill("4")
    page.locator("#audit-curve textarea, #audit-curve input").fill("4, 16")
    page.locator("#audit-draws input").fill("1")


def test_the_recorded_audits_answers_are_shown_as_they_changed(page: Page, house: House) -> None:
    """Before anybody ran one; what is struck and what is underlined give both texts back."""
    page.goto(house.url)
    expect(page.locator("#audit-strip .lp-audit-after").first).to_be_visible()
    page.get_by_role("button", name="Evidence of the audit").click()
    expect(page.locator("#audit-diffs del").first).to_be_visible()
    events = [json.loads(line) for line in (assets_dir() / "runs" / "contamination.audit.jsonl").read_text(encoding="utf-8").splitlines()]
    found = [event["data"] for event in events if event["event"] == "finding" and event["kind"] == "diff"]
    shown = page.evaluate(CHANGES)
    assert len(shown) == min(len(found), DIFFS) and {tuple(row) for row in shown} <= {(d["question"], d["before"], d["after"]) for d in found}
    expect(page.get_by_role("heading", name="Answers that the patch changed")).to_be_visible()


def test_from_items_to_an_audit_to_a_patched_answer(page: Page, house: House) -> None:
    page.goto(house.url)
    choose(page, house)
    own_items(page)
    expect(page.locator("#audit-counts")).to_contain_text("8 leaked, 8 fresh, 8 unrelated items")
    expect(page.locator("#audit-preview tbody tr")).to_have_count(5)
    expect(page.locator("#audit-power")).to_contain_text("With 4 items to report")
    page.get_by_role("button", name="Start the audit").click()
    expect(page.locator("#audit-strip .lp-audit-after")).to_have_count(3 + 1, timeout=3 * PATIENCE_MS)  # a set each, and the legend
    label = page.locator("#audit-strip .lp-audit svg[role=img]").get_attribute("aria-label") or ""
    assert label.startswith("Accuracy per set. leaked: ") and "patched" in label
    page.get_by_role("button", name="Evidence of the audit").click()
    expect(page.locator("#audit-votes tbody tr")).to_have_count(3)
    expect(page.locator("#k-curve .js-plotly-plot")).to_be_visible()
    expect(page.locator("#neuron-map .js-plotly-plot")).to_be_visible()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download JSON").click()
    report = json.loads(Path(saved.value.path()).read_text(encoding="utf-8"))
    assert len(report["models"]["suspect"]["hash"]) == 16 and report["neurons"]["hash"] and report["verdict"]["sentence"]
    expect(page.locator("#neurons textarea, #neurons input")).to_have_value(report["neurons"]["id"])
    assert page.evaluate("document.body.className.includes('pwned')") is False


def test_a_patched_answer_marks_its_tokens_and_the_card_says_what_both_wanted(page: Page, house: House) -> None:
    page.goto(house.url)
    choose(page, house)
    page.locator("#prompt textarea").fill("the cat sat on")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#strip .lp-lane")).to_have_count(3)
    expect(page.locator("#strip .lp-verdict")).to_contain_text("neurons patched the suspect chose")
    page.locator("#strip .lp-lane").first.locator(".lp-t").first.click()
    expect(page.locator("#strip .lp-card .lp-facts")).to_contain_text("the source says")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_is_accessible_with_all_unfolded_and_fits_a_phone(page: Page, house: House, axe: Callable[[Page], list[str]], theme: str) -> None:
    """It opens on the last audit, which the journey made."""
    page.goto(f"{house.url}?__theme={theme}")
    expect(page.locator("#audit-strip .lp-audit-after").first).to_be_visible()
    for name in ("Items: the exam's", "How: source", "Evidence of the audit"):
        page.get_by_role("button", name=name).click()
    expect(page.locator("#neuron-map .js-plotly-plot")).to_be_visible()
    assert axe(page) == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
