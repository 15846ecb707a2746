"""Things that outlive their runs: where they lie and what they are called."""

from __future__ import annotations

import pytest

from backend import artifacts
from backend.errors import InvalidRequest

UNKNOWN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


def test_what_is_made_is_found_again_by_its_id_and_kind(data_dir):
    made = [artifacts.create(data_dir, kind) for kind in ("labels", "router", "labels")]
    assert all(artifacts.resolve(data_dir, artifact_id) == folder and folder.is_dir() for artifact_id, folder in made)
    assert [one.id for one in artifacts.listed(data_dir, "labels")] == sorted((made[0][0], made[2][0]), reverse=True)
    assert artifacts.resolve(data_dir, made[1][0], "router") == made[1][1]
    with pytest.raises(InvalidRequest, match="of kind router, not labels"):
        artifacts.resolve(data_dir, made[1][0], "labels")


def test_shipped_ones_come_first_and_are_named_so(data_dir):
    made, _ = artifacts.create(data_dir, "router")
    ids = [one.id for one in artifacts.listed(data_dir, "router")]
    assert ids[-1] == made and ids[0] == "shipped/pocket"
    assert artifacts.resolve(data_dir, "shipped/pocket", "router").is_dir()


@pytest.mark.parametrize("name", ["", "..", "shipped/..", "shipped/", "shipped/none", "../../etc", "/tmp", UNKNOWN, UNKNOWN.lower()])
def test_nothing_else_is_an_artifact(data_dir, name):
    with pytest.raises(InvalidRequest):
        artifacts.resolve(data_dir, name)
