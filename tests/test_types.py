"""Requests and events survive JSON; what is out of range is refused by name."""

from __future__ import annotations

import json

import pytest

from backend.errors import InvalidRequest
from backend.options import option, parse_options
from backend.types import Prompt, RunRequest, SamplingParams, Token


def request(**changes):
    data = {"method": "structured", "prompt": "Say hi.", "models": {"target": "smollm2"}}
    return RunRequest.from_json({**data, **changes})


def test_a_request_survives_json():
    first = request(sampling={"temperature": 0.7, "seed": 0}, options={"kind": "regex", "grammar": "a+"}, answer_prefix=[3, 4])
    again = RunRequest.from_json(json.loads(json.dumps(first.to_json())))
    assert again == first


@pytest.mark.parametrize(
    ("changes", "where", "words"),
    [
        ({"sampling": {"temperature": -1}}, "sampling.temperature", "between 0 and 10, got -1"),
        ({"sampling": {"top_p": float("nan")}}, "sampling.top_p", "got nan"),
        ({"sampling": {"max_new_tokens": 1.5}}, "sampling.max_new_tokens", "whole number"),
        ({"sampling": {"seed": True}}, "sampling.seed", "got True"),
        ({"sampling": {"heat": 1}}, "sampling.heat", "no field 'heat'"),
        ({"prompt": {"messages": []}}, "prompt.messages", "at least one message"),
        ({"prompt": {"messages": [{"role": "robot", "content": "x"}]}}, "prompt.messages[0]", "robot"),
        ({"models": {"target": 3}}, "models", "model id"),
        ({"answer_prefix": [-1]}, "answer_prefix", "token ids"),
        ({"colour": "red"}, "request.colour", "no field 'colour'"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(changes, where, words):
    with pytest.raises(InvalidRequest, match=words.replace("[", r"\[")) as caught:
        request(**changes)
    assert caught.value.where.startswith(where)


def test_a_line_is_one_json_object_without_empty_fields():
    line = Token(position=0, id=5, text="a\nb\u2028", logprob=-0.5).to_line(ms=1.5)
    assert "\n" not in line
    told = {"position": 0, "id": 5, "text": "a\nb\u2028", "logprob": -0.5, "source": "model", "detail": {}}
    assert json.loads(line) == {"event": "token", **told, "ms": 1.5}


def test_options_are_checked_against_their_own_declaration():
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Options:
        gamma: int = option(4, "draft length", low=1, high=16)
        kind: str = option("a", "which", choices=("a", "b"))

    assert parse_options(Options, {"gamma": 3}) == Options(gamma=3)
    for bad, words in (({"gamma": 17}, "between 1 and 16, got 17"), ({"kind": "c"}, "one of a, b"), ({"delta": 1}, "no field 'delta'")):
        with pytest.raises(InvalidRequest, match=words):
            parse_options(Options, bad)


def test_seed_zero_is_a_seed_and_a_text_is_a_user_message():
    assert SamplingParams(seed=0).seed == 0
    assert Prompt.from_json("hello") == Prompt(({"role": "user", "content": "hello"},))
