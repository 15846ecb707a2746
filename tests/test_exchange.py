"""What leaves comes back the same; what is anybody else's never leaves; what is no run never comes in."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backend.__main__ import main
from backend.errors import InvalidRequest, WorkbenchError
from backend.exchange import (
    OWNED,
    digest,
    entry_jsonl,
    export_csv,
    export_database,
    export_history,
    export_jsonl,
    harmless,
    lanes_of,
    recorded_lines,
    tokens_csv,
)  # fmt: skip
from backend.exchange_commands import Kept
from backend.history import History, Wanted
from backend.imports import MOST_DEEP, MOST_MB, import_runs, shipped_entry
from backend.paths import assets_dir
from backend.prompt import Rendered
from backend.shares import Shares
from backend.store import Store
from backend.types import Prompt, RunContext, RunRecord, RunRequest
from tests.house import Counter, count, open_house

RUN_ID = re.compile(r"01[0-9A-Z]{24}")
HERS, HIS = RunContext(owner="her" * 20), RunContext(owner="his" * 20)
RECORDINGS = sorted(path.name for path in (assets_dir() / "runs").glob("*.jsonl"))


@pytest.fixture
def kept(data_dir: Path) -> Iterator[Kept]:
    store = Store(data_dir)
    yield Kept(store)
    store.close()


def recording(name: str = "hidden_text.jsonl") -> str:
    return (assets_dir() / "runs" / name).read_text(encoding="utf-8")


def nameless(exported: str) -> list[object]:
    """An export with its ids numbered in the order in which they come, and without the hashes, which count the ids."""
    ids: dict[str, str] = {}
    text = RUN_ID.sub(lambda found: ids.setdefault(found[0], f"id {len(ids)}"), re.sub(r'"(origin|sha256)":"\w+",?', "", exported))
    return [json.loads(line.replace(",}", "}")) for line in text.splitlines()]


def put(kept: Kept, context: RunContext, text: str, says: str = "yes") -> str:
    """A made-up run whose prompt and answer are these."""
    request = RunRequest("structured", Prompt.user(text), {"target": f"/home/{context.owner}/model"})
    run = {"event": "started", "run": "0" * 26, "method": "structured", "models": {"target": {"id": f"origin of {says}"}}, "prompt": []}
    token = {"event": "token", "position": 0, "id": 1, "text": says, "logprob": -0.5, "source": "model"}
    lines = [json.dumps(line) for line in (run, token, {"event": "done", "finish_reason": "stop", "text": says, "stats": {"n_tokens": 1}})]
    record = RunRecord("0" * 26, request, "completed", lines=tuple(lines), models=run["models"], created_at="2026-01-02T03:04:05.678Z")
    return import_runs(kept, "\n".join(recorded_lines([record], None)), context)[0]


# Round trips ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECORDINGS)
def test_what_was_exported_comes_back_the_same_but_for_ids(kept: Kept, name: str) -> None:
    first = export_jsonl(kept, import_runs(kept, recording(name), HERS)[0], HERS.owner)
    again = export_jsonl(kept, import_runs(kept, first, HIS)[0], HIS.owner)
    assert nameless(first) == nameless(again)
    assert [json.loads(line) for line in first.splitlines() if '"token"' in line] == [
        json.loads(line) for line in recording(name).splitlines() if '"token"' in line
    ]


def test_lanes_that_failed_or_never_began_keep_their_place(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.lane_lines.render", lambda prompt, tokenizer: Rendered([7], [(7, prompt.text)], []))
    house = open_house(data_dir, Counter())
    requests = [count(3), count(3, "missing"), count(4, fail_at=2), count(2)]
    lines = list(house.run_group(requests, RunContext()))
    run_id = json.loads(lines[0])["run"]
    before, verdict = lanes_of(house.store, run_id, "local")
    text = export_jsonl(house, run_id, "local").replace('"method":"count"', '"method":"structured"')
    text = _signed(text)
    after, verdict_again = lanes_of(house.store, import_runs(house, text, RunContext())[0], "local")
    house.close()
    assert [r.status for r in after] == [r.status for r in before] == ["completed", "failed", "failed", "completed"]
    for name in ("text", "stats", "error", "lane", "device", "models", "duration_ms"):
        assert [getattr(r, name) for r in after] == [getattr(r, name) for r in before], name
    assert verdict and verdict_again and verdict.sentence == verdict_again.sentence


def _signed(exported: str) -> str:
    """The same export after a change that its author made, with the hashes that belong to it."""
    header, *lines = exported.splitlines()
    head = json.loads(header)
    at = 0
    for facts in head["lanes"].values():
        facts["sha256"] = digest(lines[at : at + facts["lines"]])
        at += facts["lines"]
    return "\n".join([json.dumps(head), *lines])


def test_an_imported_run_says_where_it_came_from_and_stands_at_the_head_of_the_list(kept: Kept) -> None:
    old = json.loads(recording().splitlines()[0])
    ids = import_runs(kept, recording(), HERS)
    record = kept.store.get(ids[0], HERS.owner)
    assert record.versions["imported_run"] in old["requests"] and record.versions["imported_date"].startswith(old["date"])
    assert record.versions["torch"] == old["versions"]["torch"] and record.device == old["device"]
    assert record.created_at > record.versions["imported_date"]
    assert [entry.id for entry in History(kept.store).entries(HERS.owner)] == ids[:1]


def test_several_exports_in_one_file_are_several_entries(kept: Kept) -> None:
    ids = import_runs(kept, recording() + recording("contamination.jsonl"), HERS)
    assert len(ids) == len(set(ids)) and History(kept.store).count(HERS.owner) == 2


# CSV --------------------------------------------------------------------------------------------------------------------------------


def test_the_tokens_as_csv_are_those_of_the_lines(kept: Kept) -> None:
    run_id = import_runs(kept, recording("routing.jsonl"), HERS)[0]
    rows = list(csv.DictReader(io.StringIO(export_csv(kept, run_id, HERS.owner), newline="")))
    records, _ = lanes_of(kept.store, run_id, HERS.owner)
    wanted = [(r.lane, t["position"], t["id"], harmless(t["text"]), t["logprob"], t["source"], t["ms"]) for r in records for t in r.tokens()]
    assert [(x["lane"], int(x["position"]), int(x["id"]), x["text"], float(x["logprob"]), x["source"], float(x["ms"])) for x in rows] == wanted


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "\tx", "\rx", '=HYPERLINK("http://x")'])
def test_no_cell_begins_like_a_formula(kept: Kept, text: str) -> None:
    run_id = put(kept, HERS, text, text)
    History(kept.store).rename(run_id, HERS.owner, "=title")
    for exported in (export_csv(kept, run_id, HERS.owner), export_history(kept, HERS.owner)):
        cells = [cell for row in csv.reader(io.StringIO(exported, newline="")) for cell in row]
        assert f"'{text}" in cells
        assert not [cell for cell in cells if cell.startswith(("=", "+", "@", "\t", "\r")) or (cell.startswith("-") and cell != "-0.5")]


def test_a_run_without_tokens_is_a_head_without_rows(kept: Kept) -> None:
    run_id = import_runs(kept, recording("routing-sweep.jsonl"), HERS)[0]
    assert len(tokens_csv(lanes_of(kept.store, run_id, HERS.owner)[0]).splitlines()) == 1


# Whose it is ------------------------------------------------------------------------------------------------------------------------


def test_nobody_exports_anothers_run(kept: Kept) -> None:
    run_id = put(kept, HERS, "mine")
    for export in (export_jsonl, export_csv):
        with pytest.raises(WorkbenchError, match="no run"):
            export(kept, run_id, HIS.owner)
    assert len(export_history(kept, HIS.owner).splitlines()) == 1


def test_ones_own_database_holds_all_of_ones_own_and_no_byte_of_anothers(kept: Kept, tmp_path: Path) -> None:
    hers, his = put(kept, HERS, "her question", "her answer"), put(kept, HIS, "his question", "his answer")
    for run_id, context in ((hers, HERS), (his, HIS)):
        name = context.owner[:3]
        History(kept.store).annotate(run_id, context.owner, f"{name} note")
        History(kept.store).tag(run_id, context.owner, [f"{name}tag"])
        Shares(kept.store).share(run_id, context.owner)
    import_runs(kept, recording("routing.jsonl"), HERS)
    folder = tmp_path / "hers"
    folder.mkdir()
    data = export_database(kept, HERS.owner, folder / "loupe.db").read_bytes()
    assert HERS.owner.encode() in data and HIS.owner.encode() not in data and his.encode() not in data
    for word in (b"his question", b"his answer", b"his note", b"histag"):
        assert word not in data
    own = Store(folder)
    assert _shown(own) == _shown(kept.store)
    for words, n in (("her answer", 1), ("her note", 1), ("box", 1), ("his", 0)):
        assert History(own).count(HERS.owner, Wanted(text=words)) == n
    assert Shares(own).share_id(hers, HERS.owner) == Shares(kept.store).share_id(hers, HERS.owner)
    own.close()


def _shown(store: Store) -> list[RunRecord]:
    ids = [record.id for record in store.runs(HERS.owner)]
    return [store.get(run_id, HERS.owner) for run_id in ids]


def test_every_table_of_the_database_has_a_rule_for_whose_its_rows_are(kept: Kept) -> None:
    with kept.store.open() as db:
        tables = {name for name in db.table_names() if not name.startswith(("sqlite_", "_sqlite_", "run_index"))}
    assert tables == set(OWNED) | {"run_search"}  # the last one is the index's own and made anew


# Strangers' files -------------------------------------------------------------------------------------------------------------------


def changed(number: int, **fields: object) -> str:
    """A recording whose line has other fields."""
    lines = recording().splitlines()
    lines[number - 1] = json.dumps({**json.loads(lines[number - 1]), **fields})
    return "\n".join(lines)


def without_hashes(text: str) -> str:
    header, *lines = text.splitlines()
    head = {name: value for name, value in json.loads(header).items() if name != "lanes"}
    return "\n".join([json.dumps(head), *lines])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no run"),
        ("not json", "Line 1: it is not JSON"),
        ('{"event": "token"}', "Line 1: token.position must be a whole number"),
        (recording().split("\n", 1)[1], "Line 1: the file must begin"),
        (changed(1, format=2), "Line 1: this is format 2"),
        (changed(1, requests={}), "Line 1: it holds no request"),
        (changed(1, requests={"<script>": {}}), "Line 1: '<script>' is no id"),
        (changed(1, requests={"0" * 26: {"method": "structured"}}), "Line 1: the request of 0+ is none"),
        (changed(1, requests={"0" * 26: {"method": "evil", "prompt": "x", "models": {}}}), "no method 'evil'"),
        (without_hashes(changed(2, run="1" * 26)), "Line 2: the header has no request for run '1+'"),
        (without_hashes(changed(4, logprob="high")), "Line 4: token.logprob must be a number, got str"),
        (without_hashes(changed(4, position=-1)), "Line 4: position and id"),
        (without_hashes(changed(4, text=None)), "Line 4: token.text must be a text"),
        (without_hashes(changed(4, event="exec")), "Line 4: it is no line of a run"),
        (without_hashes(recording()) + "\n[1]", "is no line of a run"),
        (recording().replace('"logprob":-', '"logprob":-NaN,"x":-', 1), "Line \\d+: it is not JSON"),
        ("[" * 100_000, "Line 1: it is not JSON"),
        ('{"event": "recorded", "requests": {}, "x": ' + "[" * 99 + "]" * 99 + "}", f"at most {MOST_DEEP} deep"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_run_is_refused_with_line_and_reason_and_nothing_comes_in(kept: Kept, text: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        import_runs(kept, recording("contamination.jsonl") + text if text.startswith("[1]") else text, HERS)
    assert History(kept.store).count(HERS.owner) == 0


def test_lines_that_were_changed_after_the_export_are_refused(kept: Kept) -> None:
    exported = export_jsonl(kept, put(kept, HERS, "a", "the truth"), HERS.owner)
    with pytest.raises(InvalidRequest, match="Line 1: the lines of run .* are not those that were exported"):
        import_runs(kept, exported.replace('"text": "the truth"', '"text": "a lie"'), HERS)
    assert History(kept.store).count(HERS.owner) == 1


def test_a_file_beyond_the_cap_is_refused_before_it_is_read(kept: Kept) -> None:
    with pytest.raises(InvalidRequest, match=f"at most {MOST_MB} MB"):
        import_runs(kept, " " * (MOST_MB * 1_000_000 + 1), HERS)


def test_an_error_while_storing_leaves_nothing_of_the_file(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    insert, calls = Store._insert, []

    def failing(self, db, record, lead, context):
        calls.append(record.id)
        insert(self, db, replace(record, id=calls[0]), lead, context)  # the second row has the first one's key

    monkeypatch.setattr(Store, "_insert", failing)
    with pytest.raises(Exception, match="UNIQUE"):
        import_runs(kept, recording() + recording("contamination.jsonl"), HERS)
    assert len(calls) == 2 and History(kept.store).count(HERS.owner) == 0


# The command line -------------------------------------------------------------------------------------------------------------------


def test_the_command_line_imports_exports_and_hands_out_the_database(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def loupe(*arguments: str) -> list[str]:
        assert main(["--data-dir", str(data_dir), "history", *arguments]) == 0
        return capsys.readouterr().out.splitlines()

    run_id = loupe("import", str(assets_dir() / "runs" / "hidden_text.jsonl"))[0]
    lines = loupe("export", run_id)
    assert json.loads(lines[0])["format"] == 1 and run_id in json.loads(lines[0])["requests"]
    assert loupe("export", run_id, "--form", "csv")[0].startswith("lane,position")
    page, own = tmp_path / "run.html", tmp_path / "own.db"
    loupe("export", run_id, "--form", "html", "--out", str(page))
    loupe("database", "--out", str(own))
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>") and own.read_bytes().startswith(b"SQLite format 3")
    assert main(["--data-dir", str(data_dir), "history", "import", str(own)]) == 2
    assert "can't be read" in capsys.readouterr().err


# What ships -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_shipped_recording_can_be_taken_along_as_it_ran(kept: Kept, name: str) -> None:
    run_id = next(iter(json.loads(recording(name).splitlines()[0])["requests"]))
    records, verdict = shipped_entry(run_id)
    exported = entry_jsonl(records, verdict)
    assert exported.splitlines()[1:] == recording(name).splitlines()[1:]
    assert import_runs(kept, exported, HERS)
    assert shipped_entry("0" * 26) is None
