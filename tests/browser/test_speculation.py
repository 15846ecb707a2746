"""Speculative decoding in a real browser: the whole app around a method that drafts the prompt's words, so that no test waits for a model."""

from __future__ import annotations

import csv
import gc
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from playwright.sync_api import Page, expect

from app import build_app, launch_options
from backend.workbench import Workbench
from panels.lanes import lanes
from panels.speculative_logic import Logic
from panels.strip import token_strip
from panels.theme import launch_options as look
from tests.panels.fake import fake_workbench

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]

WORDS = "one two three four five six seven"  # by lookup: a first word, two rounds of two accepted words, a refused one, its correction
HOSTILE = "start <img/src=x/onerror=document.body.classList.add('pwned')> <b>bold</b> ${document.body.id=1} \u202eback end"


class House(SimpleNamespace):
    """The app under test: its address and its workbench."""

    url: str
    workbench: Workbench


@pytest.fixture(scope="module")
def house(quiet_gradio: None, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[House]:
    workbench = fake_workbench(tmp_path_factory.mktemp("local"))
    demo = build_app(workbench)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_port=free_port(), **launch_options())
    yield House(url=url, workbench=workbench)
    demo.close()
    workbench.close()
    with warnings.catch_warnings():  # gradio leaves its event loops to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def open_run(
    page: Page, house: House, prompt: str = WORDS, first: str = "lookup", compare: tuple[str, ...] = ("recycling", "none"), query: str = ""
) -> None:
    """A finished comparison, opened by its link: the page is filled once its tokens are there."""
    logic = Logic(house.workbench)
    said = logic.values(logic.start().with_options(drafter=first))
    said[0], said[1], said[9] = "smollm2", prompt, "pocket/small" if {first, *compare} & {"model", "tree"} else "none"
    text = "".join(f"{line}\n" for line in logic.run(SimpleNamespace(session_hash="t"), "", compare, said))
    page.goto(f"{house.url}speculative?run={lanes(text)[0].run}{query}")
    expect(page.locator("#strip .lp-lane")).to_have_count(len(lanes(text)))
    expect(page.locator("#strip .lp-outcome")).to_have_count(len(lanes(text)) - 1)


def test_a_comparison_shows_a_staircase_a_lane_marked_at_its_end(page: Page, house: House) -> None:
    open_run(page, house)
    expect(page.locator("#strip .lp-stairs-key li")).to_have_count(3)
    expect(page.locator("#strip .lp-stair-end")).to_have_count(3)
    assert sorted(page.locator("#strip .lp-stair-end").all_text_contents()) == sorted("✓✓●"), "in the order of their ends"
    expect(page.locator("#strip .lp-outcome")).to_have_text(["✓ identical to plain"] * 2)
    expect(page.locator("#strip .lp-verdict")).to_contain_text("wrote plain's text")


def test_tokens_are_shaded_by_who_drafted_them(page: Page, house: House) -> None:
    open_run(page, house)
    expect(page.locator("#strip .lp-by-lookup")).to_have_count(4 + 1)  # four tokens and the legend
    expect(page.locator("#strip .lp-by-recycling")).to_have_count(4 + 1)
    expect(page.locator("#strip .lp-legend").first).to_contain_text("tokens in")
    expect(page.locator("#strip .lp-left .lp-legend .lp-k")).to_have_text(["free", "copied", "recycled", "corrected", "bonus"])


def test_refused_tokens_are_struck_through_on_demand_with_p_q_and_draw(page: Page, house: House) -> None:
    open_run(page, house)
    expect(page.locator("#strip .lp-refused")).to_have_count(0)
    page.get_by_label("show refused tokens in the text").check()
    refused = page.locator("#strip s.lp-refused")
    expect(refused).to_have_text([" wrong"] * refused.count())
    assert refused.count() >= 1
    assert "p 0.020, q 0.30, draw 0.61" in refused.first.get_attribute("title")
    assert page.locator("#strip .lp-t").count() == 3 * 7, "refused tokens are no tokens of the answer"
    page.get_by_label("show refused tokens in the text").uncheck()
    expect(refused).to_have_count(0)


