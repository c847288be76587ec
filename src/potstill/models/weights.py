"""What every model of transformers is loaded and saved with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import safetensors.torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel


def refuse_unfit(model: nn.Module, missing: Iterable[str]) -> None:
    """Raise ValueError if a model's file lacks weights, or some of them are no numbers."""
    unfit = [name for name, tensor in model.named_parameters() if not tensor.isfinite().all()]
    for names, how in ((sorted(missing), "lack"), (unfit, "are not all numbers:")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ValueError(f"its weights {how} {names[0]}{more}")


def tensors_to_bytes(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Safetensors bytes of a state dict, with the format mark that transformers asks for."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data: bytes = safetensors.torch.save(plain, {"format": "pt", **(metadata or {})})
    return data


def longest_text(model: PreTrainedModel) -> int | None:
    """Tokens of the longest text for which a model has positions; None for no limit."""
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is None or limit < 1:
        return None
    unused = 0
    for name, module in model.named_modules():
        # RoBERTa counts positions from behind its padding id: 514 of them are 512 tokens.
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
    return int(limit) - unused


@contextmanager
def silence() -> Iterator[None]:
    """Keep transformers' load reports and bars off the user's screen."""
    level = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()
