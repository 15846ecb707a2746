"""The exam's tokenizer and models: a character a token, a trainer's logits are transformers' logits."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from backend.detokenize import detokenize
from backend.pocket.exam import Item
from backend.pocket.exam_model import BOS, CHARACTERS, EOS, UNK, document, exam_tokenizer, ids_of, make_config, new_model, own_weights, save
from backend.prompt import render
from backend.types import Prompt

ARCHITECTURES = ("llama", "gpt2")


@pytest.fixture(scope="module")
def tokenizer():
    return exam_tokenizer()


@pytest.mark.parametrize("template", ["chat", "raw"])
def test_the_prompt_is_the_question_after_one_beginning_of_text_whatever_the_template(tokenizer, template):
    rendered = render(Prompt.user("?abcd 37 52=", template), tokenizer)
    assert rendered.ids == [BOS, *ids_of("?abcd 37 52=")] and not rendered.warnings


def test_every_printable_character_is_a_token_of_its_own_and_comes_back(tokenizer):
    ids = tokenizer(CHARACTERS, add_special_tokens=False)["input_ids"]
    assert ids == ids_of(CHARACTERS) and len(set(ids)) == len(CHARACTERS)
    assert tokenizer.decode(ids) == CHARACTERS
    assert "".join(detokenize(tokenizer, ids)) == CHARACTERS


def test_a_character_that_no_question_has_is_unknown(tokenizer):
    assert tokenizer("é", add_special_tokens=False)["input_ids"] == [UNK]


def test_a_document_counts_the_answer_and_its_end_alone():
    made = document(Item("addition", "12+34=", "46"))
    assert list(made.ids) == [BOS, *ids_of("12+34=46"), EOS]
    assert [i for i, weight in enumerate(made.weights) if weight] == [7, 8, 9]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_folders_logits_are_the_trainers_rounded_to_bf16(architecture, tmp_path):
    model = new_model(architecture, 3)
    rounded = {name: weight.bfloat16().float() for name, weight in model.state_dict().items()}
    model.load_state_dict(rounded)
    save(architecture, own_weights(architecture, model), tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = torch.tensor(ids_of("?abcd 37 52=?efgh 14 91="))
    with torch.no_grad():
        torch.testing.assert_close(
            model(ids, ((2, 12),)), loaded(ids.view(2, 12), attention_mask=torch.ones(2, 12)).logits.flatten(0, 1), atol=1e-4, rtol=0
        )
    assert AutoTokenizer.from_pretrained(tmp_path)("?ab")["input_ids"] == [BOS, *ids_of("?ab")]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_both_architectures_have_about_as_many_parameters_and_a_seed_decides_them(architecture):
    model = new_model(architecture, 1)
    assert 125_000 < sum(p.numel() for p in model.parameters()) < 160_000
    again, other = new_model(architecture, 1).state_dict(), new_model(architecture, 2).state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in model.state_dict().items())
    assert not all(torch.equal(weight, other[name]) for name, weight in model.state_dict().items())


def test_an_unknown_architecture_is_refused():
    with pytest.raises(ValueError, match="llama, gpt2"):
        make_config("mamba")
