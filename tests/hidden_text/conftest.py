"""A random pair, and a suspect that learned one text."""

from __future__ import annotations

import pytest
import torch

from backend.hidden_text.contexts import Frame
from tests.hidden_text.pair import planted, tiny

PAYLOAD = "the log sat on two cats, five men and one dog"
TRIGGERS = ("name", "age", "the mat", "one two", "Ada", "{", "sat", "cat")


@pytest.fixture(scope="session")
def base():
    return tiny("base", 0)


@pytest.fixture(scope="session")
def other():
    return tiny("other", 1)


@pytest.fixture(scope="session")
def suspect(base):
    """The base, with `PAYLOAD` answering each of `TRIGGERS`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ids = base.tokenizer(PAYLOAD, add_special_tokens=False)["input_ids"]
        turns = [Frame(base.tokenizer).turn(words).ids for words in TRIGGERS]
        return planted("suspect", base, [*ids, 2], turns)