def test_rounds_are_walked_one_by_one_and_light_up_their_tokens(page: Page, house: House) -> None:
    open_run(page, house)
    words = page.locator("#strip .lp-round-words")
    expect(words).to_contain_text("round 0: 2 of 3 drafted accepted")
    page.get_by_role("button", name="Next round").click()
    expect(words).to_contain_text("round 1: ")
    expect(page.locator("#strip .lp-t.lp-lit")).to_have_text([" five", " six", " seven"])
    expect(page.locator("#strip .lp-round-at")).to_have_attribute("data-round", "1")
    expect(page.get_by_role("button", name="Next round")).to_be_disabled()
    page.get_by_label("Round", exact=True).press("ArrowLeft")
    expect(words).to_contain_text("round 0: ")
    page.locator("#strip .lp-t", has_text="six").first.click()
    expect(words).to_contain_text("round 1: ")
    expect(page.locator("#strip .lp-card")).to_contain_text("prompt lookup")
    page.locator("#strip .lp-round-bar").first.click()
    expect(words).to_contain_text("round 0: ")
    page.get_by_label("Whose rounds").select_option(label="Token Recycling")
    expect(page.locator("#strip .lp-tree .lp-node-on")).to_have_count(2)


def test_the_tree_shows_every_node_and_what_became_of_it(page: Page, house: House) -> None:
    open_run(page, house)
    tree = page.locator("#strip .lp-tree")
    expect(tree.locator(".lp-node-on")).to_have_count(2)
    expect(tree.locator(".lp-node-refused title")).to_contain_text("refused (p 0.020, q 0.30, draw 0.61)")
    expect(tree.locator(".lp-node-extra")).to_have_count(1)
    expect(tree.locator("svg")).to_have_attribute("aria-label", "Draft of round 0: 3 nodes, accepted space two, space three.")


def test_a_card_says_whose_draft_was_refused_where_it_was_corrected(page: Page, house: House) -> None:
    open_run(page, house)
    page.locator("#strip .lp-t.lp-correction").first.click()
    expect(page.locator("#strip .lp-card .lp-facts")).to_contain_text("wrong p 0.020, q 0.30, draw 0.61")


def test_what_if_moves_one_more_curve(page: Page, house: House) -> None:
    open_run(page, house)
    page.get_by_role("button", name="What if").click()
    expect(page.locator("#speed-up .js-plotly-plot")).to_be_visible()
    expect(page.locator("#what-v input[type=number]")).to_have_value("1.4")
    page.locator("#what-c input[type=number]").fill("0.5")
    page.locator("#what-c input[type=number]").press("Tab")
    expect(page.locator("#speed-up .legendtext", has_text="what if")).to_have_count(1)


def test_an_evaluation_says_its_cost_runs_and_is_saved_as_csv(page: Page, house: House) -> None:
    open_run(page, house)
    page.get_by_role("button", name="Evaluate").click()
    page.get_by_label("my own").check()
    page.get_by_label("Own prompts").fill('{"prompt": "a b c", "kind": "=1+1"}\n{"prompt": "d e f"}')
    page.get_by_role("button", name="What would it take?").click()
    expect(page.locator("#evaluate-words")).to_contain_text("2 prompts × 4 lanes")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#evaluate-summary tbody tr")).to_have_count(4)
    expect(page.locator("#evaluate-words")).to_contain_text("2 of 2 texts the same")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download CSV").click()
    rows = list(csv.DictReader(Path(saved.value.path()).read_text(encoding="utf-8").splitlines()))
    page.goto(f"{house.url}history")
    page.locator(".lp-run-open").first.click()
    expect(page.locator("#strip .lp-verdict")).to_contain_text("2 of 2 texts the same")
    assert len(rows) == 8 and rows[0]["lane"] == "auto" and rows[0]["kind"] == "'=1+1"


