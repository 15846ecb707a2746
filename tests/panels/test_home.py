"""The first page's thumbnails: drawn from recordings, numbers only."""

from __future__ import annotations

import json
import re

from panels.home import GROUND, WIDTH, shares, stairs


def line(event: str, **facts: object) -> str:
    return json.dumps({"event": event, **facts})


def test_a_staircase_ends_where_its_lane_did() -> None:
    """Two lanes of two and four tokens; the slower one takes the whole width, the longer one the whole height."""
    lanes = [line("started", lane="<b>"), *(line("token", ms=ms, text="<i>") for ms in (10, 20))]
    lanes += [line("started"), *(line("token", ms=ms) for ms in (10, 20, 30, 40)), line("done")]
    paths = re.findall(r'class="lp-stair lp-lane-\d" d="([^"]*)"', stairs(lanes))
    ends = [re.findall(r"H([\d.]+)V([\d.]+)", path)[-1] for path in paths]
    assert [(float(x), float(y)) for x, y in ends] == [(WIDTH / 2, GROUND - (GROUND - 6) / 2), (WIDTH, 6)]
    assert "<b>" not in stairs(lanes) and "<i>" not in stairs(lanes)


def test_an_audits_dots_stand_at_its_shares() -> None:
    """Of the suspect alone; the share 0 and the share 1 stand as far from the edges."""

    def change(name: str, before: float, after: float, model: str = "suspect") -> str:
        data = {"set": name, "model": model, "before": {"value": before}, "after": {"value": after}}
        return line("finding", kind="change", data=data)

    drawn = shares([line("started"), change("<b>leaked", 1.0, 0.25), change("fresh", 0.5, 0.0), change("fresh", 0.9, 0.9, "twin")])
    places = [float(x) for x in re.findall(r'cx="([^"]*)"', drawn)]
    width = WIDTH - 8
    assert places == [4 + width, 4 + width / 4, 4 + width / 2, 4.0]
    assert f'class="lp-fresh-line" d="M{4 + width / 2:.1f} 0V' in drawn and "<b>" not in drawn
