"""A run handed over, opened where there is no network: what it shows, what it asks for (nothing), and that no text in it acts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from backend.imports import _records, read
from backend.paths import assets_dir
from backend.report_html import report
from backend.types import RunRecord, Verdict
from tests.test_report_html import recorded, run

pytestmark = pytest.mark.browser
RUNS = assets_dir() / "runs"
HOSTILE = [
    "<img src=x onerror=\"document.title='pwned'\">", "<script>document.title='pwned'</script>", "</script><script>document.title='pwned'</script>",
    "${document.title='pwned'}", "{{constructor.constructor('document.title=1')()}}", "<svg onload=\"document.title='pwned'\">", "</style><b>out</b>",
    "<iframe src=\"javascript:document.title='pwned'\">", "<a href=\"javascript:void 0\">x</a>", "`${1}`", "\\", "&lt;b&gt;",
    "<link rel=stylesheet href=http://example.com/x>", "<meta http-equiv=refresh content='0;url=http://example.com'>",
]  # fmt: skip


@dataclass
class Reader:
    """Shows files with the network cut, and notes what went wrong or was asked for."""

    chromium: Browser
    folder: Path
    contexts: list[BrowserContext] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __call__(self, text: str, width: int = 1280, **more: Any) -> Page:
        file = self.folder / f"run-{len(self.contexts)}.html"
        file.write_text(text, encoding="utf-8")
        context = self.chromium.new_context(viewport={"width": width, "height": 900}, reduced_motion="reduce", offline=True, **more)
        self.contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: self.problems.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self.problems.append(request.url) if request.url != file.as_uri() else None)
        page.goto(file.as_uri())
        expect(page.locator("#strip .lp-verdict")).not_to_be_empty()
        return page


@pytest.fixture
def opened(chromium: Browser, tmp_path: Path) -> Iterator[Reader]:
    """Afterwards nothing was asked for but the file, and nothing went wrong."""
    reader = Reader(chromium, tmp_path)
    yield reader
    for context in reader.contexts:
        context.close()
    assert reader.problems == []


def shown_tokens(page: Page) -> list[list[str]]:
    """The texts of the tokens, a list a lane; signs that the style sheet adds are none of them."""
    return page.locator("#strip .lp-lane").evaluate_all("(all) => all.map((lane) => [...lane.querySelectorAll('.lp-t')].map((t) => t.textContent))")


@pytest.mark.parametrize("name", ["structured", "speculative", "routing", "contamination", "hidden_text"])
def test_it_shows_verdict_tokens_limits_and_hashes_of_the_run(opened: Reader, name: str) -> None:
    records, verdict = recorded(RUNS / f"{name}.jsonl")
    page = opened(report(records, verdict))
    assert verdict and page.locator("#strip .lp-verdict").inner_text() == verdict.sentence
    wanted = [[token["text"] for token in record.tokens()] for record in records]
    for lane, texts in zip(shown_tokens(page), wanted, strict=True):
        assert [seen for seen, text in zip(lane, texts, strict=True) if text] == [text for text in texts if text]
    assert page.locator("#limits li").count() >= 3 and page.locator("#hashes tbody tr").count() == len(records)
    assert page.locator("figure.lp-picture:visible svg > *").count() > 3
    page.locator("#strip .lp-t").first.click()
    expect(page.locator(".lp-card")).to_contain_text(f"token 0 · id {records[0].tokens()[0]['id']}")


def test_step_walks_through_the_answer_token_by_token(opened: Reader) -> None:
    records, verdict = recorded(RUNS / "contamination.jsonl")
    page = opened(report(records[:1], verdict))
    n = len(records[0].tokens())
    seen = page.locator("#strip .lp-t:not(.lp-future)")
    expect(seen).to_have_count(n)
    page.get_by_role("button", name="One token back").click()
    expect(seen).to_have_count(n - 1)
    page.get_by_role("button", name="One token on").click()
    expect(seen).to_have_count(n)


@pytest.mark.parametrize("name", ["contamination.audit", "hidden_text_scan", "routing-sweep"])
def test_a_job_shows_its_picture_and_its_findings_as_tables(opened: Reader, name: str) -> None:
    records, verdict = recorded(RUNS / f"{name}.jsonl")
    page = opened(report(records, verdict))
    kinds = {event["kind"] for event in records[0].events() if event["event"] == "finding"}
    assert page.locator("#findings details").count() == len(kinds)
    assert page.locator("figure.lp-picture:visible svg > *").count() > 3
    last = page.locator("#findings details").last
    last.locator("summary").click()
    expect(last.locator("tbody tr").first).to_be_visible()


def test_no_text_in_prompt_answer_model_lane_verdict_or_finding_acts(opened: Reader) -> None:
    page = opened(report([hostile(i, text) for i, text in enumerate(HOSTILE)], Verdict(" ".join(HOSTILE), {}, False)))
    assert page.title() == "Structured generation · Loupe" and page.evaluate("document.scripts.length") == 2
    assert not page.locator("main img, main iframe, main svg[onload], main a, main link, main meta, main b, main style").count()
    assert [lane for lane in shown_tokens(page)] == [[text] for text in HOSTILE]
    told = page.locator("main").inner_text()
    for text in HOSTILE:
        assert f"lane {text}" in told and f"finding {text}" in told and f"model {text}" in told
    prompts = page.locator("#strip .lp-prompt").all_text_contents()
    assert prompts == HOSTILE


def hostile(i: int, text: str) -> RunRecord:
    record = run(text, id=f"run {i}", lane=f"lane {text}")
    started = json.loads(record.lines[0]) | {"run": f"run {i}", "lane": f"lane {text}"}
    finding = {"event": "finding", "kind": "warning", "data": {"text": f"finding {text}"}}
    request = replace(record.request, models={"target": f"model {text}"}, options={text: text})
    models = {"target": {"id": f"model {text}", "hash": text}}
    return replace(record, request=request, models=models, lines=(json.dumps(started), json.dumps(finding), *record.lines[1:]))


def test_a_script_that_got_into_the_file_after_all_would_not_run(opened: Reader) -> None:
    """The policy holds where the writer would have failed: here scripts are put into the finished file by hand."""
    more = "<script>document.title = 'pwned'</script><svg onload=\"document.title = 'pwned'\"></svg><main"
    page = opened(report([run()], None).replace("<main", more, 1))
    expect(page.locator("#limits li").first).to_be_visible()
    assert page.title() == "Structured generation · Loupe"
    assert len(opened.problems) == 2 and all("Content Security Policy" in problem for problem in opened.problems)
    opened.problems.clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_both_modes_without_an_accessibility_violation(opened: Reader, axe: Callable[[Page], list[str]], scheme: str) -> None:
    found = read((RUNS / "structured.jsonl").read_text(encoding="utf-8"))[0]
    page = opened(report(_records(found), found.verdict), 390, color_scheme=scheme, bypass_csp=True)  # axe comes as a script
    assert page.evaluate("document.documentElement.classList.contains('dark')") == (scheme == "dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert axe(page) == []