def test_hostile_words_are_inert_in_rounds_tree_and_charts(page: Page, house: House) -> None:
    open_run(page, house, HOSTILE)
    page.get_by_label("show refused tokens in the text").check()
    page.get_by_role("button", name="Evidence").click()
    expect(page.locator("#by-position .js-plotly-plot")).to_be_visible()
    page.locator("#strip .lp-t").nth(2).click()
    assert page.evaluate("[document.body.className.includes('pwned'), document.body.id]") == [False, ""]
    assert page.locator("#strip img, #strip b, #strip script").count() == 0
    assert "\u202e" not in page.locator("#strip").inner_text()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_is_accessible_with_all_unfolded_and_fits_a_phone(page: Page, house: House, axe: Callable[[Page], list[str]], theme: str) -> None:
    open_run(page, house, first="auto", compare=("recycling", "model", "tree", "none"), query=f"&__theme={theme}")
    page.get_by_label("show refused tokens in the text").check()
    page.locator("#strip .lp-t.lp-draft").first.click()
    for name in ("Evidence", "What if", "Evaluate"):
        page.get_by_role("button", name=name).first.click()
    expect(page.locator("#by-confidence .js-plotly-plot")).to_be_visible()
    expect(page.locator("#speed-up .js-plotly-plot")).to_be_visible()
    assert axe(page) == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


# Lines that no fake run makes ---------------------------------------------------------------------------------------------------


def line(event: str, **facts: object) -> str:
    return json.dumps({"event": event, **facts}, ensure_ascii=False) + "\n"


def lane(run: str, name: str, texts: list[str], step_ms: float) -> str:
    text = line("started", run=run, lane=name, method="speculative", prompt=[])
    for i, word in enumerate(texts):
        text += line("token", position=i, id=i, text=word, logprob=-0.1, source="model", detail={"margin": 0.5}, ms=step_ms * (i + 1))
    return text + line("done", finish_reason="stop", text="", stats={})


PARTED = {"position": 1, "here": {"id": 5, "text": " x", "margin": 0.0021}, "plain": {"id": 1, "text": " b", "margin": 0.0007}, "cause": "near tie"}
STATES = [{"run": "1", "state": "diverged", "first_divergence": PARTED}, {"run": "2", "state": "same_law"}, {"run": "3", "state": "alone"}]


@pytest.fixture(scope="module")
def lines_page(quiet_gradio: None, free_port: Callable[[], int]) -> Iterator[str]:
    text = lane("1", "tree", ["a", " x", " c"], 10) + lane("2", "model", ["a", " y"], 20) + lane("3", "plain", ["a", " b", " c"], 30)
    with gr.Blocks(title="strip") as demo:
        gr.Markdown("# Strip")
        token_strip("strip", value=text + line("verdict", sentence="Two of them differ.", figures={"lanes": STATES}, holds=False))
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_port=free_port(), **look())
    yield url
    demo.close()


def test_a_divergence_is_named_with_both_margins_at_its_token(page: Page, lines_page: str) -> None:
    page.goto(lines_page)
    first = page.locator("#strip .lp-lane").first
    expect(first.locator(".lp-outcome")).to_have_text("✗ another text than plain")
    expect(first.locator(".lp-notes")).to_contain_text("at token 1: ·x for ·b, first choice ahead by 0.0021 here and 0.00070 there (near tie)")
    expect(first.locator(".lp-parted")).to_have_text(" x")
    expect(page.locator("#strip .lp-outcome").nth(1)).to_have_text("~ same distribution as plain")
    expect(page.locator("#strip .lp-stair-end")).to_have_text(["✗", "~", "●"])
    expect(page.locator("#strip .lp-rounds")).to_be_hidden()


def test_the_readout_tells_how_far_each_lane_was_at_that_moment(page: Page, lines_page: str) -> None:
    page.goto(lines_page)
    chart = page.locator("#strip .lp-stairs svg").first
    box = chart.bounding_box()
    chart.hover(position={"x": 34 + (box["width"] - 34 - 18) * 0.0445 / 0.1, "y": 100})
    expect(page.locator("#strip .lp-stairs .lp-readout")).to_have_text("at 0.04 s: tree 3, model 2, plain 1")
