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

from potstill.core.errors import BaseModelError

_KEEP = 0.95  # of the running mean at each batch: it looks back over some twenty
_LARGEST = 10.0  # a task that has nothing left to learn must not be blown up into noise


def last_weight(shared: nn.Module) -> Tensor:
    """The weights of the last linear layer: what lies behind them belongs to single tasks.

    Raises:
        BaseModelError: There is no linear layer.
    """
    layers = [module for module in shared.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise _unfit("a base with no linear layer to measure gradients at")
    return layers[-1].weight


def _unfit(got: str) -> BaseModelError:
    return BaseModelError(
        "`balance: gradients`",
        got=got,
        wanted="a transformer such as BERT, RoBERTa, DistilBERT or MiniLM",
        todo="set `training: {balance: none}`, or choose another base",
    )


class GradientBalance:
    """Running means of the sizes of the tasks' gradients.

    Args:
        weight: Weights that every loss depends on, near the end of what the tasks share.
        means: Task to [mean of the logarithm, batches], of a training that continues.
    """

    def __init__(self, weight: Tensor, means: Mapping[str, tuple[float, int]]) -> None:
        self._weight = weight
        # Both stay on the device: to ask for a number would make it wait at every batch.
        self._means = {
            task: (self._number(mean), self._number(seen)) for task, (mean, seen) in means.items()
        }

    def scale(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The losses of a batch, scaled; the geometric mean of all tasks' scales is about 1.

        Args:
            losses: Task to loss, as it would be without balance; their graph is kept.

        Raises:
            BaseModelError: A loss does not depend on the weights.
        """
        for task, loss in losses.items():
            (gradient,) = torch.autograd.grad(
                loss, self._weight, retain_graph=True, allow_unused=True
            )
            if gradient is None:  # ESM's last linear layer is a head that nobody asks
                raise _unfit("a base whose last linear layer has no part in its output")
            self._note(task, gradient.norm())
        means = torch.stack([mean for mean, _ in self._means.values()])
        known = torch.stack([seen for _, seen in self._means.values()]) > 0
        middle = (means * known).sum() / known.sum().clamp(min=1)
        most = math.log(_LARGEST)
        scaled = {}
        for task, loss in losses.items():
            mean, seen = self._means[task]
            away = torch.where(seen > 0, middle - mean, 0.0)
            scaled[task] = loss * away.clamp(-most, most).exp()
        return scaled

    def _note(self, task: str, size: Tensor) -> None:
        """Take a batch into account; one without a gradient, or an endless one, says nothing."""
        mean, seen = self._means.get(task, (self._number(0), self._number(0)))
        sound = (size > 0) & size.isfinite()
        keep = (seen / (seen + 1)).clamp(max=_KEEP)
        new = torch.where(sound, keep * mean + (1 - keep) * size.log(), mean)
        self._means[task] = new, seen + sound

    def _number(self, value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float32, device=self._weight.device)

    def to_json(self) -> dict[str, tuple[float, int]]:
        """What a training needs to continue."""
        return {task: (float(mean), int(seen)) for task, (mean, seen) in self._means.items()}
