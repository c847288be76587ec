"""One loss per row from a hard and a soft one; knows neither labels nor teachers."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def anneal(step: int, total: int) -> float:
    """Teacher annealing: the weight of the label, which grows from 0 to 1 over training.

    The target is λ label + (1 - λ) teacher. A cross entropy is linear in its target, so at
    temperature 1 this is `mix` with hard weight λ and soft weight 1 - λ.

    Args:
        step: Optimiser steps done, 0 to ``total``.
        total: Optimiser steps of the whole training, at least 1.

    Returns:
        λ = step / total, in [0, 1].

    Raises:
        ValueError: ``step`` or ``total`` is out of its range.

    Reference:
        Clark et al. 2019 (BAM), https://arxiv.org/abs/1907.04829, teacher annealing.

    Examples:
        >>> anneal(25, 100)
        0.25
    """
    if total < 1 or not 0 <= step <= total:
        raise ValueError(f"step {step} of {total}: wanted 0 <= step <= total and total >= 1")
    return step / total


def mix(
    hard: Float[Tensor, " B"],
    soft: Float[Tensor, " B"],
    hard_weight: Float[Tensor, " B"],
    soft_weight: Float[Tensor, " B"],
) -> Float[Tensor, " B"]:
    """Weighted sum of the hard and the soft loss of each row.

    The weights need not sum to 1: a row without a target has soft weight 0 and a row without a
    label hard weight 0. A loss under weight 0 must still be finite (0 times infinity is NaN).

    Args:
        hard: Loss with the label.
        soft: Loss with the soft target, T² included.
        hard_weight: Weight of ``hard``.
        soft_weight: Weight of ``soft``.

    Returns:
        hard_weight * hard + soft_weight * soft per row, fp32, not reduced.

    Raises:
        ValueError: The four shapes differ.

    Reference:
        Liu et al. 2019, https://arxiv.org/abs/1904.09482: the mean of eq. 2 and 4.
    """
    shapes = [tuple(part.shape) for part in (hard, soft, hard_weight, soft_weight)]
    if hard.ndim != 1 or len(set(shapes)) != 1:
        raise ValueError(f"hard, soft and their weights have shapes {shapes}: wanted the same (B,)")
    return hard_weight.float() * hard.float() + soft_weight.float() * soft.float()
