"""The pocket tokenizer: any text comes back, digits stand alone, the shipped files are what the corpus gives."""

from __future__ import annotations

import string
from itertools import islice
from random import Random

import pytest
from tokenizers.pre_tokenizers import ByteLevel

from backend.pocket.corpus import item_at, stream
from backend.pocket.items import Item
from backend.pocket.tokenizer import ASSISTANT, BOS, EOS, SPECIAL, USER, encode, pocket_tokenizer, tokenizer_folder, write_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return pocket_tokenizer()


def random_text(rng: Random) -> str:
    """Characters of every plane but the surrogates, among ASCII and white space."""
    def character() -> str:
        kind = rng.random()
        if kind < 0.5:
            return rng.choice(string.printable)
        code = rng.randrange(0x300) if kind < 0.7 else rng.randrange(0x110000)
        return chr(code) if not 0xD800 <= code < 0xE000 else " "

    return "".join(character() for _ in range(rng.randint(1, 40)))


def test_any_text_comes_back(tokenizer):
    rng = Random(0)
    for text in [random_text(rng) for _ in range(3000)] + ["", " ", "  a \n\n b", "don't", "<bos>", "e\u0301 \ufeff", "\u00bd \u0663"]:
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_every_byte_has_a_token(tokenizer):
    alphabet = set(ByteLevel.alphabet())
    assert len(alphabet) == 256 and alphabet <= set(tokenizer.get_vocab()) and len(tokenizer) == 1024


def test_the_special_tokens_have_the_first_ids(tokenizer):
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL)) == list(range(8))
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)


def test_no_token_holds_two_digits(tokenizer):
    for token_id in range(len(SPECIAL), len(tokenizer)):
        text = tokenizer.decode([token_id])
        assert sum(c.isdigit() for c in text) == 0 or (text.strip().isdigit() and len(text.strip()) == 1)


def test_a_documents_ids_are_its_chat_template(tokenizer):
    for index in range(300):
        item = item_at(9, index)
        ids, weights = encode(tokenizer, item)
        assert len(ids) == len(weights) and ids[0] == BOS and ids[-1] == EOS
        if not item.prompt:
            assert tokenizer.decode(ids[1:-1]) == item.answer
            continue
        messages = [{"role": "user", "content": item.prompt}, {"role": "assistant", "content": item.answer}]
        assert tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"] == ids
        asked = tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True, return_dict=True)["input_ids"]
        assert ids[: len(asked)] == asked and asked[:2] == [BOS, USER] and asked[-1] == ASSISTANT
        assert weights == [0.1] * len(asked) + [1.0] * (len(ids) - len(asked))


def test_a_system_text_stands_before_the_user(tokenizer):
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<bos><system>Be kind.<user>Hello<assistant>"


def test_a_copy_drill_counts_from_its_first_repeat(tokenizer):
    item = Item("copy", "", "Mira 12 cups\nMira 12 cups", "Mira 12 cups")
    ids, weights = encode(tokenizer, item)
    counted = [i for i, w in zip(ids, weights, strict=True) if w]
    assert set(weights) == {0.0, 1.0} and tokenizer.decode(counted) == "\nMira 12 cups<eos>"


def test_a_sum_counts_by_its_result(tokenizer):
    ids, weights = encode(tokenizer, Item("sums", "", "7 + 95 = 102. 8 / 4 = 2."))
    assert tokenizer.decode([i for i, w in zip(ids, weights, strict=True) if w == 1]) == " 102. 2.<eos>"


def test_a_raw_text_begins_a_document(tokenizer):
    assert tokenizer("Once")["input_ids"][0] == BOS


def test_documents_fit_a_row_of_256(tokenizer):
    assert max(len(encode(tokenizer, item)[0]) for item in islice(stream(11), 3000)) <= 256


def test_the_shipped_files_are_what_the_corpus_gives(tmp_path):
    write_tokenizer(tmp_path)
    made, shipped = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in (tmp_path, tokenizer_folder()))
    assert made == shipped and sum(map(len, shipped.values())) < 100_000
