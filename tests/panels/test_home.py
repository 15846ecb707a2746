"""The first page's thumbnails: drawn from recordings, numbers only."""

from __future__ import annotations

import json
import re

from panels.home import GROUND, WIDTH, stairs


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
