"""The file of a run, read as a text: what it holds, what it must not hold, and that nothing in it can act."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from backend.exchange import digest
from backend.figures import plain_figures
from backend.house import methods
from backend.imports import _records, read
from backend.limits import OF_METHOD, TITLES, limits
from backend.paths import assets_dir
from backend.report_html import is_place, report, report_script
from backend.types import Prompt, RunRecord, RunRequest, SamplingParams, Verdict

RECORDINGS = sorted((assets_dir() / "runs").glob("*.jsonl"))
HOSTILE = ["</script><script>alert(1)</script>", "<!--<script>", "{{script}}", "{{data}}", "${alert(1)}", "\u2028", "</style>", "&lt;", "]]>"]


def recorded(path: Path) -> tuple[list[RunRecord], Verdict | None]:
    found = read(path.read_text(encoding="utf-8"))[0]
    return _records(found), found.verdict


def run(text: str = "yes", **more: object) -> RunRecord:
    """A run that says this, in one token."""
    request = RunRequest("structured", Prompt.user(text), {"target": "smollm2"}, SamplingParams(max_new_tokens=4))
    model = {"id": "smollm2", "hash": "abc", "dtype": "bfloat16", "device": "cpu", "origin": "gguf"}
    lines = [
        {"event": "started", "run": "r", "lane": "with grammar", "method": "structured", "models": {"target": model}, "prompt": [[1, text]]},
        {"event": "token", "position": 0, "id": 7, "text": text, "logprob": -0.5, "source": "model", "ms": 1.0},
        {"event": "done", "finish_reason": "stop", "text": text, "stats": {"n_tokens": 1, "valid": True}},
    ]
    record = RunRecord("r", request, "completed", lane="with grammar", models={"target": model}, stats={"valid": True}, device="cpu",
                       lines=tuple(json.dumps(line, ensure_ascii=False) for line in lines), created_at="2026-01-02T03:04:05.678Z")  # fmt: skip
    return replace(record, **more)


def data_of(page: str) -> dict[str, object]:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S).group(1))


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_the_file_holds_the_lines_as_they_are_and_says_their_hash(path: Path) -> None:
    records, verdict = recorded(path)
    data = data_of(report(records, verdict))
    kept = [line for line in data["lines"] if json.loads(line)["event"] not in ("recorded", "verdict")]
    assert kept == [line for record in records for line in record.lines]
    assert [row["SHA-256 of its lines"] for row in data["hashes"]] == [digest(record.lines) for record in records]
    assert data["limits"] == limits(records) and len(data["limits"]) >= 2
    told = {row["figure"]: row for row in data["figures"]}
    for record in records:
        for name, value in plain_figures(record.stats).items():
            if isinstance(value, (int, float)):
                assert told[name][record.lane or record.id] == value


def test_what_was_found_stands_in_a_table_a_kind() -> None:
    records, verdict = recorded(assets_dir() / "runs" / "contamination.audit.jsonl")
    tables = data_of(report(records, verdict))["findings"]
    events = [event for event in records[0].events() if event["event"] == "finding"]
    assert {kind: len(rows) for kind, rows in tables.items()} == {kind: sum(e["kind"] == kind for e in events) for kind in tables}
    assert set(tables) == {event["kind"] for event in events}
    change = next(event["data"] for event in events if event["kind"] == "change")
    assert tables["change"][0]["before"].startswith(f"{change['before']['value']:.4g} (")


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_run_opens_or_ends_anything(text: str) -> None:
    calm, page = report([run("yes")], Verdict("Valid.")), report([run(text)], Verdict(text, {text: text}))
    assert re.findall("<[!/a-zA-Z]", page) == re.findall("<[!/a-zA-Z]", calm)
    tokens = [json.loads(line) for line in data_of(page)["lines"] if '"token"' in line]
    assert [token["text"] for token in tokens] == [text]


def test_only_the_files_own_script_may_run_and_nothing_may_be_fetched() -> None:
    page = report([run()], None)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page).group(1)
    script = re.search(r"<script>(.*?)</script>", page, re.S).group(1)
    sha = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.split("; ")[:3] == ["default-src 'none'", "style-src 'unsafe-inline'", f"script-src 'sha256-{sha}'"]
    assert script == report_script() and "</" not in script.replace("</script", "")
    assert not re.search(r"""(?:src|href)\s*=\s*["']|url\(|@import|fetch\(|XMLHttpRequest|WebSocket""", page.replace("link.href = ", ""))


def test_who_ran_it_and_what_was_noted_stay_at_home() -> None:
    secret = {"owner": "owner-1", "session": "session-1", "note": "note-1", "title": "title-1", "tags": ("tag-1",), "parent_run_id": "parent-1"}
    page = report([run(**secret)], Verdict("Valid."))
    assert not [value for value in ("owner-1", "session-1", "note-1", "title-1", "tag-1", "parent-1") if value in page]


@pytest.mark.parametrize("place", ["/srv/data/llama one", "~/models/llama one", "C:\\Users\\me\\llama one"])
def test_a_local_model_goes_by_the_name_of_its_folder(place: str) -> None:
    record = run(f"Audit of {place}")
    started = json.loads(record.lines[0])
    started["models"]["target"] |= {"id": place, "origin": place}
    started["prompt"] = [[i, letter] for i, letter in enumerate(f"Audit of {place}")]
    failed = json.dumps({"event": "failed", "error": f"{place} has no tokenizer; see {Path.home()}/x"})
    request = replace(record.request, models={"target": place})
    changed = replace(record, request=request, lane=f"{place}, alone", models=started["models"], error=f"{place} is gone",
                      lines=(json.dumps(started), *record.lines[1:2], failed))  # fmt: skip
    page = report([changed], Verdict(f"{place} says yes.", {"lanes": [{"lane": f"{place}, alone"}]}))
    assert "llama one" in page
    for text in (place, json.dumps(place)[1:-1], json.dumps(json.dumps(place))[3:-3], str(Path.home()) + "/x"):
        assert text not in page
    first = json.loads(data_of(page)["lines"][1])
    assert "".join(text for _, text in first["prompt"]) == "Audit of llama one"


def test_names_of_models_are_no_places() -> None:
    assert not [name for name in ("smollm2", "pocket/large", "mine/x", "HuggingFaceTB/SmolLM2-135M") if is_place(name)]


def test_every_method_has_its_title_and_its_limits(data_dir: Path) -> None:
    titles = {name: method.title for name, method in methods(data_dir).items()}
    assert titles == TITLES and set(OF_METHOD) == set(TITLES)


def test_the_limits_tell_lanes_that_did_not_end_by_themselves() -> None:
    cut = json.dumps({"event": "done", "finish_reason": "length", "text": "yes", "stats": {}})
    said = limits([run(lines=(*run().lines[:2], cut)), run(lane="other", status="cancelled")])
    assert any("with grammar stopped at its limit of 4" in sentence for sentence in said)
    assert any("other did not end by itself (cancelled)" in sentence for sentence in said)
    assert any("16 bits" in sentence for sentence in said)
