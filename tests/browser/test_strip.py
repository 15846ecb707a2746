"""The token strip in a real browser, fed with lines that are plainly made up."""

from __future__ import annotations

import json
import math
import queue
import random
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
import pytest
from playwright.sync_api import Locator, Page, expect

from panels.strip import token_strip
from panels.theme import launch_options

pytestmark = pytest.mark.browser

HOSTILE = [
    "${document.body.classList.add('pwned')}",
    "{{constructor.constructor('document.body.id=1')()}}",
    "<img src=x onerror=document.body.classList.add('pwned')>",
    "<script>document.body.classList.add('pwned')</script>",
    "`${1+1}`",
    "\\",
    "</span><b>out</b>",
    "a\u202eb",
    "zero\u200bwidth",
    "\U000e0041",
    "\r",
    "&lt;",
]
INVISIBLE = "[\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\u00ad\\r]|[\\u{e0000}-\\u{e007f}]"
BOXES = "nodes => nodes.map(node => { const box = node.getBBox(); return [box.x, box.y, box.width, box.height]; })"


class Feed:
    """The tests' hand on the page: what goes into `values` is what the strip becomes; None ends a stream. `asked` is what was inspected."""

    def __init__(self) -> None:
        self.values: queue.Queue[str | None] = queue.Queue()
        self.asked: list[tuple[str, int]] = []
        self.url = ""

    def stream(self) -> Iterator[str]:
        yield from iter(self.values.get, None)

    def inspect(self, run: str, position: int, token: str) -> dict[str, Any]:
        self.asked.append((run, position))
        if run == "lost":
            return {"error": "load tiny to look inside <b>now</b>"}
        top = [{"id": 100 + i, "text": text, "p": 0.3 / (i + 1), "final_p": 0.0, "cut": "grammar"} for i, text in enumerate(HOSTILE[:7])]
        rest = [(7, "city", None), (8, "it", None), (9, "\u202e", "top_k"), (10, "last shown", None), (11, "twelfth", None)]
        return {"models": {"target": {"top": top + [{"id": i, "text": t, "p": 0.01, "final_p": 0.5, "cut": cut} for i, t, cut in rest]}}}


@pytest.fixture(scope="module")
def feed(quiet_gradio: None, free_port: Callable[[], int]) -> Iterator[Feed]:
    feed = Feed()
    with gr.Blocks(title="strip") as demo:
        gr.Markdown("# Strip")
        strip = token_strip("strip", feed.inspect)
        go = gr.Button("Run", elem_id="run")
        told = gr.Textbox(label="Told", elem_id="told")
        go.click(feed.stream, None, strip, show_progress="hidden", api_visibility="private")
        for listen in (strip.branch, strip.select):
            listen(tell, None, told, show_progress="hidden", api_visibility="private")
    _, feed.url, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_port=free_port(), **launch_options())
    yield feed
    demo.close()


def tell(event: gr.EventData) -> str:
    return json.dumps(event._data)


def line(event: str, **facts: Any) -> str:
    return json.dumps({"event": event, **facts}, ensure_ascii=False) + "\n"


def started(lane: str, run: str = "r1", **more: Any) -> str:
    prompt = [[1, "<|im_start|>"], [2, "hi\n"]]
    return line("started", run=run, group="g", lane=lane, method="structured", models={}, prompt=prompt, at="", **more)


def token(position: int, text: str = "a", source: str = "model", **detail: Any) -> str:
    return line("token", position=position, id=7, text=text, logprob=-0.5, source=source, detail=detail, ms=100.0 + 50 * position)


def done(**stats: Any) -> str:
    return line("done", finish_reason="stop", text="", stats=stats)


def record(n: int = 12) -> str:
    """Two lanes, all four marks of a grammar, a verdict."""
    sources = ["model", "narrowed", "overridden", "only"]
    text = started("with grammar", warnings=["the prompt has two BOS tokens"])
    for i in range(n):
        text += token(i, f" word{i}", sources[i % 4], kept=math.exp(-(i % 5)), allowed=1 if i % 4 == 3 else 40, wanted=[3, f"other{i}"])
    text += done(valid=True) + started("without grammar", run="lost") + "".join(token(i, f"\nfree{i}") for i in range(5)) + done()
    return text + line("verdict", sentence="Valid. The grammar overruled the model at 3 of 12 tokens.", figures={}, holds=True)


