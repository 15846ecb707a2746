"""The stream of pieces against the tokenizer's own decoding of everything at once."""

from __future__ import annotations

import random

import pytest

from backend.detokenize import BYTE_TOKEN, REPLACEMENT, Detokenizer, detokenize
from tests.vocabularies import TEXTS, VOCABULARIES, byte_level, llama2


@pytest.fixture(scope="module", params=VOCABULARIES)
def tokenizer(request):
    return VOCABULARIES[request.param]()


def decoded(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def sequences(tokenizer, rng):
    """Random ids (two of them unknown to the tokenizer), pieces of real texts, and runs rich in byte tokens."""
    size = len(tokenizer)
    byte_ids = [i for i in range(size) if BYTE_TOKEN.fullmatch(tokenizer.convert_ids_to_tokens(i) or "")] or range(size)
    empty = tokenizer.get_vocab().get("", 0)
    for _ in range(200):
        length = rng.randint(0, 25)
        yield [rng.randrange(size + 2) for _ in range(length)]
        yield tokenizer(rng.choice(TEXTS))["input_ids"][rng.randint(0, 5) :][:length]
        yield [rng.choice([empty, rng.randrange(size)]) for _ in range(length)]
        yield [rng.choice(byte_ids) if rng.random() < 0.6 else rng.randrange(size + 2) for _ in range(length)]


def test_pieces_concatenate_to_the_decoded_text(tokenizer):
    for ids in sequences(tokenizer, random.Random(0)):
        assert "".join(detokenize(tokenizer, ids)) == decoded(tokenizer, ids), ids


def test_a_piece_that_is_out_never_changes(tokenizer):
    """What is released after each push is a prefix of the final text, so a page can append it and forget it."""
    for ids in sequences(tokenizer, random.Random(1)):
        stream, text = Detokenizer(tokenizer), ""
        for token_id in ids:
            text += stream.push(token_id)
            assert decoded(tokenizer, ids).startswith(text)


def test_characters_split_over_tokens_come_out_whole():
    tokenizer = byte_level()
    ids = tokenizer("x🙃y")["input_ids"]
    assert detokenize(tokenizer, ids) == ["x", "", "", "🙃", "y"]  # its first two bytes are one token, learnt from 😀


def test_ordinary_tokens_are_released_at_once():
    for tokenizer in (byte_level(), llama2()):
        ids = tokenizer(TEXTS[0])["input_ids"]
        stream = Detokenizer(tokenizer)
        assert all([stream.push(token_id) for token_id in ids])
        assert stream.flush() == ""


def test_spaces_between_words_survive_and_the_first_one_does_not():
    tokenizer = llama2()
    ids = tokenizer("the fox and the dog")["input_ids"]
    assert "".join(detokenize(tokenizer, ids)) == "the fox and the dog"


def test_special_tokens_are_shown():
    tokenizer = byte_level()
    ids = [tokenizer.bos_token_id, *tokenizer("fox")["input_ids"], tokenizer.eos_token_id]
    pieces = detokenize(tokenizer, ids)
    assert pieces[0] == "<s>" and pieces[-1] == "</s>"


def test_flush_gives_broken_characters_and_starts_anew():
    tokenizer = byte_level()
    first_byte, *_ = tokenizer("🙃")["input_ids"]
    stream = Detokenizer(tokenizer)
    assert stream.push(first_byte) == ""
    assert stream.flush() == REPLACEMENT
    assert stream.flush() == ""
    assert stream.push(tokenizer("x")["input_ids"][0]) == "x"


def test_long_texts_are_decoded_in_short_windows():
    """Every push decodes few tokens, or a long answer would cost its square."""
    tokenizer = byte_level()
    widths = []

    class Counting:
        convert_ids_to_tokens = tokenizer.convert_ids_to_tokens

        def decode(self, ids, **how):
            widths.append(len(ids))
            return tokenizer.decode(ids, **how)

    ids = tokenizer(" ".join(TEXTS) * 20)["input_ids"]
    assert "".join(detokenize(Counting(), ids)) == decoded(tokenizer, ids)
    assert max(widths) < 20
