"""Charts of speculative runs: lanes in, plotly figures out.

Goes in: the lanes of a strip (`panels.lanes`). Comes out: figures like those of `charts`, or None where no lane has what a chart needs.
Pure: every count is read from the lanes' own `round` lines by `backend.speculative.trace`; knows neither gradio nor torch.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from backend.speculative import trace
from panels.charts import FAINT, LANE_COLOURS, quiet
from panels.lanes import Lane
from panels.speed_curve import WHAT_IF_TOKENS, Curve, curve_of, measured_points

# Beside its colour each lane has a symbol and dashes of its own.
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SHARES = (-0.05, 1.12)
FEW = 5  # a share of fewer tries than these is drawn hollow


def drafting(found: Sequence[Lane]) -> list[tuple[int, Lane, list[dict[str, Any]]]]:
    """The lanes that drafted anything, each with its place in the strip and its rounds."""
    rounds = [(i, lane, trace.rounds_of(lane.events)) for i, lane in enumerate(found)]
    return [(i, lane, lines) for i, lane, lines in rounds if any(line["drafted"] for line in lines)]


def acceptance_by_position(found: Sequence[Lane]) -> go.Figure | None:
    """Of the rounds that reached the 1st, 2nd, … drafted token, the share that accepted it; the counts stand at the points."""
    figure = go.Figure()
    for i, lane, lines in drafting(found):
        pairs = [(position, n, kept) for position, (n, kept) in enumerate(trace.per_position(lines), start=1)]
        label = [f"{kept} of {n}" for _, n, kept in pairs]
        figure.add_trace(_points(i, lane, [p for p, _, _ in pairs], [kept / n for _, n, kept in pairs], [n for _, n, _ in pairs], label))
    return _axes(figure, "drafted token of a round", "share accepted", SHARES, dtick=1) if figure.data else None


def run_lengths(found: Sequence[Lane]) -> go.Figure | None:
    """How many rounds accepted 0, 1, 2, … tokens."""
    figure = go.Figure()
    for i, lane, lines in drafting(found):
        counts = trace.run_lengths(lines)
        bar = {"color": LANE_COLOURS[i % 6], "pattern": {"shape": ("", "/", ".", "\\", "x", "-")[i % 6], "fgcolor": "white", "size": 5}}
        hover = "%{x} accepted: %{y} rounds<extra></extra>"
        figure.add_trace(go.Bar(x=list(range(len(counts))), y=counts, name=_name(lane), marker=bar, hovertemplate=hover))
    return _axes(figure, "drafted tokens accepted in a round", "rounds", dtick=1) if figure.data else None


def against_confidence(found: Sequence[Lane]) -> go.Figure | None:
    """Tried tokens by the drafter's confidence in tenths: the share accepted, the number tried written beside it."""
    figure = go.Figure()
    for i, lane, lines in drafting(found):
        bins = trace.calibration(lines)
        if bins:
            label = [f"{b['accepted']} of {b['tried']}" for b in bins]
            shares = [b["accepted"] / b["tried"] for b in bins]
            figure.add_trace(_points(i, lane, [b["confidence"] for b in bins], shares, [b["tried"] for b in bins], label))
    if not figure.data:
        return None
    figure.add_trace(go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": FAINT, "dash": "dot"}, hoverinfo="skip", showlegend=False))
    return _axes(figure, "the drafter's confidence", "share accepted", SHARES)


def speed_up(found: Sequence[Lane], c: float | None = None, v: float | None = None) -> go.Figure | None:
    """Predicted speed-up by drafted tokens a round for each chain, its optimum ringed, and what was measured against plain.

    With `c` (a draft step) and `v` (checking eight tokens), both in single steps, the first curve is drawn again as it would then be.
    """
    curves = [(i, curve_of(lane)) for i, lane, _ in drafting(found)]
    drawn = [(i, curve) for i, curve in curves if curve is not None]
    points = measured_points(found)
    if not drawn and not points:
        return None
    figure = go.Figure()
    for i, curve in drawn:
        _curve(figure, i, curve, _name(found[i]))
    if drawn and (c is not None or v is not None):
        _curve(figure, 5, drawn[0][1].what_if(c, v), f"what if · {_name(found[drawn[0][0]])}")
    for i, x, y in points:
        hover = f"{_name(found[i])}, measured in this run<br>%{{x:.1f}} drafted a round, %{{y:.2f}} × plain<extra></extra>"
        mark = {"color": LANE_COLOURS[i % 6], "symbol": SYMBOLS[i % 6], "size": 11}
        figure.add_trace(go.Scatter(x=[x], y=[y], mode="markers", marker=mark, name=f"{_name(found[i])}, measured", hovertemplate=hover))
    figure.add_hline(y=1, line={"color": FAINT, "dash": "dot"})
    return _axes(figure, "drafted tokens a round", "times as fast as plain")


def _curve(figure: go.Figure, i: int, curve: Curve, name: str) -> None:
    speeds = curve.speeds()
    best = max(range(len(speeds)), key=speeds.__getitem__)
    line = {"color": LANE_COLOURS[i % 6], "width": 1.5, "dash": DASHES[i % 6]}
    gammas = list(range(1, len(speeds) + 1))
    figure.add_trace(go.Scatter(x=gammas, y=speeds, mode="lines", line=line, name=f"{name}, predicted",
                                hovertemplate="γ %{x}: %{y:.2f} ×<extra></extra>"))  # fmt: skip
    ring = {"color": "rgba(0,0,0,0)", "size": 13, "line": {"color": LANE_COLOURS[i % 6], "width": 2}}
    figure.add_trace(go.Scatter(x=[gammas[best]], y=[speeds[best]], mode="markers+text", marker=ring, text=[f"best at {gammas[best]}"],
                                textposition="top center", cliponaxis=False, showlegend=False, hoverinfo="skip"))  # fmt: skip


def _points(i: int, lane: Lane, x: list[float], y: list[float], n: list[int], label: list[str]) -> go.Scatter:
    """A line with a mark a point: hollow where few were tried, the counts written above unless there are too many to read."""
    colour, symbol = LANE_COLOURS[i % 6], SYMBOLS[i % 6]
    return go.Scatter(
        x=x, y=y, name=_name(lane), mode="lines+markers+text", text=[str(count) for count in n], textposition="top center",
        cliponaxis=False, textfont={"size": 10}, line={"color": colour, "width": 1.2, "dash": DASHES[i % 6]},
        marker={"color": colour, "size": 8, "symbol": [symbol if count >= FEW else f"{symbol}-open" for count in n]},
        customdata=label, hovertemplate="%{customdata} accepted (%{y:.2f})<extra></extra>",
    )  # fmt: skip


def _name(lane: Lane) -> str:
    return html.escape(lane.name or "run", quote=False)


def _axes(figure: go.Figure, x: str, y: str, y_range: tuple[float, float] | None = None, dtick: int | None = None) -> go.Figure:
    quiet(figure, 290)
    figure.update_xaxes(title_text=x, title_font_size=12, dtick=dtick)
    figure.update_yaxes(title_text=y, title_font_size=12, range=y_range)
    figure.update_layout(showlegend=True, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}, margin={"t": 40})
    return figure


def curve_note(found: Sequence[Lane]) -> str:
    """What the curve stands on, in words; or why there is none."""
    notes = [(lane, curve_of(lane)) for _, lane, _ in drafting(found)]
    known = [
        f"{lane.name or 'run'}: c = {curve.c:.2f}, v = {curve.v[WHAT_IF_TOKENS - 1]:.2f} for {WHAT_IF_TOKENS} drafted tokens, as measured here"
        for lane, curve in notes
        if curve is not None
    ]
    if known:
        return (
            "; ".join(known) + ". A place in the draft that this run never reached takes its mean rate. "
            "The sliders are a what-if: they move one more curve, nothing that was measured."
        )
    return "A curve needs a finished run of prompt lookup or a draft model; a tree is no chain, so it has a measured point only."


def measured_costs(found: Sequence[Lane]) -> tuple[float, float] | None:
    """c and v (of eight drafted tokens) of the first curve, as the sliders show them; None where there is no curve."""
    curve = next((curve for _, lane, _ in drafting(found) if (curve := curve_of(lane)) is not None), None)
    return None if curve is None else (round(curve.c, 2), round(curve.v[WHAT_IF_TOKENS - 1], 2))
