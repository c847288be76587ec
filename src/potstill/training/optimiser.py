"""Optimiser and learning-rate schedule. Knows parameters, no tasks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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
    model: nn.Module,
    settings: TrainSettings,
    never_decayed: Sequence[nn.Parameter],
    rates: Mapping[nn.Module, float] | None = None,
) -> torch.optim.Optimizer:
    """AdamW or Adamax; only weight matrices are decayed, and none in ``never_decayed``.

    Args:
        model: What learns.
        settings: How.
        never_decayed: Parameters without weight decay, beside biases and norms.
        rates: Parts that learn faster or slower, and how many times.
    """
    skip = {id(p) for p in never_decayed}
    times = {id(p): rate for part, rate in (rates or {}).items() for p in part.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for weight in model.parameters():
        if weight.requires_grad:
            decayed = weight.ndim > 1 and id(weight) not in skip
            own = (settings.weight_decay if decayed else 0.0, times.get(id(weight), 1.0))
            groups.setdefault(own, []).append(weight)
    asked = [
        {"params": weights, "weight_decay": decay, "times": rate}
        for (decay, rate), weights in groups.items()
    ]
    if settings.optimizer == "adamax":
        return _DecayedAdamax(asked, lr=settings.learning_rate)
    return torch.optim.AdamW(asked, lr=settings.learning_rate, fused=True)


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every part its learning rate of a step, where that of most is ``rate``."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["times"]


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
