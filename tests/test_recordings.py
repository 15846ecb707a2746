"""The recorded runs that ship: whole, of the examples they stand for, and found again by exactly what was asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend import examples, recordings
from backend.errors import InvalidRequest
from backend.house import methods
from backend.types import RunRequest

NAMES = [name for name in recordings.names() if name != recordings.CLEAN]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    return methods(tmp_path_factory.mktemp("nothing"))


def shelf(method: str) -> tuple[recordings.Shipped, ...]:
    return recordings.shipped(method)


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_is_whole_and_says_where_it_comes_from(name: str) -> None:
    header, *events = (json.loads(line) for line in recordings.path_of(name).read_text(encoding="utf-8").splitlines())
    assert header["event"] == "recorded" and header["model"] and header["device"] and len(header["date"]) == 10
    started = [event for event in events if event["event"] == "started"]
    assert [event["run"] for event in started] == list(header["requests"])
    assert [event["event"] for event in events].count("done") == len(started) and all(event["event"] != "failed" for event in events)
    assert {event["event"] for event in events} <= {"started", "token", "round", "finding", "control", "artifact", "done", "verdict"}
    request, lane = examples.recorded_run(started[-1]["run"])
    assert request == RunRequest.from_json(header["requests"][started[-1]["run"]]) and json.loads(lane[-1])["event"] == "done"


@pytest.mark.parametrize("example", examples.load(), ids=lambda example: example.name)
def test_every_example_has_a_recording_of_exactly_its_request(known: dict, example: examples.Example) -> None:
    found = recordings.holding(shelf(example.panel), [example.request], known[example.panel].Options)
    assert found is not None and found.name == recordings.name_of(example.name)
    assert len(list(found.lines())) > len(found.runs)


def test_the_command_remakes_every_file_that_is_there_and_no_other() -> None:
    folder = recordings.path_of(NAMES[0]).parent
    assert {path.name for path in folder.iterdir()} == {recordings.path_of(name).name for name in recordings.names()}


def test_a_recording_is_found_by_its_lanes_and_by_nothing_else(known: dict) -> None:
    options, one = known["structured"].Options, next(one for one in shelf("structured") if one.name == "structured")
    first, *others = one.requests
    assert recordings.holding([one], [first, *reversed(others)], options) is one and recordings.holding([one], [first], options) is one
    spare = RunRequest(first.method, first.prompt, first.models, first.sampling, {k: v for k, v in first.options.items() if k != "whitespace"})
    assert recordings.holding([one], [spare], options) is one, "an option left out has its default"
    assert recordings.holding([one], [others[0]], options) is None, "the first lane is the one that was asked for"
    for changed in (first.with_options(whitespace="any"), RunRequest.from_json({**first.to_json(), "prompt": "Another."})):
        assert recordings.holding([one], [changed], options) is None
        assert recordings.holding([one], [first, changed], options) is None


def test_a_name_without_a_recording_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(InvalidRequest, match="structured-list"):
        recordings.record(None, "nothing")


def test_the_clean_dots_are_pairs_of_the_reference_that_the_scan_has() -> None:
    told = json.loads(Path(recordings.path_of(recordings.CLEAN)).read_text(encoding="utf-8"))
    assert told["reference"] == recordings.JOBS["hidden_text_scan"].models["reference"]
    assert told["points"] and all(len(pair) == 2 and max(pair) <= 0 for pair in told["points"])
