"""The first page: what Loupe is, and its five questions.

Goes in: a workbench. Comes out: the page. Its words are a constant of the repository (`assets/home.html`); a question's thumbnail is
drawn from the recorded run that its page opens on, so a question without one has none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from backend import examples
from backend.workbench import Workbench
from panels.header import top
from panels.model_note import model_note

PAGE = Path(__file__).resolve().parent.parent / "assets" / "home.html"
WIDTH, HEIGHT, GROUND = 190, 64, 56
# A Space hands its page's query to the app's first page, so the link to a shared run must lead on from here.
FORWARD = """() => { const run = new URLSearchParams(location.search).get("run") || "";
  if (/^s-[0-9a-f]{32}$/.test(run)) location.replace("shared" + location.search); }"""


def build(workbench: Workbench, demo: gr.Blocks) -> None:
    """Lay the page out."""
    top(workbench, demo)
    demo.load(None, None, None, js=FORWARD, show_progress="hidden", api_visibility="private")
    page = PAGE.read_text(encoding="utf-8")
    for name, draw in THUMBNAILS.items():
        if (examples.assets_dir() / "runs" / f"{name}.jsonl").is_file():
            page = page.replace(f"<!-- thumbnail: {name} -->", draw(examples.recorded(name)))
    gr.HTML(page, elem_id="home", apply_default_css=False)
    model_note(workbench)


def bars(lines: Sequence[str]) -> str:
    """The nats that the grammar took at each token of a recording's first lane, as bars; numbers only, so nothing needs escaping."""
    events = [json.loads(line) for line in lines]
    lane = events[: next(i for i, e in enumerate(events) if e["event"] == "done")]
    return _bars([(-math.log(max(e["detail"]["kept"], 1e-12)), e["source"] == "overridden") for e in lane if e["event"] == "token"])


def _bars(tokens: Sequence[tuple[float, bool]]) -> str:
    """A bar for each token's figure, some of them marked."""
    step, most = WIDTH / len(tokens), max(figure for figure, _ in tokens) or 1.0
    drawn = []
    for i, (figure, is_marked) in enumerate(tokens):
        height = max(1.0, (GROUND - 6) * figure / most)
        kind = "lp-bar-overridden" if is_marked else "lp-bar"
        drawn.append(f'<rect class="{kind}" x="{i * step:.1f}" y="{GROUND - height:.1f}" width="{step * 0.8:.1f}" height="{height:.1f}"/>')
    return _picture("".join(drawn))


def stairs(lines: Sequence[str]) -> str:
    """Seconds against tokens of a recording's lanes, one staircase each; numbers only."""
    found: list[list[float]] = []
    for event in map(json.loads, lines):
        if event["event"] == "started":
            found.append([])
        elif event["event"] == "token":
            found[-1].append(event["ms"])
    longest, most = max(map(max, found)), max(map(len, found))
    paths = []
    for i, times in enumerate(found):
        steps = "".join(f"H{WIDTH * ms / longest:.1f}V{GROUND - (GROUND - 6) * n / most:.1f}" for n, ms in enumerate(times, start=1))
        paths.append(f'<path class="lp-stair lp-lane-{i % 6}" d="M0 {GROUND}{steps}"/>')
    return _picture("".join(paths))


def doubts(lines: Sequence[str]) -> str:
    """The score of each token of a recording's first lane as bars, those that went to the large model marked; numbers only."""
    events = [json.loads(line) for line in lines]
    lane = events[: next(i for i, e in enumerate(events) if e["event"] == "done")]
    return _bars([(e["detail"].get("score", 0.0), e["source"] == "large") for e in lane if e["event"] == "token"])


def dots(lines: Sequence[str]) -> str:
    """A recorded scan's candidates: log-probability under the reference against that under the suspect, the first one filled; numbers only."""
    found = [event["data"]["columns"] for event in map(json.loads, lines) if event["event"] == "finding" and event["kind"] == "candidate"]
    pairs = [(row["reference_logprob"], row["mean_logprob"]) for row in found if row["reference_logprob"] is not None]
    low = min(min(pair) for pair in pairs)
    drawn = [f'<path class="lp-diagonal" d="M0 {GROUND}L{WIDTH} 6"/>']
    for i, (reference, own) in reversed(list(enumerate(pairs))):
        kind = "lp-dot" if i else "lp-dot lp-dot-best"
        x, y = WIDTH * (1 - reference / low), GROUND - (GROUND - 6) * (1 - own / low)
        drawn.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{2.5 if i else 4}"/>')
    return _picture("".join(drawn))


def shares(lines: Sequence[str]) -> str:
    """A recorded audit's accuracies, a row a set: hollow before, filled after the patch, a line at the suspect's own fresh accuracy; numbers only."""
    found = [event["data"] for event in map(json.loads, lines) if event["event"] == "finding" and event["kind"] == "change"]
    rows = [change for change in found if change["model"] == "suspect"]
    step, drawn = (GROUND - 4) / len(rows), []
    for i, change in enumerate(rows):
        y, before, after = 4 + step * (i + 0.5), *(4 + (WIDTH - 8) * change[when]["value"] for when in ("before", "after"))
        if change["set"] == "fresh":
            drawn.insert(0, f'<path class="lp-fresh-line" d="M{before:.1f} 0V{GROUND}"/>')
        drawn.append(f'<path class="lp-audit-way" d="M{before:.1f} {y:.1f}H{after:.1f}"/>')
        drawn.append(f'<circle class="lp-audit-before" cx="{before:.1f}" cy="{y:.1f}" r="3.5"/>')
        drawn.append(f'<circle class="lp-audit-after" cx="{after:.1f}" cy="{y:.1f}" r="2"/>')
    return _picture("".join(drawn))


def _picture(inside: str) -> str:
    base = f'<path class="lp-base" d="M0 {GROUND}H{WIDTH}"/>'
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{base}{inside}</svg>'


THUMBNAILS = {"structured": bars, "routing": doubts, "speculative": stairs, "contamination.audit": shares, "hidden_text_scan": dots}
