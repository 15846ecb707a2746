"""The bench's own parts: walks that stay inside the mask, schemas from files, bars, and the last line of the report."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from backend.bench import Bar, Progress, Report, at_most, print_report, run_bench
from backend.bench.structured import Case, figures, mask_bar, read_schemas, rows, validity_bars
from backend.bench.walk import CLOSE, DICE, NEXT, QUOTE, REST, STOP, Vocabulary, kind_of, names_in, walk
from backend.errors import InvalidRequest

LETTERS = [chr(i) for i in range(32, 127)]
STOP_ID = len(LETTERS)
VOCABULARY = Vocabulary.of([*LETTERS, "<end>"], [STOP_ID], lambda ids: "".join(LETTERS[i] for i in ids))
TEXTS = ['{"name": "x", "size": [1, 2]}', '{"size": []}', '{"size": [1]}', "{}", '"}"']


class Words:
    """A session whose grammar is a list of texts: what may come is known by hand."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts, self.said = texts, ""

    def push(self, token_id: int) -> None:
        self.said += LETTERS[token_id]

    def mask(self) -> SimpleNamespace:
        going = [text for text in self.texts if text.startswith(self.said)]
        allowed = torch.zeros(STOP_ID + 1, dtype=torch.bool)
        for text in going:
            allowed[LETTERS.index(text[len(self.said)]) if len(text) > len(self.said) else STOP_ID] = True
        return SimpleNamespace(allowed=allowed, count=int(allowed.sum()), terminated=False)


@pytest.mark.parametrize("dice", DICE)
def test_a_walk_ends_with_a_text_of_the_grammar_and_finds_several(dice):
    """40 walks over five texts; the odds that they find fewer than two are below one in a million."""
    found = set()
    for seed in range(40):
        result = walk(Words(TEXTS), VOCABULARY, dice, random.Random(seed), names=["size", "name"])
        assert result.end == "finished" and result.text in TEXTS and len(result.step_ms) == len(result.text)
        found.add(result.text)
    assert len(found) >= 2


def test_a_walk_without_a_way_on_is_a_dead_end_and_an_endless_one_is_given_up():
    dead = Words(["ab"])
    dead.mask = lambda: SimpleNamespace(allowed=torch.zeros(STOP_ID + 1, dtype=torch.bool), count=0, terminated=False)
    assert walk(dead, VOCABULARY, DICE[0], random.Random(0)).end == "dead_end"
    assert walk(Words(["a" * 4_000]), VOCABULARY, DICE[0], random.Random(0)).end == "gave_up"


def test_the_same_seed_walks_the_same_way():
    once, again = (walk(Words(TEXTS), VOCABULARY, DICE[2], random.Random(3), ["size", "name"]).text for _ in range(2))
    assert once == again


def test_a_keen_walk_takes_the_property_that_is_declared_first():
    texts = ['{"size": 1}', '{"name": 1}']
    taken = [walk(Words(texts), VOCABULARY, DICE[1], random.Random(seed), names=["size", "name"]).text for seed in range(100)]
    assert taken.count(texts[0]) > 80  # it is keen nine times in ten; fewer than 80 of 100 comes once in a thousand


@pytest.mark.parametrize(
    ("text", "kind"), [("}", CLOSE), ('"}]', CLOSE), ('"', QUOTE), ('", "', NEXT), (": {", NEXT), (" ", REST), ("a", REST), ("", REST), ("1}", REST)]
)
def test_tokens_are_sorted_by_what_they_do_to_the_json(text: str, kind: int):
    assert kind_of(text) == kind
    assert VOCABULARY.kinds[STOP_ID] == STOP


def test_names_are_found_in_the_order_of_the_schema():
    schema = {"properties": {"b": {"items": {"properties": {"z": {}, "a": {}}}}, "c": {}}, "anyOf": [{"properties": {"b": {}, "d": {}}}]}
    assert names_in(schema) == ["b", "c", "z", "a", "d"]


def test_schemas_are_read_bare_or_wrapped_from_a_folder_or_a_file(tmp_path: Path):
    (tmp_path / "b.json").write_text('{"schema": {"type": "null"}, "tests": []}')
    (tmp_path / "a.json").write_text('{"type": "integer"}')
    assert read_schemas(tmp_path) == [("a", {"type": "integer"}), ("b", {"type": "null"})]
    lines = tmp_path / "list.jsonl"
    lines.write_text('{"name": "x", "schema": true}\n\n{"type": "string"}\n')
    assert read_schemas(lines) == [("x", True), ("list:3", {"type": "string"})]
    with pytest.raises(InvalidRequest):
        read_schemas(tmp_path / "missing")
    with pytest.raises(InvalidRequest):
        run_bench("nothing", data_dir=tmp_path)


def test_the_bars_count_unmarked_failures_and_false_alarms():
    wrong = (("invalid", "too short", '""'),)
    cases = [
        Case("marked and failed", True, "", 4, ("finished",) * 4, wrong, [0.1]),
        Case("unmarked and failed", False, "", 4, ("finished",) * 4, wrong, [0.3]),
        Case("marked in vain", True, "", 4, ("finished",) * 4),
        *[Case(f"clean {i}", False, "", 4, ("finished",) * 4) for i in range(3)],
        Case("refused", True, "too deep"),
    ]
    unmarked, flagged = validity_bars(cases)
    assert (unmarked.value, unmarked.holds) == (1, False)
    assert (flagged.value, flagged.holds) == (0.25, False)
    assert mask_bar(cases, 100).value > 0.2 and mask_bar([], 100).value is None
    counts = figures(cases)
    assert counts["schemas with an invalid output"] == 2 and counts["schemas that never failed"] == 4 and counts["refused or over the limits"] == 1
    assert [row.split()[0] for row in rows(cases)] == ["UNMARKED", "refused"]


def test_a_report_ends_with_one_json_line():
    out = io.StringIO()
    print_report("structured", Report([at_most("a", 0.1, 0.2), Bar("b", None, "≥ 1", None)], {"schemas": 3}, rows=["a row"]), out)
    last = json.loads(out.getvalue().splitlines()[-1])
    assert last["bench"] == "structured" and last["device"] == "cpu" and "xgrammar" in last["versions"]
    assert last["bars"] == [{"name": "a", "value": 0.1, "bar": "≤ 0.2", "holds": True}, {"name": "b", "value": None, "bar": "≥ 1", "holds": None}]


def test_progress_tells_a_rate_and_the_time_left():
    times = iter([0.0, 2.0, 2.1, 8.0])
    out = io.StringIO()
    progress = Progress(4, "schemas", out, clock=lambda: next(times))
    for done in (1, 2, 4):
        progress.update(done)
    lines = out.getvalue().splitlines()
    assert len(lines) == 2 and lines[0].startswith("1/4 schemas, 0.50/s, 6 s left") and lines[1].startswith("4/4")
