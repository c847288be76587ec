"""Listwise losses: a softmax over the rows (candidates) of each group (query).

A group's rows may lie anywhere in the batch, and groups may differ in size: everything is done
by segment sums, without padding. G is the number of groups. Knows no task.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def listwise_cross_entropy(
    scores: Float[Tensor, " B"],
    target_probabilities: Float[Tensor, " B"],
    groups: Int64[Tensor, " B"],
    temperature: float = 1.0,
    n_groups: int | None = None,
) -> Float[Tensor, " G"]:
    """T² times the cross entropy of each group's targets with the softmax of its scores, in nats.

    Args:
        scores: Unnormalised scores (logits), *not* yet divided by the temperature.
        target_probabilities: Probabilities that sum to 1 within each group, for soft targets
            *already* at the temperature (`group_softmax` of a member's scores, mean over
            members). A group of zeros has no target: its loss is 0.
        groups: Group of each row, 0 to G - 1.
        temperature: T > 0; 1 for hard targets.
        n_groups: G; by default the largest group + 1, which on an accelerator waits for it.

    Returns:
        -T² sum_i q_i log softmax(scores / T)_i per *group*, fp32, not reduced.

    Raises:
        ValueError: The shapes differ, or the temperature is not above 0.

    Reference:
        Cao et al. 2007, "Learning to Rank: From Pairwise Approach to Listwise Approach",
        https://doi.org/10.1145/1273496.1273513 (ListNet, top one).

    Examples:
        >>> scores = torch.zeros(5)
        >>> relevance = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0])
        >>> groups = torch.tensor([0, 0, 1, 1, 0])
        >>> targets = relevance_to_probabilities(relevance, groups)
        >>> listwise_cross_entropy(scores, targets, groups)  # log 3; group 1 has no target
        tensor([1.0986, 0.0000])
    """
    if target_probabilities.shape != scores.shape:
        raise ValueError(
            f"scores {tuple(scores.shape)} and target probabilities "
            f"{tuple(target_probabilities.shape)}: wanted the same (B,)"
        )
    count = _n_groups(groups) if n_groups is None else n_groups
    log_probabilities = _group_log_softmax(scores, groups, count, temperature)
    row_losses = target_probabilities.float() * -log_probabilities
    return temperature**2 * _group_sum(row_losses, groups, count)


def listwise_logit_mse(
    scores: Float[Tensor, " B"], target_scores: Float[Tensor, " B"], groups: Int64[Tensor, " B"]
) -> Float[Tensor, " G"]:
    """Squared difference of scores that are centred in their group, mean over its rows.

    A list's softmax does not change with a shift of its scores, so the shift is no fault.

    Args:
        scores: The student's scores (logits).
        target_scores: The teachers' scores.
        groups: Group of each row, 0 to G - 1.

    Returns:
        One mean per *group*, fp32, not reduced.

    Raises:
        ValueError: The shapes differ.
    """
    _check_groups(scores, groups)
    _check_groups(target_scores, groups)
    n_groups = _n_groups(groups)
    counts = torch.bincount(groups, minlength=n_groups).clamp(min=1)
    gaps = scores.float() - target_scores.float()
    means = _group_sum(gaps, groups, n_groups) / counts
    return _group_sum((gaps - means[groups]).square(), groups, n_groups) / counts


def group_softmax(
    scores: Float[Tensor, " B"],
    groups: Int64[Tensor, " B"],
    n_groups: int | None = None,
    temperature: float = 1.0,
) -> Float[Tensor, " B"]:
    """Softmax of the scores over the rows of each group.

    Args:
        scores: Unnormalised scores (logits).
        groups: Group of each row, 0 to G - 1.
        n_groups: G; by default the largest group + 1.
        temperature: T > 0, divides the scores.

    Returns:
        Probabilities that sum to 1 within each group, fp32.

    Raises:
        ValueError: The shapes differ, or the temperature is not above 0.
    """
    count = _n_groups(groups) if n_groups is None else n_groups
    return _group_log_softmax(scores, groups, count, temperature).exp()


def relevance_to_probabilities(
    labels: Float[Tensor, " B"], groups: Int64[Tensor, " B"], n_groups: int | None = None
) -> Float[Tensor, " B"]:
    """Relevance labels as hard targets: divided by their sum within each group.

    A group without a relevant row says nothing about its order, so it gets zeros, not the
    uniform distribution, which would teach the student to make its scores equal.

    Args:
        labels: Relevance, 0 or more.
        groups: Group of each row, 0 to G - 1.
        n_groups: G; by default the largest group + 1.

    Returns:
        Probabilities, fp32, that sum to 1 in each group with a relevant row and to 0 in others.

    Raises:
        ValueError: The shapes differ.
    """
    _check_groups(labels, groups)
    relevance = labels.float()
    count = _n_groups(groups) if n_groups is None else n_groups
    totals = _group_sum(relevance, groups, count)
    return relevance / torch.where(totals > 0, totals, 1.0)[groups]


def _n_groups(groups: Tensor) -> int:
    return int(groups.max()) + 1 if groups.numel() else 0


def _check_groups(values: Tensor, groups: Tensor) -> None:
    if values.ndim != 1 or values.shape != groups.shape:
        raise ValueError(
            f"rows {tuple(values.shape)} and groups {tuple(groups.shape)}: wanted the same (B,)"
        )


def _group_sum(values: Tensor, groups: Tensor, n_groups: int) -> Tensor:
    return values.new_zeros(n_groups).index_add(0, groups, values)


def _group_log_softmax(scores: Tensor, groups: Tensor, n_groups: int, temperature: float) -> Tensor:
    _check_groups(scores, groups)
    if temperature <= 0:
        raise ValueError(f"temperature {temperature}: wanted a number above 0")
    logits = scores.float() / temperature
    # The shift cancels in value and gradient, so it need not be differentiated.
    largest = logits.new_full((n_groups,), -torch.inf).scatter_reduce(
        0, groups, logits.detach(), "amax"
    )
    shifted = logits - largest[groups]
    return shifted - _group_sum(shifted.exp(), groups, n_groups).log()[groups]
