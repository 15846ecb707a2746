"""Tiny random models on disk: a two-layer Llama with a byte-level BPE tokenizer, as a folder or as a GGUF file.

Goes in: a folder to fill. Comes out: what a user could have there. Weights are exact in bf16, so that a conversion can be held
against the original bit by bit. Knows nothing of the code under test.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from gguf import GGUFWriter, TokenType
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXT = ["the cat sat on the mat", "the dog sat on the log", '{"name": "Ada", "age": 36}', "one two three four five"]
SPECIAL = ["<|end|>", "<|start|>", "<|stop|>"]
TEMPLATE = "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|stop|>{% endfor %}"


def tiny_tokenizer(more_text: str = "") -> PreTrainedTokenizerFast:
    """About 300 ids: three special ones, the 256 bytes, some merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokens = [AddedToken(t, special=True) for t in SPECIAL]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=tokens, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([*TEXT, more_text], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|start|>", eos_token="<|stop|>", unk_token="<|end|>")
    fast.chat_template = TEMPLATE
    return fast


def tiny_model(vocab_size: int, seed: int = 0, hidden: int = 32) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=vocab_size, hidden_size=hidden, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=128, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=None,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    return model


def save_tiny(folder: Path, seed: int = 0, hidden: int = 32, padded: int = 0, shard: str | None = None) -> Path:
    """A complete model folder; `padded` widens the logits past the tokenizer, `shard` (such as "20KB") cuts the weights into files."""
    tokenizer = tiny_tokenizer()
    model = tiny_model(len(tokenizer) + padded, seed, hidden)
    model.save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    tokenizer.save_pretrained(folder)
    return folder


def write_gguf(path: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, pre: str = "gpt-2") -> Path:
    """The same model as a GGUF file of the `llama` architecture, in fp32."""
    config = model.config
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, tokenizer, pre)
    for name, tensor in _gguf_tensors(model):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: GGUFWriter, tokenizer: PreTrainedTokenizerFast, pre: str) -> None:
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    merges = tokenizer.backend_tokenizer.model.__getstate__()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if t in SPECIAL else TokenType.NORMAL for t in tokens])
    writer.add_token_merges([" ".join(pair) for pair in _merges(merges)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def _merges(state: bytes) -> list[list[str]]:
    import json

    return json.loads(state)["merges"]


def _gguf_tensors(model: LlamaForCausalLM) -> list[tuple[str, np.ndarray]]:
    state, config = model.state_dict(), model.config
    names = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    tensors = [("token_embd.weight", state["model.embed_tokens.weight"]), ("output_norm.weight", state["model.norm.weight"])]
    for layer in range(config.num_hidden_layers):
        for theirs, ours in names.items():
            weight = state[f"model.layers.{layer}.{theirs}.weight"]
            tensors.append((f"blk.{layer}.{ours}.weight", _interleaved(weight, heads[ours]) if ours in heads else weight))
    return [(name, tensor.float().numpy()) for name, tensor in tensors]


def _interleaved(weight: torch.Tensor, n_heads: int) -> torch.Tensor:
    """GGUF keeps the two halves of each rotary pair side by side: (heads, 2, half, d) → (heads, half, 2, d)."""
    half = weight.shape[0] // n_heads // 2
    return weight.reshape(n_heads, 2, half, weight.shape[1]).transpose(1, 2).reshape(weight.shape).contiguous()
