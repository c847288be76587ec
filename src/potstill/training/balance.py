"""Scales that let every task pull equally hard at what the tasks share.

Losses of different kinds differ in what they do to the encoder: beside a regression, the gradient
of a tagging task can be thirty times smaller, and an optimiser that divides by the size of the sum
of both hardly hears it. So each task's loss is divided by a running mean of the size of its own
gradient at the last weights that all tasks share (measured there as in GradNorm, Chen et al. 2018,
arXiv 1711.02257, which learns the scales; here they follow from the sizes).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

_KEEP = 0.95  # of the running mean at each batch: it looks back over some twenty
_LARGEST = 10.0  # a task that has nothing left to learn must not be blown up into noise


def last_weight(shared: nn.Module) -> Tensor:
    """The weights of the last linear layer: what lies behind them belongs to single tasks."""
    layers = [module for module in shared.modules() if isinstance(module, nn.Linear)]
    return layers[-1].weight


class GradientBalance:
    """Running means of the sizes of the tasks' gradients.

    Args:
        weight: Weights that every loss depends on, near the end of what the tasks share.
        means: Task to [mean of the logarithm, batches], of a training that continues.
    """

    def __init__(self, weight: Tensor, means: Mapping[str, tuple[float, int]]) -> None:
        self._weight = weight
        self._means = {
            task: (torch.tensor(mean, dtype=torch.float32, device=weight.device), seen)
            for task, (mean, seen) in means.items()
        }

    def scale(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The losses of a batch, scaled; the geometric mean of all tasks' scales is about 1.

        Args:
            losses: Task to loss, as it would be without balance; their graph is kept.
        """
        for task, loss in losses.items():
            (gradient,) = torch.autograd.grad(loss, self._weight, retain_graph=True)
            self._note(task, gradient.norm())
        middle = torch.stack([mean for mean, _ in self._means.values()]).mean()
        most = math.log(_LARGEST)
        return {
            task: loss * (middle - self._means[task][0]).clamp(-most, most).exp()
            for task, loss in losses.items()
        }

    def _note(self, task: str, size: Tensor) -> None:
        """Take a batch into account; one without any gradient says nothing."""
        mean, seen = self._means.get(task, (torch.zeros_like(size), 0))
        keep = min(_KEEP, seen / (seen + 1))
        new = torch.where(size > 0, keep * mean + (1 - keep) * size.log(), mean)
        self._means[task] = new, seen + 1

    def to_json(self) -> dict[str, tuple[float, int]]:
        """What a training needs to continue."""
        return {task: (float(mean), seen) for task, (mean, seen) in self._means.items()}
