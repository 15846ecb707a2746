"""The command line is the contract: lines on standard output, exit codes 0, 1, 2."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from backend import commands
from backend.__main__ import main
from backend.errors import InvalidRequest
from tests.tiny_models import save_tiny


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A data directory with a tiny model as `mine/tiny`."""
    folder = tmp_path_factory.mktemp("place")
    save_tiny(folder / "models" / "mine" / "tiny")
    return folder


@pytest.fixture
def loupe(place, monkeypatch, capsys):
    """The command line without the cost of a new process: exit code and lines of standard output."""

    def call(*arguments: str, stdin: str = "") -> tuple[int, list[str]]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = main(["--data-dir", str(place), *arguments])
        return code, capsys.readouterr().out.splitlines()

    return call


def request(**options):
    data = {"prompt": "the cat", "models": {"target": "mine/tiny"}, "sampling": {"max_new_tokens": 30},
            "options": {"kind": "regex", "grammar": "(cat|dog)s? [0-9]{3}", **options}}  # fmt: skip
    return json.dumps(data)


def test_a_run_prints_its_lines_and_is_in_the_history(loupe):
    code, lines = loupe("run", "structured", "--request", "-", "--with-baselines", stdin=request())
    events = [json.loads(line) for line in lines]
    assert code == 0, lines
    assert [e["lane"] for e in events if e["event"] == "started"] == ["with grammar", "without grammar", "schema in the prompt"]
    done = next(e for e in events if e["event"] == "done")
    assert done["stats"]["valid"] and events[-1]["event"] == "verdict"
    code, listed = loupe("history", "list", "--json")
    records = [json.loads(line) for line in listed]
    assert code == 0 and [(r["lane"], r["lanes"]) for r in records] == [("with grammar", 3)]
    code, shown = loupe("history", "show", events[0]["run"])
    assert code == 0 and shown == lines[: len(shown)]
    code, exported = loupe("history", "export", events[0]["run"])
    assert json.loads(exported[0])["event"] == "recorded" and exported[1:] == lines


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (("--set", "options.kind=json_schema", "--set", 'options.grammar="{\\"type\\": \\"objec\\"}"'), request(), "objec"),
        (("--set", "options.kind=json_schema", "--set", 'options.grammar="{"'), request(), "Line 1, column"),
        (("--set", "options.grammar=(unclosed"), request(), "haracter"),
        (("--set", "sampling.temperature=-1"), request(), "between 0 and 10"),
        (("--set", "options.colour=red"), request(), "no field 'colour'"),
        ((), "{not json", "line 1, column 2"),
        (("--set", "nonsense"), request(), "FIELD=VALUE"),
    ],
)  # fmt: skip
def test_what_is_not_a_valid_request_ends_with_2_and_one_readable_line(loupe, arguments, stdin, words):
    code, lines = loupe("run", "structured", "--request", "-", *arguments, stdin=stdin)
    last = json.loads(lines[-1])
    assert (code, len(lines), last["event"]) == (2, 1, "failed")
    assert words in last["error"] and "/project/" not in last["error"] and ".cc" not in last["error"]


def test_a_missing_model_ends_with_1(loupe):
    code, lines = loupe("run", "structured", "--request", "-", "--set", "models.target=mine/nothing", stdin=request())
    assert code == 1 and json.loads(lines[-1])["event"] == "failed" and "mine/nothing" in lines[-1]


def test_describe_tells_a_models_passport(loupe):
    code, lines = loupe("models", "describe", "mine/tiny")
    passport = json.loads("\n".join(lines))
    assert code == 0 and passport["n_parameters"] > 10_000 and passport["vocab_size"]
    assert loupe("models", "describe", "mine/nothing")[0] == 1


def test_override_sets_one_field_and_leaves_the_rest():
    data = {"prompt": "a", "options": {"kind": "regex", "n": 1}}
    assert commands.override(data, ["options.n=2", "options.new.deep=[1]", "prompt=say: hi"]) == {
        "prompt": "say: hi", "options": {"kind": "regex", "n": 2, "new": {"deep": [1]}}}  # fmt: skip
    assert data["options"] == {"kind": "regex", "n": 1}
    with pytest.raises(InvalidRequest, match="holds no fields"):
        commands.override(data, ["prompt.x=1"])


def test_as_a_program_it_prints_nothing_but_lines_and_gives_its_code_to_the_shell(place):
    command = [sys.executable, "-m", "backend", "--data-dir", str(place), "run", "structured", "--request", "-"]
    done = subprocess.run(command, capture_output=True, text=True, input=request(), check=False)
    assert done.returncode == 0 and json.loads(done.stdout.splitlines()[-1])["event"] == "done" and done.stderr == ""
    refused = subprocess.run([*command, "--set", "sampling.seed=-1"], capture_output=True, text=True, input=request(), check=False)
    assert refused.returncode == 2 and json.loads(refused.stdout)["where"] == "sampling.seed"
