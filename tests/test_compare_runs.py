"""Which runs a comparison gets: one's own, shared ones, recordings; and the command that prints it."""

from __future__ import annotations

import json

import pytest

from backend import examples
from backend.__main__ import main
from backend.compare import compare
from backend.compare_runs import chosen, named, public_ids, split
from backend.errors import InvalidRequest, WorkbenchError
from backend.shares import Shares
from backend.store import Store, new_id
from backend.types import Done, Prompt, RunContext, RunRequest, Token


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path)
    yield opened
    opened.close()


def kept(store, tokens, owner="local", group=None, lane=None, **options):
    """A stored run that said these tokens."""
    run_id = new_id()
    request = RunRequest("structured", Prompt.user("Say it."), {"target": "m"}, options=options)
    store.start(run_id, request, RunContext(owner=owner, group=group, lane=lane), {"torch": "2"})
    store.running(run_id, {"target": {"id": "m", "hash": "aa"}}, "cpu")
    lines = [Token(i, ord(text[0]), text, -0.5).to_line(ms=10.0 * i) for i, text in enumerate(tokens)]
    stats = {"n_tokens": len(tokens)}
    store.finish(run_id, "completed", [*lines, Done("stop", "".join(tokens), stats).to_line()], 50.0, "".join(tokens), stats, len(tokens), None)
    return run_id


def recorded(name="structured"):
    """The ids of a recording's lanes."""
    return list(json.loads(examples.recorded(name)[0])["requests"])


def texts(records):
    return ["".join(token["text"] for token in record.tokens()) for record in records]


def test_runs_come_in_the_order_they_were_asked_for_wherever_they_are_from(store):
    mine, shared = kept(store, ["a", "b"]), kept(store, ["c"], owner="somebody else")
    ids = [mine, Shares(store).share(shared, "somebody else"), recorded()[1]]
    found = named(store, "local", split(f" {', '.join(ids)},"))
    assert [name for name, _ in found] == ids and texts(record for _, record in found)[:2] == ["ab", "c"]
    assert found[2][1].lane == "without grammar" and found[2][1].tokens()
    assert found[1][1].owner == "" and compare([record for _, record in found]).columns


def test_one_id_stands_for_all_lanes_beside_it_itself_first(store):
    lanes = [kept(store, [text], group="g", lane=text) for text in "abcde"]
    assert texts(chosen(store, "local", [lanes[2]])) == ["c", "a", "b", "d"]  # as many as a comparison takes
    share = Shares(store).share(lanes[0], "local")
    assert texts(chosen(store, "nobody", [f"{share}.2"])) == ["b", "a", "c", "d"]
    assert [name for name, _ in named(store, "nobody", [f"{share}.2"])] == [f"{share}.2", share, f"{share}.3", f"{share}.4"]
    assert [record.id for record in chosen(store, "local", [recorded()[1]])] == [recorded()[1], recorded()[0], recorded()[2]]


def test_a_run_of_somebody_else_is_none_and_a_share_has_only_its_lanes(store):
    theirs = kept(store, ["a"], owner="one")
    for wrong in (theirs, "nothing", "s-" + "0" * 32):
        with pytest.raises(WorkbenchError):
            chosen(store, "two", [wrong, recorded()[0]])
    share = Shares(store).share(theirs, "one")
    with pytest.raises(WorkbenchError, match="asks for lane 2, the shared run has 1"):
        chosen(store, "two", [f"{share}.2", share])
    Shares(store).revoke(theirs, "one")
    with pytest.raises(WorkbenchError, match="not shared"):
        chosen(store, "two", [share, share])
    with pytest.raises(InvalidRequest, match="at most 4 runs, got 5"):
        chosen(store, "two", [recorded()[0]] * 5)


def test_a_link_for_everybody_names_runs_by_their_shares(store):
    lanes = [kept(store, [text], group="g", lane=text) for text in "ab"]
    ids = [lanes[1], recorded()[0]]
    assert public_ids(store, "local", ids) is None
    share = Shares(store).share(lanes[0], "local")
    public = public_ids(store, "local", ids)
    assert public == [f"{share}.2", recorded()[0]] and public_ids(store, "nobody", public) == public
    assert texts(chosen(store, "nobody", public)) == texts(chosen(store, "local", ids))


# The command line -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def loupe(tmp_path, capsys):
    """`history compare` on a data directory: exit code, what was printed, what was said of errors."""

    def call(*arguments):
        code = main(["--data-dir", str(tmp_path), "history", "compare", *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def test_the_command_prints_what_the_json_says(store, loupe):
    one, other = kept(store, ["a", "b\x1b", "c"], seed=1), kept(store, ["a", "X", "c"], seed=2)
    code, text, _ = loupe(one, other)
    assert code == 0 and "parts from run 1 at token 1, 1 token differs" in text.splitlines()[0]
    assert "options.seed" in text and '"X"' in text and "\x1b" not in text and "\\u001b" in text
    code, text, _ = loupe(one, other, "--json")
    data = json.loads(text)
    assert code == 0 and data["differences"] == [1] and [side["run"] for side in data["sides"]] == [one, other]
    assert [setting["name"] for setting in data["settings"]] == ["options.seed"]


def test_an_option_that_only_one_run_names_is_held_against_the_methods_default(store, loupe):
    one, other = kept(store, ["a"], kind="json_schema"), kept(store, ["a"])
    _, text, _ = loupe(one, other, "--json")
    data = json.loads(text)
    assert data["settings"] == [] and data["same"]["options.kind"] == "json_schema"


def test_wrong_ids_and_numbers_have_their_exit_codes(store, loupe):
    one = kept(store, ["a"])
    assert loupe(one, "nothing")[0] == 1 and "There is no run nothing here." in loupe(one, "nothing")[2]
    assert loupe(one)[0] == 2 and loupe(*[one] * 5)[0] == 2
