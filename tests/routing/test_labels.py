"""The job `routing.label`: what it says, what it keeps, how it goes on."""

from __future__ import annotations

import json

import pytest
import torch

from backend import artifacts
from backend.errors import InvalidRequest, WorkbenchError
from backend.resources import Resources
from backend.routing import labels
from backend.routing.label_files import read_labels, shards
from backend.routing.labels import check, cut, label_request
from backend.routing.tasks import pocket_problems
from backend.types import Artifact, Done, Finding, RunContext


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(labels, "CHUNK", 4)


def request(**options):
    return label_request("pocket/small", "pocket/large", **({"n_prompts": 10, "unjudged": 3, "seed": 8, "max_new_tokens": 60} | options))


def run(asked, models, data_dir, context=None):
    return list(labels.run(asked, context or RunContext(), models, data_dir))


@pytest.fixture(scope="module")
def whole(pocket, tmp_path_factory):
    """Ten prompts judged and three more, in one go."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "CHUNK", 4)
        return folder, run(request(), pocket, folder)


def folder_of(data_dir, events):
    return artifacts.resolve(data_dir, next(e.id for e in events if isinstance(e, Artifact)), "labels")


def test_counts_are_those_of_the_files(whole):
    data_dir, events = whole
    kept = read_labels(folder_of(data_dir, events))
    inside = kept.columns["prompt"] < 10
    counts = torch.bincount(kept.columns["label"][inside].int(), minlength=4).tolist()
    told = {e.data["class"]: e.data["n"] for e in events if isinstance(e, Finding) and e.kind == "class"}
    assert list(told.values()) == counts and events[-1].stats["classes"] == told
    assert (kept.n_judged, kept.n_prompts) == (10, 13) and kept.marks.tolist() == [p.mark for p in pocket_problems(13, 8)]
    assert (kept.columns["label"][~inside] == 3).all()


def test_examples_show_both_ways_to_go_on(whole):
    _, events = whole
    examples = [e.data for e in events if isinstance(e, Finding) and e.kind == "example"]
    problems = {p.prompt: p for p in pocket_problems(13, 8)}
    assert {e["class"] for e in examples} == {"identical", "neutral", "divergent"}
    for example in examples:
        assert (example["small"] == example["large"]) == (example["class"] == "identical")
        said = "" if example["large"][1] == "<eos>" else example["large"][1]
        assert example["large_continuation"].lstrip().startswith(said.lstrip())
        spoiled = not problems[example["prompt"]].right(example["before"] + example["small_continuation"])
        assert spoiled == (example["class"] == "divergent")


def test_a_job_that_was_stopped_goes_on_and_ends_with_the_same_labels(whole, pocket, data_dir):
    """Stop is asked for after the second whole chunk; the rest is a run that knows the first one's lines."""
    context = RunContext(cancelled=lambda: len(list((data_dir / "artifacts").glob("*/shard-*"))) >= 2)
    stopped = run(request(), pocket, data_dir, context)
    folder = folder_of(data_dir, stopped)
    assert isinstance(stopped[-1], Done) and stopped[-1].finish_reason == "cancelled" and len(shards(folder)) == 2
    with pytest.raises(WorkbenchError, match="not finished"):
        read_labels(folder)
    again = run(request(), pocket, data_dir, RunContext(earlier=tuple(e.to_line() for e in stopped if e.stored)))
    once, resumed = read_labels(folder_of(*whole)), read_labels(folder)
    assert again[-1].finish_reason == "stop" and set(once.columns) == set(resumed.columns)
    assert all(torch.equal(once.columns[name], resumed.columns[name]) for name in once.columns)
    assert again[-1].stats["classes"] == whole[1][-1].stats["classes"]


def test_a_grader_that_never_matches_is_said_with_its_reason(pocket, data_dir):
    lines = "\n".join(json.dumps({"prompt": p.prompt, "answer": -1, "grader": "number"}) for p in pocket_problems(4, 1))
    with pytest.raises(WorkbenchError, match="none of 4 problems right.*grader number looked for '-1'"):
        run(request(data=lines), pocket, data_dir)


def test_what_can_not_be_graded_can_be_judged_otherwise(pocket, data_dir):
    lines = "\n".join(json.dumps({"prompt": p.prompt}) for p in pocket_problems(4, 1))
    with pytest.raises(InvalidRequest, match="Problem 1 of the dataset has no answer"):
        check(request(data=lines), Resources())
    asked = request(data=lines, kind="mismatch")
    assert check(asked, Resources()) == []
    stats = run(asked, pocket, data_dir)[-1].stats
    assert stats["right"] is None and stats["classes"]["neutral"] == stats["classes"]["ungraded"] == 0 < stats["classes"]["divergent"]


def test_too_few_tokens_that_matter_are_a_warning(whole):
    assert any(isinstance(e, Finding) and e.kind == "warning" and "a router needs" in e.data["text"] for e in whole[1])


def test_a_damaged_shard_is_named(pocket, data_dir):
    events = run(request(n_prompts=10, unjudged=0, max_new_tokens=60), pocket, data_dir)
    folder = folder_of(data_dir, events)
    shards(folder)[1].write_bytes(b"nothing")
    with pytest.raises(WorkbenchError, match="shard-00001"):
        read_labels(folder)


def test_no_chunk_mixes_judged_and_other_prompts():
    assert cut(13, 10) == [range(0, 4), range(4, 8), range(8, 10), range(10, 13)]
    assert cut(3, 10) == [range(0, 3)]
