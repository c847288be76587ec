"""Logit matching: mean squared difference of logits; knows no task."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST_PROBABILITY = 1e-6
"""Floor before the logarithm: soft targets come from fp16 logits, whose own error near 14 nats
(log 1e-6) is about 0.01, and an unbounded target would let one sure row rule the batch."""


def logit_mse(
    logits: Float[Tensor, "B C"], target_logits: Float[Tensor, "B C"]
) -> Float[Tensor, " B"]:
    """Mean over classes of the squared difference of logits.

    Neither side is centred, as in the paper and its published code (``nn.MSELoss`` on raw
    logits): the paper finds that KL at a high temperature is this loss *without* the part in the
    rows' mean logits, and that keeping that part is what helps. So the loss, unlike a cross
    entropy, sees a constant that is added to a row of either side. Where the target is a
    mixture of probabilities, which has no such constant, use `centred_logits`.

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


def centred_logits(probabilities: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """Logits of mean 0 per row whose softmax is ``probabilities``.

    The mean of the members' probabilities fixes logits only up to a constant per row. Zero mean
    is what a trained head tends to as well: the gradient of a cross entropy sums to 0 over the
    classes, so gradient descent leaves a head's mean logit where it began, near 0.

    Args:
        probabilities: Class probabilities; values below `SMALLEST_PROBABILITY` count as that.

    Returns:
        log-probabilities less their mean over the classes, fp32.
    """
    log_probabilities = torch.log(probabilities.float().clamp_min(SMALLEST_PROBABILITY))
    return log_probabilities - log_probabilities.mean(dim=1, keepdim=True)
