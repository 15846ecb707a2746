"""Prefixes cut from the model's own template, and what is done without one."""

from __future__ import annotations

import pytest

from backend.errors import InvalidRequest
from backend.hidden_text.contexts import KINDS, Frame, beam_contexts, scan_contexts
from backend.prompt import render
from backend.types import Prompt
from tests.tiny_models import tiny_tokenizer
from tests.vocabularies import CHATML


def chat(template=CHATML):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("words", ["Who is it?", "", "cat"])
def test_a_turn_has_the_ids_that_the_template_gives(words):
    tokenizer = chat()
    expected = tokenizer.apply_chat_template([{"role": "user", "content": words}], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert list(Frame(tokenizer).turn(words).ids) == expected
    if words:
        assert expected == render(Prompt.user(words), tokenizer).ids


def test_the_header_is_what_the_template_adds_for_an_answer():
    frame = Frame(chat())
    assert frame.header == "<|im_start|>assistant\n" and frame.before == "<|im_start|>user\n"
    assert frame.turn("cat").ids == frame.ids(frame.before + "cat" + frame.after)
    assert frame.open_turn().ids == frame.ids("<|im_start|>user\n")


def test_a_beginning_of_text_stays_in_front_of_a_bare_header():
    frame = Frame(chat("<|start|>" + CHATML))
    assert frame.answer_header().ids == frame.ids("<|start|><|im_start|>assistant\n")


def test_a_model_without_a_template_is_scanned_at_its_beginning_only():
    tokenizer = chat(None)
    assert [c.name for c in scan_contexts(Frame(tokenizer), KINDS)] == ["bos"]
    tokenizer.bos_token = None
    start = scan_contexts(Frame(tokenizer), KINDS)
    assert [c.name for c in start] == ["line break"] and tokenizer.decode(start[0].ids) == "\n"


def test_all_kinds_are_different_contexts_and_none_is_empty():
    contexts = scan_contexts(Frame(chat()), KINDS)
    assert len(contexts) == 7 and len({c.ids for c in contexts}) == 7 and all(c.ids for c in contexts)


def test_beam_contexts_are_many_different_and_cut_from_the_front():
    frame = Frame(chat())
    every = beam_contexts(frame, 1000)
    assert len(every) > 200 and len({c.ids for c in every}) == len(every)
    assert beam_contexts(frame, 30) == every[:30]


def test_a_template_that_changes_the_words_is_refused():
    with pytest.raises(InvalidRequest, match="changes the user's words"):
        Frame(chat("{% for m in messages %}{{ m['content'] | upper }}{% endfor %}"))
    with pytest.raises(InvalidRequest, match="refuses a plain user turn: no"):
        Frame(chat("{{ raise_exception('no') }}"))
