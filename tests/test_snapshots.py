"""Snapshots: what is restored is what was there, damaged files are passed over, instances don't take each other's files."""

from __future__ import annotations

import sqlite3
import threading
from datetime import datetime, timezone

import pytest

from backend.errors import InvalidRequest
from backend.snapshots import KEPT, Snapshots, SnapshotState, is_sound, listed, minutes_of, restore, words
from backend.store import Store, new_id
from backend.types import Prompt, RunContext, RunRequest

LONG = 1000.0  # minutes: no snapshot by itself while a test runs


def add(store, text="hello"):
    """One finished run; its id."""
    run_id = new_id()
    store.start(run_id, RunRequest("count", Prompt.user(text), {"target": "m"}), RunContext(), {})
    store.finish(run_id, "completed", [f'{{"event":"done","finish_reason":"stop","text":"{text}","stats":{{}}}}'], 1.0, text, {}, 1, None)
    return run_id


@pytest.fixture
def store(data_dir):
    made = Store(data_dir)
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "bucket"


@pytest.fixture
def taker(store, folder):
    """Makes the snapshots of the store; they are closed after the test."""
    made = []

    def make(place=folder, process=store.process_id, began=None, minutes=LONG):
        made.append(Snapshots(store.path, place, process, minutes, began))
        store.on_write = made[-1].changed
        return made[-1]

    yield make
    for snapshots in made:
        snapshots.close()


def test_a_snapshot_restores_every_run_where_the_database_is_gone(store, folder, tmp_path, taker):
    ids = [add(store, f"text {i}") for i in range(5)]
    taker().take()
    began = restore(folder, tmp_path / "new" / "loupe.db")
    again = Store(tmp_path / "new")
    assert began is not None and {r.id for r in again.runs("local")} == set(ids)
    assert again.get(ids[3], "local").lines == store.get(ids[3], "local").lines
    again.close()


def test_a_run_that_was_under_way_is_interrupted_after_a_restore(store, folder, tmp_path, taker):
    run_id = new_id()
    store.start(run_id, RunRequest("count", Prompt.user("x"), {"target": "m"}), RunContext(), {})
    taker().take()
    restore(folder, tmp_path / "new" / "loupe.db")
    again = Store(tmp_path / "new")
    assert again.find(run_id).status == "interrupted"
    again.close()


def test_a_database_that_is_there_is_never_replaced(store, folder, taker):
    add(store)
    taker().take()
    later = add(store)
    assert restore(folder, store.path) is None and store.find(later).id == later


def test_a_damaged_snapshot_is_passed_over_for_the_one_before(store, folder, tmp_path, taker):
    snapshots = taker()
    first = add(store)
    good = snapshots.take()
    add(store)
    bad = snapshots.take()
    data = bytearray(bad.read_bytes())
    data[1000:-1000] = b"\xff" * (len(data) - 2000)
    bad.write_bytes(data)
    (folder / "loupe-notours.db").write_text("x")
    (folder / good.with_suffix(".partial").name).write_text("half")
    assert not is_sound(bad) and is_sound(good)
    assert restore(folder, tmp_path / "new" / "loupe.db").path == good
    again = Store(tmp_path / "new")
    assert [r.id for r in again.runs("local")] == [first]
    again.close()


def test_nothing_sound_means_an_empty_start(folder, tmp_path):
    folder.mkdir()
    (folder / "loupe-aaaaaaaaaa-20260101T000000000-aaaaaaaaaa.db").write_text("not a database")
    assert restore(folder, tmp_path / "new" / "loupe.db") is None
    assert not list((tmp_path / "new").glob("loupe.db*"))


def test_only_the_newest_are_kept(store, folder, taker):
    snapshots = taker()
    taken = []
    for _ in range(KEPT + 2):
        add(store)
        taken.append(snapshots.take())
    assert [s.path for s in listed(folder)] == taken[::-1][:KEPT]
    assert not list(folder.glob("*.partial")) and not list(store.path.parent.glob("snapshot-*"))


