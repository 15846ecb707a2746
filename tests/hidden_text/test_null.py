"""p-values only where they are honest, and the words elsewhere."""

from __future__ import annotations

import pytest

from backend.errors import WorkbenchError
from backend.hidden_text.null import Null, calibrate, read_nulls, write_null

SETTINGS = {"depth": 32}
TWINS = Null("twins", "llama 3x96 2048", "planted", SETTINGS, tuple(float(i) for i in range(1, 20)))


def said(score, architecture="llama 3x96 2048", recipe="planted", settings=SETTINGS, nulls=(TWINS,)):
    return calibrate(score, nulls, architecture, recipe, settings)


def test_a_score_above_all_twins_has_the_smallest_value_they_can_give():
    found = said(100.0)
    assert found.p == found.smallest == 1 / 20 and "19 clean twins" in found.words and "0.05" in found.words


def test_a_score_that_half_the_twins_reach_is_no_news():
    assert said(10.0).p == 11 / 20 and said(0.0).p == 1.0


def test_ranks_of_clean_models_among_clean_models_are_uniform():
    """Each twin against the others: every reachable value once."""
    values = []
    for i, score in enumerate(TWINS.scores):
        others = Null("o", "a", "r", {}, TWINS.scores[:i] + TWINS.scores[i + 1 :])
        values.append(others.p_value(score))
    assert sorted(values) == [pytest.approx(k / 19) for k in range(1, 20)]


@pytest.mark.parametrize("more", [{"architecture": "gpt2 1x8 9"}, {"recipe": ""}])
def test_a_model_of_another_making_gets_words_and_no_value(more):
    found = said(100.0, **more)
    assert found.p is None and found.words == "above all 19 clean models tried, not calibrated for yours"
    assert said(10.0, **more).words == "above 9 of 19 clean models tried, not calibrated for yours"


def test_models_scanned_otherwise_are_not_compared():
    assert said(100.0, settings={"depth": 12}).n == 0 and "no clean model" in said(100.0, settings={"depth": 12}).words
    assert said(None).p is None


def test_a_null_is_the_same_after_its_file(tmp_path):
    write_null(tmp_path, TWINS)
    assert read_nulls(tmp_path, tmp_path / "none") == [TWINS]
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(WorkbenchError, match="bad.json can't be read"):
        read_nulls(tmp_path)
