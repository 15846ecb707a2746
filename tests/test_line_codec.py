"""What is kept of a run comes back byte for byte, whatever its lines hold, and a finished run takes less room than its checkpoints."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from backend.line_codec import COLUMNS, TEXT, dumped, pack, pack_whole, unpack
from backend.paths import assets_dir
from backend.types import Done, Round, Started, Token

RECORDINGS = sorted((assets_dir() / "runs").glob("*.jsonl"))


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_recorded_runs_come_back_as_they_were(path: Path) -> None:
    lines = tuple(path.read_text().splitlines())
    assert unpack(*pack_whole(lines)) == lines == unpack(*pack(lines))


def some_run(seed: int, n: int = 300) -> tuple[str, ...]:
    """A run like real ones: a log-probability and a time to every token, words that come again."""
    draw = random.Random(seed)
    words = [draw.choice((" ", "", "\n")) + "".join(draw.choices("etaoinshr", k=draw.randint(1, 7))) for _ in range(120)]
    lines, ms, texts = [Started("r", None, "plain", "structured", {}, [[1, "<s>"]], "2026-01-01").to_line()], 0.0, []
    for position in range(n):
        ms = round(ms + draw.uniform(20, 40), 3)
        texts.append(draw.choice(words))
        lines.append(Token(position, draw.randint(0, 49_151), texts[-1], -round(draw.expovariate(1), 5)).to_line(ms=ms))
    return (*lines, Done("stop", "".join(texts), {"n_tokens": n}).to_line())


def test_a_run_of_300_tokens_takes_less_as_columns_than_as_text_and_its_answer_is_not_kept_twice() -> None:
    lines = some_run(1)
    codec, data = pack_whole(lines)
    assert codec == COLUMNS and len(data) < 0.8 * len(pack(lines)[1])
    assert json.loads(unpack(codec, data)[-1])["text"] == json.loads(lines[-1])["text"] != ""


@pytest.mark.parametrize("seed", range(20))
def test_any_mixture_of_lines_comes_back(seed: int) -> None:
    draw = random.Random(seed)
    kinds = [
        lambda: Token(draw.randint(-3, 9), 1, draw.choice(['"', "\\", "\u2028", "\x00", "é", "the text of the tokens", ""]), -0.0).to_line(
            ms=draw.random()
        ),
        lambda: Token(1, 2, "x", 1e-300, "model", {"ms": 3, "round": draw.choice([1, "one", None]), "a.b": [1, {"c": 2}]}).to_line(ms=7),
        lambda: Round(draw.randint(0, 5), 3, [[1, "a", 0.5]], [-1], 1).to_line(ms=1.25),
        lambda: '{"event": "token", "with": "spaces"}',
        lambda: '{"event":"token","position":1.5,"ms":"late","detail":{}}',
        lambda: dumped({"event": "finding", "kind": "x", "data": {"text": "\x00the text of the tokens"}}),
    ]
    lines = tuple(draw.choice(kinds)() for _ in range(draw.randint(1, 40)))
    assert unpack(*pack_whole(lines)) == lines


def test_one_line_and_a_line_of_another_program_are_kept_as_text_or_columns_but_never_changed() -> None:
    for lines in (('{"event":"done"}',), ('{"event":"token","text":"a"}', '{"event":"done","text":"a"}')):
        codec, data = pack_whole(lines)
        assert codec in (TEXT, COLUMNS) and unpack(codec, data) == lines
