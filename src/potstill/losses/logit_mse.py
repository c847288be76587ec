"""Logit matching: mean squared difference of logits; knows no task."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def logit_mse(
    logits: Float[Tensor, "B C"], target_logits: Float[Tensor, "B C"]
) -> Float[Tensor, " B"]:
    """Mean over classes of the squared difference of logits.

    Neither side is centred, as in the paper and its published code (``nn.MSELoss`` on raw
    logits): the paper finds that KL at a high temperature is this loss *without* the part in the
    rows' mean logits, and that keeping that part is what helps. So the loss, unlike a cross
    entropy, sees a constant that is added to a row of either side.

    Args:
        logits: The student's class logits.
        target_logits: The teacher's class logits (not log-probabilities: their row mean falls
            with the teacher's confidence, and the student would have to learn that too).

    Returns:
        The mean over the C classes of (logit - target logit)² per row, fp32, not reduced. There
        is no temperature and no T².

    Raises:
        ValueError: The shapes differ.

    Reference:
        Kim et al. 2021, https://arxiv.org/abs/2105.08919, the loss L_MSE.
    """
    if logits.ndim != 2 or logits.shape != target_logits.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} and target logits {tuple(target_logits.shape)}: "
            "wanted the same (B, C)"
        )
    return (logits.float() - target_logits.float()).square().mean(dim=1)
