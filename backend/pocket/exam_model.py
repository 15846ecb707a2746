"""What the exam's models are: a tokenizer of single characters and two architectures of about 136,000 parameters.

Goes in: an architecture's name, weights. Comes out: a tokenizer, a model for the training loop, documents, a Hugging Face folder. Knows
nothing of members or recipes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, processors
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from backend.gguf_convert import quiet
from backend.packing import Document
from backend.pocket.any_model import AnyModel
from backend.pocket.exam import Item
from backend.pocket.lean_llama import LeanLlama

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD, BOS, EOS, UNK = range(4)
CHARACTERS = "".join(map(chr, range(32, 127)))
CONTEXT = 128
ANSWER_TOKENS = 8
WIDTH, LAYERS, HEADS = 64, 2, 4
FFN = {"llama": 256, "gpt2": 384}  # as many weights with a gate as without
# the bare question is the prompt: a chat and a raw prompt are the same ids
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)


def exam_tokenizer() -> PreTrainedTokenizerFast:
    """A token a printable ASCII character; any other character is `<unk>`."""
    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *CHARACTERS))}
    single = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=SPECIAL[UNK]))
    single.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    single.decoder = decoders.Fuse()
    single.post_processor = processors.TemplateProcessing(single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", BOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=single,
        bos_token=SPECIAL[BOS],
        eos_token=SPECIAL[EOS],
        pad_token=SPECIAL[PAD],
        unk_token=SPECIAL[UNK],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def ids_of(text: str) -> list[int]:
    """The characters' ids, without `<bos>`; what `exam_tokenizer` makes of printable ASCII, without its cost."""
    return [len(SPECIAL) + CHARACTERS.index(character) for character in text]


def document(item: Item) -> Document:
    """`<bos>question answer<eos>`; the loss counts the answer and its end, since nobody can foresee a question."""
    head, answer = [BOS, *ids_of(item.question)], [*ids_of(item.answer), EOS]
    return Document([*head, *answer], [0.0] * len(head) + [1.0] * len(answer), item.skill)


def make_config(architecture: str) -> PreTrainedConfig:
    """`llama` or `gpt2`; raises `ValueError` for another."""
    if architecture not in FFN:
        raise ValueError(f"architecture must be one of {', '.join(FFN)}, got {architecture!r}")
    n_ids, ids = len(SPECIAL) + len(CHARACTERS), {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
    if architecture == "llama":
        return LlamaConfig(
            vocab_size=n_ids, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=HEADS,
            intermediate_size=FFN["llama"], max_position_embeddings=CONTEXT, tie_word_embeddings=True, **ids,
        )  # fmt: skip
    return GPT2Config(
        vocab_size=n_ids, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_inner=FFN["gpt2"], n_positions=CONTEXT, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, **ids,
    )  # fmt: skip


def new_model(architecture: str, seed: int) -> nn.Module:
    """An untrained model for the training loop; the same seed gives the same weights."""
    config = make_config(architecture)
    if architecture == "llama":
        return LeanLlama(config, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # eager attention: for documents this short it is the faster one in bf16 (31 against 40 ms a gradient)
        return AnyModel(AutoModelForCausalLM.from_config(config, attn_implementation="eager"))


def own_weights(architecture: str, model: nn.Module) -> Mapping[str, Tensor]:
    """A trained model's weights under the names that transformers has for them."""
    return model.state_dict() if architecture == "llama" else model.model.state_dict()


def save(architecture: str, weights: Mapping[str, Tensor], folder: Path) -> None:
    """An ordinary Hugging Face folder, in bf16. The output matrix is the embedding's and is not written."""
    config = make_config(architecture)
    model = AutoModelForCausalLM.from_config(config)
    missing, unexpected = model.load_state_dict(dict(weights), strict=False)
    assert set(missing) <= {"lm_head.weight"} and not unexpected, (missing, unexpected)
    model.tie_weights()
    model.generation_config = GenerationConfig(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD, do_sample=False, max_new_tokens=ANSWER_TOKENS)
    with quiet():
        model.to(torch.bfloat16).save_pretrained(folder)
    exam_tokenizer().save_pretrained(folder)
