"""Turns a training folder into an ordinary Hugging Face folder.

Goes in: a folder with a checkpoint and `training.json`. Comes out: config, bf16 safetensors, tokenizer with chat template, generation
config and `training.json`, loadable by `AutoModelForCausalLM` and `AutoTokenizer` without a line of ours. Writes no card.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from backend.pocket.model_config import llama_config
from backend.pocket.train import TOKENIZER, TRAINING, size_named
from backend.training import read_checkpoint

ANSWER_TOKENS = 160


def export(run: Path, target: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    """Write the model of a training folder, finished or not, to `target`; raises `WorkbenchError` when there is no checkpoint."""
    weights = read_checkpoint(run)["model"]
    notes = json.loads((run / TRAINING).read_text())
    save_folder(weights, llama_config(size_named(notes["size"])), target, dtype)
    PreTrainedTokenizerFast.from_pretrained(run / TOKENIZER).save_pretrained(target)
    (target / TRAINING).write_text((run / TRAINING).read_text())
    return target


def save_folder(weights: Mapping[str, Tensor], config: LlamaConfig, target: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Config, weights and generation config of a Hugging Face folder. The output matrix is the embedding's and is not written."""
    model = LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(dict(weights), strict=False)
    assert set(missing) <= {"lm_head.weight"} and not unexpected, (missing, unexpected)
    model.tie_weights()
    ids = {"bos_token_id": config.bos_token_id, "eos_token_id": config.eos_token_id, "pad_token_id": config.pad_token_id}
    model.generation_config = GenerationConfig(**ids, do_sample=False, max_new_tokens=ANSWER_TOKENS)
    model.to(dtype).save_pretrained(target)
