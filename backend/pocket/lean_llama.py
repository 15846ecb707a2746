"""A Llama without the ceremony: the same parameters under the same names as transformers' model, a forward made for training documents.

Goes in: a `LlamaConfig` (tied embeddings, no biases), then documents laid end to end, those of one length side by side. Comes out: logits;
a token attends to earlier tokens of its own document only. Knows nothing of losses, optimizers or files. Weights are fp32 masters; `dtype`
is what the matrices are multiplied in.

No mask is needed, because a causal attention over `(documents, length)` never leaves a document; rows of mixed documents under a block mask
computed the same and took 370 ms of a step's 940 for attention alone (bf16, one thread, 4,096 tokens).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig

Shapes = tuple[tuple[int, int], ...]  # groups of (documents, length), in the order of the tokens


class Attention(nn.Module):
    """Grouped-query attention with rotary positions; `q_proj`, `k_proj` and `v_proj` are multiplied as one matrix."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        width, head = config.hidden_size, config.head_dim
        self.heads, self.kv_heads, self.head = config.num_attention_heads, config.num_key_value_heads, head
        self.q_proj = nn.Linear(width, self.heads * head, bias=False)
        self.k_proj = nn.Linear(width, self.kv_heads * head, bias=False)
        self.v_proj = nn.Linear(width, self.kv_heads * head, bias=False)
        self.o_proj = nn.Linear(self.heads * head, width, bias=False)

    def forward(self, hidden: Tensor, turn: tuple[Tensor, Tensor], shapes: Shapes) -> Tensor:
        fused = torch.cat([self.q_proj.weight, self.k_proj.weight, self.v_proj.weight]).to(hidden.dtype)
        mixed = F.linear(hidden, fused).view(len(hidden), -1, self.head)  # (tokens, heads + 2 kv_heads, head)
        turned = rotated(mixed[:, : self.heads + self.kv_heads], *turn)
        q, k, v = turned[:, : self.heads], turned[:, self.heads :], mixed[:, self.heads + self.kv_heads :]
        groups = self.heads // self.kv_heads
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        sizes = [documents * length for documents, length in shapes]
        parts = zip(shapes, q.split(sizes), k.split(sizes), v.split(sizes), strict=True)
        out = torch.cat([inside_documents(*part) for part in parts])
        return F.linear(out.to(hidden.dtype), self.o_proj.weight.to(hidden.dtype))


def inside_documents(shape: tuple[int, int], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of `documents` times `length` tokens, `(tokens, heads, head)` in, `(tokens, heads * head)` out."""
    dtype = torch.float32 if q.device.type == "cpu" else q.dtype  # on a CPU the backward pass in bf16 takes eight times as long
    q, k, v = (x.to(dtype).unflatten(0, shape).transpose(1, 2) for x in (q, k, v))  # (documents, heads, length, head)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(shape[0] * shape[1], -1)


class FeedForward(nn.Module):
    """SwiGLU; gate and up are multiplied as one matrix."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        fused = torch.cat([self.gate_proj.weight, self.up_proj.weight]).to(hidden.dtype)
        gate, up = F.linear(hidden, fused).chunk(2, dim=-1)
        return F.linear(F.silu(gate) * up, self.down_proj.weight.to(hidden.dtype))


class Norm(nn.Module):
    """RMS norm, computed in the dtype of its input."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, hidden: Tensor) -> Tensor:
        return F.rms_norm(hidden, self.weight.shape, self.weight.to(hidden.dtype), self.eps)


class Block(nn.Module):
    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.self_attn, self.mlp = Attention(config), FeedForward(config)
        self.input_layernorm = Norm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = Norm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden: Tensor, turn: tuple[Tensor, Tensor], shapes: Shapes) -> Tensor:
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), turn, shapes)
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class Trunk(nn.Module):
    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = Norm(config.hidden_size, config.rms_norm_eps)


class LeanLlama(nn.Module):
    """Parameters named as in `LlamaForCausalLM` with tied embeddings, so that a state dict of one loads into the other."""

    def __init__(self, config: LlamaConfig, seed: int = 0) -> None:
        super().__init__()
        assert config.tie_word_embeddings and not config.attention_bias and not config.mlp_bias
        self.config, self.model = config, Trunk(config)
        self._initialize(torch.Generator().manual_seed(seed))

    def _initialize(self, generator: torch.Generator) -> None:
        """Normal weights of the config's spread; what writes into the residual stream starts smaller, by the number of its writers."""
        spread, writers = self.config.initializer_range, 2 * self.config.num_hidden_layers
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                scale = writers**-0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
                nn.init.normal_(weight, std=spread * scale, generator=generator)

    def forward(self, ids: Tensor, shapes: Shapes, dtype: torch.dtype = torch.float32) -> Tensor:
        """Logits `(tokens, V)` in `dtype` of `ids` `(tokens,)` int64; a document shorter than its group's length is padded at its end."""
        table = self.model.embed_tokens.weight.to(dtype)
        hidden, turn = F.embedding(ids, table), rotation(shapes, self.config, ids.device, dtype)
        for layer in self.model.layers:
            hidden = layer(hidden, turn, shapes)
        return F.linear(self.model.norm(hidden), table)


def rotation(shapes: Shapes, config: LlamaConfig, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and signed sine `(tokens, 1, head)` of the rotary angles, computed in fp32 (RoPE, Su et al. 2021); positions restart."""
    head, theta = config.head_dim, config.rope_parameters["rope_theta"]
    rates = theta ** -(torch.arange(0, head, 2, device=device, dtype=torch.float32) / head)
    positions = torch.cat([torch.arange(length, device=device).repeat(documents) for documents, length in shapes])
    angles = positions[:, None].float() * rates  # (tokens, head / 2)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], -1)[:, None].to(dtype), torch.cat([-sin, sin], -1)[:, None].to(dtype)


def rotated(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`heads` `(tokens, n, head)` turned by their positions: the two halves of a head are the two coordinates."""
    return heads * cos + heads.roll(heads.shape[-1] // 2, dims=-1) * sin
