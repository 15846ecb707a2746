"""The pocket models' sizes and rates.

Goes in: a size's name. Comes out: its `LlamaConfig` and the rates that suit it. Knows nothing of training or files.
"""

from __future__ import annotations

from dataclasses import dataclass

from transformers import LlamaConfig

from backend.pocket.tokenizer import BOS, CONTEXT, EOS, N_IDS, PAD


@dataclass(frozen=True)
class Size:
    """A model's shape, the peak rates of Muon and AdamW, the share of the time in which they fall, and the minutes the shipped one had."""

    name: str
    width: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    muon_lr: float
    adamw_lr: float
    decay_share: float
    minutes: float


# A rate that suits a narrow model holds a deeper one up: at 0.02 one of width 256 and 6 layers stood still from 8 M to 21 M tokens.
SIZES = {
    size.name: size
    for size in (
        Size("large", 160, 8, 4, 2, 448, muon_lr=0.01, adamw_lr=2.5e-3, decay_share=0.5, minutes=45),
        Size("small", 64, 2, 4, 2, 80, muon_lr=0.02, adamw_lr=4e-3, decay_share=0.35, minutes=1.2),
    )
}


def llama_config(size: Size) -> LlamaConfig:
    """The configuration of a model of this size over the pocket tokenizer's ids."""
    return LlamaConfig(
        vocab_size=N_IDS,
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        intermediate_size=size.ffn,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
