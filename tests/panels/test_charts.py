"""The charts of a run, from lines written by hand."""

from __future__ import annotations

import html
import json
import math
import random
import re
import subprocess
import sys
from pathlib import Path

import plotly.graph_objects as go
import pytest

from panels.charts import along_text, nats_taken, shown

ROOT = Path(__file__).resolve().parents[2]
MARKUP = ["<img src=x onerror=alert(1)>", "<b>bold</b>", "a & b", "%{y} ${x} {{z}}", "&lt;", "`'\""]
HOSTILE = [*MARKUP, "\u202eabc\u202c", "zero\u200bwidth", "\n\t ", "", "\U000e0041"]


def token(position: int, text: str = "a", source: str = "model", **detail: object) -> str:
    facts = {"position": position, "id": 7, "text": text, "logprob": -0.5 * position, "source": source, "detail": detail}
    return json.dumps({"event": "token", **facts})


def run_of(n: int, rng: random.Random) -> list[str]:
    """A synthetic run: `n` tokens of hostile texts between the lines that a run has around them."""
    sources = ["model", "narrowed", "overridden", "only"]
    lines = [json.dumps({"event": "started", "run": "r", "prompt": []})]
    for i in range(n):
        detail = {"kept": rng.random(), "allowed": rng.randint(1, 50_000), "wanted": [3, rng.choice(HOSTILE)]}
        lines.append(token(i, rng.choice(HOSTILE), rng.choice(sources), **detail))
    return [*lines, json.dumps({"event": "done", "finish_reason": "stop", "text": ""})]


def hovers(figure: go.Figure) -> list[str]:
    return [text for trace in figure.data for text in trace.customdata]


@pytest.mark.parametrize("n", [0, 1, 2, 57])
def test_each_row_has_one_point_a_token(n: int) -> None:
    figure = along_text(run_of(n, random.Random(n)))
    assert len(figure.data) == (3 if n else 1)
    for trace in figure.data:
        assert len(trace.x) == len(trace.y) == len(trace.customdata) == n
        assert list(trace.x) == list(range(n))


def test_a_run_without_a_grammar_gets_log_probabilities_only() -> None:
    figure = along_text([token(0), token(1), token(2)])
    assert len(figure.data) == 1
    assert list(figure.data[0].y) == [0.0, -0.5, -1.0]


def test_of_several_lanes_the_first_is_drawn() -> None:
    lines = run_of(7, random.Random(0)) + run_of(9, random.Random(1))
    assert len(along_text(lines).data[0].x) == len(nats_taken(lines).data[0].x) == 7


def test_a_bar_is_minus_the_logarithm_of_what_was_kept() -> None:
    kept = [1.0, 0.5, math.exp(-3), 0.0]
    figure = nats_taken([token(i, kept=k) for i, k in enumerate(kept)])
    bars = list(figure.data[0].y)
    assert bars[:3] == pytest.approx([0.0, math.log(2), 3.0])
    assert bars[3] == pytest.approx(-math.log(1e-13)), "nothing kept is drawn high, but finite"


def test_nats_that_the_line_says_itself_are_taken_as_they_are() -> None:
    assert list(nats_taken([token(0, kept=0.0, taken=41.5)]).data[0].y) == [41.5]


def test_tokens_without_kept_mass_get_no_bar() -> None:
    assert list(nats_taken([token(0), token(1, kept=0.5)]).data[0].x) == [1]


def test_overruled_bars_differ_from_narrowed_ones() -> None:
    figure = nats_taken([token(0, source="narrowed", kept=0.5), token(1, source="overridden", kept=0.5)])
    assert len(set(figure.data[0].marker.color)) == 2


@pytest.mark.parametrize("seed", range(5))
def test_hover_texts_are_inert_whatever_the_model_wrote(seed: int) -> None:
    """The oracle: nothing is left that plotly could read as a tag, and unescaping gives the visible text back."""
    lines = run_of(40, random.Random(seed))
    for label in hovers(along_text(lines)) + hovers(nats_taken(lines)):
        assert "<" not in label and ">" not in label
        assert not re.search(r"&(?!amp;|lt;|gt;)", label)
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b-\u200f\n\t]", label)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_visible_survives_escaping(text: str) -> None:
    visible = "".join(character for character in text if character.isprintable() and character != " ")
    left = re.sub(r"⟨U\+[0-9A-F]{4,6}⟩|[·⏎⇥]", "", html.unescape(shown(text)))
    assert left == visible


def test_bidi_and_zero_width_characters_show_their_code_points() -> None:
    assert shown("\u202ea\u200b") == "⟨U+202E⟩a⟨U+200B⟩"


def test_hover_names_the_token_that_was_wanted() -> None:
    figure = nats_taken([token(4, "city", "overridden", kept=0.1, wanted=[9, "address"])])
    assert hovers(figure) == ["token 4 · city · overruled · wanted address"]


def test_the_allowed_row_has_a_logarithmic_axis() -> None:
    figure = along_text([token(0, kept=0.5, allowed=4)])
    assert [axis.type for axis in (figure.layout.yaxis, figure.layout.yaxis2, figure.layout.yaxis3)] == [None, None, "log"]


def test_grounds_are_transparent() -> None:
    for figure in (along_text([token(0, kept=0.5)]), nats_taken([token(0, kept=0.5)])):
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"


def test_charts_need_neither_gradio_nor_torch() -> None:
    """The module alone, in a fresh process, beside a package that isn't run."""
    program = (
        "import sys, importlib.util as u; s = u.spec_from_file_location('charts', 'panels/charts.py'); m = u.module_from_spec(s);"
        "s.loader.exec_module(m); assert not {'gradio', 'torch'} & set(sys.modules), 'too much'"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
