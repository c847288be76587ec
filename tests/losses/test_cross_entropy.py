"""Cross entropies against torch, scipy and their laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax
from torch.nn import functional

from potstill.losses.cross_entropy import cross_entropy, soft_cross_entropy

seeds = st.integers(0, 2**16)
temperatures = st.sampled_from([0.5, 1.0, 2.0, 4.0])


def make_logits(seed: int, rows: int = 5, classes: int = 4) -> torch.Tensor:
    return 3 * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))


@given(seeds, st.integers(2, 6))
def test_hard_equals_torch(seed: int, n_classes: int) -> None:
    logits = make_logits(seed, classes=n_classes)
    labels = torch.randint(n_classes, (5,), generator=torch.Generator().manual_seed(seed))
    losses = cross_entropy(logits, labels)
    assert losses.shape == (5,)
    torch.testing.assert_close(losses, functional.cross_entropy(logits, labels, reduction="none"))


@given(seeds, temperatures)
def test_soft_equals_scipy(seed: int, temperature: float) -> None:
    logits, teacher = make_logits(seed), make_logits(seed + 1)
    targets = (teacher / temperature).softmax(1)
    wanted = -(temperature**2) * np.sum(
        targets.double().numpy() * log_softmax(logits.double().numpy() / temperature, axis=1),
        axis=1,
    )
    losses = soft_cross_entropy(logits, targets, temperature).numpy()
    np.testing.assert_allclose(losses, wanted, rtol=1e-4, atol=1e-5)


@given(seeds)
def test_soft_target_that_is_one_hot_is_the_hard_loss(seed: int) -> None:
    logits, labels = make_logits(seed), torch.tensor([0, 1, 2, 3, 0])
    torch.testing.assert_close(
        soft_cross_entropy(logits, torch.eye(4)[labels]), cross_entropy(logits, labels)
    )


@given(seeds, temperatures)
def test_soft_is_smallest_at_the_teacher_where_it_is_the_entropy(
    seed: int, temperature: float
) -> None:
    teacher = make_logits(seed)
    targets = (teacher / temperature).softmax(1)
    entropy = -(targets * targets.log()).sum(1)
    own = soft_cross_entropy(teacher, targets, temperature)
    torch.testing.assert_close(own, temperature**2 * entropy, rtol=1e-4, atol=1e-4)
    other = soft_cross_entropy(make_logits(seed + 1), targets, temperature)
    assert torch.all(other >= own - 1e-4)


@given(seeds, temperatures)
def test_gradient_is_temperature_times_the_difference(seed: int, temperature: float) -> None:
    logits = make_logits(seed).requires_grad_()
    targets = make_logits(seed + 1).softmax(1)
    (gradient,) = torch.autograd.grad(
        soft_cross_entropy(logits, targets, temperature).sum(), logits
    )
    wanted = temperature * ((logits.detach() / temperature).softmax(1) - targets)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-5)


def test_high_temperature_limit_is_centred_logit_matching() -> None:
    """T² KL(Q_T, P_T) goes to |z - v|² / 2C for centred logits (Hinton et al. 2015, eq. 4)."""
    temperature = 100.0
    student, teacher = make_logits(0), make_logits(1)
    student = (student - student.mean(1, keepdim=True)).requires_grad_()
    teacher = teacher - teacher.mean(1, keepdim=True)
    losses = soft_cross_entropy(student, (teacher / temperature).softmax(1), temperature)
    (gradient,) = torch.autograd.grad(losses.sum(), student)
    torch.testing.assert_close(gradient, (student.detach() - teacher) / 4, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_dtype_is_computed_in_fp32(dtype: torch.dtype) -> None:
    logits, targets = make_logits(0).to(dtype), make_logits(1).softmax(1).to(dtype)
    hard = cross_entropy(logits, torch.zeros(5, dtype=torch.int64))
    soft = soft_cross_entropy(logits, targets, 2.0)
    assert hard.dtype == soft.dtype == torch.float32
    assert torch.equal(hard, cross_entropy(logits.float(), torch.zeros(5, dtype=torch.int64)))
    assert torch.equal(soft, soft_cross_entropy(logits.float(), targets.float(), 2.0))


def test_huge_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0]])
    assert cross_entropy(logits, torch.tensor([1])).item() == pytest.approx(2e4)
    assert soft_cross_entropy(logits, torch.tensor([[1.0, 0.0, 0.0]])).item() == 0.0


def test_faulty_input_is_refused() -> None:
    logits = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"\(2, 1\).*wanted \(B, C\) and \(B,\)"):
        cross_entropy(logits, torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(RuntimeError):
        cross_entropy(logits, torch.tensor([0, -100]))
    with pytest.raises(ValueError, match="wanted the same"):
        soft_cross_entropy(logits, torch.zeros(1, 3))
    with pytest.raises(ValueError, match="temperature 0"):
        soft_cross_entropy(logits, logits, 0.0)
