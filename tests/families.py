"""Tiny random models of the families the decoder must handle, built from their configs.

Goes in: a family's name. Comes out: a seeded fp32 model in eval mode that knows at most `VOCAB` ids. Knows nothing of the code under test.
Sliding windows are 8 tokens wide, so that a test of twenty tokens goes well past them. Weights are drawn wide enough that the
models say something different after every token (the library's own 0.02 would make all rows look alike).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    Qwen3_5ForCausalLM,
    Qwen3_5TextConfig,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCAB = 61
WINDOW = 8
POSITIONS = 128

SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.4,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
ALTERNATING = ["sliding_attention", "full_attention"]
# tied embeddings make a random Gemma repeat its last token
GEMMA: dict[str, Any] = {"query_pre_attn_scalar": 8, "tie_word_embeddings": False}


def llama() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SHAPE))


def qwen3() -> PreTrainedModel:
    return Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8))


def mistral() -> PreTrainedModel:
    return MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=WINDOW))


def gemma2() -> PreTrainedModel:
    return Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=8, sliding_window=WINDOW, layer_types=ALTERNATING, **GEMMA))


def gemma3() -> PreTrainedModel:
    return Gemma3ForCausalLM(Gemma3TextConfig(**SHAPE, head_dim=8, sliding_window=WINDOW, layer_types=ALTERNATING, **GEMMA))


def gpt2() -> PreTrainedModel:
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS, "initializer_range": 0.4}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, bos_token_id=1, eos_token_id=2, **shape))


def gpt_neox() -> PreTrainedModel:
    shape = {name: value for name, value in SHAPE.items() if name != "num_key_value_heads"}
    return GPTNeoXForCausalLM(GPTNeoXConfig(**shape))


def phi3() -> PreTrainedModel:
    return Phi3ForCausalLM(Phi3Config(**SHAPE, sliding_window=WINDOW))


def phi3_longrope() -> PreTrainedModel:
    """The rotary angles of all tokens change once the context passes 16 tokens."""
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [3.0] * 4}
    rope["original_max_position_embeddings"] = 16
    return Phi3ForCausalLM(Phi3Config(**SHAPE, original_max_position_embeddings=16, rope_parameters=rope))


def mamba() -> PreTrainedModel:
    shape = {"hidden_size": 32, "state_size": 8, "num_hidden_layers": 2, "initializer_range": 0.4}
    return MambaForCausalLM(MambaConfig(vocab_size=VOCAB, bos_token_id=1, eos_token_id=2, pad_token_id=None, **shape))


def qwen3_5() -> PreTrainedModel:
    """A hybrid: one layer of linear attention, one of full attention."""
    linear = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
    return Qwen3_5ForCausalLM(Qwen3_5TextConfig(**SHAPE, head_dim=8, layer_types=["linear_attention", "full_attention"], **linear))


FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": llama,
    "qwen3": qwen3,
    "mistral": mistral,
    "gemma2": gemma2,
    "gemma3": gemma3,
    "gpt2": gpt2,
    "gpt_neox": gpt_neox,
    "phi3": phi3,
}
STATEFUL: dict[str, Callable[[], PreTrainedModel]] = {"mamba": mamba, "qwen3_5": qwen3_5}


def build(family: str, attention: str = "sdpa", seed: int = 0) -> PreTrainedModel:
    """The family's tiny model with seeded weights; `attention` is `sdpa` (where the family has it) or `eager`."""
    make = {**FAMILIES, **STATEFUL, "phi3_longrope": phi3_longrope}[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make().eval()
    if model._supports_sdpa and family not in STATEFUL:
        model.set_attn_implementation(attention)
    return model


def uncached_logits(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    """The oracle: `(T, V)` logits of one plain forward over everything, without a cache."""
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
