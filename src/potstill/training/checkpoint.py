"""A training's place, written so that a kill at any moment costs minutes and never the numbers.

A checkpoint is a safetensors file (weights and optimiser state) and ``checkpoint.json`` (position,
history, digests), which is replaced last and names the file: whichever pointer stands, its file is
whole. The best dev weights so far lie beside it in the same way. Dropout masks and batches depend
on the seed and the step alone, so no generator state is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from potstill.core.errors import ArtefactError
from potstill.core.files import digest_file, read_signed_json, write_bytes, write_signed_json
from potstill.models.weights import tensors_to_bytes

POINTER = "checkpoint.json"
SCRATCH = (POINTER, "checkpoint-*.safetensors", "best-*.safetensors")
"""The files of an unfinished training."""


@dataclass(slots=True, kw_only=True)
class TrainState:
    """Where a training stands.

    Attributes:
        batches_done: Batches seen since the start.
        epochs_done: Epochs whose dev scores are in the history.
        best_epoch: The epoch (from 1) with the best mean dev score; 0 before the first.
        best_score: That score.
        seconds: Time spent, over all sittings.
        stopped: Tasks whose soft loss was switched off, with the facts of that moment.
        loss: [step, mean loss] points.
        recent: [sum of losses, rows] of each batch since the last point.
        dev: Task to [epoch, score] points.
        balance: Task to [mean of the logarithm, batches]: the sizes of gradients.
    """

    batches_done: int = 0
    epochs_done: int = 0
    best_epoch: int = 0
    best_score: float = float("-inf")
    seconds: float = 0.0
    stopped: dict[str, dict[str, float]] = field(default_factory=dict)
    loss: list[tuple[int, float]] = field(default_factory=list)
    recent: list[tuple[float, int]] = field(default_factory=list)
    dev: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    balance: dict[str, tuple[float, int]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The state as plain JSON."""
        facts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return facts | {"best_score": self.best_score if self.best_epoch else None}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> TrainState:
        """Restore :meth:`to_json`."""
        best = facts["best_score"]
        return cls(**{**facts, "best_score": float("-inf") if best is None else best})


def save_best(folder: Path, weights: dict[str, Tensor], epoch: int) -> None:
    """Write the weights of the best epoch so far; the next checkpoint names the file."""
    write_bytes(_best_file(folder, epoch), tensors_to_bytes(weights))


def load_best(folder: Path, model: nn.Module, epoch: int) -> None:
    """Load the weights of the best epoch."""
    tensors = safetensors.torch.load_file(_best_file(folder, epoch))
    model.load_state_dict(tensors)


def save_checkpoint(
    folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer, state: TrainState
) -> None:
    """Write a checkpoint; the one before it stands until this one is whole."""
    file = folder / f"checkpoint-{state.batches_done}.safetensors"
    tensors = {f"model/{name}": t for name, t in model.state_dict().items()}
    names = _names_in_order(model, optimiser)
    for index, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{names[index]}/{slot}": t for slot, t in values.items()}
    write_bytes(file, tensors_to_bytes(tensors))
    best = _best_file(folder, state.best_epoch)
    keep = [file, best] if state.best_epoch else [file]
    pointer = {
        "state": state.to_json(),
        "files": {path.name: digest_file(path) for path in keep},
        "file": file.name,
    }
    write_signed_json(folder / POINTER, pointer)
    for old in {path for pattern in SCRATCH[1:] for path in folder.glob(pattern)} - {*keep}:
        old.unlink()


def load_checkpoint(
    folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer
) -> TrainState | None:
    """Put ``model`` and ``optimiser`` back to the last checkpoint; None if there is none.

    Raises:
        ArtefactError: A file of the checkpoint is missing or its bytes have changed.
    """
    if not (folder / POINTER).is_file():
        return None
    pointer = read_signed_json(folder / POINTER)
    try:
        for name, digest in pointer["files"].items():
            path = folder / name
            if not path.is_file() or digest_file(path) != digest:
                raise _damaged(path, folder)
        state = TrainState.from_json(pointer["state"])
        tensors = safetensors.torch.load_file(folder / pointer["file"])
    except (KeyError, TypeError) as error:
        raise _damaged(folder / POINTER, folder) from error
    model.load_state_dict(
        {n.removeprefix("model/"): t for n, t in tensors.items() if n.startswith("model/")}
    )
    slots: dict[int, dict[str, Tensor]] = {}
    places = {name: index for index, name in enumerate(_names_in_order(model, optimiser))}
    for name, tensor in tensors.items():
        if name.startswith("optimiser/"):
            _, weight, slot = name.split("/")
            slots.setdefault(places[weight], {})[slot] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": slots})
    return state


def _names_in_order(model: nn.Module, optimiser: torch.optim.Optimizer) -> list[str]:
    """Names of the weights as the optimiser counts them: group after group."""
    names = {id(weight): name for name, weight in model.named_parameters()}
    return [names[id(weight)] for group in optimiser.param_groups for weight in group["params"]]


def _best_file(folder: Path, epoch: int) -> Path:
    return folder / f"best-{epoch}.safetensors"


def _damaged(path: Path, folder: Path) -> ArtefactError:
    return ArtefactError(
        str(path),
        got="a damaged or missing checkpoint file: its bytes are not those that were recorded",
        wanted="the checkpoint as it was written",
        todo=f"delete the folder {folder} and run the same command again: this stage starts anew",
    )
