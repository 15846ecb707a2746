"""Charts of an audit: accuracy against k, and where the neurons stand.

Goes in: what an audit found (`contamination_tables.Found`). Comes out: plotly figures, or None where nothing was searched. Pure.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from panels.charts import FAINT, GREY, LANE_COLOURS, quiet
from panels.contamination_tables import Found

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
ABOVE = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}


def k_curve(found: Found) -> go.Figure | None:
    """Each set's accuracy on the search half against k (each k one step: they double), the band of random draws, the chosen k."""
    points = sorted(found.of("curve"), key=lambda point: point["k"])
    if len(points) < 2:
        return None
    figure = go.Figure(_band(points))
    for i, name in enumerate(points[0]["accuracy"]):
        figure.add_trace(_line(i, name, points))
    ks = [point["k"] for point in points]
    chosen = found.one("chosen").get("k")
    if chosen in ks:
        figure.add_vline(x=ks.index(chosen), line={"color": GREY, "dash": "dot"}, annotation={"text": f"chosen: {chosen:,}", "yanchor": "bottom"})
    quiet(figure, 330)
    figure.update_xaxes(title_text="neurons patched (0: none)", title_font_size=12, tickvals=list(range(len(ks))), ticktext=[f"{k:,}" for k in ks])
    figure.update_yaxes(title_text="share right, search half", title_font_size=12, range=[-0.04, 1.06])
    return figure.update_layout(showlegend=True, legend={**ABOVE, "y": 1.1}, margin={"t": 70})


def _band(points: Sequence[dict[str, Any]]) -> list[go.Scatter]:
    """What random neurons leave of the leaked items, from the least to the most."""
    drawn = [(i, min(p["random"]), max(p["random"])) for i, p in enumerate(points) if p["random"]]
    if not drawn:
        return []
    there, low, high = zip(*drawn, strict=True)
    outline = {"x": [*there, *reversed(there)], "y": [*low, *reversed(high)], "mode": "lines", "line": {"color": GREY, "width": 1}}
    return [go.Scatter(**outline, fill="toself", fillcolor=FAINT, name="random, leaked", hoverinfo="skip")]


def _line(i: int, name: str, points: Sequence[dict[str, Any]]) -> go.Scatter:
    label, colour = html.escape(name, quote=False), LANE_COLOURS[i % 6]
    shares = [point["accuracy"].get(name) for point in points]
    line = {"color": colour, "width": 2.2 if i == 0 else 1.2, "dash": DASHES[i % 6]}
    return go.Scatter(
        x=list(range(len(points))), y=shares, name=label, mode="lines+markers", line=line,
        marker={"color": colour, "size": 7, "symbol": SYMBOLS[i % 6]}, customdata=[point["k"] for point in points],
        hovertemplate=f"{label}, k %{{customdata}}: %{{y:.1%}}<extra></extra>",
    )  # fmt: skip


def neuron_map(found: Found) -> go.Figure | None:
    """The best neurons by layer and number: patched ones filled, others hollow; the better the larger."""
    listed = found.one("neurons")
    rows = listed.get("rows") or []
    if not rows:
        return None
    figure = go.Figure()
    for name, chosen in (("next best", False), ("patched", True)):
        some = [row for row in rows if (row["rank"] < listed["k"]) == chosen]
        if some:
            figure.add_trace(_neurons(name, chosen, some))
    layers = [row["layer"] for row in rows] + [int(layer) for layer in listed["layers"]]
    quiet(figure, 150 + 26 * min(16, max(layers) + 1))
    figure.update_xaxes(title_text="neuron", title_font_size=12, rangemode="tozero")
    figure.update_yaxes(title_text="layer", title_font_size=12, range=[-0.6, max(layers) + 0.6], dtick=max(1, (max(layers) + 1) // 8))
    return figure.update_layout(showlegend=True, legend=ABOVE, margin={"t": 40})


def _neurons(name: str, chosen: bool, rows: Sequence[dict[str, Any]]) -> go.Scatter:
    colour, symbol = (LANE_COLOURS[0], "circle") if chosen else (GREY, "circle-open")
    sizes = [max(4.0, 13.0 - 1.5 * (row["rank"] + 1) ** 0.5) for row in rows]
    labels = [_neuron_words(row) for row in rows]
    return go.Scatter(
        x=[row["neuron"] for row in rows], y=[row["layer"] for row in rows], mode="markers", name=name, customdata=labels,
        marker={"color": colour, "symbol": symbol, "size": sizes}, hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip


def _neuron_words(row: dict[str, Any]) -> str:
    scores = ", ".join(f"{name} {value:.3g}" for name, value in row.items() if name not in ("rank", "layer", "neuron") and isinstance(value, float))
    place = f"layer {row['layer']}, neuron {row['neuron']}, rank {row['rank'] + 1:,}"
    return "<br>".join(html.escape(words, quote=False) for words in (place, scores))
