"""The pocket pair, loaded once, and a router with chance weights for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import pytest
import torch

from backend.models import ModelPool
from backend.paths import assets_dir
from backend.routing.features import MORE, TOP_K
from backend.routing.judged import GRID
from backend.routing.labelling import Pair
from backend.routing.router import FORMAT, Member, Router


@pytest.fixture(scope="session")
def pocket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """Both models by role."""
    pool = ModelPool(tmp_path_factory.mktemp("pool"), assets_dir(), dtype="float32")
    yield pool.load_all({"small": "pocket/small", "large": "pocket/large"})
    pool.close()


@pytest.fixture(scope="session")
def pocket_pair(pocket: dict[str, object]) -> Pair:
    return Pair.of(pocket["small"], pocket["large"])


@pytest.fixture
def chance_router(pocket: dict[str, object]) -> Router:
    """Depth 1, width 8; its scores spread over a good part of 0 to 1."""
    generator = torch.Generator().manual_seed(4)
    members = {role: asdict(Member.of(model)) for role, model in pocket.items()}
    n = TOP_K + MORE + 2 * members["small"]["hidden_size"]
    units = torch.ones(n, 1)
    units[: TOP_K + MORE] = 0.05  # log-probabilities are large numbers
    layers = [(units * torch.randn(n, 8, generator=generator) / n**0.5, torch.zeros(8)), (torch.randn(8, 2, generator=generator), torch.zeros(2))]
    falling = {name: [1.0 - share for share in GRID] for name in ("neural", "entropy", "margin", "top1", "oracle")}
    card = {"format": FORMAT, "pair": members, "top_k": TOP_K, "depth": 1, "thresholds": {"share": list(GRID), **falling}}
    router = Router(layers, card, frozenset({5, 7}))
    router.check_pair(pocket["small"], pocket["large"])
    return router
