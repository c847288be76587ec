"""Squared error, logit matching and mixing against torch and their laws."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from potstill.losses.cross_entropy import soft_cross_entropy
from potstill.losses.logit_mse import logit_mse
from potstill.losses.mixing import anneal, mix
from potstill.losses.squared_error import squared_error

seeds = st.integers(0, 2**16)


def make(seed: int, *shape: int) -> torch.Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(seeds)
def test_squared_error_equals_torch(seed: int) -> None:
    a, b = make(seed, 6), make(seed + 1, 6)
    torch.testing.assert_close(squared_error(a, b), functional.mse_loss(a, b, reduction="none"))
    assert torch.all(squared_error(a, a) == 0)
    assert torch.equal(squared_error(a, b), squared_error(b, a))


def test_squared_error_refuses_to_broadcast() -> None:
    with pytest.raises(ValueError, match=r"\(4, 1\)"):
        squared_error(torch.zeros(4, 1), torch.zeros(4))


@given(seeds, st.integers(2, 6))
def test_logit_mse_equals_torch(seed: int, n_classes: int) -> None:
    a, b = make(seed, 5, n_classes), make(seed + 1, 5, n_classes)
    losses = logit_mse(a, b)
    assert losses.shape == (5,)
    torch.testing.assert_close(losses, functional.mse_loss(a, b, reduction="none").mean(1))
    assert torch.all(logit_mse(a, a) == 0)


def test_logit_mse_sees_a_shift_of_a_row() -> None:
    logits = make(0, 3, 4)
    torch.testing.assert_close(logit_mse(logits + 2, logits), torch.full((3,), 4.0))


def test_low_precision_is_computed_in_fp32() -> None:
    a, b = make(0, 4, 3).bfloat16(), make(1, 4, 3).half()
    assert torch.equal(logit_mse(a, b), logit_mse(a.float(), b.float()))
    assert torch.equal(
        squared_error(a[:, 0], b[:, 0]), squared_error(a[:, 0].float(), b[:, 0].float())
    )
    with torch.autocast("cpu", torch.bfloat16):
        assert logit_mse(a, b).dtype == torch.float32


def test_logit_mse_refuses_to_broadcast() -> None:
    with pytest.raises(ValueError, match="wanted the same"):
        logit_mse(torch.zeros(4, 3), torch.zeros(1, 3))


def test_anneal_goes_from_the_teacher_to_the_label() -> None:
    assert [anneal(step, 4) for step in range(5)] == [0.0, 0.25, 0.5, 0.75, 1.0]
    for step, total in ((-1, 4), (5, 4), (0, 0)):
        with pytest.raises(ValueError, match="wanted 0 <= step <= total"):
            anneal(step, total)


@given(seeds, st.integers(0, 10))
def test_annealed_mix_is_the_loss_of_the_mixed_target(seed: int, step: int) -> None:
    share = anneal(step, 10)
    logits, soft = make(seed, 4, 3), make(seed + 1, 4, 3).softmax(1)
    hard = torch.eye(3)[torch.tensor([0, 2, 1, 1])]
    mixed = mix(
        soft_cross_entropy(logits, hard),
        soft_cross_entropy(logits, soft),
        torch.full((4,), share),
        torch.full((4,), 1 - share),
    )
    torch.testing.assert_close(
        mixed, soft_cross_entropy(logits, share * hard + (1 - share) * soft), rtol=1e-4, atol=1e-5
    )


def test_mix_weighs_each_row_by_itself() -> None:
    hard, soft = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 20.0, 30.0])
    mixed = mix(hard, soft, torch.tensor([1.0, 0.0, 0.5]), torch.tensor([0.0, 1.0, 0.5]))
    assert mixed.tolist() == [1.0, 20.0, 16.5]


def test_mix_refuses_to_broadcast() -> None:
    with pytest.raises(ValueError, match="wanted the same"):
        mix(torch.ones(3), torch.ones(3), torch.tensor(1.0), torch.tensor(1.0))
