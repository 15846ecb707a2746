"""The store gives back what it was given, to whom it belongs, also after a crash."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlite_utils import Database, Migrations

from backend.errors import WorkbenchError
from backend.history import History, Wanted
from backend.migrations import m001_owners_and_sessions, m002_runs, m003_lines, m004_artifacts, m005_search
from backend.store import Store, new_id
from backend.types import Prompt, RunContext, RunRequest, Verdict


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path)
    yield opened
    opened.close()


def request(text="Extract Maria.", method="structured"):
    return RunRequest(method, Prompt.user(text), {"target": "smollm2"}, options={"kind": "json"})


def kept(store, text="Extract Maria.", owner="local", output="answer", **context):
    run_id = new_id()
    store.start(run_id, request(text), RunContext(owner=owner, **context), {"torch": "2"})
    store.running(run_id, {"target": {"id": "smollm2"}}, "cpu")
    store.append(run_id, ['{"event":"token","text":"a"}', '{"event":"token","text":"\\n"}'])
    store.finish(run_id, "completed", ['{"event":"done"}'], 12.5, output, {"valid": True}, 2, None)
    return run_id


def test_a_row_becomes_an_object_again_with_its_lines_in_order(store):
    record = store.get(kept(store), "local")
    assert [e["event"] for e in record.events()] == ["token", "token", "done"]
    assert (record.request, record.status, record.stats, record.text) == (request(), "completed", {"valid": True}, "answer")


def test_runs_are_found_by_words_of_prompt_or_output_and_query_syntax_is_only_text(store):
    first = kept(store, "Where does Maria live?", output="in Lisbon")
    kept(store, "What is the sky?", output="blue")
    assert [r.id for r in store.runs("local", text="lisb")] == [first]
    assert [r.id for r in store.runs("local", text="maria lives OR")] == []
    for hostile in ('"', "* AND", "NEAR(", "a:b", "'; DROP TABLE runs; --"):
        assert store.runs("local", text=hostile) == []
    assert len(store.runs("local")) == 2


def test_nobody_reads_or_deletes_the_runs_of_another(store):
    mine = kept(store, owner="one")
    with pytest.raises(WorkbenchError, match="no run"):
        store.get(mine, "two")
    with pytest.raises(WorkbenchError, match="no run"):
        store.delete(mine, "two")
    assert store.runs("two") == [] and store.get(mine, "one")


def test_deleting_forgets_lines_and_index(store):
    run_id = kept(store, output="zebra")
    store.delete(run_id, "local")
    assert store.runs("local", text="zebra") == []
    with pytest.raises(WorkbenchError):
        store.get(run_id, "local")


def test_a_group_comes_back_in_the_order_it_ran_with_its_verdict(store):
    ids = [kept(store, group="g", lane=name) for name in ("grammar", "none")]
    store.set_verdict("g", Verdict("No measurable difference.", {"ratio": 1.0}, None))
    records, verdict = store.group("g", "local")
    assert [r.id for r in records] == ids and verdict == Verdict("No measurable difference.", {"ratio": 1.0}, None)


def test_a_crash_leaves_interrupted_with_the_lines_up_to_the_last_checkpoint(tmp_path):
    script = (
        "import os, sys, pathlib; from backend.store import Store, new_id; from backend.types import *\n"
        f"s = Store(pathlib.Path({str(tmp_path)!r})); i = new_id(); r = RunRequest('structured', Prompt.user('x'), {{'target': 'm'}})\n"
        "s.start(i, r, RunContext(), {}); s.running(i, {}, 'cpu')\n"
        """s.append(i, ['{"event":"token","text":"kept"}']); print(i, flush=True); os._exit(9)"""
    )
    run_id = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stdout.strip()
    with_living = Store(tmp_path)
    record = with_living.get(run_id, "local")
    assert with_living.interrupted == [run_id]
    assert (record.status, record.text, len(record.lines)) == ("interrupted", "kept", 1)
    with_living.close()


def test_a_start_does_not_touch_the_runs_of_a_living_process(store, tmp_path):
    run_id = new_id()
    store.start(run_id, request(), RunContext(), {})
    script = f"import pathlib; from backend.store import Store; s = Store(pathlib.Path({str(tmp_path)!r})); print(s.interrupted); s.close()"
    seen = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    assert seen == "[]" and store.get(run_id, "local").status == "queued"


def test_many_threads_write_at_once_and_nothing_is_lost(store):
    def write(number):
        return kept(store, f"prompt {number}", output=json.dumps(number))

    with ThreadPoolExecutor(6) as threads:
        ids = list(threads.map(write, range(30)))
    assert {r.id for r in store.runs("local", limit=100)} == set(ids)


def test_a_database_of_an_earlier_version_keeps_its_runs_findable_and_in_entries(tmp_path):
    old = Migrations("loupe")
    for step in (m001_owners_and_sessions, m002_runs, m003_lines, m004_artifacts, m005_search):
        old()(step)
    db = Database(tmp_path / "loupe.db")
    old.apply(db)
    db["owners"].insert({"id": "local", "kind": "local", "created_at": "2026-01-01"})
    db["groups"].insert({"id": "g", "owner_id": "local", "created_at": "2026-01-01"})
    long = "zebra " * 200
    for run_id, group in (("a", "g"), ("b", "g"), ("c", None)):
        row = {"id": run_id, "owner_id": "local", "process_id": "gone", "method": "structured", "status": "completed", "group_id": group,
               "request": json.dumps(request().to_json()), "models": '{"target": {"id": "smollm2"}}', "versions": '{"torch": "2"}',
               "prompt": request().prompt.text, "text": long, "stats": '{"valid": true}', "n_tokens": 200,
               "created_at": f"2026-01-01T{run_id}"}  # fmt: skip
        db["runs"].insert(row)
        db["run_search"].insert({"run_id": run_id, "prompt": row["prompt"], "output": long})
        done = json.dumps({"event": "done", "text": long})
        db["run_lines"].insert({"run_id": run_id, "chunk": 0, "n": 1, "codec": "zlib-jsonl", "data": zlib.compress(done.encode())})
    db.close()
    store = Store(tmp_path)
    history = History(store)
    assert [(r.id, r.lanes) for r in history.entries("local", Wanted(text="zebra", model="smollm2"))] == [("c", 1), ("a", 2)]
    record = store.get("b", "local")
    assert (record.text, record.versions, record.models, record.stats) == (long, {"torch": "2"}, {"target": {"id": "smollm2"}}, {"valid": True})
    assert history.forget("a", "local") == 2 and [r.id for r in store.runs("local", text="zebra")] == ["c"]
    store.close()
