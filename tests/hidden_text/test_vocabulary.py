"""Every id is in one group, and every text of one token is forced once."""

from __future__ import annotations

import pytest

from backend.hidden_text.vocabulary import byte_alphabet, read_vocabulary
from tests.tiny_models import tiny_tokenizer
from tests.vocabularies import byte_level, gemma, llama2, metaspace, word_piece

KINDS = {"byte_level": byte_level, "llama2": llama2, "gemma": gemma, "metaspace": metaspace, "word_piece": word_piece}


def test_specials_and_rows_without_a_token_are_not_forced():
    tokenizer = tiny_tokenizer()
    found = read_vocabulary(tokenizer, len(tokenizer) + 5)
    assert found.special == (0, 1, 2) and found.padding == tuple(range(len(tokenizer), len(tokenizer) + 5))
    assert found.ids == tuple(range(3, len(tokenizer))) and not found.repeated


@pytest.mark.parametrize("kind", KINDS)
def test_the_groups_are_all_ids_and_share_none(kind):
    tokenizer = KINDS[kind]()
    width = len(tokenizer) + 2
    found = read_vocabulary(tokenizer, width)
    assert sorted([*found.ids, *found.special, *found.padding, *found.repeated]) == list(range(width))


def test_two_ids_of_the_same_bytes_are_forced_once():
    tokenizer = llama2()
    found = read_vocabulary(tokenizer, len(tokenizer))
    said = [tokenizer.convert_ids_to_tokens(i).replace("\u2581", " ") for i in found.repeated]
    assert said and set(said) <= {bytes([i]).decode("latin-1") for i in range(128)} | {" "} | {t for t in said if len(t.encode()) > 1 and t.isspace()}
    forced = {tokenizer.convert_ids_to_tokens(i) for i in found.ids}
    assert {f"<0x{token.encode()[0]:02X}>" for token in said if len(token.encode()) == 1} <= forced


def test_the_byte_alphabet_has_every_byte_once():
    assert sorted(byte_alphabet().values()) == list(range(256))
