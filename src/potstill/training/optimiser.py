"""Optimiser and learning-rate schedule. Knows parameters, no tasks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from potstill.training.settings import TrainSettings


class _DecayedAdamax(torch.optim.Adamax):
    """Adamax with AdamW's weight decay: ``lr * weight_decay`` of a weight a step.

    Torch's own adds the decay to the gradient, and Adamax divides it by the largest gradient of
    late: where gradients are small, as at the end of a training, every weight then goes to zero at
    the whole learning rate.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float) -> None:
        own = [{**group, "decay": group["weight_decay"], "weight_decay": 0.0} for group in groups]
        super().__init__(own, lr=lr)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Decay, then one step of Adamax."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None and group["decay"]:
                    weight.mul_(1 - group["lr"] * group["decay"])
        return super().step(closure)


def build_optimiser(
    model: nn.Module, settings: TrainSettings, never_decayed: list[nn.Parameter]
) -> torch.optim.Optimizer:
    """AdamW or Adamax; only weight matrices are decayed, and none in ``never_decayed``."""
    skip = {id(p) for p in never_decayed}
    named = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in named if p.ndim > 1 and id(p) not in skip]
    others = [p for p in named if p.ndim <= 1 or id(p) in skip]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if settings.optimizer == "adamax":
        return _DecayedAdamax(groups, lr=settings.learning_rate)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def learning_rate_at(step: int, n_steps: int, settings: TrainSettings) -> float:
    """The learning rate of step ``step`` (0-based) of ``n_steps``."""
    n_warm = math.ceil(settings.warmup * n_steps)
    if step < n_warm:
        return settings.learning_rate * (step + 1) / n_warm
    left = (n_steps - step) / max(n_steps - n_warm, 1)
    if settings.decay == "linear":
        return settings.learning_rate * left
    if settings.decay == "cosine":
        return settings.learning_rate * 0.5 * (1 - math.cos(math.pi * left))
    return settings.learning_rate
