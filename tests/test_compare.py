"""Comparing runs: what aligns, what differs, what is said of it. Runs here are made of lists of words; oracles are slow and plain."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import cache

import pytest

from backend.align import align, columns
from backend.compare import MOST_TOKENS, compare, comparison_json
from backend.compare_settings import differing, excerpts, fields_of
from backend.compare_tokens import same_text
from backend.errors import InvalidRequest
from backend.types import Done, Finding, Prompt, RunRecord, RunRequest, SamplingParams, Token

SEEDS = range(25)


def run(tokens, run_id="A", ids=None, step_ms=10.0, found=(), **more):
    """A completed run that said these tokens; an id is the token's place in the alphabet unless `ids` says otherwise."""
    ids = ids or [sum(map(ord, text)) * 1000 + len(text) for text in tokens]
    lines = [Token(i, ids[i], text, -0.1 * i).to_line(ms=step_ms * (i + 1)) for i, text in enumerate(tokens)]
    lines += [Finding(kind, data).to_line() for kind, data in found]
    lines.append(Done("stop", "".join(tokens), {"n_tokens": len(tokens)}).to_line())
    request = more.pop("request", RunRequest("count", Prompt.user("Count."), {"target": "m"}))
    models = more.pop("models", {"target": {"id": "m", "hash": "aa", "dtype": "float32"}})
    return RunRecord(run_id, request, more.pop("status", "completed"), models=models, lines=tuple(lines), device="cpu",
                     duration_ms=step_ms * len(tokens), **more)  # fmt: skip


def words(seed, n=30, letters="abcd"):
    """Words of a small alphabet, so that much repeats and alignments are ambiguous."""
    rng = random.Random(seed)
    return [rng.choice(letters) for _ in range(rng.randrange(n))]


def longest_common(one, other):
    """The oracle: length of a longest common subsequence, by its definition."""

    @cache
    def left(i, j):
        if i == len(one) or j == len(other):
            return 0
        return 1 + left(i + 1, j + 1) if one[i] == other[j] else max(left(i + 1, j), left(i, j + 1))

    return left(0, 0)


# Aligning -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_as_much_aligns_as_can_and_only_what_is_the_same(seed):
    one, other = words(seed), words(seed + 1000)
    pairs = align(one, other)
    same = [p for p in pairs if p.same]
    assert len(same) == longest_common(tuple(one), tuple(other)) and all(one[p.one] == other[p.other] for p in same)
    assert [p.one for p in pairs if p.one is not None] == list(range(len(one)))
    assert [p.other for p in pairs if p.other is not None] == list(range(len(other)))


@pytest.mark.parametrize("seed", SEEDS)
def test_columns_read_downwards_give_each_sequence_back(seed):
    sequences = [words(seed + 100 * k) for k in range(2 + seed % 3)]
    made = columns(len(sequences[0]), [align(sequences[0], other) for other in sequences[1:]])
    for k, sequence in enumerate(sequences):
        assert [column.places[k] for column in made if column.places[k] is not None] == list(range(len(sequence)))
    for column in made:
        texts = [None if place is None else sequences[k][place] for k, place in enumerate(column.places)]
        assert column.parts == tuple(text != texts[0] for text in texts)


def test_empty_sequences_align():
    assert align([], []) == [] and [p.other for p in align([], ["a"])] == [0] and [p.one for p in align(["a"], [])] == [0]


# Tokens ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_aligned_tokens_read_in_order_give_each_runs_tokens_back(seed):
    said = [words(seed + 100 * k, letters=("ab", "aab", "b", "ba")) for k in range(2 + seed % 3)]
    weights = [{"target": {"hash": str(k * (seed % 2))}} for k in range(len(said))]  # every second time the models share nothing
    compared = compare([run(tokens, str(k), models=weights[k]) for k, tokens in enumerate(said)])
    for k, tokens in enumerate(said):
        assert [c.cells[k].text for c in compared.columns if c.cells[k] is not None] == tokens
        assert [c.cells[k].position for c in compared.columns if c.cells[k] is not None] == list(range(len(tokens)))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_compared_with_itself_has_no_difference(seed):
    record = run(words(seed) or ["a"])
    compared = compare([record, record])
    assert compared.differences == [] and compared.settings == () and compared.sentence == "Same tokens. It is the same run."
    assert all(side.n_differing == 0 and side.first_difference is None for side in compared.sides)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("edit", ["other", "more", "less"])
