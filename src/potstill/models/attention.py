"""The attention of every model here: in training for short texts, without a detour through fp32.

It is registered with transformers under a name; encoders are loaded with that name.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.masking_utils import AttentionMaskInterface, eager_mask
from transformers.modeling_utils import AttentionInterface

ATTENTION = "potstill"


def cast_once(backbone: nn.Module) -> None:
    """Under autocast, cast what query, key and value all read once, not for each of them."""
    for module in backbone.modules():
        if all(isinstance(getattr(module, n, None), nn.Linear) for n in ("query", "key", "value")):
            module.register_forward_pre_hook(_cast_input)


def _cast_input(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    dtype = _autocast_dtype(inputs[0].device)
    return inputs if dtype is None else (inputs[0].to(dtype), *inputs[1:])


def _autocast_dtype(device: torch.device) -> torch.dtype | None:
    on = torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if on else None


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The fused attention to predict, a plain one with cheap dropout to train.

    On a CPU the fused one has no dropout, and its gradients of short texts take several times as
    long.

    Query: (B, H, T, D/H); key and value the same, or of fewer heads that several queries share;
    mask: (B, 1, T, T) added to the scores, or None.
    """
    if key.size(1) != query.size(1):
        shared = query.size(1) // key.size(1)
        key, value = (each.repeat_interleave(shared, 1) for each in (key, value))
    query, key = query.to(value.dtype), key.to(value.dtype)  # rotary places may widen them
    scale = query.size(-1) ** -0.5 if scaling is None else scaling
    # Autocast would widen the scores to fp32 for the softmax, four times the (B, H, T, T) numbers
    # to move. The softmax computes in fp32 inside, whatever it reads and writes.
    with torch.autocast(query.device.type, enabled=False):
        if not (module.training or torch.is_grad_enabled()):
            mixed = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=attention_mask, scale=scale
            )
            return mixed.transpose(1, 2).contiguous(), None
        scores = torch.matmul(query * scale, key.transpose(2, 3))
        if attention_mask is not None:
            scores += attention_mask
        weights = functional.softmax(scores, dim=-1)
        if dropout > 0 and module.training:
            noise = module.__dict__.get("noise")
            drop = noise.drop if noise else functional.dropout
            weights = drop(weights, dropout)
        return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


def _mask(*, dtype: torch.dtype, device: torch.device | str, **kwargs: Any) -> Tensor | None:
    """The additive mask (B, 1, T, T) in the scores' number format; None where nothing is padded."""
    dtype = _autocast_dtype(torch.device(device)) or dtype
    mask: Tensor | None = eager_mask(dtype=dtype, device=device, **kwargs)
    return mask


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, _mask)
