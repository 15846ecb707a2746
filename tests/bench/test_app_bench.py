"""The app's bench on little data: what it makes is what runs are like, what it counts is counted right, the app holds its bars."""

from __future__ import annotations

import json

import pytest

from backend.bench import run_bench
from backend.bench.app_runs import keep, made_runs, recorded_lanes
from backend.bench.app_store import measure
from backend.bench.app_visitors import Visit, left_behind, streaming
from backend.errors import InvalidRequest
from backend.store import Store, new_id


def test_made_runs_are_the_same_for_a_seed_and_come_back_from_the_store_as_they_were(data_dir):
    runs = list(made_runs(18, 40, seed=1))
    assert [r.lines for r in runs] == [r.lines for r in made_runs(18, 40, seed=1)]
    assert runs[0].lines != next(iter(made_runs(1, 40, seed=2))).lines
    store = Store(data_dir)
    for run in runs:
        run_id = new_id()
        keep(store, run_id, run)
        record = store.get(run_id, "local")
        assert record.lines == run.lines and record.request == run.request
        tokens = record.tokens()
        assert [t["position"] for t in tokens] == list(range(40)) and "".join(t["text"] for t in tokens) == run.text
    store.close()


def test_made_runs_come_from_every_panel_and_differ_from_their_recording():
    lanes = recorded_lanes()
    runs = list(made_runs(len(lanes), 20, seed=0))
    assert {r.request.method for r in runs} == {"structured", "speculative", "routing", "contamination", "hidden_text"}
    assert len({r.text for r in runs}) == len(runs) == len({r.request.prompt.text for r in runs})
    assert any('"event":"round"' in line for r in runs for line in r.lines)


def test_the_history_part_reports_every_bar_and_judges_the_size_of_a_full_database_only(data_dir):
    bars, figures = measure(data_dir, True, seed=0, runs=12)
    assert [bar.name.split(",")[1].strip() for bar in bars[:3]] == ["first page", "search", "open"]
    assert figures["runs"] == 12 and figures["MB in all"] > 0
    assert bars[3].bar == "≤ 60 MB" and bars[3].holds is None


def message(*tokens: str) -> str:
    return "".join(json.dumps({"event": "token", "text": text, "detail": {"at": 5.0}}) + "\n" for text in tokens)


def test_a_visit_counts_what_is_lost_doubled_or_anothers():
    def seen(*tokens):
        visit = Visit("a")
        visit.take(message(tokens[0]), 5.1)
        visit.take([["append", [], message(*tokens[1:])]], 5.2)
        return visit

    whole = seen("a.0 ", "a.1 ", "a.2 ")
    assert whole.faults(3) == 0 and [round(ms) for ms in whole.lag_ms] == [100, 200, 200]
    assert seen("a.0 ", "a.1 ").faults(3) == 1
    assert seen("a.0 ", "a.0 ", "a.1 ", "a.2 ").faults(3) == 3
    assert seen("a.0 ", "b.1 ", "a.2 ").faults(3) == 1


def test_a_line_that_came_in_two_messages_is_read_once():
    visit, text = Visit("a"), message("a.0 ", "a.1 ")
    visit.take(text[:50], 5.0)
    visit.take([["append", [], text[50:]]], 6.0)
    assert visit.tokens == ["a.0 ", "a.1 "]


def test_three_visitors_at_once_lose_nothing(data_dir):
    seen, lag = streaming(data_dir, 3, 12)
    assert [one.faults(12) for one in seen] == [0, 0, 0] and lag > 0


def test_ten_pages_that_were_closed_leave_nothing_behind(data_dir):
    before, after = left_behind(data_dir, 10)
    assert after == before and before["runs"] == 0


def test_the_bench_names_its_parts(data_dir):
    with pytest.raises(InvalidRequest, match="history, visitors, crash"):
        run_bench("app", True, data_dir=data_dir, part="nothing")
