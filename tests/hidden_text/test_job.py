"""The scan from request to ranked list: found, stopped, resumed, refused, and what its words promise."""

from __future__ import annotations

import json
import re

import pytest

import backend.hidden_text as package
from backend import artifacts
from backend.errors import InvalidRequest
from backend.hidden_text.job import ALARM_SCORE, method
from backend.hidden_text.null import NULLS, Null, architecture_of, write_null
from backend.hidden_text.request import ScanOptions
from backend.hidden_text.verdict import NOT_FOUND, NOT_PROVEN, sentence
from backend.resources import Resources
from backend.types import Prompt, RunContext, RunRequest
from tests.hidden_text.conftest import PAYLOAD

SMALL = {"contexts": "bos, empty", "depth": 12, "beam_contexts": 8, "beam_length": 16, "samples": 4, "user_tokens": False, "budget_s": 0.0, "keep": 5}


def request(reference=True, **options):
    models = {"suspect": "tiny", **({"reference": "base"} if reference else {})}
    return RunRequest("hidden_text.scan", Prompt.user("scan"), models, options={**SMALL, **options})


def scan(data_dir, models, asked, **context):
    return list(method(data_dir).run(asked, RunContext(**context), models))


def kinds(events):
    return {e.kind for e in events if e.tag == "finding"}


def candidates(events):
    return [e.data for e in events if e.tag == "finding" and e.kind == "candidate"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, base, suspect):
    """One scan of the suspect against its base, run to its end."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, scan(folder, {"suspect": suspect, "reference": base}, request())


def test_a_planted_text_stands_first_and_says_what_found_it(whole, suspect):
    _, events = whole
    best = candidates(events)[0]
    assert PAYLOAD in (best["text"] + best["stitched"]) and best["rank"] == 1
    assert any(name.startswith("lift beam") for name in best["found_by"]) and "forced token" in best["found_by"]
    assert best["columns"]["lift"] > 2 and best["columns"]["votes"] > 50


def test_everything_said_is_listed_in_the_packages_docstring(whole):
    _, events = whole
    listed = set(re.findall(r"`(\w+)`", package.__doc__)) | set(re.findall(r"\w+", package.__doc__))
    assert kinds(events) == {"vocabulary", "map", "best", "candidate", "calibration"} and kinds(events) <= listed
    assert set(events[-1].stats) <= listed and set(candidates(events)[0]["columns"]) <= listed
    assert all(json.loads(e.to_line()) for e in events)


def test_the_list_is_kept_beside_the_ledger(whole):
    folder, events = whole
    (artifact,) = [e for e in events if e.tag == "artifact"]
    lines = (artifacts.resolve(folder, artifact.id, "scan") / "candidates.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == candidates(events) and events[-1].stats["ledger"] == artifact.id


def test_a_stopped_scan_ranks_what_it_has_and_goes_on_from_its_ledger_to_the_same_list(whole, tmp_path, base, suspect):
    models, calls = {"suspect": suspect, "reference": base}, []

    def cancelled():
        calls.append(1)
        return len(calls) > 40

    stopped = scan(tmp_path, models, request(), cancelled=cancelled)
    assert stopped[-1].finish_reason == "cancelled"
    ledger = stopped[-1].stats["ledger"]
    again = scan(tmp_path, models, request(ledger=ledger))
    assert candidates(again) == candidates(whole[1]) and again[-1].finish_reason == "stop"


def test_an_interrupted_job_goes_on_in_its_own_ledger(whole, tmp_path, base, suspect):
    models, lines = {"suspect": suspect, "reference": base}, []
    steps = method(tmp_path).run(request(), RunContext(), models)
    for event in steps:
        lines += [event.to_line()] if event.stored else []
        if event.tag == "finding" and event.kind == "map":
            break
    steps.close()
    resumed = scan(tmp_path, models, request(), earlier=tuple(lines))
    assert candidates(resumed) == candidates(whole[1])
    assert not [e for e in resumed if e.tag == "artifact"] and len(list((tmp_path / "artifacts").iterdir())) == 1


def test_without_a_reference_it_finds_the_text_and_says_what_that_is_worth(tmp_path, suspect):
    events = scan(tmp_path, {"suspect": suspect}, request(reference=False))
    assert any(PAYLOAD in c["text"] + c["stitched"] for c in candidates(events))
    assert [e.data["text"] for e in events if e.tag == "finding" and e.kind == "warning"] and "Without a reference" in events[-1].text
    assert all(c["columns"]["lift"] is None for c in candidates(events))


def test_a_p_value_comes_with_twins_of_the_same_making_only(tmp_path, base, suspect, monkeypatch):
    asked = request(beam=True, forced=False, counters=False)
    settings = ScanOptions(**asked.options).settings() | {"with_reference": True, "score": ALARM_SCORE}
    write_null(tmp_path / NULLS, Null("twins", architecture_of(suspect.model.config), "planted", settings, tuple(range(19))))
    models = {"suspect": suspect, "reference": base}
    assert scan(tmp_path, models, asked)[-1].stats["p"] is None
    monkeypatch.setattr("backend.hidden_text.job.recipe_of", lambda probe: "planted")
    stats = scan(tmp_path, models, asked)[-1].stats
    assert stats["p"] == stats["smallest_p"] == 0.05 and stats["alarm"] is True and "19 clean twins" in stats["sentence"]
    same = scan(tmp_path, {"suspect": base, "reference": base}, asked)[-1].stats
    assert same["alarm"] is False and same["sentence"].startswith(NOT_FOUND)


def test_out_of_time_it_says_what_was_cut_and_still_ranks(tmp_path, base, suspect):
    ticks = iter(range(10**6))
    events = scan(tmp_path, {"suspect": suspect, "reference": base}, request(budget_s=60.0), clock=lambda: float(next(ticks)))
    assert events[-1].stats["cut"] and "Time ran out for" in events[-1].text and candidates(events)


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"contexts": "moon"}, "options.contexts"), ({"contexts": " , "}, "options.contexts"), ({"depth": 3}, "options.depth"),
        ({"beam": False, "forced": False, "counters": False}, "options.forced"), ({"ledger": "x"}, "options.ledger"),
        ({"forced": False, "counters": False}, "models.reference"),
    ],
)  # fmt: skip
def test_what_cannot_be_scanned_is_refused_with_its_field(data_dir, options, where):
    with pytest.raises(InvalidRequest) as error:
        method(data_dir).check(request(reference=False, **options), Resources())
    assert error.value.where == where


def test_a_ledger_of_other_models_is_refused(whole, base, other):
    folder, events = whole
    with pytest.raises(InvalidRequest, match="another scan: it differs in models"):
        scan(folder, {"suspect": other, "reference": base}, request(ledger=events[-1].stats["ledger"]))


def test_the_words_never_say_clean():
    assert sentence({"candidates": 0}) == f"{NOT_FOUND} {NOT_PROVEN}" and "clean" not in NOT_FOUND + NOT_PROVEN
