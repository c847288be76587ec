"""Dropout: rate, mean and scale are right, and a step's masks depend on its seed alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.models.dropout import Dropout, Noise


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3, 0.5, 0.9])
def test_rate_mean_and_scale(rate: float, dtype: torch.dtype) -> None:
    noise = Noise()
    noise.reseed(1)
    n = 200_001  # not a multiple of the four values that one random word decides
    dropped = noise.drop(torch.full((n,), -2.0, dtype=dtype), rate)
    assert dropped.dtype == dtype
    zero = dropped == 0
    sigma = (rate * (1 - rate) / n) ** 0.5
    assert abs(float(zero.float().mean()) - rate) < 5 * sigma
    step = 1e-4 if dtype == torch.float32 else 2**-8  # how finely the scale can be written
    assert abs(float(dropped.double().mean()) / -2 - 1) < 5 * sigma / (1 - rate) + step
    kept = dropped[~zero].float()
    torch.testing.assert_close(kept, torch.full_like(kept, -2 / (1 - rate)), rtol=step, atol=0)


def test_precision_does_not_change_the_mask() -> None:
    masks = []
    for dtype in (torch.float32, torch.bfloat16):
        noise = Noise()
        noise.reseed(7)
        masks.append(noise.drop(torch.ones(3, 11, dtype=dtype), 0.4) > 0)
    assert torch.equal(*masks)


def test_neighbours_are_dropped_independently() -> None:
    noise = Noise()
    noise.reseed(2)
    kept = (noise.drop(torch.ones(100_000), 0.5) > 0).double() - 0.5
    for lag in (1, 2, 3, 4, 8):
        assert abs(float((kept[lag:] * kept[:-lag]).mean())) < 0.25 * 5 / 100_000**0.5


@settings(max_examples=25, deadline=None)
@given(rate=st.floats(0, 1, exclude_max=True), n=st.integers(0, 9))
def test_any_rate_and_size_gives_finite_values(rate: float, n: int) -> None:
    noise = Noise()
    noise.reseed(3)
    assert torch.isfinite(noise.drop(torch.ones(n), rate)).all()


def test_masks_follow_the_seed_alone() -> None:
    values = torch.rand(7, 5)
    one, other = Noise(), Noise()
    other.drop(values, 0.3)  # whatever came before a step does not matter
    drawn = []
    for noise in (one, other):
        noise.reseed(2**62 + 1)
        drawn.append([noise.drop(values, 0.3), noise.drop(values, 0.3), torch.rand(3)])
    for a, b in zip(*drawn, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(drawn[0][0], drawn[0][1])
    one.reseed(5)
    assert not torch.equal(one.drop(values, 0.3), drawn[0][0])


def test_gradient_passes_where_values_do() -> None:
    values = torch.ones(100, requires_grad=True)
    dropped = Noise().drop(values, 0.5)
    torch.autograd.backward(dropped.sum())
    assert values.grad is not None
    assert torch.equal(values.grad, dropped.detach())


def test_module_drops_in_training_only() -> None:
    layer = Dropout(0.5, Noise())
    values = torch.ones(64)
    assert not torch.equal(layer(values), values)
    layer.eval()
    assert torch.equal(layer(values), values)
    assert torch.equal(Dropout(0.0, Noise())(values), values)
    assert layer(torch.ones(4, dtype=torch.bfloat16)).dtype == torch.bfloat16
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match="rate"):
            Dropout(rate, Noise())
