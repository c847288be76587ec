"""Cross entropies over a large vocabulary, of which teachers keep a few pieces; knows no task.

Shapes: S places, V pieces, J or K pieces picked at each place.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_LEAST = 1e-6  # of the probability that is left for all other pieces


class _Picked(torch.autograd.Function):
    """Log-probabilities of some pieces, and the mean over all, from one pass over (S, V).

    Autograd would make a table of (S, V) zeros for every gather and one more for the mean; with
    thousands of pieces they cost more than the products of a small model's layers.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, pieces: Tensor) -> tuple[Tensor, Tensor]:
        logits = logits.float()
        highest = logits.amax(1, keepdim=True)
        powers = (logits - highest).exp_()
        total = powers.sum(1, keepdim=True)
        normaliser = highest + total.log()
        ctx.save_for_backward(powers.div_(total), pieces)
        return logits.gather(1, pieces) - normaliser, logits.mean(1) - normaliser.squeeze(1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        of_picked, of_mean = gradients
        probabilities, pieces = ctx.saved_tensors
        shared = of_picked.sum(1) + of_mean
        gradient = probabilities * -shared.unsqueeze(1)
        gradient += (of_mean / probabilities.shape[1]).unsqueeze(1)
        return gradient.scatter_add_(1, pieces, of_picked), None


def picked_log_probabilities(
    logits: Float[Tensor, "S V"], pieces: Int64[Tensor, "S J"]
) -> tuple[Float[Tensor, "S J"], Float[Tensor, " S"]]:
    """Log-probabilities of the pieces named at each place, and the mean over all pieces, fp32.

    Args:
        logits: Of any floating dtype.
        pieces: Their numbers, in [0, V).

    Raises:
        ValueError: The shapes do not fit.

    Examples:
        >>> picked_log_probabilities(torch.zeros(1, 4), torch.tensor([[2, 0]]))
        (tensor([[-1.3863, -1.3863]]), tensor([-1.3863]))
    """
    if logits.ndim != 2 or pieces.ndim != 2 or len(pieces) != len(logits):
        raise ValueError(
            f"logits {tuple(logits.shape)} and pieces {tuple(pieces.shape)}: wanted (S, V), (S, J)"
        )
    found: tuple[Tensor, Tensor] = _Picked.apply(logits, pieces)  # type: ignore[no-untyped-call]
    return found


def smoothed_cross_entropy(
    right: Float[Tensor, " S"], mean: Float[Tensor, " S"], smoothing: float
) -> Float[Tensor, " S"]:
    """Cross entropy with a label of which a share is spread over all pieces, in nats.

    Args:
        right: Log-probability of the right piece at each place.
        mean: Mean log-probability of all pieces.
        smoothing: Share of the label that all pieces have together, 0 to below 1.

    Returns:
        -(1 - e) right - e mean at each place, fp32, not reduced.

    Raises:
        ValueError: The shapes do not fit.

    Reference:
        Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, section 7.

    Examples:
        >>> picked, mean = picked_log_probabilities(torch.zeros(1, 4), torch.tensor([[2]]))
        >>> smoothed_cross_entropy(picked[:, 0], mean, 0.1)  # log 4
        tensor([1.3863])
    """
    if right.ndim != 1 or right.shape != mean.shape:
        raise ValueError(
            f"right {tuple(right.shape)} and mean {tuple(mean.shape)}: wanted the same (S,)"
        )
    return -(1 - smoothing) * right - smoothing * mean


def kept_cross_entropy(
    log_probabilities: Float[Tensor, "S K"],
    targets: Float[Tensor, "S K"],
    temperature: float = 1.0,
) -> Float[Tensor, " S"]:
    """T² times the cross entropy with a teacher that kept K pieces of each place, in nats.

    All other pieces are one class more: on the teacher's side what is left of its probability, on
    the student's side what it gives to them together. So a student is not taught that the kept
    pieces are all there is.

    Args:
        log_probabilities: The student's, of the pieces that the teacher kept, at temperature 1.
        targets: The teacher's probabilities of them, *already* at the temperature; a row sums to
            at most 1.
        temperature: T > 0. The logit of the rest is the logarithm of its whole mass.

    Returns:
        One loss a place, fp32, not reduced.

    Raises:
        ValueError: The shapes differ, or the temperature is not above 0.

    Reference:
        Tan et al. 2019, https://arxiv.org/abs/1902.10461, eq. 3, there over all pieces.

    Examples:
        >>> kept, _ = picked_log_probabilities(torch.zeros(1, 4), torch.tensor([[2]]))
        >>> kept_cross_entropy(kept, torch.tensor([[1.0]]))
        tensor([1.3863])
    """
    if log_probabilities.ndim != 2 or targets.shape != log_probabilities.shape:
        raise ValueError(
            f"log-probabilities {tuple(log_probabilities.shape)} and targets "
            f"{tuple(targets.shape)}: wanted the same (S, K)"
        )
    if temperature <= 0:
        raise ValueError(f"temperature {temperature}: wanted a number above 0")
    kept = log_probabilities
    rest = torch.log1p(-kept.exp().sum(1, keepdim=True).clamp(max=1 - _LEAST))
    if temperature != 1:
        both = torch.log_softmax(torch.cat([kept, rest], 1) / temperature, 1)
        kept, rest = both[:, :-1], both[:, -1:]
    left = (1 - targets.sum(1)).clamp(min=0)
    return -(temperature**2) * ((targets * kept).sum(1) + left * rest.squeeze(1))
