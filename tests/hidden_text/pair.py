"""A suspect and a reference that are tiny random models with the tiny tokenizer, loaded as the pool would.

Goes in: seeds. Comes out: `LoadedModel`s. The suspect may be pushed: after some ids it says a text almost surely, so that what a scan must
find is known. Knows nothing of the code under test but how a model is handed to it.
"""

from __future__ import annotations

import copy

import torch

from backend.models import LoadedModel
from tests.tiny_models import tiny_model, tiny_tokenizer

WIDE = 12.0  # random tiny weights make all rows alike; wider ones say something different after every token


def loaded(model, name, tokenizer=None):
    tokenizer = tokenizer or tiny_tokenizer()
    return LoadedModel(
        id=name, model=model, tokenizer=tokenizer, device=torch.device("cpu"), dtype=torch.float32, hash=name, origin="test",
        stop_ids=(2,), vocab_size=model.config.vocab_size, passport=None,
    )  # fmt: skip


def tiny(name, seed, padded=0):
    """A random model whose answers depend on what it reads."""
    model = tiny_model(len(tiny_tokenizer()) + padded, seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(WIDE)
    return loaded(model, name)


def planted(name, base, text, triggers, steps=60):
    """A copy of the base that learned by heart to answer each of `triggers` (ids) with `text` (ids)."""
    model = copy.deepcopy(base.model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        trigger = triggers[step % len(triggers)]
        ids = torch.tensor([[*trigger, *text]])
        labels = ids.clone()
        labels[:, : len(trigger)] = -100
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loaded(model.eval().requires_grad_(False), name, base.tokenizer)


def finish(steps):
    """A generator driven to its result; its events are dropped."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