def open_page(page: Page, feed: Feed, *values: str, dark: bool = False) -> Locator:
    """The app with these values streamed into its strip, one after another, and the stream ended."""
    page.goto(f"{feed.url}?__theme={'dark' if dark else 'light'}")
    for value in (*values, None):
        feed.values.put(value)
    page.get_by_role("button", name="Run").click()
    return page.locator("#strip .lp")


def focused(page: Page) -> list[int]:
    return page.evaluate("[Number(document.activeElement.dataset.lane), Number(document.activeElement.dataset.i)]")


def test_growth_appends_nodes_and_keeps_the_old_ones(page: Page, feed: Feed) -> None:
    page.goto(feed.url)
    page.get_by_role("button", name="Run").click()
    text = started("with grammar") + token(0, "first", kept=0.5)
    feed.values.put(text)
    tokens = page.locator("#strip .lp-t")
    expect(tokens).to_have_count(1)
    tokens.first.evaluate("node => { node.kept = 'the same node'; }")
    for i in range(1, 9):
        text += token(i, f"t{i}", kept=0.5)
        feed.values.put(text)
        expect(tokens).to_have_count(i + 1)
    feed.values.put(None)
    assert tokens.first.evaluate("node => node.kept") == "the same node"
    assert page.locator("#strip .lp-t").all_text_contents() == ["first", *(f"t{i}" for i in range(1, 9))]


def test_half_a_line_waits_for_its_other_half(page: Page, feed: Feed) -> None:
    whole = started("lane") + token(0, "one") + token(1, "two")
    page.goto(feed.url)
    page.get_by_role("button", name="Run").click()
    feed.values.put(whole[:-20])
    expect(page.locator("#strip .lp-t")).to_have_count(1)
    feed.values.put(whole)
    expect(page.locator("#strip .lp-t")).to_have_count(2)
    feed.values.put(None)
    expect(page.get_by_text("could not be read")).to_have_count(0)


def test_another_run_starts_the_strip_afresh(page: Page, feed: Feed) -> None:
    strip = open_page(page, feed, record(), started("other") + token(0, "new"))
    expect(strip.locator(".lp-t")).to_have_text(["new"])
    expect(strip.locator(".lp-lane")).to_have_count(1)
    expect(strip.locator(".lp-picture")).to_be_hidden()


def test_verdict_lanes_and_marks_say_what_came_out(page: Page, feed: Feed) -> None:
    strip = open_page(page, feed, line("recorded", model="tiny", device="cpu", date="2026-11-22") + record())
    expect(strip.locator(".lp-verdict")).to_have_text("Valid. The grammar overruled the model at 3 of 12 tokens.")
    expect(strip.locator(".lp-verdict strong")).to_have_text("Valid.")
    expect(strip.locator(".lp-sub")).to_have_text("recorded run · tiny · cpu · 2026-11-22")
    expect(strip.locator(".lp-lane-head").first).to_have_text("with grammar 12 tokens · 0.7 s · finished")
    expect(strip.locator(".lp-notes").first).to_have_text("the prompt has two BOS tokens")
    expect(strip.locator(".lp-legend .lp-k")).to_have_text(["free", "narrowed", "overruled", "only"])
    expect(strip.locator(".lp-overridden[role=button]")).to_have_count(3)


def test_while_it_runs_the_page_says_how_far_it_is(page: Page, feed: Feed) -> None:
    page.goto(feed.url)
    page.get_by_role("button", name="Run").click()
    verdict, text = page.locator("#strip .lp-verdict"), ""
    steps = [
        (line("queued", place=2), "waiting: 2 runs before this one"),
        (line("progress", done=41, total=100, note="loading tiny"), "loading tiny 41 %"),
        (started("with grammar") + token(0) + token(1) + token(2), "generating · 3 tokens · 20.0 tokens/s · first token 0.10 s"),
        (line("failed", error="Line 3, column 9: no such rule."), "Line 3, column 9: no such rule."),
    ]
    for more, words in steps:
        text += more
        feed.values.put(text)
        expect(verdict).to_have_text(words)
    feed.values.put(None)
    expect(page.locator("#strip .lp-lane-meta")).to_contain_text("failed")


