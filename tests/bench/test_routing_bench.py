"""The routing bench's own parts: which point a bar reads, what a lane adds up to."""

from __future__ import annotations

import pytest

from backend.bench.routing import at_least, best, finished, told, within_ratio
from backend.bench.routing_speed import Lane, config
from backend.types import Done, Progress

POINTS = [
    {"strategy": "neural", "share": 0.04, "accuracy": 0.5}, {"strategy": "neural", "share": 0.149, "accuracy": 0.8},
    {"strategy": "neural", "share": 0.12, "accuracy": 0.9}, {"strategy": "neural", "share": 0.2, "accuracy": 0.95},
    {"strategy": "entropy", "share": 0.15, "accuracy": 0.7},
]  # fmt: skip


def test_a_bar_reads_the_dearest_point_within_its_share_however_it_came_out():
    assert best(POINTS, 0.15)["accuracy"] == 0.8 and best(POINTS, 0.05)["accuracy"] == 0.5
    assert best(POINTS, 0.01) is None
    assert at_least("x", None, 0.7).holds is None and at_least("x", 0.7, 0.7).holds and not at_least("x", 0.69, 0.7).holds


def test_a_lane_weighs_answers_by_their_tokens():
    stats = [{"ms_per_token": 2.0, "n_tokens": 11, "large_tokens": 1}, {"ms_per_token": 4.0, "n_tokens": 31, "large_tokens": 9}]
    lane = Lane([], [], stats)
    assert lane.ms_per_token == pytest.approx((2 * 10 + 4 * 30) / 40) and lane.share == pytest.approx(10 / 42)


def test_a_ratio_outside_its_range_does_not_hold():
    assert [within_ratio("fp32", r).holds for r in (0.044, 0.05, 0.071)] == [False, True, False]


def test_the_result_of_steps_is_handed_on_and_progress_is_told(capsys):
    def steps():
        yield
        return 7

    assert finished(steps()) == 7
    events = [Progress(1, 2, "a"), Progress(2, 2, "b"), Done("stop", "", {})]
    assert list(told(iter(events), "arms")) == events
    assert "2/2 arms" in capsys.readouterr().err


def test_the_far_pair_differs_in_width_and_depth_only():
    small, large = config(128, 2), config(768, 9)
    assert small.vocab_size == large.vocab_size == 1024 and small.head_dim == large.head_dim == 64