def test_a_planted_edit_is_found_at_its_place(seed, edit):
    """The planted word stands nowhere else, so there is one right answer; a word taken out is found where its run of equal words ends."""
    said = words(seed) or ["a"]
    at = random.Random(seed).randrange(len(said))
    changed = {"other": [*said[:at], "X", *said[at + 1 :]], "more": [*said[:at], "X", *said[at:]], "less": [*said[:at], *said[at + 1 :]]}[edit]
    compared = compare([run(said), run(changed, "B")])
    [place] = compared.differences
    one, other = compared.columns[place].cells
    assert compared.sides[1].n_differing == 1
    if edit == "less":
        assert other is None and one.text == said[at] and [*said[: one.position], *said[one.position + 1 :]] == changed
    else:
        assert other.position == at and other.text == "X" and (one is None if edit == "more" else one.position == at)
        assert compared.sides[1].first_difference == at and f"at token {at}, 1 token differs" in compared.sentence


def test_the_same_text_cut_into_other_tokens_is_the_same_text():
    one = run(["The", " cat", " s", "at", " here", "."], models={"target": {"hash": "a"}})
    other = run(["Th", "e cat", " sat", " he", "re", "."], "B", models={"target": {"hash": "b"}})
    compared = compare([one, other])
    assert compared.basis == "texts" and compared.differences == []
    assert compared.sentence.startswith("Same text, cut into tokens differently.")


def test_one_word_that_differs_is_found_between_texts_that_are_cut_differently():
    one = run(["The", " cat", " s", "at", " here"], models={"target": {"hash": "a"}})
    other = run(["Th", "e", " dog", " sat", " he", "re"], "B", models={"target": {"hash": "b"}})
    compared = compare([one, other])
    assert [[cell and cell.text for cell in compared.columns[i].cells] for i in compared.differences] == [[" cat", " dog"]]


def test_ids_are_compared_where_a_model_took_part_in_both_or_their_ids_agree():
    def basis(hashes, ids):
        runs = [run(["a", "b", "c"], name, ids=i, models={"target": {"hash": h}}) for name, h, i in zip("AB", hashes, ids, strict=True)]
        return compare(runs).basis

    assert basis(("x", "x"), ([1, 2, 3], [2, 1, 3])) == "ids"
    assert basis(("x", "y"), ([1, 2, 3], [1, 2, 3])) == "ids"
    assert basis(("x", "y"), ([1, 2, 3], [2, 1, 3])) == "texts"
    assert basis(("x", "y"), ([1, 2, 3], [1, 2, 4])) == "texts"
    assert basis(("x", "y"), ([1, 2, 3], [4, 5, 6])) == "texts"  # nothing in common proves nothing


@pytest.mark.parametrize("seed", SEEDS)
def test_the_longest_text_that_both_begin_with_is_found(seed):
    """The oracle tries every pair of lengths; what is found is the shortest way to say the longest such text."""
    one, other = (words(seed + k, n=9, letters=("a", "b", "ab", "", "aa")) for k in (0, 500))
    heads = {(i, j): "".join(one[:i]) for i in range(len(one) + 1) for j in range(len(other) + 1) if "".join(one[:i]) == "".join(other[:j])}
    best = max(heads.values(), key=len)
    assert same_text(one, other) == min(pair for pair, text in heads.items() if text == best)
    backwards = [text[::-1] for text in one][::-1], [text[::-1] for text in other][::-1]
    assert same_text(one[::-1], other[::-1], backwards=True) == same_text(*backwards)


def test_of_very_long_runs_the_beginning_is_compared_and_that_is_said():
    long = [str(i) for i in range(MOST_TOKENS + 7)]
    compared = compare([run(long), run(["X", *long[1:]], "B"), run(long[::-1], "C"), run(long[5:], "D")])
    assert [side.cut for side in compared.sides] == [7, 7, 7, 2] and compared.sides[1].n_differing == 1
    assert "Only the first 2,000 of run 1's 2,007 tokens are compared." in compared.sentence
    assert sum(column.cells[0] is not None for column in compared.columns) == MOST_TOKENS


@pytest.mark.parametrize("n", [0, 1, 5])
def test_a_comparison_takes_two_to_four_runs(n):
    with pytest.raises(InvalidRequest, match=f"between 2 and 4 runs, got {n}"):
        compare([run(["a"])] * n)


# Settings -------------------------------------------------------------------------------------------------------------------------


def asked(**changes):
    options = changes.pop("options", {})
    models = changes.pop("models", {"target": "m"})
    return run(["a"], request=RunRequest("count", Prompt.user(changes.pop("prompt", "Count.")), models, SamplingParams(**changes), options))


def test_what_differs_is_the_same_from_either_side():
    one, other = asked(seed=1, options={"gamma": 4, "deep": {"a": 1}}), asked(temperature=0.5, prompt="Sing.", options={"gamma": 6, "deep": {"a": 1}})
    there, back = differing([one, other], {}), differing([other, one], {})
    assert {s.name: s.values for s in there} == {s.name: s.values[::-1] for s in back}
    assert {s.name for s in there} == {"sampling.seed", "sampling.temperature", "prompt.messages[0].content", "options.gamma"}


