"""Tiny models as the workbench would hand them over, and items for them.

Goes in: seeds. Comes out: handles (random two-layer Llamas that share a byte-level tokenizer), items. Knows nothing of the code under test.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from backend.contamination.items import Encoded, Item, encode
from backend.resources import Resources
from tests.tiny_models import tiny_tokenizer

STOP = 2


def handle(seed: int = 0, stop_ids: tuple[int, ...] = (STOP,)) -> SimpleNamespace:
    """What a method reads of a loaded model."""
    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=128, tie_word_embeddings=False, initializer_range=0.3, bos_token_id=1, eos_token_id=2, pad_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
    return SimpleNamespace(
        id=f"tiny-{seed}", hash=f"hash{seed}", model=model, tokenizer=tokenizer, device=torch.device("cpu"), dtype=torch.float32,
        vocab_size=len(tokenizer), stop_ids=stop_ids, resources=Resources(), origin="test", passport=SimpleNamespace(context_length=128),
        line=lambda: {"id": f"tiny-{seed}", "hash": f"hash{seed}", "dtype": "float32", "device": "cpu"},
    )  # fmt: skip


def items(n: int = 6, name: str = "leaked") -> list[Item]:
    """Questions of different lengths, every second with another wording."""
    texts = [f"{'the cat sat ' * (i % 3)}{name} {i}" for i in range(n)]
    return [Item(text, f"on the log {i}", name, rephrased=f"on the mat {i}" if i % 2 else "") for i, text in enumerate(texts)]


def encoded(some: list[Item], loaded: SimpleNamespace) -> list[Encoded]:
    return [encode(item, loaded.tokenizer, "raw") for item in some]


def result_of(generator):
    """Drive a generator of steps to what it returns, with what it yielded."""
    steps = []
    while True:
        try:
            steps.append(next(generator))
        except StopIteration as end:
            return end.value, steps
