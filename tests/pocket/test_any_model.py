"""A model of transformers in the training loop: its logits are its own, document by document, and its tables go to AdamW."""

from __future__ import annotations

import pytest
import torch

from backend.pocket.any_model import AnyModel
from backend.pocket.exam_model import new_model
from backend.training import Plan, make_optimizers


def ids(n: int) -> torch.Tensor:
    return torch.randint(4, 90, (n,), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model() -> AnyModel:
    return new_model("gpt2", 0)


def test_documents_laid_end_to_end_are_read_one_by_one(model):
    row, shapes = ids(3 * 8 + 2 * 16), ((2, 16), (3, 8))
    parts = [*row[:32].split(16), *row[32:].split(8)]
    with torch.no_grad():
        alone = torch.cat([model.model(input_ids=part[None], attention_mask=torch.ones(1, len(part))).logits[0] for part in parts])
        torch.testing.assert_close(model(row, shapes), alone, atol=1e-5, rtol=0)


def test_bf16_products_leave_fp32_gradients_near_the_exact_ones(model):
    row, gradients = ids(64), {}
    for dtype in (torch.float32, torch.bfloat16):
        logits = model(row, ((4, 16),), dtype)
        loss = logits.float().log_softmax(-1).gather(1, row.roll(-1)[:, None]).mean()
        gradients[dtype] = torch.autograd.grad(loss, list(model.parameters()))
    exact, rounded = (torch.cat([g.flatten() for g in gradients[dtype]]) for dtype in gradients)
    assert rounded.dtype == torch.float32
    assert torch.cosine_similarity(exact, rounded, dim=0) > 0.99


def test_tables_and_vectors_go_to_adamw_and_matrices_to_muon(model):
    *muons, adamw = make_optimizers(model, Plan(0.01, 1e-3, 0.5, steps=1))
    names = {id(p): name for name, p in model.named_parameters()}
    held = {names[id(p)] for group in adamw.param_groups for p in group["params"]}
    assert {"model.transformer.wte.weight", "model.transformer.wpe.weight", "model.transformer.ln_f.weight"} <= held
    assert not [name for name in held if name.endswith(("c_attn.weight", "c_fc.weight", "c_proj.weight"))]
    assert len(names) == len(held) + sum(len(group["params"]) for muon in muons for group in muon.param_groups)


def test_without_a_rate_for_muon_all_weights_go_to_adamw(model):
    (adamw,) = make_optimizers(model, Plan(None, 1e-3, 0.5, steps=1))
    assert isinstance(adamw, torch.optim.AdamW)
    assert sum(len(group["params"]) for group in adamw.param_groups) == len(list(model.parameters()))
