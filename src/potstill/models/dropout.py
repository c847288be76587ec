"""Dropout whose masks cost little on a CPU.

``torch``'s Bernoulli masks are drawn one by one and take about a fifth of a training step of a
small encoder on a CPU. Here a block of random 16-bit integers is compared with a threshold: the
same distribution (the rate is rounded to 1/65536), several times cheaper. Elsewhere than on a CPU
torch's own dropout is used.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

_STEPS = 1 << 16


class Noise:
    """The source of a model's dropout masks; reseeded at every training step.

    Because a step's masks depend on nothing but the step's seed, a run that was interrupted
    continues with the same masks, without a generator state in the checkpoint.
    """

    def __init__(self) -> None:
        self._generator = np.random.Generator(np.random.SFC64(0))

    def reseed(self, seed: int) -> None:
        """Start the stream of masks anew from ``seed`` (64 bits); also seeds torch."""
        self._generator = np.random.Generator(np.random.SFC64(seed))
        torch.manual_seed(seed)

    def drop(self, values: Tensor, rate: float) -> Tensor:
        """Zero a share ``rate`` of ``values`` (any shape) and scale up the rest."""
        if values.device.type != "cpu":
            return functional.dropout(values, rate)
        cut = min(round(rate * _STEPS), _STEPS - 1)
        if cut == 0:
            return values
        n_words = math.ceil(values.numel() / 4)
        words = self._generator.integers(0, 2**64, n_words, dtype=np.uint64)
        bits = torch.from_numpy(words.view(np.int16))[: values.numel()].view(values.shape)
        bits.ge_(cut - _STEPS // 2)  # 1 where kept; several times faster than a mask of bool
        scale = _STEPS / (_STEPS - cut)
        if values.dtype == torch.bfloat16:
            # An integer product writes the 16 bits of `scale` where there is a 1: no conversion.
            pattern = torch.tensor(scale, dtype=torch.bfloat16).view(torch.int16)
            return values * bits.mul_(pattern).view(torch.bfloat16)
        return values * bits.to(values.dtype).mul_(scale)


class Dropout(nn.Module):
    """``nn.Dropout`` with masks from a shared :class:`Noise`.

    Args:
        rate: Share of values to drop, in [0, 1).
        noise: The model's source of masks.
    """

    def __init__(self, rate: float, noise: Noise) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"dropout rate must be in [0, 1), got {rate}")
        self.p = rate  # transformers' attention layers read this name
        self.noise = noise

    def forward(self, values: Tensor) -> Tensor:
        """Drop in training, pass through otherwise. Any shape."""
        return self.noise.drop(values, self.p) if self.training and self.p > 0 else values