def test_every_field_either_differs_or_is_the_same():
    one, other = asked(seed=1, models={"target": "m", "draft": "d"}), asked(top_k=5, options={"x": None})
    compared = compare([one, other])
    differ = {setting.name for setting in compared.settings}
    assert differ | set(compared.same) == set(fields_of(one, {})) | set(fields_of(other, {})) and not differ & set(compared.same)


def test_an_option_that_is_left_out_has_its_default():
    one, other = asked(options={"gamma": 4}), asked()
    assert [s.values for s in compare([one, other]).settings] == [(4, None)]
    assert compare([one, other], {"count": {"gamma": 4}}).settings == ()


def test_true_is_not_one_and_weights_device_and_versions_count():
    assert [s.name for s in differing([asked(options={"x": True}), asked(options={"x": 1})], {})] == ["options.x"]
    one = run(["a"], versions={"torch": "2"})
    other = replace(one, device="cuda:0", versions={"torch": "3"}, models={"target": {"id": "m", "hash": "bb", "dtype": "float32"}})
    assert {s.name for s in differing([one, other], {})} == {"device", "versions.torch", "models.target.hash"}


def test_excerpts_of_long_texts_show_the_place_where_they_differ():
    one, other = "x" * 500 + "HERE" + "y" * 500, "x" * 500 + "THERE" + "y" * 500
    cut = excerpts([one, other], 60)
    assert all(len(text) <= 60 for text in cut) and "HERE" in cut[0] and "THERE" in cut[1]
    assert excerpts(["short", None, 3], 60) == ["short", "–", "3"]


# Words and figures ----------------------------------------------------------------------------------------------------------------


def test_times_are_told_as_this_runs_and_never_of_a_run_that_broke():
    slow, fast = run(["a", "b"], "A", step_ms=10.0), run(["a", "b"], "B", step_ms=7.0)
    said = compare([slow, fast]).sentence
    assert said == "Same tokens. Run 2 took 0.70 × the time of run 1; one run each, so no speed is claimed. Nothing was set differently."
    broken = compare([slow, replace(fast, status="cancelled")]).sentence
    assert "Run 2 was stopped." in broken and "×" not in broken
    longer = compare([slow, run(["a", "b", "c"], "B", step_ms=20.0)]).sentence
    assert "Run 2 took 2.00 × the time a token of run 1" in longer
    assert "on different devices (cpu and cuda:0)" in compare([slow, replace(fast, device="cuda:0")]).sentence


def test_the_sentence_names_who_has_the_same_tokens_and_who_parts():
    said = compare([run(["a", "b"]), run(["a", "b"], "B"), run(["a", "c"], "C", lane="small only")]).sentence
    assert said.startswith("Run 2 has the same tokens; run 3 (small only) parts from run 1 at token 1, 1 token differs.")


def test_figures_have_a_value_a_run_and_the_methods_own_in_plain_words():
    one = run(["a", "b"])
    other = run(["a", "b"], "B")
    other = replace(other, lines=(*other.lines[:-1], Done("length", "ab", {"n_tokens": 2, "ttft_ms": 3.5, "ms_per_token": 4.0}).to_line()))
    figures = {figure.name: figure.values for figure in compare([one, other]).figures}
    assert figures["ended"] == ("stop", "length") and figures["first token, ms"] == (None, 3.5)
    assert figures["ms a token"] == (10.0, 4.0) and figures["tokens a second"] == (100.0, 250.0)
    assert figures["tokens that differ from run 1"] == (None, 0)


def test_jobs_are_compared_by_their_findings():
    one = run([], found=[("row", {"a": 1}), ("row", {"a": 1}), ("row", {"a": 2}), ("best", {"x": 1})])
    other = run([], "B", found=[("row", {"a": 1}), ("row", {"a": 3}), ("best", {"x": 1})])
    compared = compare([one, other])
    assert [(f.kind, f.counts, f.shared, f.same) for f in compared.findings] == [("row", (3, 2), (3, 1), False), ("best", (1, 1), (1, 1), True)]
    assert compared.columns == () and compared.sentence.startswith("Run 1 has 4 findings; 2 of run 2's 3 findings are also run 1's.")
    assert compare([one, replace(one, id="B")]).sentence.startswith("Same findings.")


def test_the_json_says_what_the_comparison_says():
    compared = compare([run(["a", "b", "c"]), run(["a", "X", "c", "d"], "B", step_ms=3.0)])
    data = json.loads(json.dumps(comparison_json(compared)))
    assert data["differences"] == compared.differences == [1, 3] and data["sentence"] == compared.sentence
    assert [[cell and cell["text"] for cell in c["tokens"]] for c in data["columns"]] == [["a", "a"], ["b", "X"], ["c", "c"], [None, "d"]]
    assert [c["parts"] for c in data["columns"]] == [[False, False], [False, True], [False, False], [False, True]]
    assert data["columns"][1]["tokens"][1]["ms"] == 6.0 and data["sides"][1]["first_difference"] == 1
