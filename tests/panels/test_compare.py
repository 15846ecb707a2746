"""What the compare page shows, without a browser: the real workbench and store around a method that spells its prompt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend import examples
from backend.errors import WorkbenchError
from backend.types import Prompt, RunContext, RunRequest
from backend.workbench import Workbench
from panels.compare_logic import OPENS_ON, Comparing, View
from panels.visitor import mint, owner_of
from tests.panels.fake import fake_workbench

HOSTILE = "<img/src=x/onerror=alert(1)> ${1+1} a\u202eb </script>"


@pytest.fixture
def workbench(data_dir: Path) -> Iterator[Workbench]:
    made = fake_workbench(data_dir)
    yield made
    made.close()


@pytest.fixture
def public(data_dir: Path) -> Iterator[Workbench]:
    made = fake_workbench(data_dir, public=True)
    yield made
    made.close()


def ran(workbench: Workbench, *prompts: str, owner: str = "local") -> list[str]:
    """The ids of one press of Run, a lane a prompt."""
    requests = [RunRequest("structured", Prompt.user(prompt), {"target": "smollm2"}, options={"grammar": "{}"}) for prompt in prompts]
    events = [json.loads(line) for line in workbench.run_group(requests, RunContext(owner=owner))]
    return [event["run"] for event in events if event["event"] == "started"]


def drawn(view: View) -> dict[str, Any]:
    return json.loads(view.drawn)


def test_runs_are_shown_beside_each_other_with_what_differs(workbench: Workbench) -> None:
    ids = ran(workbench, "one two three four", "one two 3 four")
    view = Comparing(workbench).view("", ids)
    shown = drawn(view)
    assert view.ids == ids and [run["id"] for run in shown["runs"]] == ids and shown["runs"][0]["page"] == f"history?run={ids[0]}"
    assert [[cell["text"] for cell in column["tokens"]] for column in shown["columns"]][2] == [" three", " 3"]
    assert [row["setting"] for row in json.loads(view.settings)] == ["prompt.messages[0].content"]
    assert {"figure": "tokens", "run 1": 4, "run 2": 4} in json.loads(view.figures)
    assert json.loads(view.same)["sampling.seed"] == "0" and not view.job


def test_one_id_brings_the_lanes_beside_it_and_one_alone_asks_for_another(workbench: Workbench) -> None:
    ids = ran(workbench, "one two", "one 2", "1 2")
    assert Comparing(workbench).view("", [ids[1]]).ids == [ids[1], ids[0], ids[2]]
    [alone] = ran(workbench, "alone")
    view = Comparing(workbench).view("", [alone])
    assert drawn(view)["error"].startswith("One run alone") and "columns" not in drawn(view) and view.settings == '""'


def test_what_a_model_wrote_is_in_the_values_as_text_without_a_tag(workbench: Workbench) -> None:
    view = Comparing(workbench).view("", ran(workbench, HOSTILE, f"{HOSTILE} more"))
    assert all("<" not in value for value in (view.drawn, view.settings, view.figures, view.findings, view.same))
    assert "".join(column["tokens"][0]["text"] for column in drawn(view)["columns"] if column["tokens"][0]) == HOSTILE


def test_an_empty_page_opens_on_a_recording_and_a_wrong_link_says_so(workbench: Workbench) -> None:
    logic = Comparing(workbench)
    opened = drawn(logic.first("", None))
    assert opened["runs"][0]["id"] == next(iter(json.loads(examples.recorded(OPENS_ON)[0])["requests"])) and len(opened["columns"]) > 20
    assert opened["runs"][0]["facts"][0] == "recorded run" and opened["public"] == [run["id"] for run in opened["runs"]]
    assert drawn(logic.first("", "nothing,nobody"))["error"] == "There is no run nothing here."
    assert "between" not in logic.first("", ",".join(["x"] * 5)).drawn and "at most 4 runs" in logic.first("", ",".join(["x"] * 5)).drawn


@pytest.mark.parametrize("sent", [None, "x", [1], [["x"]], {"runs": "x"}])
def test_what_the_browser_sends_is_checked(workbench: Workbench, sent: Any) -> None:
    with pytest.raises(WorkbenchError):
        Comparing(workbench).view("", sent)
    with pytest.raises(WorkbenchError):
        Comparing(workbench).added("", [], sent)


def test_a_run_can_be_added_up_to_four(workbench: Workbench) -> None:
    logic, ids = Comparing(workbench), ran(workbench, "a b", "a c", "a d", "a e")
    assert logic.added("", ids[:2], ids[2]).ids == ids[:3]
    with pytest.raises(WorkbenchError, match="at most 4"):
        logic.added("", ids, ids[0])


def test_the_picker_finds_ones_own_runs_by_words_id_or_link_and_recordings(workbench: Workbench) -> None:
    logic, ids = Comparing(workbench), ran(workbench, "the walrus and", "the carpenter")
    ran(workbench, "another story")

    def found(text: Any) -> list[dict[str, Any]]:
        return json.loads(logic.found("", text))["rows"]

    assert [[lane["run"] for lane in row["lanes"]] for row in found("walrus")] == [ids]
    assert [lane["run"] for row in found(f" {ids[1]} ") for lane in row["lanes"]] == ids
    share = workbench.shares.share(ids[0], "local")
    assert [lane["run"] for row in found(f"http://somewhere/shared?run={share}") for lane in row["lanes"]] == [share, f"{share}.2"]
    assert found("01M8A1294DBCR4MY4XXM6RV03X") == [] and found("no such words") == []
    assert any(row["title"] == "recorded run" and len(row["lanes"]) > 1 for row in found("")) and found(None)


def test_visitors_compare_their_own_runs_and_shared_ones_only(public: Workbench) -> None:
    mine, theirs = mint(None), mint(None)
    ids, other = (ran(public, "zebra two", "zebra 2", owner=owner_of(True, token)) for token in (mine, theirs))
    logic = Comparing(public)
    assert logic.view(mine, ids).ids == ids and drawn(logic.view(mine, ids))["public"] is None
    for wrong in (lambda: logic.view(mine, [ids[0], other[0]]), lambda: logic.view("no token", ids), lambda: logic.found("", "one")):
        with pytest.raises(WorkbenchError):
            wrong()
    assert logic.found(mine, other[0]) == logic.found(mine, "nothing at all") == '{"rows": []}'
    assert {lane["run"] for row in json.loads(logic.found(mine, "zebra two"))["rows"] for lane in row["lanes"]} == set(ids)
    share = public.shares.share(other[1], owner_of(True, theirs))
    view = logic.view(mine, [ids[0], f"{share}.2"])
    assert drawn(view)["columns"] and drawn(view)["runs"][1]["page"] == f"shared?run={share}"
    assert owner_of(True, theirs) not in view.drawn and other[1] not in view.drawn
