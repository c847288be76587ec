"""Listwise losses against a slow loop over the groups and their laws."""

from __future__ import annotations

import math
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from potstill.losses.cross_entropy import soft_cross_entropy
from potstill.losses.listwise import (
    group_softmax,
    listwise_cross_entropy,
    relevance_to_probabilities,
)

Row = tuple[float, float, int]
rows = st.lists(
    st.tuples(st.floats(-30, 30), st.sampled_from([0.0, 0.0, 1.0, 2.0]), st.integers(0, 3)),
    min_size=1,
    max_size=20,
)
temperatures = st.sampled_from([0.5, 1.0, 3.0])


def tensors(drawn: list[Row]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    scores, labels, groups = zip(*drawn, strict=True)
    return torch.tensor(scores), torch.tensor(labels), torch.tensor(groups)


def slow_softmax(drawn: list[Row], group: int, temperature: float) -> list[float]:
    scores = [score / temperature for score, _, of in drawn if of == group]
    exponentials = [math.exp(score - max(scores)) for score in scores]
    return [each / sum(exponentials) for each in exponentials]


@given(rows, temperatures)
def test_equals_the_slow_loop(drawn: list[Row], temperature: float) -> None:
    scores, labels, groups = tensors(drawn)
    targets = relevance_to_probabilities(labels, groups)
    losses = listwise_cross_entropy(scores, targets, groups, temperature, n_groups=4)
    assert losses.shape == (4,)
    for group in range(4):
        probabilities = slow_softmax(drawn, group, temperature) if group in groups else []
        relevance = [label for _, label, of in drawn if of == group]
        total = sum(relevance)
        wanted = sum(
            -(temperature**2) * label / total * math.log(max(probability, 1e-300))
            for label, probability in zip(relevance, probabilities, strict=True)
            if total > 0
        )
        assert losses[group].item() == pytest.approx(wanted, rel=1e-3, abs=1e-4)


@given(rows, temperatures)
def test_group_softmax_equals_the_slow_loop(drawn: list[Row], temperature: float) -> None:
    scores, _, groups = tensors(drawn)
    probabilities = group_softmax(scores, groups, 4, temperature)
    for group in set(groups.tolist()):
        wanted = slow_softmax(drawn, group, temperature)
        torch.testing.assert_close(
            probabilities[groups == group], torch.tensor(wanted), rtol=1e-3, atol=1e-6
        )


@given(rows)
def test_gradient_is_softmax_less_target(drawn: list[Row]) -> None:
    scores, labels, groups = tensors(drawn)
    scores.requires_grad_()
    targets = relevance_to_probabilities(labels, groups)
    losses = listwise_cross_entropy(scores, targets, groups, n_groups=6)
    (gradient,) = torch.autograd.grad(losses.sum(), scores)
    has_target = (torch.zeros(6).index_add(0, groups, targets) > 0)[groups]
    wanted = torch.where(has_target, group_softmax(scores.detach(), groups) - targets, 0.0)
    torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-5)


@given(rows, st.randoms(use_true_random=False))
def test_order_of_rows_changes_nothing(drawn: list[Row], random: Random) -> None:
    def losses(of: list[Row]) -> torch.Tensor:
        scores, labels, groups = tensors(of)
        return listwise_cross_entropy(
            scores, relevance_to_probabilities(labels, groups), groups, n_groups=4
        )

    shuffled = list(drawn)
    random.shuffle(shuffled)
    torch.testing.assert_close(losses(shuffled), losses(drawn), rtol=1e-4, atol=1e-4)


def test_equal_groups_are_a_soft_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, teacher = torch.randn(2, 3, 4, generator=generator)
    groups = torch.arange(3).repeat_interleave(4)
    targets = group_softmax(teacher.flatten(), groups, 3, 2.0)
    torch.testing.assert_close(
        listwise_cross_entropy(scores.flatten(), targets, groups, 2.0),
        soft_cross_entropy(scores, (teacher / 2).softmax(1), 2.0),
    )


def test_huge_scores_and_low_precision() -> None:
    groups = torch.tensor([0, 0, 1])
    scores = torch.tensor([6e4, -6e4, 5e4], dtype=torch.float16)
    losses = listwise_cross_entropy(scores, torch.tensor([0.0, 1.0, 1.0]), groups)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, torch.tensor([scores[0].item() - scores[1].item(), 0.0]))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(
            losses, listwise_cross_entropy(scores, torch.tensor([0.0, 1.0, 1.0]), groups)
        )


def test_group_without_a_relevant_row_has_no_target() -> None:
    labels, groups = torch.tensor([0.0, 3.0, 0.0, 1.0]), torch.tensor([1, 0, 1, 0])
    targets = relevance_to_probabilities(labels, groups)
    assert targets.tolist() == [0.0, 0.75, 0.0, 0.25]
    assert listwise_cross_entropy(torch.ones(4), targets, groups)[1].item() == 0.0


def test_no_rows_are_no_groups() -> None:
    none, groups = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    assert listwise_cross_entropy(none, none, groups).shape == (0,)


def test_faulty_input_is_refused() -> None:
    scores, groups = torch.zeros(3), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match="wanted the same"):
        listwise_cross_entropy(scores, torch.zeros(3, 1), groups)
    with pytest.raises(ValueError, match="wanted the same"):
        group_softmax(scores, groups[:2])
    with pytest.raises(ValueError, match="temperature -1"):
        group_softmax(scores, groups, temperature=-1.0)
