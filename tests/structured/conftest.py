"""A tiny random model as the workbench would hand it to a method."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from backend.resources import Resources
from tests.tiny_models import tiny_model, tiny_tokenizer


@pytest.fixture(scope="session")
def tiny_handle():
    """A `LoadedModel` in all that a method reads; a random model says anything, so the grammar has much to do."""
    tokenizer = tiny_tokenizer()
    model = tiny_model(len(tokenizer))
    resources = Resources()
    yield SimpleNamespace(
        id="tiny", model=model, tokenizer=tokenizer, device=torch.device("cpu"), dtype=torch.float32, vocab_size=len(tokenizer),
        stop_ids=(2,), resources=resources, line=lambda: {"id": "tiny"},
    )  # fmt: skip
    resources.close()
