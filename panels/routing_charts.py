"""Charts of a router and of a sweep: findings of the jobs in, plotly figures out.

Goes in: what a job's section has heard (`routing_jobs.Told`). Comes out: figures like those of `charts`, or None where there is nothing to
draw. Pure. Each scorer and strategy has dashes and a symbol beside its colour, the same on every chart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from panels.charts import FAINT, GREY, LANE_COLOURS, quiet
from panels.routing_jobs import Told

STYLES = {"neural": (0, "solid", "circle"), "entropy": (1, "dash", "diamond"), "random": (2, "dot", "x"), "oracle": (3, "dashdot", "triangle-up")}
ALONE = {"small": "small alone", "large": "large alone"}
NAMES = {"neural": "router"}
AXES = {"share": ("share of large tokens", ",.0%"), "params_paper": ("activated parameters a token, paper's formula", "~s"),
        "params_recorder": ("activated parameters a token, one model at a time", "~s"),
        "seconds_predicted": ("seconds an answer, predicted", "~g")}  # fmt: skip
AXIS_LABELS = (("share of large tokens", "share"), ("activated parameters, paper's formula", "params_paper"),
               ("activated parameters, one model at a time", "params_recorder"), ("seconds", "seconds_predicted"))  # fmt: skip
HEIGHT = 300


def roc(told: Told) -> go.Figure | None:
    """Of the tokens that matter the share found, against the share of the others that is asked in vain."""
    return _curves(told.of("roc"), "asked in vain, of tokens that don't matter", "found, of tokens that matter")


def recall(told: Told) -> go.Figure | None:
    """Of the tokens that matter the share found, against the share of all tokens that the large model is asked for."""
    return _curves(told.of("recall"), "share of large tokens", "found, of tokens that matter")


def _curves(found: Sequence[Mapping[str, Any]], x: str, y: str) -> go.Figure | None:
    if not found:
        return None
    figure = go.Figure()
    for one in found:
        xs, ys = zip(*one["points"], strict=True)
        line = {"color": _colour(one["scorer"]), "dash": _style(one["scorer"])[1], "width": 2}
        figure.add_trace(go.Scatter(x=xs, y=ys, mode="lines", name=_name(one["scorer"]), line=line))
    return _shares(figure, x, y)


def calibration(told: Told) -> go.Figure | None:
    """What the router says against what is so; on the diagonal it knows how sure it may be. Tokens in a bin stand at its point."""
    bins = [one for found in told.of("calibration")[-1:] for one in found["bins"]]
    if not bins:
        return None
    said, true, n = zip(*bins, strict=True)
    figure = go.Figure(go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": FAINT, "width": 1}, hoverinfo="skip", showlegend=False))
    hover = "router says %{x:.1%}, so it is at %{y:.1%} of %{text} tokens<extra></extra>"
    marker = {"color": LANE_COLOURS[0], "size": 8}
    figure.add_trace(go.Scatter(x=said, y=true, mode="lines+markers", name="router", marker=marker, text=[f"{c:,}" for c in n], hovertemplate=hover))
    return _shares(figure, "router's probability", "share that matters")


def pareto(told: Told, axis: str = "share") -> go.Figure | None:
    """Accuracy with its 95 % interval against `axis`, a line a strategy, squares for each model alone."""
    points = list({(one["strategy"], one["budget"]): one for one in told.of("point") if one.get(axis) is not None}.values())
    if not points:
        return None
    figure, (title, form) = go.Figure(), AXES[axis]
    for name in dict.fromkeys(one["strategy"] for one in points):
        figure.add_trace(_line(name, sorted((one for one in points if one["strategy"] == name), key=lambda one: one[axis]), axis))
    figure.update_xaxes(title_text=title, title_font_size=12, tickformat=form)
    figure.update_yaxes(title_text="right answers", title_font_size=12, tickformat=",.0%")
    return _legend(quiet(figure, HEIGHT + 40))


def _line(name: str, points: Sequence[Mapping[str, Any]], axis: str) -> go.Scatter:
    y = [one["accuracy"] for one in points]
    whiskers = {"type": "data", "array": [one["high"] - one["accuracy"] for one in points], "width": 0, "thickness": 1,
                "arrayminus": [one["accuracy"] - one["low"] for one in points], "symmetric": False}  # fmt: skip
    alone = name in ALONE
    marker = {"color": GREY if alone else _colour(name), "symbol": "square" if alone else _style(name)[2], "size": 9 if alone else 7}
    return go.Scatter(
        x=[one[axis] for one in points], y=y, name=ALONE.get(name, _name(name)), mode="markers" if alone else "lines+markers",
        line={"color": _colour(name), "dash": _style(name)[1]}, marker=marker, error_y=whiskers,
        text=[f"{one['right']} of {one['n']} right, {one['share']:.1%} large tokens" for one in points],
        hovertemplate="%{text}<extra>%{fullData.name}</extra>",
    )  # fmt: skip


def _style(name: str) -> tuple[int, str, str]:
    return STYLES.get(name, (4, "longdash", "square"))


def _colour(name: str) -> str:
    return LANE_COLOURS[_style(name)[0]]


def _name(name: str) -> str:
    return NAMES.get(name, name)


def _shares(figure: go.Figure, x: str, y: str) -> go.Figure:
    figure.update_xaxes(title_text=x, title_font_size=12, tickformat=",.0%", range=[-0.02, 1.02])
    figure.update_yaxes(title_text=y, title_font_size=12, tickformat=",.0%", range=[-0.02, 1.05])
    return _legend(quiet(figure, HEIGHT))


def _legend(figure: go.Figure) -> go.Figure:
    return figure.update_layout(showlegend=True, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}, margin_t=34)
