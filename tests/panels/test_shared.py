"""A shared run without a browser: whoever has the link reads it, nobody reads anything else, and a revoked link opens nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from backend.errors import WorkbenchError
from backend.public import Limits
from backend.workbench import Workbench
from panels.evidence import values
from panels.lanes import footing, is_recording, lanes, row, share_of
from panels.records import looked
from panels.shared import GONE, NO_LINK, read
from panels.structured_logic import Logic
from panels.visitor import mint, owner_of
from tests.panels.fake import fake_workbench

TAB = SimpleNamespace(session_hash="tab-1")


@pytest.fixture
def workbench(data_dir: Path) -> Iterator[Workbench]:
    made = fake_workbench(data_dir, public=True)
    yield made
    made.close()


def shared(workbench: Workbench, token: str, prompt: str = "one two") -> tuple[str, str, str]:
    """A visitor's run, shared: its text as it came, its first run id, its share id."""
    logic = Logic(workbench)
    said = logic.values(logic.presets[0].request)
    said[1] = prompt
    text = "".join(map(row, logic.run(TAB, token, ["none"], said)))
    run = lanes(text)[0].run
    return text, run, workbench.shares.share(run, owner_of(True, token))


def test_a_link_shows_the_lanes_as_they_came_and_where_they_were_made(workbench: Workbench) -> None:
    came, run, share = shared(workbench, mint(""))
    way, text = read(workbench, share)
    head, rest = text.split("\n", 1)
    stored = [line for line in came.splitlines(keepends=True) if json.loads(line)["event"] not in ("queued", "progress", "verdict")]
    told = json.loads(rest.splitlines()[-1])
    assert rest.splitlines(keepends=True)[:-1] == stored and told["event"] == "verdict" and "2 lanes spelled" in told["sentence"]
    assert json.loads(head)["event"] == "shared" and share_of(text) == share and is_recording(text)
    assert json.loads(way) == {"href": f"structured?run={share}", "label": "Open these inputs in Structured generation"}


def test_a_link_to_any_lane_is_the_link_to_all_of_them(workbench: Workbench) -> None:
    ann = mint("")
    came, _, share = shared(workbench, ann)
    assert workbench.shares.share(lanes(came)[1].run, owner_of(True, ann)) == share


@pytest.mark.parametrize("asked", [None, "", 3, "s-", "s-" + "0" * 31, "S-" + "0" * 32, "01JABCDEFGHJKMNPQRSTVWXYZ0", "s-" + "g" * 32])
def test_what_is_no_share_id_is_told_in_a_sentence(workbench: Workbench, asked: object) -> None:
    assert read(workbench, asked) == (json.dumps({"words": NO_LINK}), "")


def test_an_unknown_and_a_revoked_id_look_the_same(workbench: Workbench) -> None:
    ann = mint("")
    _, run, share = shared(workbench, ann)
    workbench.shares.revoke(run, owner_of(True, ann))
    assert read(workbench, share) == read(workbench, "s-" + "0" * 32) == (json.dumps({"words": GONE}), "")
    assert workbench.shares.share(run, owner_of(True, ann)) != share, "the old link stays dead"


def test_a_link_tells_nothing_of_its_owner_or_of_other_runs(workbench: Workbench) -> None:
    ann = mint("")
    _, run, share = shared(workbench, ann, "seen")
    _, other, _ = shared(workbench, ann, "another one")
    workbench.history.annotate(run, owner_of(True, ann), "private note")
    workbench.history.rename(run, owner_of(True, ann), "private title")
    workbench.history.tag(run, owner_of(True, ann), ["privatetag"])
    told = "".join(read(workbench, share))
    assert not [word for word in (ann, owner_of(True, ann), "private", other, "another one", TAB.session_hash) if word in told]


def test_evidence_and_inputs_of_a_shared_run_are_its_readers_too(workbench: Workbench) -> None:
    ben = mint("")
    _, run, share = shared(workbench, mint(""), "one two")
    _, text = read(workbench, share)
    body = values(workbench, ben, text, "http://host")[3]
    logic = Logic(workbench)
    said, opened = logic.first(ben, {"run": share}, None)
    assert json.loads(body) == workbench.store.find(run).request.to_json() and opened == text
    assert logic.request(said) == workbench.store.find(run).request
    without = text.split("\n", 1)[1]
    assert values(workbench, ben, without, "")[3] == "", "the run's own id is not enough"
    forged = row(json.dumps({"event": "shared", "share": "s-" + "0" * 32})) + without
    assert values(workbench, ben, forged, "")[3] == ""


def test_looking_inside_needs_the_owner_or_an_open_link_and_leave(data_dir: Path) -> None:
    for allowed in (0, 1):
        folder = data_dir / str(allowed)
        folder.mkdir()
        workbench = fake_workbench(folder, public=True)
        try:
            workbench.guard.limits = Limits(shared_inspect=allowed)
            ann, ben = mint(""), mint("")
            _, run, share = shared(workbench, ann)
            _, other, _ = shared(workbench, ann, "not this one")
            assert "models" in looked(workbench, run, 0, ann)
            assert "no run" in looked(workbench, run, 0, ben)["error"] and "error" in looked(workbench, run, 0, "")
            assert ("models" in looked(workbench, run, 0, share)) == bool(allowed)
            assert "no run" in looked(workbench, other, 0, share)["error"]
            workbench.shares.revoke(run, owner_of(True, ann))
            assert "error" in looked(workbench, run, 0, share)
        finally:
            workbench.close()


def test_a_recording_can_be_looked_into_by_everybody(workbench: Workbench) -> None:
    run = lanes(Logic(workbench).recorded)[0].run
    assert "models" in looked(workbench, run, 0, mint(""))


def test_a_step_on_a_shared_run_is_the_readers_own(workbench: Workbench) -> None:
    """Without a selected token there is nothing to go on from; going on from another's run is refused."""
    _, run, share = shared(workbench, mint(""))
    _, text = read(workbench, share)
    assert footing(text, None) is None
    with pytest.raises(WorkbenchError, match="no run"):
        Logic(workbench).branch(TAB, mint(""), {"run": run, "position": 0, "token_id": 1}, one=False)
