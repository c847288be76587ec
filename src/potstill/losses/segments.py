"""Losses of the slots of a group, such as the words of a sentence, as one; knows no task."""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor


def group_mean(
    values: Float[Tensor, " B"], groups: Int64[Tensor, " B"], n_groups: int | None = None
) -> Float[Tensor, " G"]:
    """Mean of the values of each group, so that long groups weigh no more than short ones.

    Args:
        values: A number a slot.
        groups: Group of each slot, 0 to G - 1.
        n_groups: G; by default the largest group + 1, which on an accelerator waits for it.

    Returns:
        (G,) means, fp32; 0 for a group without slots.

    Raises:
        ValueError: The shapes differ.

    Examples:
        >>> import torch
        >>> group_mean(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 1]))
        tensor([2., 5.])
    """
    if values.ndim != 1 or values.shape != groups.shape:
        raise ValueError(
            f"values {tuple(values.shape)} and groups {tuple(groups.shape)}: wanted the same (B,)"
        )
    if n_groups is None:
        n_groups = int(groups.max()) + 1 if groups.numel() else 0
    values = values.float()
    sums = values.new_zeros(n_groups).index_add(0, groups, values)
    counts = values.new_zeros(n_groups).index_add(0, groups, values.new_ones(len(values)))
    return sums / counts.clamp(min=1)
