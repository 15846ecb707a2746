"""What is folded under a strip: the chart along the text, findings, figures, the request, and the request as code.

Goes in: the strip's text and whose runs may be read. Comes out: components and their values. Knows the lines, not the models.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from backend.errors import WorkbenchError
from backend.figures import plain_figures
from backend.types import RunRequest
from backend.workbench import Workbench
from panels import snippets, speculation_charts
from panels.api import jobs_offered
from panels.charts import along_text
from panels.lanes import Lane, lanes, lines_of, share_of
from panels.records import request_of
from panels.said import heading, said, shown
from panels.visitor import owner_of

RESIZED = "() => { requestAnimationFrame(() => window.dispatchEvent(new Event('resize'))); }"

# The notations of a request: title and language.
CODES = (("Request", "json"), ("Python", "python"), ("Command line", "shell"), ("gradio_client", "python"), ("curl", "shell"))
YOUR_TOKEN = "YOUR-API-TOKEN"  # a job of a public instance belongs to somebody; the token itself is not put into a text to copy
PER_TOKEN = frozenset({"opinion"})  # findings that stand at their tokens


@dataclass(frozen=True)
class Chart:
    """One chart of the evidence: `draw` makes it of the strip's lanes, or None where they have nothing for it. `title`: a term of the
    glossary that stands above it."""

    elem_id: str
    draw: Callable[[Sequence[Lane]], go.Figure | None]
    title: str = ""


def _along_text(found: Sequence[Lane]) -> go.Figure:
    return along_text(lines_of("", found[0]))


TEXT_CHARTS = (Chart("along-text", _along_text),)
ROUND_CHARTS = (
    Chart("by-position", speculation_charts.acceptance_by_position, "acceptance by position"),
    Chart("run-lengths", speculation_charts.run_lengths, "run lengths"),
    Chart("by-confidence", speculation_charts.against_confidence, "acceptance against confidence"),
)
FOLDED = "Evidence: log-probabilities along the text, findings, timings, the request, copy as code"


@dataclass(frozen=True)
class Evidence:
    """The folded part of a page; `parts` are its outputs in the order of `values`, `headings` those above the charts."""

    accordion: gr.Accordion
    headings: tuple[gr.HTML, ...]
    parts: tuple[gr.components.Component, ...]
    charts: tuple[Chart, ...]


def evidence(charts: Sequence[Chart] = TEXT_CHARTS, title: str = FOLDED) -> Evidence:
    """Lay it out, closed."""
    with gr.Accordion(title, open=False, elem_id="evidence", elem_classes=["loupe-evidence"]) as accordion:
        drawn = [_place(chart) for chart in charts]
        gr.HTML("<h3>Findings</h3>")
        findings = said("", "findings")
        gr.HTML("<h3>Figures</h3>")
        stats = said("", "stats", explains=True)
        with gr.Tabs():
            codes = [_code(*tab) for tab in CODES]
    accordion.expand(None, js=RESIZED)  # a chart drawn while folded has no width to take
    headings, plots = zip(*drawn, strict=True)
    return Evidence(accordion, headings, (*plots, findings, stats, *codes), tuple(charts))


def _place(chart: Chart) -> tuple[gr.HTML, gr.Plot]:
    """A chart's heading and the chart, hidden until there is something to draw."""
    return heading(chart.title, visible=False), gr.Plot(show_label=False, elem_id=chart.elem_id, visible=False)


def _code(title: str, language: str) -> gr.Code:
    with gr.Tab(title):
        return gr.Code(language=language, show_label=False, interactive=False, wrap_lines=True, buttons=["copy"], visible=False)


