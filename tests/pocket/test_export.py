"""A training folder, made in moments, becomes a Hugging Face folder that loads without a line of ours."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from backend.errors import InvalidRequest, WorkbenchError
from backend.pocket import train as pocket_train
from backend.pocket.export import export
from backend.pocket.lean_llama import LeanLlama
from backend.pocket.model_config import SIZES, llama_config
from backend.pocket.train import train, weaker
from backend.training import read_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The training folder of a small model after a second."""
    folder = tmp_path_factory.mktemp("pocket") / "small"
    reports = list(train("small", 0.02, 5, folder))
    assert reports[-1].finished
    return folder


@pytest.fixture(scope="module")
def trained(folder):
    model = LeanLlama(llama_config(SIZES["small"]))
    model.load_state_dict(read_checkpoint(folder)["model"])
    return model


def logits_of(path, ids):
    """By transformers alone, in fp32."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, local_files_only=True)
    with torch.no_grad():
        return model(ids[None]).logits[0]


def test_logits_of_the_exported_folder_equal_the_trainers(folder, trained, tmp_path):
    path = export(folder, tmp_path / "fp32", torch.float32)
    ids = torch.arange(8, 88)
    with torch.no_grad():
        torch.testing.assert_close(logits_of(path, ids), trained(ids, ((1, 80),)), atol=1e-4, rtol=0)


def test_the_shipped_form_is_the_trained_model_rounded_to_bf16(folder, trained, tmp_path):
    path = export(folder, tmp_path / "bf16")
    rounded = LeanLlama(trained.config)
    rounded.load_state_dict({name: weight.bfloat16().float() for name, weight in trained.state_dict().items()})
    ids = torch.arange(8, 88)
    with torch.no_grad():
        torch.testing.assert_close(logits_of(path, ids), rounded(ids, ((1, 80),)), atol=1e-4, rtol=0)
    n_bytes = (path / "model.safetensors").stat().st_size
    n_parameters = sum(p.numel() for p in trained.parameters())
    assert 2 * n_parameters <= n_bytes < 2 * n_parameters + 8192, "bf16, and the tied matrix once"


def test_the_exported_folder_has_a_tokenizer_that_chats_and_stops(folder, tmp_path):
    path = export(folder, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Hi there"}], tokenize=False, add_generation_prompt=True)
    assert text == "<bos><user>Hi there<assistant>"
    model = AutoModelForCausalLM.from_pretrained(path, local_files_only=True)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == 2
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    assert model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=4).shape[1] > ids.shape[1]


def test_what_training_noted_goes_with_the_model(folder, tmp_path):
    notes = json.loads((export(folder, tmp_path / "out") / "training.json").read_text())
    assert notes["size"] == "small" and notes["seed"] == 5 and notes["n_tokens"] > 0
    assert notes["command"] == "python -m backend pocket train --size small --minutes 0.02 --seed 5"
    assert "weaker" in notes["weaker"] and notes["curve"][-1]["tokens"] == notes["n_tokens"]


def test_less_time_than_the_shipped_model_had_is_said_to_give_a_weaker_one():
    minutes = SIZES["large"].minutes
    assert weaker("large", minutes) is None
    assert "expect a weaker model" in weaker("large", minutes / 2)


@pytest.mark.parametrize(("size", "minutes", "seed"), [("huge", 1, 0), ("small", 0, 0), ("small", 1, -1)])
def test_a_size_minutes_or_seed_out_of_range_is_refused(tmp_path, size, minutes, seed):
    with pytest.raises(InvalidRequest):
        next(train(size, minutes, seed, tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_a_folder_of_another_run_is_refused(folder):
    with pytest.raises(InvalidRequest, match="seed 5, not 6"):
        next(train("small", 1, 6, folder))


def test_a_folder_without_a_run_is_not_exported(tmp_path):
    with pytest.raises(WorkbenchError, match="train first"):
        export(tmp_path, tmp_path / "out")


def test_documents_of_a_seed_are_the_same_from_any_place_on():
    tokenizer = pocket_train.pocket_tokenizer()
    documents = pocket_train.documents_of(4, tokenizer)
    whole, later = documents(0), documents(7)
    for _ in range(7):
        next(whole)
    assert [next(whole) for _ in range(5)] == [next(later) for _ in range(5)]
