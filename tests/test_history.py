"""Finding, naming, sharing and forgetting: every filter against a plain reading of the list, every statement bound to its owner."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.errors import InvalidRequest, WorkbenchError
from backend.history import History, Wanted
from backend.shares import Shares, is_share_id
from backend.store import Store, new_id
from backend.types import Done, Prompt, RunContext, RunRequest, Token, Verdict

ANSWER = ("Rain ", "over ", "Lisbon ", "today")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.close()


def press(store: Store, prompt: str, owner: str = "local", model: str = "smollm2", lanes: int = 2, method: str = "structured",
          answer: tuple[str, ...] = ANSWER) -> list[str]:  # fmt: skip
    """One press of Run: so many lanes of one group, ended."""
    group, ids = new_id(), [new_id() for _ in range(lanes)]
    for run_id in ids:
        store.start(run_id, RunRequest(method, Prompt.user(prompt), {"target": model}), RunContext(owner=owner, group=group), {"torch": "2"})
    for run_id in ids:
        store.running(run_id, {"target": {"id": model}}, "cpu")
        lines = [Token(i, i, text, -0.5).to_line(ms=float(i)) for i, text in enumerate(answer)]
        done = Done("stop", "".join(answer), {"n_tokens": len(answer), "spans": {"model": 1.0}})
        store.append(run_id, lines[:1])
        store.finish(run_id, "completed", [*lines[1:], done.to_line()], 5.0, done.text, done.stats, len(answer), None)
    store.set_verdict(group, Verdict("The same.", {}, True))
    return ids


def found(history: History, **wanted: object) -> list[str]:
    return [record.id for record in history.entries("local", Wanted(**wanted))]  # type: ignore[arg-type]


def test_an_entry_is_a_press_of_run_and_its_first_lane_stands_for_it(store: Store) -> None:
    history, one, two = History(store), press(store, "first"), press(store, "second", lanes=3)
    entries = history.entries("local")
    assert [(record.id, record.lanes) for record in entries] == [(two[0], 3), (one[0], 2)] and history.count("local") == 2


def test_text_is_found_in_prompt_answer_title_and_note_of_every_lane_and_no_longer_when_it_is_changed(store: Store) -> None:
    history, ids = History(store), press(store, "weather please")
    press(store, "another", answer=("none",))
    history.rename(ids[1], "local", "Forecast study")
    history.annotate(ids[0], "local", "for Tuesday's class")
    for text in ("weather", "lisbon", "forecast st", "tuesday"):
        assert found(history, text=text) == [ids[0]]
    history.rename(ids[0], "local", "Umbrellas")
    assert found(history, text="forecast") == [] and found(history, text="umbrella") == [ids[0]] == found(history, text="lisbon")


def test_filters_pick_what_a_plain_reading_of_the_list_picks(store: Store) -> None:
    history = History(store)
    for i in range(12):
        ids = press(store, f"prompt {i}", model=("smollm2", "pocket/large")[i % 2], method=("structured", "routing")[i % 3 == 0], lanes=1 + i % 3)
        history.pin(ids[-1], "local", i % 4 == 0)
        history.tag(ids[0], "local", ["even"] if i % 2 == 0 else ["odd", "Of Three"] if i % 3 == 0 else [])
    everything = history.entries("local", limit=100)
    for wanted, holds in (
        (Wanted(model="pocket"), lambda r: "pocket/large" in r.request.models.values()),
        (Wanted(method="routing"), lambda r: r.request.method == "routing"),
        (Wanted(pinned=True), lambda r: r.pinned),
        (Wanted(tag="three"), lambda r: "three" in r.tags),
        (Wanted(tag="even", method="structured", text="prompt"), lambda r: r.tags == ("even",) and r.request.method == "structured"),
        (Wanted(since=everything[3].created_at), lambda r: r.created_at >= everything[3].created_at),
        (Wanted(until=everything[3].created_at[:10]), lambda r: True),
        (Wanted(until="2020-01-01"), lambda r: False),
        (Wanted(status="failed"), lambda r: False),
    ):
        expected = [record.id for record in everything if holds(record)]
        assert [r.id for r in history.entries("local", wanted, limit=100)] == expected and history.count("local", wanted) == len(expected)
    assert [r.pinned for r in everything] == sorted((r.pinned for r in everything), reverse=True)
    assert history.tags("local")[0] == "even" and history.models("local") == ["pocket/large", "smollm2"]
    pages = [r.id for start in range(0, 12, 5) for r in history.entries("local", limit=5, offset=start)]
    assert pages == [r.id for r in everything]


def test_another_owner_can_do_nothing_with_a_run_whose_id_she_knows(store: Store) -> None:
    history, shares, mine = History(store), Shares(store), press(store, "secret", owner="one")
    acts = (
        lambda: history.rename(mine[0], "two", "x"), lambda: history.annotate(mine[0], "two", "x"), lambda: history.pin(mine[0], "two", True),
        lambda: history.tag(mine[0], "two", ["x"]), lambda: history.forget(mine[0], "two"), lambda: shares.share(mine[0], "two"),
        lambda: shares.revoke(mine[0], "two"), lambda: shares.share_id(mine[0], "two"), lambda: store.get(mine[0], "two"),
    )  # fmt: skip
    for act in acts:
        with pytest.raises(WorkbenchError, match="There is no run"):
            act()
    assert history.entries("two") == [] and history.count("two", Wanted(text="secret")) == 0 and history.forget_all("two") == 0
    assert history.tags("two") == history.models("two") == [] and len(history.entries("one")) == 1
    assert store.group(store.get(mine[0], "one").group or "", "two") == ([], None)


def test_a_forgotten_run_leaves_nothing_in_the_file(store: Store) -> None:
    history, ids = History(store), press(store, "zanzibar quokka", answer=("marzipan ", "obelisk"))
    other = press(store, "stays")
    history.annotate(ids[0], "local", "periwinkle")
    share = Shares(store).share(ids[0], "local")
    assert history.forget(ids[1], "local") == 2 and found(history) == [other[0]]
    for word in ("quokka", "marzipan", "periwinkle"):
        assert found(history, text=word) == []
    with pytest.raises(WorkbenchError, match="not shared"):
        Shares(store).open(share)
    store.path.with_suffix(".copy").unlink(missing_ok=True)
    db = sqlite3.connect(store.path)
    db.execute("VACUUM INTO ?", [str(store.path.with_suffix(".copy"))])
    left = {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("runs", "run_lines", "run_search", "groups", "shares")}
    db.close()
    data = store.path.with_suffix(".copy").read_bytes()
    assert left == {"runs": 2, "run_lines": 2, "run_search": 2, "groups": 1, "shares": 0}
    assert not any(word in data for word in (b"quokka", b"marzipan", b"periwinkle", b"zanzibar"))


def test_what_is_under_way_is_neither_shared_nor_forgotten(store: Store) -> None:
    history, run_id = History(store), new_id()
    store.start(run_id, RunRequest("structured", Prompt.user("x"), {"target": "smollm2"}), RunContext(), {})
    for act in (lambda: history.forget(run_id, "local"), lambda: Shares(store).share(run_id, "local")):
        with pytest.raises(WorkbenchError, match="under way"):
            act()
    assert history.forget_all("local") == 0 and found(history) == [run_id]


def test_a_share_shows_all_lanes_and_nothing_of_its_owner_and_can_be_taken_back(store: Store) -> None:
    history, shares, ids = History(store), Shares(store), press(store, "to show", owner="one")
    history.rename(ids[0], "one", "private title")
    history.tag(ids[0], "one", ["private"])
    share = shares.share(ids[1], "one")
    assert is_share_id(share) and shares.share(ids[0], "one") == share == shares.share_id(ids[0], "one") and share not in (*ids,)
    records, verdict = shares.open(share)
    assert [r.lines for r in records] == [store.get(run_id, "one").lines for run_id in ids] and verdict == Verdict("The same.", {}, True)
    assert all((r.owner, r.session, r.title, r.note, r.tags, r.pinned) == ("", None, "", "", (), False) for r in records)
    shares.revoke(ids[0], "one")
    assert shares.share_id(ids[0], "one") is None and shares.share(ids[0], "one") != share
    with pytest.raises(WorkbenchError, match="not shared"):
        shares.open(share)
    for guess in ("", ids[0], "s-" + "0" * 32, "s-%", "' OR 1=1 --"):
        with pytest.raises(WorkbenchError):
            shares.open(guess)


def test_a_long_answer_is_kept_once_and_comes_back_whole(store: Store) -> None:
    long = tuple(f"word{i} " for i in range(400))
    ids = press(store, "long", answer=long, lanes=1)
    record = store.get(ids[0], "local")
    assert record.text == "".join(long) and record.stats == {"n_tokens": 400, "spans": {"model": 1.0}} and len(record.tokens()) == 400
    listed = store.runs("local")[0]
    assert "".join(long).startswith(listed.text) and len(listed.text) < 400 and listed.stats == {"n_tokens": 400}
    assert found(History(store), text="word399") == [ids[0]]


def test_too_much_is_refused_with_the_limit(store: Store) -> None:
    history, ids = History(store), press(store, "x")
    for act, limit in (
        (lambda: history.rename(ids[0], "local", "x" * 201), "200"), (lambda: history.annotate(ids[0], "local", "x" * 10_001), "10,000"),
        (lambda: history.tag(ids[0], "local", ["x" * 41]), "40"), (lambda: history.tag(ids[0], "local", [f"t{i}" for i in range(21)]), "20"),
    ):  # fmt: skip
        with pytest.raises(InvalidRequest, match=limit):
            act()
