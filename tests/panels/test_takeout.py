"""What a visitor brings in and takes out: hers, all of it, and nobody else's."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from backend.errors import WorkbenchError
from backend.exchange import export_jsonl
from backend.paths import assets_dir
from backend.workbench import Workbench
from panels.records import opened
from panels.takeout_logic import Takeout
from panels.visitor import mint, owner_of
from tests.panels.fake import fake_workbench

RECORDING = assets_dir() / "runs" / "hidden_text.jsonl"


@pytest.fixture
def workbench(data_dir: Path) -> Iterator[Workbench]:
    made = fake_workbench(data_dir, public=True)
    yield made
    made.close()


@pytest.fixture
def takeout(workbench: Workbench, tmp_path: Path) -> Takeout:
    return Takeout(workbench, tmp_path / "cache")


def brought(takeout: Takeout, token: str, path: Path = RECORDING) -> dict[str, Any]:
    return json.loads(takeout.bring(None, token, path))


def test_an_imported_run_is_hers_and_marked_wherever_it_is_read(takeout: Takeout, workbench: Workbench) -> None:
    ann, ben = mint(""), mint("")
    run_id = brought(takeout, ann)["run"]
    record, text = opened(workbench, owner_of(True, ann), run_id)
    said = json.loads(text.split("\n", 1)[0])
    assert said["event"] == "imported" and said["date"] == json.loads(RECORDING.read_text().split("\n", 1)[0])["date"]
    shared = opened(workbench, "", workbench.shares.share(run_id, record.owner))[1].split("\n")
    assert [json.loads(line)["event"] for line in shared[:2]] == ["shared", "imported"]
    with pytest.raises(WorkbenchError, match="no run"):
        opened(workbench, owner_of(True, ben), run_id)


def test_what_was_exported_can_be_brought_in_and_a_broken_file_is_refused_in_words(takeout: Takeout, workbench: Workbench, tmp_path: Path) -> None:
    ann = mint("")
    text = export_jsonl(workbench, brought(takeout, ann)["run"], owner_of(True, ann))
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text(text, encoding="utf-8")
    bad.write_bytes(b"\xff\xfe")
    assert brought(takeout, ann, good)["run"] and workbench.history.count(owner_of(True, ann)) == 2
    with pytest.raises(WorkbenchError, match="no text"):
        brought(takeout, ann, bad)


def test_a_public_instance_takes_no_file_beyond_its_cap(takeout: Takeout, workbench: Workbench, tmp_path: Path) -> None:
    large = tmp_path / "large.jsonl"
    large.write_bytes(b" " * (workbench.guard.limits.upload_bytes + 1))
    with pytest.raises(WorkbenchError, match="at most 2 MB"):
        brought(takeout, mint(""), large)


def test_the_list_and_the_database_hold_hers_alone(takeout: Takeout, workbench: Workbench) -> None:
    ann, ben = mint(""), mint("")
    hers, his = brought(takeout, ann)["run"], brought(takeout, ben)["run"]
    listing = json.loads(takeout.listing(ann))["file"]["text"]
    assert hers in listing and his not in listing
    first, second = takeout.database(ann), takeout.database(ann)
    assert not first.exists() and second.exists()
    with closing(sqlite3.connect(second)) as db:
        assert {row[0] for row in db.execute("SELECT owner_id FROM runs")} == {owner_of(True, ann)}
    assert his.encode() not in second.read_bytes()


def test_deleting_everything_takes_ones_own_and_the_file_that_was_made_of_it(takeout: Takeout, workbench: Workbench) -> None:
    ann, ben = mint(""), mint("")
    brought(takeout, ann)
    brought(takeout, ben)
    file = takeout.database(ann)
    assert json.loads(takeout.forget(ann))["words"] == "2 lanes deleted."
    assert workbench.history.count(owner_of(True, ann)) == 0 and workbench.history.count(owner_of(True, ben)) == 1
    assert not file.exists() and "nothing to delete" in takeout.forget(ann)


@pytest.mark.parametrize("token", ["", "x", None, {"a": 1}])
def test_who_has_no_token_has_nothing_to_take(takeout: Takeout, token: Any) -> None:
    for act in (takeout.listing, takeout.database, takeout.forget):
        with pytest.raises(WorkbenchError, match="no visitor token"):
            act(token)
