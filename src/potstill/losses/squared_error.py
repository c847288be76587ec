"""Squared error of one predicted value per row; knows no task."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def squared_error(
    predictions: Float[Tensor, " B"], targets: Float[Tensor, " B"]
) -> Float[Tensor, " B"]:
    """Squared difference of each row, without the factor 1/2.

    Args:
        predictions: Values in the unit of ``targets`` (the caller scales both).
        targets: Labels, or the mean of the members' outputs.

    Returns:
        (prediction - target)² per row, fp32, not reduced.

    Raises:
        ValueError: One of them is not (B,): a head's (B, 1) would broadcast to (B, B).
    """
    if predictions.ndim != 1 or predictions.shape != targets.shape:
        raise ValueError(
            f"predictions {tuple(predictions.shape)} and targets {tuple(targets.shape)}: "
            "wanted the same (B,)"
        )
    return (predictions.float() - targets.float()).square()
