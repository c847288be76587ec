"""Outputs of a model for many rows: token-budget batches, longest first, heads from one pass."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch

from potstill.core.device import Device
from potstill.models.encoder import SlotIndex, TokenBatch
from potstill.models.multitask import MultiTaskModel
from potstill.models.token_rows import TokenRows, padded_lengths
from potstill.tasks.batches import token_batches

INFERENCE_VERSION = 3
"""Raised when the outputs of finished networks change: older soft targets are not reused."""

BUDGET_TOKENS = 2048  # padded tokens a batch: what passes between layers fits a CPU's cache


def to_batch(
    tokens: TokenRows,
    rows: np.ndarray,
    padding: int,
    device: torch.device,
    *,
    most: int | None = None,
    slots: bool = False,
) -> TokenBatch:
    """The texts ``rows`` as tensors (B, T), padded to one of few lengths.

    Args:
        tokens: Where they are from.
        rows: (B,) their indices.
        padding: Id of the padding token.
        device: Where the tensors go.
        most: Tokens that the model can read; None for no limit.
        slots: With the slots that token heads answer at.
    """
    width = int(padded_lengths(tokens.lengths[rows], most).max())
    ids, mask, types = (torch.from_numpy(array) for array in tokens.pad(rows, padding, width))
    index = None
    if slots and tokens.slots is not None:
        own, places = tokens.slots.of(rows)
        first, last = (
            torch.from_numpy(part[own].astype(np.int64))
            for part in (tokens.slots.first, tokens.slots.last)
        )
        index = SlotIndex(rows=torch.from_numpy(places), first=first, last=last)
    return TokenBatch(ids=ids, mask=mask, types=types, slots=index).to(device)


@torch.inference_mode()
def predict_outputs(
    model: MultiTaskModel,
    tokens: TokenRows,
    tasks: Sequence[str],
    *,
    slotted: Collection[str] = (),
    device: Device,
    padding: int,
    budget_tokens: int = BUDGET_TOKENS,
    narrow_weights: bool = False,
    done: Callable[[int], object] | None = None,
) -> dict[str, np.ndarray]:
    """Outputs of several tasks for the same texts, one encoder pass a text.

    Args:
        model: The model; it is put in evaluation mode and left in the mode it had.
        tokens: N rows, in R texts with S slots.
        tasks: Whose heads to run.
        slotted: Those whose heads answer at slots; the others answer for a row's first text.
        device: Where, and in which precision.
        padding: Id of the padding token.
        budget_tokens: Padded tokens a batch.
        narrow_weights: In bf16 compute with bf16 weights, as nobody trains them any more: faster,
            and apart from the fp32 answers by half as much again.
        done: Called after each batch with the rows that it ends; it may raise to stop.

    Returns:
        Task to fp32 outputs in the order of ``tokens``: (S, C) of slotted tasks, else (N, C).

    Raises:
        ValueError: A task has slots, but the rows have none.
    """
    if slotted and tokens.slots is None:
        raise ValueError(f"tasks {', '.join(slotted)} answer at slots, and these rows have none")
    was_training = model.training
    model.eval()
    outputs: dict[str, np.ndarray] = {}
    is_first = None
    if tokens.windows is not None:
        is_first = np.zeros(len(tokens), bool)
        is_first[tokens.first_texts] = True
    narrow = narrow_weights and device.precision == "bf16"
    # Around all batches, so that weights are cast once.
    with model.encoder.weights_in(torch.bfloat16) if narrow else device.autocast():
        most = model.encoder.max_tokens
        for rows in token_batches(padded_lengths(tokens.lengths, most), budget_tokens):
            batch = to_batch(tokens, rows, padding, device.torch, most=most, slots=bool(slotted))
            for task, values in model(batch, tuple(tasks)).items():
                places, n_places = rows, len(tokens)
                if task in slotted and tokens.slots is not None:
                    places, n_places = tokens.slots.of(rows)[0], len(tokens.slots.first)
                if task not in outputs:
                    outputs[task] = np.empty((n_places, *values.shape[1:]), np.float32)
                outputs[task][places] = values.float().cpu().numpy()
            if done is not None:
                done(len(rows) if is_first is None else int(is_first[rows].sum()))
    model.train(was_training)
    if not outputs:  # no rows
        return {task: np.empty((0, 0), np.float32) for task in tasks}
    if tokens.windows is None:
        return outputs
    return {
        task: values if task in slotted else values[tokens.first_texts]
        for task, values in outputs.items()
    }
