"""Binary cross entropy of several yes-or-no outputs a row; knows no task."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def binary_cross_entropy(
    logits: Float[Tensor, "B C"],
    probabilities: Float[Tensor, "B C"],
    temperature: float = 1.0,
) -> Float[Tensor, " B"]:
    """T² times the binary cross entropy of each output with its target, mean over the C outputs.

    The C outputs are C independent questions: a softmax over them would make the classes of a row
    compete, which several right labels do not do.

    Args:
        logits: The student's logits, *not* yet divided by the temperature.
        probabilities: Targets in [0, 1]: labels, or the mean over members of
            sigmoid(member logit / T).
        temperature: T > 0; 1 for labels.

    Returns:
        -T² mean_c [q log σ(z/T) + (1 - q) log(1 - σ(z/T))] per row, in nats, fp32, not reduced.

    Raises:
        ValueError: The shapes differ, or the temperature is not above 0.

    Examples:
        >>> import torch
        >>> binary_cross_entropy(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.5]]))  # log 2
        tensor([0.6931])
    """
    if logits.ndim != 2 or probabilities.shape != logits.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} and probabilities {tuple(probabilities.shape)}: "
            "wanted the same (B, C)"
        )
    if temperature <= 0:
        raise ValueError(f"temperature {temperature}: wanted a number above 0")
    losses = functional.binary_cross_entropy_with_logits(
        logits.float() / temperature, probabilities.float(), reduction="none"
    )
    return temperature**2 * losses.mean(dim=1)
