"""Outputs of a model for many rows: token-budget batches, longest first, heads from one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from potstill.core.device import Device
from potstill.models.encoder import TokenBatch
from potstill.models.multitask import MultiTaskModel
from potstill.models.tokenizer import TokenRows
from potstill.tasks.batches import token_batches

INFERENCE_VERSION = 2
"""Raised when the outputs of finished networks change: older soft targets are not reused."""

BUDGET_TOKENS = 2048  # padded tokens a batch: what passes between layers fits a CPU's cache


def to_batch(rows: tuple[np.ndarray, np.ndarray, np.ndarray], device: torch.device) -> TokenBatch:
    """Padded arrays (B, T) of ids, mask and types as tensors."""
    ids, mask, types = (torch.from_numpy(array) for array in rows)
    return TokenBatch(ids=ids, mask=mask, types=types).to(device)


@torch.inference_mode()
def predict_outputs(
    model: MultiTaskModel,
    tokens: TokenRows,
    tasks: Sequence[str],
    *,
    device: Device,
    padding: int,
    budget_tokens: int = BUDGET_TOKENS,
    narrow_weights: bool = False,
    done: Callable[[int], object] | None = None,
) -> dict[str, np.ndarray]:
    """Outputs of several tasks for the same texts, one encoder pass a text.

    Args:
        model: The model; it is put in evaluation mode and left in the mode it had.
        tokens: N rows.
        tasks: Whose heads to run.
        device: Where, and in which precision.
        padding: Id of the padding token.
        budget_tokens: Padded tokens a batch.
        narrow_weights: In bf16 compute with bf16 weights, as nobody trains them any more: faster,
            and apart from the fp32 answers by half as much again.
        done: Called after each batch with its number of rows; it may raise to stop.

    Returns:
        Task to (N, C) fp32 outputs, in the order of ``tokens``.
    """
    was_training = model.training
    model.eval()
    outputs: dict[str, np.ndarray] = {}
    narrow = narrow_weights and device.precision == "bf16"
    # Around all batches, so that weights are cast once.
    with model.encoder.weights_in(torch.bfloat16) if narrow else device.autocast():
        for rows in token_batches(tokens.lengths, budget_tokens):
            answers = model(to_batch(tokens.pad(rows, padding), device.torch), tuple(tasks))
            for task, values in answers.items():
                if task not in outputs:
                    outputs[task] = np.empty((len(tokens), *values.shape[1:]), np.float32)
                outputs[task][rows] = values.float().cpu().numpy()
            if done is not None:
                done(len(rows))
    model.train(was_training)
    if not outputs:  # no rows
        return {task: np.empty((0, 0), np.float32) for task in tasks}
    return outputs
