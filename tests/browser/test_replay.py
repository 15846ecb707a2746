"""A replay in a real browser: lines that are plainly made up, whose times and tokens are known by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from playwright.sync_api import Page, expect

import app
from panels.strip import token_strip
from panels.theme import launch_options
from tests.panels.fake import fake_workbench

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]

SLOW, FAST = "plain", "auto"
WORDS = {SLOW: ["a", " b", "\n", " d"], FAST: ["a", " b", "\n", " d", " e"]}
STEP_MS = {SLOW: 400, FAST: 100}


def line(event: str, **facts: Any) -> str:
    return json.dumps({"event": event, **facts}) + "\n"


def lane(name: str) -> str:
    """One lane whose token i comes at (i + 1) steps of the lane's time, the second one against the model's wish."""
    text = line("started", run=name, group="g", lane=name, method="speculative", models={}, prompt=[[1, "say "]], at="")
    for i, word in enumerate(WORDS[name]):
        text += line("round", index=i, position=i, drafted=[], parents=[], accepted=0, path=[], spans={}, ms=STEP_MS[name] * (i + 1) - 1)
        detail = {"round": i} | ({"wanted": [9, " c"], "kept": 0.25} if i == 1 else {})
        text += line("token", position=i, id=i, text=word, logprob=-0.5, source="model", detail=detail, ms=STEP_MS[name] * (i + 1))
    return text + line("done", finish_reason="stop", text="".join(WORDS[name]), stats={"n_tokens": len(WORDS[name])})


def recording() -> str:
    header = line("recorded", model="tiny", device="cpu", date="2026-11-22", requests={})
    return header + lane(FAST) + lane(SLOW) + line("verdict", sentence="Same text. It came sooner.", figures={}, holds=True)


@pytest.fixture(scope="module")
def url(quiet_gradio: None, free_port: Callable[[], int]) -> Iterator[str]:
    with gr.Blocks(title="replay") as demo:
        gr.Markdown("# Replay")
        strip, told = token_strip("strip", value=recording(), live=True), gr.Textbox(label="Told", elem_id="told")
        new, more = gr.Button("New", elem_id="run"), gr.Button("More")
        strip.live(tell, None, told, api_visibility="private")
        new.click(lambda: lane(SLOW), None, strip, api_visibility="private")
        more.click(lambda: recording() + lane(SLOW).replace('"run": "plain"', '"run": "branch"'), None, strip, api_visibility="private")
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_port=free_port(), **launch_options())
    yield address
    demo.close()


def tell(event: gr.EventData) -> str:
    return json.dumps(event._data)


def shown(page: Page) -> list[list[str]]:
    """The tokens that can be seen, a list a lane."""
    return page.evaluate("() => [...document.querySelectorAll('#strip .lp-lane')].map("
                         "lane => [...lane.querySelectorAll('.lp-t')].filter(t => t.offsetParent).map(t => t.textContent))")  # fmt: skip


def had(ms: int) -> list[list[str]]:
    """What each lane had by then."""
    return [WORDS[name][: ms // STEP_MS[name]] for name in (FAST, SLOW)]


def open_strip(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.locator(".lp-replay")).to_be_visible()


def scrub(page: Page, at: int) -> None:
    page.get_by_label("Token", exact=True).evaluate("(slider, at) => { slider.value = at; slider.dispatchEvent(new Event('input')); }", at)


def test_each_place_of_the_scrubber_shows_what_every_lane_had_at_that_time(page: Page, url: str) -> None:
    open_strip(page, url)
    times = sorted([STEP_MS[name] * (i + 1) for name in WORDS for i in range(len(WORDS[name]))])
    assert page.get_by_label("Token", exact=True).get_attribute("max") == str(len(times))
    for at in (9, 3, 1, 6, 5, 8, 2):
        scrub(page, at)
        assert shown(page) == had(times[at - 1]), at
    scrub(page, 4)  # two tokens of one moment: the first lane's comes first
    assert shown(page) == [WORDS[FAST][:4], []]
    scrub(page, 0)
    assert shown(page) == [[], []] and page.locator("#strip .lp-lane-meta").first.text_content().startswith("0 tokens")


def test_the_pictures_and_the_sentence_follow_and_the_verdict_comes_back(page: Page, url: str) -> None:
    open_strip(page, url)
    whole = page.locator(".lp-stairs svg").first.get_attribute("aria-label")
    scrub(page, 3)
    expect(page.locator(".lp-verdict")).to_have_text("Replay at 0.30 s: auto 3, plain 0")
    expect(page.locator(".lp-replay-times")).to_have_text("0.30 s of 1.60 s in the original")
    assert "3 tokens in 0.30 s" in page.locator(".lp-stairs svg").first.get_attribute("aria-label")
    scrub(page, 9)
    expect(page.locator(".lp-verdict")).to_have_text("Same text. It came sooner.")
    assert page.locator(".lp-stairs svg").first.get_attribute("aria-label") == whole and shown(page) == had(1600)


def test_play_goes_to_the_end_and_keys_step_and_pause(page: Page, url: str) -> None:
    open_strip(page, url)
    page.get_by_label("Token", exact=True).focus()
    page.keyboard.press("Home")
    assert shown(page) == [[], []]
    page.get_by_role("button", name="One token on").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert shown(page) == had(200)
    page.keyboard.press("ArrowLeft")
    assert shown(page) == had(100)
    page.get_by_label("Speed").evaluate("(slider) => { slider.value = 4; slider.dispatchEvent(new Event('input')); }")
    expect(page.locator(".lp-replay-factor")).to_have_text("16 ×")
    page.get_by_label("Token", exact=True).focus()
    page.keyboard.press("Space")
    expect(page.locator(".lp-verdict")).to_have_text("Same text. It came sooner.")
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    assert shown(page) == had(1600)


def test_a_class_guesses_token_by_token_and_the_score_is_kept(page: Page, url: str, axe: Callable[[Page], list[str]]) -> None:
    open_strip(page, url)
    page.get_by_label("large type").check()
    page.get_by_label("guess the next token").check()
    assert shown(page)[0] == []
    field = page.get_by_label("The next token", exact=True)
    field.fill("a")
    page.keyboard.press("Enter")
    expect(page.locator(".lp-guess-told")).to_contain_text("Right: it said a, p 0.61 · 1 of 1 right")
    choices = page.locator(".lp-guess-choices button")
    expect(choices).to_have_text([" b", " c"])
    assert axe(page) == []
    choices.nth(1).click()
    expect(page.locator(".lp-guess-told")).to_contain_text("You guessed ·c; it said ·b, p 0.61 · 1 of 2 right")
    field.fill("line end")
    page.keyboard.press("Enter")
    expect(page.locator(".lp-guess-told")).to_contain_text("2 of 3 right")
    assert shown(page)[0] == WORDS[FAST][:3]
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_label("guess the next token").uncheck()
    assert shown(page) == had(1600)


def test_new_lines_end_a_replay_and_a_new_run_starts_afresh(page: Page, url: str) -> None:
    open_strip(page, url)
    scrub(page, 2)
    page.get_by_role("button", name="More").click()
    expect(page.locator("#strip .lp-lane")).to_have_count(3)
    assert shown(page) == [*had(1600), WORDS[SLOW]]
    page.get_by_label("guess the next token").check()
    page.get_by_role("button", name="New").click()
    expect(page.locator("#strip .lp-lane")).to_have_count(1)
    assert shown(page) == [WORDS[SLOW]]
    expect(page.get_by_label("guess the next token")).not_to_be_checked()


def test_a_recording_can_be_run_live_and_a_run_of_ones_own_need_not(page: Page, url: str) -> None:
    open_strip(page, url)
    page.get_by_role("button", name="Run live").click()
    expect(page.get_by_label("Told")).to_have_value('{"run": "auto"}')
    page.get_by_role("button", name="New").click()
    expect(page.locator("#strip .lp-lane")).to_have_count(1)
    expect(page.get_by_role("button", name="Run live")).to_have_count(0)


@pytest.fixture
def public_url(quiet_gradio: None, free_port: Callable[[], int], tmp_path: Path) -> Iterator[str]:
    """A public instance whose only model is never loaded and spells its prompt."""
    workbench = fake_workbench(tmp_path, public=True)
    demo = app.build_app(workbench)
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_port=free_port(), **app.launch_options())
    yield address
    demo.close()
    workbench.close()


def test_on_a_public_page_a_preset_is_a_recording_until_somebody_runs_it_live(public_url: str, page: Page) -> None:
    page.goto(f"{public_url}structured?prompt=over+from+a+link&seed=7")
    expect(page.locator("#link-note")).to_have_text("A link filled this form; nothing has run. Press Run.")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("over from a link")
    expect(page.locator("#strip .lp-verdict")).to_have_text("Nothing has run here yet.")
    page.get_by_role("button", name="An ISO date").click()
    expect(page.locator("#strip .lp-sub")).to_contain_text("recorded run · smollm2")
    expect(page.locator("#link-note")).to_have_text("")
    page.get_by_role("button", name="Run live").click()
    expect(page.locator("#strip .lp-verdict")).to_contain_text("3 lanes spelled")
    expect(page.locator("#strip .lp-sub")).not_to_contain_text("recorded")
    expect(page.get_by_role("button", name="Run live")).to_have_count(0)
    framed = page.context.new_page()  # the first page stays: leaving it in the middle of a request is an error on its console
    framed.goto(f"{public_url}structured?preset=date&embed=1")
    expect(framed.locator("#strip .lp-sub")).to_contain_text("recorded run")
    expect(framed.get_by_role("button", name="Play", exact=True)).to_be_visible()
    for gone in ("nav", "h1", "#presets", "#controls", "#after", "#evidence"):
        expect(framed.locator(gone).first).to_be_hidden()
    expect(framed.get_by_role("link", name="Open in Loupe")).to_have_attribute("href", "/structured?preset=date")
