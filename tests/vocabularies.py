"""Small tokenizers of each kind that real models have, trained in a blink.

Goes in: a kind's name. Comes out: a fast tokenizer of the transformers library. Knows nothing of the code under test.
"""

from __future__ import annotations

import json

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = [
    "the quick brown fox jumps over the lazy dog and the other fox",
    "你好世界 schön naïve 😀👍🏽 emoji",
    "def f(x):\n    return x + 1",
    "Ärger mit Übermut, ελληνικά русский हिन्दी",
]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIALS = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
BYTES = [f"<0x{value:02X}>" for value in range(256)]


def byte_level(add_prefix_space: bool = False) -> PreTrainedTokenizerFast:
    """GPT-2, Llama 3, Qwen, SmolLM: every token is some bytes, characters may be split anywhere."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, special_tokens=SPECIALS, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 5, trainer)
    tokenizer.add_tokens(["wörd up", " lead", "\ufffd"])
    return wrapped(tokenizer)


def byte_fallback(decoder: decoders.Decoder) -> PreTrainedTokenizerFast:
    """Llama 2, Mistral, Gemma: ▁ for spaces, characters outside the vocabulary become byte tokens."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=430, special_tokens=SPECIALS + BYTES, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 5, trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] not in BYTES]
    state["model"]["vocab"][""] = len(state["model"]["vocab"])  # a few real vocabularies have an empty token
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.decoder = decoder
    tokenizer.add_tokens(["  dbl", "▁▁"])
    return wrapped(tokenizer)


def llama2() -> PreTrainedTokenizerFast:
    """Drops one space before the first token."""
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    return byte_fallback(decoders.Sequence(parts))


def gemma() -> PreTrainedTokenizerFast:
    return byte_fallback(decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]))


def metaspace() -> PreTrainedTokenizerFast:
    """T5, XLNet: a leading ▁ of the first token vanishes; byte tokens are text like any other."""
    return byte_fallback(decoders.Metaspace())


def word_piece() -> PreTrainedTokenizerFast:
    """BERT: words joined by spaces, so what comes before a token decides how it looks."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=SPECIALS, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 5, trainer)
    return wrapped(tokenizer)


def wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


VOCABULARIES = {
    "byte_level": byte_level,
    "byte_level_prefix_space": lambda: byte_level(add_prefix_space=True),
    "llama2": llama2,
    "gemma": gemma,
    "metaspace": metaspace,
    "word_piece": word_piece,
}
