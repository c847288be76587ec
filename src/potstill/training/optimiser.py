"""Optimiser and learning-rate schedule. Knows parameters, no tasks."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from potstill.models.multitask import MultiTaskModel
from potstill.training.settings import TrainSettings


def build_optimiser(
    model: MultiTaskModel, settings: TrainSettings, never_decayed: list[nn.Parameter]
) -> torch.optim.Optimizer:
    """AdamW or Adamax; only weight matrices are decayed, and none in ``never_decayed``.

    Each group has its own ``factor``, by which :func:`set_learning_rate` multiplies.
    """
    skip = {id(p) for p in never_decayed}
    sides = [
        (model.encoder.parameters(), 1.0),
        (model.head_parameters(), settings.head_learning_rate_factor),
    ]
    groups: list[dict[str, Any]] = []
    for parameters, factor in sides:
        named = [p for p in parameters if p.requires_grad]
        matrices = [p for p in named if p.ndim > 1 and id(p) not in skip]
        others = [p for p in named if p.ndim <= 1 or id(p) in skip]
        groups += [
            {"params": matrices, "weight_decay": settings.weight_decay, "factor": factor},
            {"params": others, "weight_decay": 0.0, "factor": factor},
        ]
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "adamax":
        return torch.optim.Adamax(groups, lr=settings.learning_rate)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the encoder's learning rate, and the heads' at its multiple."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]


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
