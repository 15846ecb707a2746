"""Tiny random models of the dense families whose neurons can be patched, and of those that must be refused.

Goes in: a family's name. Comes out: a seeded model in eval mode, or what a method reads of a loaded one. Knows nothing of the code under test.
The families that `tests.families` has already are taken from there.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    GPTJConfig,
    GPTJForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    StableLmConfig,
    StableLmForCausalLM,
    Starcoder2Config,
    Starcoder2ForCausalLM,
)

from backend.resources import Resources
from tests.families import FAMILIES, GEMMA, POSITIONS, SHAPE, STATEFUL, VOCAB

WIDE = {"initializer_range": 0.4}
OLD = {"vocab_size": VOCAB, "bos_token_id": 1, "eos_token_id": 2, **WIDE}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16, "num_experts": 4}

MORE: dict[str, Callable[[], PreTrainedModel]] = {
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**SHAPE, head_dim=8, tie_word_embeddings=GEMMA["tie_word_embeddings"])),
    "phi": lambda: PhiForCausalLM(PhiConfig(**SHAPE)),
    "opt": lambda: OPTForCausalLM(
        OPTConfig(**OLD, hidden_size=32, word_embed_proj_dim=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4, init_std=0.4,
                  max_position_embeddings=POSITIONS, pad_token_id=0)
    ),  # fmt: skip
    "gptj": lambda: GPTJForCausalLM(GPTJConfig(**OLD, n_embd=32, n_layer=2, n_head=4, n_inner=48, n_positions=POSITIONS, rotary_dim=4)),
    "falcon": lambda: FalconForCausalLM(
        FalconConfig(**OLD, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_hidden_size=48, max_position_embeddings=POSITIONS)
    ),
    "bloom": lambda: BloomForCausalLM(BloomConfig(**OLD, hidden_size=32, n_layer=2, n_head=4)),
    "stablelm": lambda: StableLmForCausalLM(StableLmConfig(**SHAPE)),
    "starcoder2": lambda: Starcoder2ForCausalLM(Starcoder2Config(**SHAPE)),
    "granite": lambda: GraniteForCausalLM(GraniteConfig(**SHAPE)),
}  # fmt: skip
DENSE: dict[str, Callable[[], PreTrainedModel]] = {**FAMILIES, **MORE}
MOE: dict[str, Callable[[], PreTrainedModel]] = {
    "mixtral": lambda: MixtralForCausalLM(MixtralConfig(**SHAPE, num_local_experts=4)),
    "qwen2_moe": lambda: Qwen2MoeForCausalLM(Qwen2MoeConfig(**SHAPE, **EXPERTS, shared_expert_intermediate_size=16)),
    "qwen3_moe": lambda: Qwen3MoeForCausalLM(Qwen3MoeConfig(**SHAPE, **EXPERTS, head_dim=8)),
    "qwen3_moe_with_a_dense_layer": lambda: Qwen3MoeForCausalLM(Qwen3MoeConfig(**SHAPE, **EXPERTS, head_dim=8, mlp_only_layers=[0])),
}
HYBRID: dict[str, Callable[[], PreTrainedModel]] = {
    **STATEFUL,
    "lfm2": lambda: Lfm2ForCausalLM(Lfm2Config(**SHAPE, layer_types=["conv", "full_attention"])),
}
N_LAYERS = 2


def build(family: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The family's tiny model, two layers, with seeded weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {**DENSE, **MOE, **HYBRID}[family]().eval().to(dtype)


def loaded(model: PreTrainedModel, name: str = "m", stop_ids: tuple[int, ...] = ()) -> SimpleNamespace:
    """What the neurons' code reads of a loaded model."""
    return SimpleNamespace(id=name, hash=name, model=model, device=torch.device("cpu"), dtype=model.dtype, stop_ids=stop_ids, resources=Resources())


def couple(family: str, dtype: torch.dtype = torch.float32) -> tuple[SimpleNamespace, SimpleNamespace]:
    """A suspect and a source of one shape with other weights."""
    return loaded(build(family, 0, dtype), f"{family}-a"), loaded(build(family, 1, dtype), f"{family}-b")