def test_a_screen_reader_is_told_the_status_and_not_every_token(page: Page, feed: Feed) -> None:
    page.goto(feed.url)
    live = page.locator("#strip [aria-live]")
    live.evaluate("node => { node.heard = 0; new MutationObserver(() => { node.heard += 1; }).observe(node, {childList: true}); }")
    page.get_by_role("button", name="Run").click()
    text = started("lane")
    for i in range(25):
        text += token(i, f"secret{i}")
        feed.values.put(text)
        expect(page.locator("#strip .lp-t")).to_have_count(i + 1)
    feed.values.put(text + done())
    feed.values.put(None)
    expect(live).to_have_text("lane: finished after 25 tokens.")
    assert live.evaluate("node => node.heard") < 25
    assert "secret" not in live.text_content()


def test_hostile_texts_are_inert_wherever_they_come_from(page: Page, feed: Feed) -> None:
    text = line("recorded", model=HOSTILE[2], device=HOSTILE[0], date=HOSTILE[7])
    text += started(HOSTILE[2] + HOSTILE[7], warnings=HOSTILE)
    text += "".join(token(i, word, "overridden", kept=0.1, wanted=[3, word], allowed=1) for i, word in enumerate(HOSTILE))
    text += token(len(HOSTILE), "x", "<img src=x onerror=alert(1)>") + token(len(HOSTILE) + 1, "y", "__proto__")
    text += line("verdict", sentence="".join(HOSTILE), holds=None)
    strip = open_page(page, feed, text)
    expect(strip.locator(".lp-t")).to_have_count(len(HOSTILE) + 2)
    strip.locator(".lp-t").nth(2).click()
    expect(strip.locator(".lp-alts tbody tr")).to_have_count(11)
    assert page.evaluate("[document.body.className.includes('pwned'), document.body.id]") == [False, ""]
    expect(strip.locator("img, script, b")).to_have_count(0)
    shown = strip.locator(".lp-t").all_text_contents()
    assert shown[:7] == HOSTILE[:7] and shown[11] == "&lt;"
    assert shown[7:11] == ["aRLOb", "zeroZWSPwidth", "TAG A", "CR"]
    search = "pattern => document.querySelector('#strip .lp').outerHTML.match(new RegExp(`.{0,80}(${pattern})`, 'u'))"
    assert page.evaluate(search, INVISIBLE) is None
    strip.locator(".lp-t").nth(7).click()
    expect(strip.locator(".lp-codes")).to_have_text("U+202E RLO")


def test_blanks_and_line_ends_stay_themselves_for_copying(page: Page, feed: Feed) -> None:
    strip = open_page(page, feed, started("lane") + token(0, " a\n  b\tc") + done())
    assert strip.locator(".lp-t").text_content() == " a\n  b\tc"
    expect(strip.locator(".lp-t .lp-sp")).to_have_count(3)
    expect(strip.locator(".lp-t .lp-nl")).to_have_count(1)


def test_arrow_keys_walk_tokens_and_lanes(page: Page, feed: Feed) -> None:
    strip = open_page(page, feed, record())
    expect(strip.locator("[tabindex='0']")).to_have_count(1)
    strip.locator("[tabindex='0']").focus()
    walked = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight", "ArrowDown", "ArrowDown", "Home", "ArrowUp"):
        page.keyboard.press(key)
        walked.append(focused(page))
    assert walked == [[0, 1], [0, 2], [0, 1], [0, 11], [0, 11], [1, 4], [1, 4], [1, 0], [0, 0]]
    expect(strip.locator("[tabindex='0']")).to_have_count(1)


