"""Losses over a vocabulary of which teachers keep a few pieces, against torch and their laws."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from potstill.losses.vocabulary import (
    kept_cross_entropy,
    picked_log_probabilities,
    smoothed_cross_entropy,
)

V = 11
seeds = st.integers(0, 2**16)
temperatures = st.sampled_from([0.5, 1.0, 2.0, 5.0])


def make(seed: int, *shape: int, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def different_pieces(seed: int, n_slots: int, k: int) -> Tensor:
    """(S, K) pieces, no two of a place alike."""
    return make(seed, n_slots, V).argsort(1)[:, :k]


def with_rest(kept: Tensor) -> Tensor:
    """(S, K) probabilities as (S, K + 1), the rest behind them."""
    return torch.cat([kept, 1 - kept.sum(1, keepdim=True)], 1)


def explicit(logits: Tensor, pieces: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """The same loss by autograd, over K + 1 classes whose last has the mass of all others."""
    logs = with_rest(logits.log_softmax(1).gather(1, pieces).exp()).log()
    student = (logs / temperature).log_softmax(1)
    return -(temperature**2) * (with_rest(targets) * student).sum(1)


# -- picked log-probabilities -------------------------------------------------------------------


@given(seeds, st.integers(1, 5))
def test_picked_values_and_gradients_equal_torch(seed: int, j: int) -> None:
    """Also of pieces that are picked twice."""
    pieces = torch.randint(0, V, (6, j), generator=torch.Generator().manual_seed(seed))
    weights, of_mean = make(seed + 1, 6, j), make(seed + 2, 6)
    found = []
    for own in (True, False):
        logits = make(seed, 6, V).requires_grad_()
        if own:
            picked, mean = picked_log_probabilities(logits, pieces)
        else:
            logs = logits.log_softmax(1)
            picked, mean = logs.gather(1, pieces), logs.mean(1)
        ((picked * weights).sum() + (mean * of_mean).sum()).backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        found.append((picked.detach(), mean.detach(), logits.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_gradient_is_that_of_finite_differences() -> None:
    """In double precision it would be cast to fp32: so by hand, with a wide step."""
    logits, pieces = make(3, 2, 4), torch.tensor([[1, 3], [0, 0]])

    def loss(at: Tensor) -> Tensor:
        picked, mean = picked_log_probabilities(at, pieces)
        return (picked * torch.tensor([[1.0, -2.0], [0.5, 3.0]])).sum() + 2 * mean.sum()

    at = logits.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(at), at)
    for i in range(2):
        for v in range(4):
            step = torch.zeros(2, 4)
            step[i, v] = 1e-2
            slope = (loss(logits + step) - loss(logits - step)) / 2e-2
            assert float(found[i, v]) == pytest.approx(float(slope), abs=5e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_computed_in_fp32(dtype: torch.dtype) -> None:
    logits, pieces = make(0, 5, V).to(dtype), different_pieces(1, 5, 3)
    with torch.autocast("cpu", torch.bfloat16):
        picked, mean = picked_log_probabilities(logits, pieces)
    wanted = logits.float().log_softmax(1)
    assert picked.dtype == mean.dtype == torch.float32
    torch.testing.assert_close(picked, wanted.gather(1, pieces))
    torch.testing.assert_close(mean, wanted.mean(1))
    narrow = logits.clone().requires_grad_()
    picked, mean = picked_log_probabilities(narrow, pieces)
    (picked.sum() + mean.sum()).backward()  # type: ignore[no-untyped-call]
    assert narrow.grad is not None
    assert narrow.grad.dtype == dtype
    wide = logits.float().requires_grad_()
    logs = wide.log_softmax(1)
    (logs.gather(1, pieces).sum() + logs.mean(1).sum()).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(narrow.grad, wide.grad, rtol=2e-2, atol=2e-2, check_dtype=False)


def test_large_logits_do_not_overflow() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [-3e38, -3e38, -3e38]], requires_grad=True)
    picked, mean = picked_log_probabilities(logits, torch.tensor([[0, 1], [0, 1]]))
    assert torch.isfinite(picked).all()
    (picked[0].sum() + mean[0]).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("logits", "pieces"), [((3,), (3, 1)), ((3, 4), (3,)), ((3, 4), (2, 1)), ((1, 3, 4), (3, 1))]
)
def test_picked_refuses_other_shapes(logits: tuple[int, ...], pieces: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"wanted \(S, V\), \(S, J\)"):
        picked_log_probabilities(torch.zeros(logits), torch.zeros(pieces, dtype=torch.long))


# -- smoothed labels ----------------------------------------------------------------------------


@given(seeds, st.sampled_from([0.0, 0.1, 0.3, 0.9]))
def test_smoothed_cross_entropy_equals_torch(seed: int, smoothing: float) -> None:
    labels = different_pieces(seed + 1, 6, 1)
    found = []
    for own in (True, False):
        logits = make(seed, 6, V).requires_grad_()
        if own:
            picked, mean = picked_log_probabilities(logits, labels)
            losses = smoothed_cross_entropy(picked[:, 0], mean, smoothing)
        else:
            losses = functional.cross_entropy(
                logits, labels[:, 0], reduction="none", label_smoothing=smoothing
            )
        losses.sum().backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        found.append((losses.detach(), logits.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_smoothed_cross_entropy_refuses_to_broadcast() -> None:
    with pytest.raises(ValueError, match="wanted the same"):
        smoothed_cross_entropy(torch.zeros(4, 1), torch.zeros(4), 0.1)
    with pytest.raises(ValueError, match="wanted the same"):
        smoothed_cross_entropy(torch.zeros(4), torch.zeros(1), 0.1)


# -- kept pieces and the rest -------------------------------------------------------------------


@given(seeds, st.integers(1, V - 1), temperatures)
def test_kept_equals_a_cross_entropy_over_one_class_more(
    seed: int, k: int, temperature: float
) -> None:
    pieces = different_pieces(seed + 1, 6, k)
    targets = make(seed + 2, 6, V).softmax(1)[:, :k]
    found = []
    for own in (True, False):
        logits = make(seed, 6, V, scale=1.0).requires_grad_()
        if own:
            picked, _ = picked_log_probabilities(logits, pieces)
            losses = kept_cross_entropy(picked, targets, temperature)
        else:
            losses = explicit(logits, pieces, targets, temperature)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        found.append((losses.detach(), logits.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@given(seeds, temperatures)
def test_all_pieces_kept_is_the_full_soft_cross_entropy(seed: int, temperature: float) -> None:
    """The rest is then as good as nothing: at most what its floor of a millionth adds."""
    pieces, logits = different_pieces(seed + 1, 6, V), make(seed, 6, V)
    teacher = (make(seed + 2, 6, V) / temperature).softmax(1)
    picked, _ = picked_log_probabilities(logits, pieces)
    found = kept_cross_entropy(picked, teacher.gather(1, pieces), temperature)
    wanted = -(temperature**2) * (teacher * (logits / temperature).log_softmax(1)).sum(1)
    # At T the floor counts as a class of 1e-6 ** (1 / T).
    slack = temperature**2 * V * 1e-6 ** (1 / temperature) + 1e-3
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=slack)


@given(seeds, st.integers(1, 6), temperatures)
def test_the_loss_of_a_distribution_with_itself_is_its_entropy_and_least(
    seed: int, k: int, temperature: float
) -> None:
    logits, pieces = make(seed, 6, V, scale=1.0), different_pieces(seed + 1, 6, k)
    picked, _ = picked_log_probabilities(logits, pieces)
    own = with_rest(picked.exp()).log().div(temperature).softmax(1)
    entropy = -(own * own.log()).sum(1) * temperature**2
    least = kept_cross_entropy(picked, own[:, :-1], temperature)
    torch.testing.assert_close(least, entropy, rtol=1e-3, atol=1e-4)
    other, _ = picked_log_probabilities(logits + make(seed + 2, 6, V, scale=0.5), pieces)
    assert (kept_cross_entropy(other, own[:, :-1], temperature) >= least - 1e-3).all()


@given(seeds, temperatures)
def test_its_gradient_vanishes_where_student_and_teacher_agree(
    seed: int, temperature: float
) -> None:
    logits, pieces = make(seed, 4, V, scale=1.0).requires_grad_(), different_pieces(seed + 1, 4, 4)
    picked, _ = picked_log_probabilities(logits, pieces)
    own = with_rest(picked.detach().exp()).log().div(temperature).softmax(1)
    kept_cross_entropy(picked, own[:, :-1], temperature).sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.zeros(4, V), rtol=0, atol=1e-4)


def test_the_order_of_kept_pieces_means_nothing() -> None:
    logits, pieces = make(0, 5, V), different_pieces(1, 5, 4)
    targets = make(2, 5, V).softmax(1)[:, :4]
    order = torch.tensor([2, 0, 3, 1])
    one = kept_cross_entropy(picked_log_probabilities(logits, pieces)[0], targets, 2.0)
    other = kept_cross_entropy(
        picked_log_probabilities(logits, pieces[:, order])[0], targets[:, order], 2.0
    )
    torch.testing.assert_close(one, other)


def test_extremes_stay_finite() -> None:
    """A student that is sure, right or wrong, and a teacher that keeps nothing or all."""
    logits = torch.zeros(3, V)
    logits[0, 0], logits[1, 5] = 200.0, 200.0
    logits.requires_grad_()
    pieces = torch.arange(3).repeat(3, 1)
    for targets in (torch.tensor([[1.0, 0, 0]] * 3), torch.zeros(3, 3)):
        for temperature in (1.0, 3.0):
            picked, _ = picked_log_probabilities(logits, pieces)
            losses = kept_cross_entropy(picked, targets, temperature)
            (gradient,) = torch.autograd.grad(losses.sum(), logits)
            assert torch.isfinite(losses).all()
            assert torch.isfinite(gradient).all()
    sure = kept_cross_entropy(torch.tensor([[0.0]]), torch.tensor([[1.0]]))
    assert float(sure) == pytest.approx(0.0)
    # Less than nothing is left of a row that rounding put above 1.
    over = kept_cross_entropy(torch.tensor([[math.log(0.5)]]), torch.tensor([[1.001]]))
    assert float(over) == pytest.approx(1.001 * math.log(2), abs=1e-5)


@pytest.mark.parametrize(("logs", "targets"), [((4,), (4,)), ((4, 2), (4, 1)), ((4, 2), (1, 2))])
def test_kept_refuses_other_shapes(logs: tuple[int, ...], targets: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="wanted the same"):
        kept_cross_entropy(torch.zeros(logs), torch.zeros(targets))


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_kept_refuses_such_temperatures(temperature: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        kept_cross_entropy(torch.zeros(1, 1), torch.zeros(1, 1), temperature)
