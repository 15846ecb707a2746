"""The perceptron: what it learns, what folding keeps, what chance may not touch."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from backend.routing.fit import Epoch, Shape, Split, apply, fit, folded, over, temperature
from backend.routing.metrics import roc_auc


def split(seed: int, n: int = 3000, judged_share: float = 1.0) -> Split:
    """The choices differ where the first feature is high; that matters where the second one is. Features have odd units."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=generator)
    differ = (x[:, 0] + 0.5 * torch.randn(n, generator=generator) > 1).float()
    matters = differ * (x[:, 1] + 0.5 * torch.randn(n, generator=generator) > 0).float()
    judged = (differ == 1) & (torch.rand(n, generator=generator) < judged_share)
    units = torch.tensor([1000.0, 1e-3, 1.0, 5.0, 1.0, 0.0])
    return Split((x * units + 3).__getitem__, differ, matters, judged)


def run(train: Split, held: Split, shape: Shape, seed: int = 1) -> tuple[list[Epoch], list]:
    steps, epochs = fit(train, held, shape, seed), []
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return epochs, end.value
        epochs += [step] if step else []


SHAPE = Shape(16, 1, 0.0)


def test_both_questions_are_learnt():
    """On 500 fresh rows; an untrained net gives 0.5 within 0.08 (three spreads)."""
    _, layers = run(split(0), split(1, 500), SHAPE)
    fresh = split(2, 500)
    first, second = over(layers, fresh.take, len(fresh)).T
    assert roc_auc(first.numpy(), fresh.differ.numpy()) > 0.85
    inside = fresh.judged
    assert roc_auc(second[inside].numpy(), fresh.matters[inside].numpy()) > 0.8


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before():
    torch.manual_seed(1)
    _, once = run(split(0, 300), split(1, 200), Shape(8, 2, 0.3))
    torch.rand(17)
    _, again = run(split(0, 300), split(1, 200), Shape(8, 2, 0.3))
    assert all(torch.equal(a, b) for pair in zip(once, again, strict=True) for a, b in zip(*pair, strict=True))
    _, other = run(split(0, 300), split(1, 200), Shape(8, 2, 0.3), seed=2)
    assert not torch.equal(once[0][0], other[0][0])


def test_rows_that_nobody_judged_do_not_answer_the_second_question():
    train = split(0, 300, judged_share=0.5)
    lied = Split(train.take, train.differ, torch.where(train.judged, train.matters, 1 - train.matters), train.judged)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(run(train, split(1, 200), SHAPE)[1], run(lied, split(1, 200), SHAPE)[1], strict=True))


def test_the_best_pass_is_the_one_of_the_lowest_loss_on_the_calibrate_split():
    epochs, _ = run(split(0, 300), split(1, 200), SHAPE)
    for i, epoch in enumerate(epochs):
        assert epoch.index == i and epoch.best == (epoch.calibrate_loss < min((e.calibrate_loss for e in epochs[:i]), default=float("inf")))


def test_folding_moves_scales_and_temperatures_into_the_layers():
    generator = torch.Generator().manual_seed(0)
    layers = [(torch.randn(4, 5, generator=generator), torch.randn(5)), (torch.randn(5, 2, generator=generator), torch.randn(2))]
    x, mean, spread, t = torch.randn(7, 4) * 9, torch.randn(4), torch.rand(4) + 0.5, torch.tensor([0.5, 3.0])
    torch.testing.assert_close(apply(folded(layers, mean, spread, t), x), apply(layers, (x - mean) / spread) / t, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_likeliest_of_a_fine_grid(true):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(4000, generator=generator) * 2
    y = (torch.rand(4000, generator=generator) < torch.sigmoid(logits / true)).float()
    grid = [0.05 * 1.02**i for i in range(300)]
    best = min(grid, key=lambda t: functional.binary_cross_entropy_with_logits(logits / t, y).item())
    assert temperature(logits, y) == pytest.approx(best, rel=0.02)