def fill(part: Evidence, after: Callable[..., Any], workbench: Workbench, strip: gr.HTML, visitor: gr.BrowserState) -> Any:
    """Have `after` (a listener's `then`, an event) fill the evidence from what stands in the strip, partial runs too."""

    def handler(request: gr.Request, text: str, token: str) -> tuple[Any, ...]:
        found = values(workbench, token, text or "", address_of(request), part.charts)
        headings = (gr.HTML(visible=bool(chart.title) and drawn is not None) for chart, drawn in zip(part.charts, found, strict=False))
        return (*headings, *map(_update, part.parts, found))

    return after(handler, [strip, visitor], [*part.headings, *part.parts], show_progress="hidden", api_visibility="private")


def _update(part: gr.components.Component, value: Any) -> Any:
    """A chart or a code without a value is hidden: its empty place says nothing, and says it wrongly to a screen reader."""
    return value if isinstance(part, gr.HTML) else type(part)(value=value, visible=value is not None and value != "")


def values(workbench: Workbench, token: Any, text: str, address: str, charts: Sequence[Chart] = TEXT_CHARTS) -> tuple[Any, ...]:
    """The charts, the findings, the lanes' figures, and the first lane's request in every notation."""
    found = lanes(text)
    if not found:
        return (*(None for _ in charts), shown("Nothing has run yet."), shown(""), *[""] * len(CODES))
    request = _request(workbench, token, found[0].run, share_of(text))
    codes = [""] * len(CODES) if request is None else _codes(workbench, request, address)
    return (*(chart.draw(found) for chart in charts), shown(finding_rows(found)), shown(figures(found)), *codes)


def _request(workbench: Workbench, token: Any, run_id: str, share: str) -> RunRequest | None:
    try:
        return request_of(workbench, owner_of(workbench.public, token), run_id, share)
    except WorkbenchError:
        return None  # deleted meanwhile, or another visitor's: the strip stays, its request is not told


def _codes(workbench: Workbench, request: RunRequest, address: str) -> tuple[str, ...]:
    """The request as JSON, then as code in every notation that can ask for it here."""
    body = json.dumps(request.to_json(), ensure_ascii=False, indent=2)
    method = workbench.methods.get(request.method)
    if method is None:
        return (body, *[""] * (len(CODES) - 1))
    token = YOUR_TOKEN if workbench.public and method.job else ""
    named = snippets.client(request, address, token), snippets.curl(request, address, token)
    offered = named if not method.job or request.method in jobs_offered(workbench) else ("", "")
    return body, snippets.python(request, method.job), snippets.command_line(request), *offered


def finding_rows(found: list[Lane]) -> list[dict[str, Any]] | str:
    """The findings of all lanes as rows of one table, or the words that there are none."""
    rows = [{"lane": lane.name, "kind": e.get("kind"), **(e["data"] if isinstance(e.get("data"), dict) else {})}
            for lane in found for e in lane.events if e["event"] == "finding" and e.get("kind") not in PER_TOKEN]  # fmt: skip
    grammar = any(e["event"] == "started" and e.get("method") == "structured" for lane in found for e in lane.events)
    return rows or f"No findings: {'every keyword is enforced, ' if grammar else ''}nothing went wrong."


def figures(found: list[Lane]) -> list[dict[str, Any]]:
    """How each lane ended and its figures, a row a figure, a column a lane."""
    stats = {lane.name or lane.run: _lane_figures(lane) for lane in found}
    names = dict.fromkeys(name for figures in stats.values() for name in figures)
    return [{"figure": name, **{lane: figures.get(name) for lane, figures in stats.items()}} for name in names]


def _lane_figures(lane: Lane) -> dict[str, Any]:
    end = lane.end or {}
    ended = end.get("finish_reason") or ("failed" if end else "unfinished")
    return {"ended": ended, "tokens": len(lane.tokens), **plain_figures(end.get("stats"))}


def address_of(request: gr.Request | None) -> str:
    """This app's address as the browser knows it."""
    host = request.headers.get("host", "localhost:7860") if request is not None else "localhost:7860"
    return f"{'http' if host.startswith(('localhost', '127.')) else 'https'}://{host}"
