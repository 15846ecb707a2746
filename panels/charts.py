"""Charts of one run: event lines in, plotly figures out.

Goes in: the JSON lines of a run (CONTRACTS, "Lines"). Comes out: figures with transparent grounds and colours legible in light and dark.
Pure: knows neither gradio nor torch nor where the lines come from. What a model wrote is shown in hover texts, which plotly reads as
markup: it goes in with `<` and `&` escaped and invisible characters by their code points.
"""

from __future__ import annotations

import html
import json
import math
import unicodedata
from collections.abc import Iterable
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

# At least 3 : 1 against the light and the dark ground of assets/loupe.css.
GREY, BLUE, ORANGE, FAINT = "#7b8187", "#3d86b4", "#c2621a", "rgba(128,134,140,0.25)"
LANE_COLOURS = ("#2a86c8", "#c4641e", "#1c9468", "#b8639a", "#a3821a", GREY)  # near the lanes of that sheet, in its order
COLOURS = {"large": LANE_COLOURS[3], "overridden": ORANGE, "narrowed": BLUE, "only": GREY}
WORDS = {"model": "free", "overridden": "overruled"}
SIGNS = {" ": "·", "\n": "⏎", "\t": "⇥"}
BLANK_LETTERS = "\u00a0\u034f\u115f\u1160\u2800\u3164\uffa0"
SMALLEST_KEPT = 1e-13


def along_text(lines: Iterable[str]) -> go.Figure:
    """Log-probability, kept mass and allowed tokens (log axis) along the text, one point a token; facts that no token has get no row."""
    tokens = read_tokens(lines)
    rows = [("log p, nats", [t.get("logprob") for t in tokens])]
    for key, title in (("kept", "kept mass"), ("allowed", "allowed tokens")):
        values = [(t.get("detail") or {}).get(key) for t in tokens]
        if any(value is not None for value in values):
            rows.append((title, values))
    figure = make_subplots(rows=len(rows), cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for row, (title, values) in enumerate(rows, start=1):
        figure.add_trace(_line(tokens, values, title), row=row, col=1)
        figure.update_yaxes(title_text=title, title_font_size=12, row=row, col=1, **_y_range(title, values))
    figure.update_xaxes(title_text="token", title_font_size=12, row=len(rows), col=1)
    return quiet(figure, 60 + 130 * len(rows))


def nats_taken(lines: Iterable[str]) -> go.Figure:
    """−ln of the kept mass, one bar a token; where the grammar overruled the model in the overruled colour."""
    tokens = [t for t in read_tokens(lines) if taken(t) is not None]
    bars = go.Bar(
        x=[t["position"] for t in tokens],
        y=[taken(t) for t in tokens],
        marker_color=[COLOURS.get(t.get("source", ""), BLUE) for t in tokens],
        **_hover(tokens, "%{y:.2f} nats taken"),
    )
    figure = go.Figure(bars)
    figure.update_yaxes(title_text="nats taken by the grammar", title_font_size=12)
    figure.update_xaxes(title_text="token", title_font_size=12)
    return quiet(figure, 240)


def read_tokens(lines: Iterable[str]) -> list[dict[str, Any]]:
    """The token events of the first run among the lines: what follows a second `started` belongs to another lane."""
    tokens, begun = [], 0
    for line in lines:
        event = json.loads(line) if line.strip() else {"event": ""}
        begun += event["event"] == "started"
        if event["event"] == "token" and begun < 2:
            tokens.append(event)
    return tokens


def taken(token: dict[str, Any]) -> float | None:
    """−ln of the mass that the grammar kept at this token, in nats; None where nothing was measured."""
    detail = token.get("detail") or {}
    if "taken" in detail:  # said where `kept` is so small that its rounding would show
        return detail["taken"]
    return None if "kept" not in detail else max(0.0, -math.log(max(detail["kept"], SMALLEST_KEPT)))


def shown(text: str) -> str:
    """`text` for a hover label: blanks and line ends by a sign, unseen characters by code point, markup inert."""
    return html.escape("".join(_sign(character) for character in text), quote=False)


def _sign(character: str) -> str:
    if character in SIGNS:
        return SIGNS[character]
    unseen = unicodedata.category(character) in ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs") or character in BLANK_LETTERS
    variation = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return f"⟨U+{ord(character):04X}⟩" if unseen or variation else character


def _text(token: dict[str, Any]) -> str:
    return shown(token["text"]) if token.get("text") else "end" if (token.get("detail") or {}).get("end") else "part of a character"


def _label(token: dict[str, Any]) -> str:
    source, wanted = str(token.get("source", "model")), (token.get("detail") or {}).get("wanted")
    words = [f"token {token['position']}", _text(token), html.escape(WORDS.get(source, source), quote=False)]
    if source == "overridden" and wanted:
        words.append(f"wanted {shown(wanted[1])}")
    return " · ".join(words)


def _hover(tokens: list[dict[str, Any]], value: str) -> dict[str, Any]:
    return {"customdata": [_label(t) for t in tokens], "hovertemplate": "%{customdata}<br>" + value + "<extra></extra>"}


def _line(tokens: list[dict[str, Any]], values: list[float | None], title: str) -> go.Scatter:
    """One point a token, marked by who chose it; a gap where nothing was measured."""
    return go.Scatter(
        x=[t["position"] for t in tokens],
        y=values,
        mode="lines+markers",
        line={"color": FAINT, "width": 1},
        marker={"color": [COLOURS.get(t.get("source", ""), BLUE) for t in tokens], "size": 6, "symbol": [_symbol(t) for t in tokens]},
        **_hover(tokens, f"{title} %{{y:.4g}}"),
    )


def _symbol(token: dict[str, Any]) -> str:
    return {"overridden": "diamond", "large": "diamond", "only": "circle-open"}.get(token.get("source", ""), "circle")


def _y_range(title: str, values: list[float | None]) -> dict[str, Any]:
    if title == "kept mass":
        return {"range": [-0.05, 1.05]}
    if title == "allowed tokens":
        top = max([value for value in values if value] or [10])
        return {"type": "log", "range": [-0.3, math.log10(top) + 0.3], "dtick": 1 if top < 1000 else 2}
    return {"rangemode": "tozero"}


def quiet(figure: go.Figure, height: int) -> go.Figure:
    """The look that all charts share."""
    figure.update_layout(
        height=height,
        showlegend=False,
        margin={"l": 56, "r": 8, "t": 10, "b": 40},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12, "color": GREY},
        hoverlabel={"font": {"family": "monospace"}},
        bargap=0.15,
    )
    figure.update_xaxes(showgrid=False, zeroline=False, linecolor=FAINT)
    figure.update_yaxes(gridcolor=FAINT, zeroline=False)
    return figure
