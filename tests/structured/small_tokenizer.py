"""A byte-level tokenizer of a few hundred ids for the grammar tests, trained here in milliseconds.

Comes out: a Hugging Face fast tokenizer whose every byte is a token, with three special ids, and logits wider than the vocabulary.
"""

from __future__ import annotations

import random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from backend.structured.engine import GrammarSession, Mask

CORPUS = ['{"name": "Maria Lopez", "age": 34, "city": "Lisbon"}', '[true, false, null, 12.5e3, "a\\n"]', "aaa bbb abab the quick brown fox"]
SPECIALS = ["<|end|>", "<s>", "<pad>"]
PADDING = 9  # logits beyond the vocabulary, as models pad their heads


def small_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", bos_token="<s>", pad_token="<pad>")


def width(tokenizer: PreTrainedTokenizerFast) -> int:
    return len(tokenizer) + PADDING


def walk(session: GrammarSession, rng: random.Random, steps: int) -> tuple[list[int], Mask]:
    """Take up to `steps` random allowed ids; the ids and the last mask (dead end, terminated or out of steps)."""
    ids: list[int] = []
    mask = session.mask()
    while len(ids) < steps and mask.count and not mask.terminated:
        ids.append(int(rng.choice(torch.nonzero(mask.allowed).flatten().tolist())))
        session.push(ids[-1])
        mask = session.mask()
    return ids, mask