def test_a_second_instance_keeps_its_own_files(store, folder, taker):
    """Both began with the same snapshot; each prunes what was before it and what it wrote, nothing else."""
    add(store)
    for _ in range(KEPT):
        taker(folder, "P" * 26).take()
    began = listed(folder)[0]
    one, two = taker(folder, "A" * 26, began), taker(folder, "B" * 26, began)
    theirs = [two.take()]
    for _ in range(KEPT + 1):
        one.take()
    left = listed(folder)
    assert [s.process for s in left].count("a" * 10) == KEPT and theirs[0] in [s.path for s in left]
    assert {s.line for s in left} == {"p" * 10} and "p" * 10 not in {s.process for s in left}


def test_the_thread_starts_with_the_first_change_and_takes_one_when_something_changed(store, folder, taker):
    taken = threading.Event()
    snapshots = taker(minutes=0.001)
    before = snapshots.take
    snapshots.take = lambda: (before(), taken.set())
    assert "snapshots" not in {t.name for t in threading.enumerate()} and not folder.exists()
    add(store)
    assert taken.wait(30)
    snapshots.close()
    assert "snapshots" not in {t.name for t in threading.enumerate()} and listed(folder)


def test_closing_takes_the_last_one_only_if_something_changed(store, folder, taker):
    snapshots = taker()
    snapshots.close()
    assert not folder.exists()
    snapshots = taker()
    add(store)
    snapshots.close()
    assert len(listed(folder)) == 1


def test_a_folder_that_cannot_be_written_never_reaches_a_run(store, tmp_path, taker):
    (tmp_path / "file").write_text("in the way")
    snapshots = taker(tmp_path / "file" / "bucket")
    run_id = add(store)
    assert snapshots.take() is None and store.find(run_id).status == "completed"
    said = words(snapshots, True)
    assert said.startswith("History is not being kept") and "no snapshot yet" in said
    snapshots.close()


def test_a_snapshot_is_consistent_while_another_thread_writes(store, folder, taker):
    """Every run in it is whole: a row and its lines were written in one transaction."""
    stop = threading.Event()

    def write():
        while not stop.is_set():
            add(store, "busy")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        path = taker().take()
    finally:
        stop.set()
        thread.join()
    assert is_sound(path)
    db = sqlite3.connect(path)
    done = db.execute("SELECT count(*) FROM runs WHERE status = 'completed'").fetchone()[0]
    assert done == db.execute("SELECT count(DISTINCT run_id) FROM run_lines").fetchone()[0]
    db.close()


@pytest.mark.parametrize(("seconds", "said"), [(10, "less than a minute ago"), (60, "1 minute ago"), (190, "3 minutes ago"), (9000, "2 hours ago")])
def test_the_page_says_how_old_the_last_one_is(store, folder, seconds, said, taker):
    snapshots = taker()
    last = datetime(2026, 1, 1, tzinfo=timezone.utc)
    snapshots.state = SnapshotState(last)
    assert words(snapshots, True, lambda: last.timestamp() + seconds).startswith(f"Last snapshot {said}.")


def test_the_page_says_when_history_is_not_kept():
    assert words(None, True) == "This Space keeps its history until it restarts."
    assert words(None, False) == ""


def test_the_house_brings_the_history_back_where_the_disk_is_new(tmp_path, folder, monkeypatch):
    from backend.house import open_store  # brings torch

    monkeypatch.setenv("LOUPE_SNAPSHOT_DIR", str(folder))
    store, snapshots = open_store(tmp_path / "first")
    store.on_write = snapshots.changed
    run_id = add(store)
    snapshots.close()
    store.close()
    again, goes_on = open_store(tmp_path / "second")
    assert again.find(run_id).status == "completed" and goes_on.state.last == listed(folder)[0].taken
    again.close()
    monkeypatch.delenv("LOUPE_SNAPSHOT_DIR")
    local, none = open_store(tmp_path / "third")
    assert none is None and local.runs("local") == []
    local.close()


def test_the_interval_is_a_number_above_zero(store, folder, taker):
    assert minutes_of({}) == 5.0 and minutes_of({"LOUPE_SNAPSHOT_MINUTES": "0.5"}) == 0.5
    with pytest.raises(InvalidRequest, match="LOUPE_SNAPSHOT_MINUTES"):
        minutes_of({"LOUPE_SNAPSHOT_MINUTES": "often"})
    with pytest.raises(InvalidRequest, match="above 0"):
        taker(minutes=0)