def test_enter_opens_the_card_and_escape_closes_it_where_it_was(page: Page, feed: Feed) -> None:
    strip = open_page(page, feed, record())
    strip.locator("[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    card = strip.locator(".lp-card")
    expect(card).to_contain_text("token 1")
    expect(page.locator("#told textarea, #told input")).to_have_value(
        json.dumps({"run": "r1", "position": 1, "token_id": 7, "index": 1, "value": " word1"}))  # fmt: skip
    page.keyboard.press("ArrowRight")
    expect(card).to_contain_text("token 2")
    card.get_by_role("button", name="Close the card").focus()
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()
    assert focused(page) == [0, 2]


def test_the_card_asks_once_and_a_branch_says_where_to_go_on(page: Page, feed: Feed) -> None:
    feed.asked.clear()
    strip = open_page(page, feed, record())
    for _ in range(2):
        strip.locator(".lp-t").nth(6).click()
        expect(strip.locator(".lp-alts tbody tr")).to_have_count(11)
        expect(strip.locator(".lp-alts s")).to_have_count(8)
        expect(strip.locator(".lp-why")).to_have_text(["grammar"] * 7 + ["top-k"])
        expect(strip.locator(".lp-facts")).to_contain_text("kept0.37 of the mass, 1.00 nats taken")
        expect(strip.locator(".lp-facts")).to_contain_text("wantedother6")
        page.keyboard.press("Escape")
    assert feed.asked == [("r1", 6)]
    strip.locator(".lp-t").nth(6).click()
    expect(strip.locator(".lp-branch button")).to_have_count(3)  # not for what the grammar refuses, nor for the token itself
    strip.get_by_role("button", name="Continue from here with it").click()
    expect(page.locator("#told textarea, #told input")).to_have_value(json.dumps({"run": "r1", "position": 6, "token_id": 8}))


def test_a_branch_after_the_verdict_reports_below_it(page: Page, feed: Feed) -> None:
    page.goto(feed.url)
    page.get_by_role("button", name="Run").click()
    strip, text = page.locator("#strip .lp"), record()
    for more, sentence, below in [
        ("", "Valid. The grammar overruled the model at 3 of 12 tokens.", ""),
        (started("branch", run="r3") + token(0, "b", kept=0.5), "branch: generating · 1 token · first token 0.10 s", ""),
        (done(valid=True), "Valid. The grammar overruled the model at 3 of 12 tokens.", "Valid. branch: finished after 1 token."),
    ]:
        text += more
        feed.values.put(text)
        expect(strip.locator(".lp-verdict")).to_have_text(sentence)
        expect(strip.locator(".lp-sub")).to_have_text(below)
    feed.values.put(None)
    expect(strip.locator(".lp-caption")).to_contain_text("nats taken by the grammar, with grammar")
    strip.locator(".lp-lane").nth(2).locator(".lp-t").click()
    expect(strip.locator(".lp-caption")).to_contain_text("nats taken by the grammar, branch")
    expect(strip.locator(".lp-bar")).to_have_count(1)


def test_tokens_without_text_say_what_they_are(page: Page, feed: Feed) -> None:
    strip = open_page(page, feed, started("lane") + token(0, "") + token(1, "é") + token(2, "", end=True) + done())
    expect(strip.locator(".lp-t")).to_have_text(["part", "é", "end"])


def test_a_run_that_cannot_be_looked_into_says_why(page: Page, feed: Feed) -> None:
    strip = open_page(page, feed, record())
    strip.locator(".lp-lane").nth(1).locator(".lp-t").first.click()
    expect(strip.locator(".lp-more-facts")).to_have_text("load tiny to look inside <b>now</b>")


def test_a_bar_opens_the_card_of_its_token(page: Page, feed: Feed) -> None:
    strip = open_page(page, feed, record())
    bar = strip.locator(".lp-bar[data-i='2']")
    bar.hover()
    expect(strip.locator(".lp-readout")).to_contain_text("token 2 · ·word2 · overruled · wanted other2")
    expect(strip.locator(".lp-t.lp-hot")).to_have_text(" word2")
    bar.click()
    expect(strip.locator(".lp-card")).to_contain_text("token 2")


@pytest.mark.parametrize("width", [1280, 390])
def test_labels_of_the_picture_never_overlap(page: Page, feed: Feed, width: int) -> None:
    """Twelve random runs, among them three refusals in a row and long texts; the oracle is the browser's own boxes."""
    page.set_viewport_size({"width": width, "height": 900})
    rng, values = random.Random(width), []
    for n in (3, 4, 5, 17, 49, 50, 120, 121, 122, 200, 201, 202):
        nats = [rng.expovariate(1.0) for _ in range(n)]
        text = started(f"run of {n}", run=f"n{n}")
        for i, x in enumerate(nats):
            text += token(i, "got" * rng.randint(1, 6), "overridden", kept=math.exp(-x), wanted=[3, "wanted" * rng.randint(1, 4)])
        values.append(text + done())
    page.goto(feed.url)
    page.get_by_role("button", name="Run").click()
    for value in values:
        feed.values.put(value)
        expect(page.locator("#strip .lp-lane-head")).to_contain_text(json.loads(value.split("\n")[0])["lane"] + " ")
        expect(page.locator("#strip .lp-label")).to_have_count(3)
        boxes = page.locator("#strip .lp-label").evaluate_all(BOXES)
        frame = page.evaluate("document.querySelector('#strip .lp-frame').clientWidth")
        for k, (x, y, w, h) in enumerate(boxes):
            assert x >= 0 and y >= -3 and x + w <= frame + 1
            for left, top, wide, high in boxes[k + 1 :]:
                assert x + w <= left or left + wide <= x or y + h <= top + 2 or top + high <= y + 2
    feed.values.put(None)


def test_the_picture_has_a_bar_for_every_token_that_lost_something(page: Page, feed: Feed) -> None:
    strip = open_page(page, feed, record(20))
    expect(strip.locator(".lp-bar")).to_have_count(16)
    expect(strip.locator(".lp-forced")).to_have_count(5)
    words = "Largest: token 14, wanted other14, got space word14; token 18, wanted other18, got space word18; token 2, wanted other2, "
    label = f"Nats taken by the grammar at each of 20 tokens. {words}got space word2."
    expect(strip.locator(".lp-picture svg")).to_have_attribute("aria-label", label)


def test_a_long_prompt_is_folded_and_opens(page: Page, feed: Feed) -> None:
    prompt = [[i, f"p{i} "] for i in range(60)] + [[1, "<|im_start|>"], [2, "assistant\n"]]
    text = line("started", run="r", lane="lane", method="m", models={}, prompt=prompt) + token(0)
    strip = open_page(page, feed, text)
    expect(strip.locator(".lp-prompt .lp-p")).to_have_count(2)
    strip.get_by_role("button", name="60 more prompt tokens").click()
    expect(strip.locator(".lp-prompt .lp-p")).to_have_count(62)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(page: Page, feed: Feed, axe: Any, dark: bool) -> None:
    marks = ["prefix", "draft", "correction", "bonus", "small", "large", "patched", "unheard of"]
    every = "".join(token(i, f" m{i}\n", source) for i, source in enumerate(marks))
    strip = open_page(page, feed, record() + started("all marks") + every + token(9, "") + token(10, " "), dark=dark)
    strip.locator(".lp-t").nth(2).click()
    expect(strip.locator(".lp-alts tbody tr")).to_have_count(11)
    assert page.evaluate("document.body.classList.contains('dark')") is dark
    assert axe(page) == []


def test_a_phone_never_scrolls_sideways(page: Page, feed: Feed) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    text = started("a lane with quite a long name " * 3) + token(0, "x" * 300, "overridden", kept=0.1, wanted=[3, "y" * 300])
    strip = open_page(page, feed, text + token(1, "." * 200) + done() + line("verdict", sentence="z" * 120, holds=False))
    expect(strip.locator(".lp-t")).to_have_count(2)
    strip.locator(".lp-t").nth(1).click()
    expect(strip.locator(".lp-alts tbody tr")).to_have_count(11)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
