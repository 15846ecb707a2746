"""What the model sees, checked against the tokenizer's own rendering."""

from __future__ import annotations

import pytest

from backend.errors import InvalidRequest
from backend.prompt import DOUBLE_BOS, NO_TEMPLATE, render
from backend.types import Prompt
from tests.vocabularies import CHATML, byte_level, llama2

USER = {"role": "user", "content": "the fox"}


@pytest.fixture
def tokenizer():
    tokenizer = byte_level()
    tokenizer.chat_template = CHATML
    return tokenizer


def text_of(rendered):
    return "".join(text for _, text in rendered.pieces)


def test_chat_goes_through_the_template_with_the_system_text_first(tokenizer):
    rendered = render(Prompt.user("the fox", system="be brief"), tokenizer)
    expected = "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nthe fox<|im_end|>\n<|im_start|>assistant\n"
    assert text_of(rendered) == expected
    assert rendered.ids == tokenizer(expected, add_special_tokens=False)["input_ids"]
    assert rendered.warnings == []


def test_a_last_message_of_the_assistant_is_continued(tokenizer):
    rendered = render(Prompt((USER, {"role": "assistant", "content": "It jumps"})), tokenizer)
    assert text_of(rendered).endswith("<|im_start|>assistant\nIt jumps")


def test_continuing_an_empty_answer_is_answering(tokenizer):
    assert render(Prompt((USER, {"role": "assistant", "content": ""})), tokenizer) == render(Prompt((USER,)), tokenizer)


def test_raw_is_the_text_as_it_stands(tokenizer):
    rendered = render(Prompt.user(" the fox\n", template="raw"), tokenizer)
    assert text_of(rendered) == " the fox\n"
    assert rendered.ids == tokenizer(" the fox\n")["input_ids"]


def test_chat_without_a_template_falls_back_to_raw_with_a_warning():
    tokenizer = byte_level()
    rendered = render(Prompt.user("the fox", system="be brief"), tokenizer)
    assert text_of(rendered) == "be brief\nthe fox"
    assert rendered.warnings == [NO_TEMPLATE]


def test_a_doubled_beginning_of_text_is_a_warning():
    tokenizer = llama2()
    tokenizer.chat_template = "<s>" + CHATML
    once = render(Prompt.user("the fox"), tokenizer)
    assert once.ids[0] == tokenizer.bos_token_id and once.warnings == []
    twice = render(Prompt.user("<s><s>the fox", template="raw"), tokenizer)
    assert twice.ids[:2] == [tokenizer.bos_token_id] * 2 and twice.warnings == [DOUBLE_BOS]


def test_a_tokenizer_that_knows_no_beginning_is_not_warned_about(tokenizer):
    tokenizer.bos_token = None
    assert render(Prompt.user("aa", template="raw"), tokenizer).warnings == []


def test_pieces_name_every_id_and_concatenate_to_the_decoded_prompt(tokenizer):
    rendered = render(Prompt.user("schön 🙃 你好", system="Ärger"), tokenizer)
    assert [token_id for token_id, _ in rendered.pieces] == rendered.ids
    assert text_of(rendered) == tokenizer.decode(rendered.ids, skip_special_tokens=False)
    assert "🙃" in [text for _, text in rendered.pieces]


def test_a_template_that_refuses_is_a_wrong_request(tokenizer):
    tokenizer.chat_template = "{{ raise_exception('no system messages here') }}"
    with pytest.raises(InvalidRequest, match="no system messages here") as caught:
        render(Prompt.user("the fox", system="be brief"), tokenizer)
    assert caught.value.where == "prompt.messages"


def test_an_empty_prompt_is_a_wrong_request(tokenizer):
    with pytest.raises(InvalidRequest, match="empty"):
        render(Prompt.user("", template="raw"), tokenizer)
