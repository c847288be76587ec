"""Optimiser and learning-rate schedule. Knows parameters, no tasks."""

from __future__ import annotations

import math

import torch
from torch import nn

from potstill.training.settings import TrainSettings


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
        return torch.optim.Adamax(groups, lr=settings.learning_rate)
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
