"""`python -m backend history …`: each action does to the store what it says, and says what it did."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.__main__ import main
from backend.errors import WorkbenchError
from backend.history import History, Wanted
from backend.shares import Shares
from backend.store import Store, new_id
from backend.types import Prompt, RunContext, RunRequest
from tests.tiny_models import save_tiny

Loupe = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def loupe(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> Loupe:
    """The command line without the cost of a new process: exit code and lines of standard output."""

    def call(*arguments: str) -> tuple[int, list[str]]:
        code = main(["--data-dir", str(data_dir), "history", *arguments])
        return code, capsys.readouterr().out.splitlines()

    return call


def kept(data_dir: Path, prompt: str, lanes: int = 2) -> str:
    """An entry of so many lanes; returns its first run."""
    store, group, runs = Store(data_dir), new_id(), [new_id() for _ in range(lanes)]
    for i, run in enumerate(runs):
        store.start(run, RunRequest("structured", Prompt.user(prompt), {"target": "m"}), RunContext(group=group, lane=f"lane {i}"), {})
        store.finish(run, "completed", ['{"event":"done","finish_reason":"stop","text":"answer","stats":{}}'], 1.0, "answer", {}, 1, None)
    store.close()
    return runs[0]


def listed(loupe: Loupe, *filters: str) -> list[str]:
    code, lines = loupe("list", "--json", *filters)
    assert code == 0
    return [json.loads(line)["request"]["prompt"]["messages"][-1]["content"] for line in lines]


def test_what_is_said_of_a_run_finds_it_again(loupe: Loupe, data_dir: Path) -> None:
    first, second = kept(data_dir, "alpha"), kept(data_dir, "beta")
    assert loupe("tag", first, "Red", "odd") == (0, [f"{first}: odd, red"])
    assert loupe("rename", first, "A title")[0] == loupe("note", first, "about zebras")[0] == loupe("pin", second)[0] == 0
    assert listed(loupe, "--tag", "red") == listed(loupe, "--text", "zebras") == listed(loupe, "--text", "title") == ["alpha"]
    assert listed(loupe, "--pinned") == ["beta"] and listed(loupe) == ["beta", "alpha"] and listed(loupe, "--offset", "1") == ["alpha"]
    assert loupe("pin", second, "--off")[0] == 0 and listed(loupe, "--pinned") == []
    assert loupe("tag", first)[1] == [f"{first}: no tags"] and listed(loupe, "--tag", "red") == []
    assert "alpha" in "\n".join(loupe("list")[1])


def test_a_link_is_made_once_and_opens_nothing_when_it_is_revoked(loupe: Loupe, data_dir: Path) -> None:
    run = kept(data_dir, "alpha")
    (link,) = loupe("share", run, "--host", "https://ann.example/")[1]
    share = link.removeprefix("https://ann.example/shared?run=")
    assert loupe("share", run, "--host", "https://ann.example")[1] == [link]
    store = Store(data_dir)
    try:
        assert [record.lane for record in Shares(store).open(share)[0]] == ["lane 0", "lane 1"]
        assert loupe("revoke", run)[0] == 0
        with pytest.raises(WorkbenchError, match="not shared"):
            Shares(store).open(share)
    finally:
        store.close()


def test_deleting_asks_for_a_yes_and_takes_all_lanes(loupe: Loupe, data_dir: Path) -> None:
    run = kept(data_dir, "alpha", lanes=3)
    assert "still here" in loupe("delete", run)[1][0] and listed(loupe) == ["alpha"]
    assert loupe("delete", run, "--yes")[1] == ["3 lanes deleted."]
    store = Store(data_dir)
    assert History(store).count("local", Wanted()) == 0 and store.runs("local") == []
    store.close()


@pytest.mark.parametrize("action", [("show",), ("share",), ("revoke",), ("pin",), ("tag",), ("rename", "t"), ("note", "t"), ("delete",), ("again",)])
def test_a_run_that_is_not_here_ends_with_1_and_a_sentence(loupe: Loupe, action: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    name, *rest = action
    code, lines = loupe(name, "01JNOSUCHRUN", *rest)
    assert (code, lines) == (1, [])


def test_again_repeats_a_run_and_its_last_line_says_that_the_tokens_are_identical(
    loupe: Loupe, data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny(data_dir / "models" / "mine" / "tiny")
    request = data_dir / "request.json"
    options = {"kind": "regex", "grammar": "(cat|dog)s? [0-9]{3}"}
    asked = {"prompt": "the cat", "models": {"target": "mine/tiny"}, "sampling": {"max_new_tokens": 12, "temperature": 1.0, "seed": 3}}
    request.write_text(json.dumps({**asked, "options": options}), encoding="utf-8")
    assert main(["--data-dir", str(data_dir), "run", "structured", "--request", str(request)]) == 0
    before = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    code, lines = loupe("again", before[0]["run"])
    after = [json.loads(line) for line in lines]
    assert code == 0 and after[-1]["event"] == "again" and after[-1]["identical"], after[-1]
    assert [e["id"] for e in after if e["event"] == "token"] == [e["id"] for e in before if e["event"] == "token"]
    assert "identical" in after[-1]["sentence"].lower()
