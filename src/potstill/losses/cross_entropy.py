"""Cross entropy of class logits with hard labels and with soft targets; knows no task."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def cross_entropy(logits: Float[Tensor, "B C"], labels: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Cross entropy of each row with its hard label, in nats.

    Every label must be a class: unlike torch's function there is no ignored label, so a mark for
    "no label" cannot pass as a loss of zero.

    Args:
        logits: Class logits of any floating dtype.
        labels: Class indices in [0, C).

    Returns:
        -log softmax(logits)[label] per row, fp32, not reduced.

    Raises:
        ValueError: The shapes do not fit.
        RuntimeError: A label is outside [0, C) (from torch).

    Reference:
        Liu et al. 2019, https://arxiv.org/abs/1904.09482, eq. 2.

    Examples:
        >>> cross_entropy(torch.zeros(1, 4), torch.tensor([2]))  # log 4
        tensor([1.3863])
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)}: wanted (B, C) and (B,)"
        )
    log_probabilities = torch.log_softmax(logits.float(), dim=1)
    return -log_probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)


def soft_cross_entropy(
    logits: Float[Tensor, "B C"],
    probabilities: Float[Tensor, "B C"],
    temperature: float = 1.0,
) -> Float[Tensor, " B"]:
    """T² times the cross entropy of soft targets with the softened student, in nats.

    T² keeps the size of the gradient where T grows (Hinton et al. 2015, section 2.1). The
    entropy of the targets is not taken off, so the smallest value is T² H(Q_T), not 0; the
    gradient is that of T² KL(Q_T, P_T).

    Args:
        logits: The student's class logits, *not* yet divided by the temperature.
        probabilities: Class probabilities *already* at the temperature: the mean over members
            of softmax(member logits / T). Rows sum to 1.
        temperature: T > 0.

    Returns:
        -T² sum_c Q_T[c] log softmax(logits / T)[c] per row, fp32, not reduced.

    Raises:
        ValueError: The shapes differ, or the temperature is not above 0.

    Reference:
        Liu et al. 2019, https://arxiv.org/abs/1904.09482, eq. 3 and 4 (there T = 1).

    Examples:
        >>> soft_cross_entropy(torch.zeros(1, 2), torch.tensor([[0.9, 0.1]]))  # log 2
        tensor([0.6931])
    """
    if logits.ndim != 2 or probabilities.shape != logits.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} and probabilities {tuple(probabilities.shape)}: "
            "wanted the same (B, C)"
        )
    if temperature <= 0:
        raise ValueError(f"temperature {temperature}: wanted a number above 0")
    log_probabilities = torch.log_softmax(logits.float() / temperature, dim=1)
    return -(temperature**2) * (probabilities.float() * log_probabilities).sum(dim=1)
