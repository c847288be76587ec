"""A network in a folder: encoder, tokenizer, heads and the label spaces that give them meaning.

Teachers and students are both networks; what makes one a teacher is only what it is used for.

    encoder/        config.json, model.safetensors, tokenizer.json: a transformers folder
    heads.safetensors
    student.json    tasks with kinds, label spaces and input columns; pooling; limits
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
import safetensors
import safetensors.torch
import torch

from potstill.core.device import Device
from potstill.core.errors import ArtefactError
from potstill.core.files import read_json, write_bytes, write_json
from potstill.models.base_folder import STUDENT_FILE, check_safetensors, find_base
from potstill.models.encoder import Pooling
from potstill.models.encoder_folder import build_encoder, load_encoder, save_encoder
from potstill.models.multitask import MultiTaskModel
from potstill.models.token_rows import TokenRows
from potstill.models.tokenizer import TextTokenizer, load_tokenizer
from potstill.models.weights import tensors_to_bytes
from potstill.tasks.inputs import Columns
from potstill.tasks.predictor import TaskHead, heads_from_json, heads_to_json, passes
from potstill.training.inference import BUDGET_TOKENS, predict_outputs
from potstill.training.sequence_network import (
    FAMILY,
    SequenceNetwork,
    load_sequence_network,
    save_sequence_network,
)

NETWORK_VERSION = 1


@dataclass(slots=True, kw_only=True, eq=False)
class Network:
    """Encoder, heads and all that turns rows into answers.

    Attributes:
        model: Encoder and heads.
        tokenizer: The encoder's tokenizer.
        tasks: The tasks in order.
        pooling: How tokens become one vector.
        max_tokens: Longer texts lose their end.
        task_token: A task-identifier token stands before each text.
    """

    model: MultiTaskModel
    tokenizer: TextTokenizer
    tasks: dict[str, TaskHead]
    pooling: Pooling
    max_tokens: int
    task_token: bool = False

    @property
    def n_parameters(self) -> int:
        """Parameters of encoder and heads."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def shape(self) -> str:
        """What networks that take the same time have in common."""
        config = self.model.encoder.backbone.config.to_json_string()
        return f"{config} {self.n_parameters} {self.max_tokens} {self.task_token}"

    def tokenise(self, task: str, inputs: Columns) -> TokenRows:
        """Token ids of rows of a task, as this network reads them."""
        return self.tasks[task].inputs.tokenise(
            inputs,
            self.tokenizer,
            max_tokens=self.max_tokens,
            task=task if self.task_token else None,
        )

    def outputs(
        self,
        tokens: TokenRows,
        tasks: Sequence[str],
        device: Device,
        *,
        budget_tokens: int = BUDGET_TOKENS,
        done: Callable[[int], object] | None = None,
    ) -> dict[str, np.ndarray]:
        """Outputs (S, C) of ``tasks`` for tokenised rows, from one encoder pass."""
        self.model.to(device.torch)
        slotted = {task for task in tasks if self.tasks[task].kind.slotted}
        return predict_outputs(
            self.model,
            tokens,
            tasks,
            slotted=slotted,
            device=device,
            padding=self.tokenizer.padding,
            budget_tokens=budget_tokens,
            narrow_weights=True,
            done=done,
        )

    def passes(self, tasks: Sequence[str]) -> list[tuple[str, ...]]:
        """Tasks that can share an encoder pass: those that read the same columns, no task token."""
        return passes(self.tasks, tasks, task_token=self.task_token)


AnyNetwork: TypeAlias = Network | SequenceNetwork
"""An encoder with heads, or an encoder-decoder."""


def new_network(
    base: str,
    tasks: Mapping[str, TaskHead],
    *,
    seed: int,
    max_tokens: int,
    layers: int | None = None,
    pooling: Pooling | None = None,
    dropout: float | None = None,
    task_token: bool = False,
) -> Network:
    """A network on a base with fresh heads.

    Args:
        base: ``minilm``, a folder, or a hub id.
        tasks: The heads to make.
        seed: Decides the heads' first weights.
        max_tokens: Limit a row; lowered to what the base can read.
        layers: Keep this many evenly spaced layers.
        pooling: None takes the base's own.
        dropout: Rate inside the encoder; None keeps the base's own.
        task_token: Add a task-identifier token for each task.

    Raises:
        BaseModelError: The base is missing, unsafe or no encoder.
    """
    found = find_base(base)
    chosen = cast("Pooling", pooling or found.pooling)
    encoder = load_encoder(found.path, pooling=chosen, layers=layers, dropout=dropout)
    tokenizer = load_tokenizer(found.path)
    if task_token:
        tokenizer.add_task_tokens(list(tasks))
        encoder.grow_vocabulary(tokenizer.n_tokens, seed=seed)
    torch.manual_seed(seed)
    heads = {name: head.kind.head(encoder.n_features) for name, head in tasks.items()}
    return Network(
        model=MultiTaskModel(encoder, heads),
        tokenizer=tokenizer,
        tasks=dict(tasks),
        pooling=chosen,
        max_tokens=min(max_tokens, encoder.max_tokens or max_tokens),
        task_token=task_token,
    )


def save_network(network: AnyNetwork, folder: Path) -> None:
    """Write a network's files; the caller seals the folder."""
    if isinstance(network, SequenceNetwork):
        save_sequence_network(network, folder, NETWORK_VERSION)
        return
    save_encoder(network.model.encoder, folder / "encoder")
    network.tokenizer.save(folder / "encoder")
    write_bytes(folder / "heads.safetensors", tensors_to_bytes(network.model.head_state()))
    write_json(
        folder / STUDENT_FILE,
        {
            "format": "potstill network",
            "version": NETWORK_VERSION,
            "pooling": network.pooling,
            "max_tokens": network.max_tokens,
            "task_token": network.task_token,
            "tasks": heads_to_json(network.tasks),
        },
    )


def head_of(folder: Path, task: str) -> TaskHead:
    """What a network's folder says of one of its tasks, its tuned thresholds included."""
    return heads_from_json(read_json(folder / STUDENT_FILE)["tasks"])[task]


def load_encoder_network(folder: Path) -> Network:
    """An encoder with heads, from its folder.

    Raises:
        ArtefactError: As :func:`load_network`; or the folder is an encoder-decoder's.
    """
    network = load_network(folder)
    if isinstance(network, SequenceNetwork):
        raise ValueError(f"{folder} holds an encoder-decoder")  # noqa: TRY004 (a caller's fault)
    return network


def load_network(folder: Path) -> AnyNetwork:
    """Read what :func:`save_network` wrote. Check the manifest first (``core.files.verify``).

    Raises:
        ArtefactError: A file is missing, damaged, or of a newer potstill.
        BaseModelError: Weights that are not safetensors.
    """
    facts = read_json(folder / STUDENT_FILE)
    try:
        if facts["version"] != NETWORK_VERSION:
            raise ArtefactError(
                str(folder / STUDENT_FILE),
                got=f"format version {facts['version']}",
                wanted=f"version {NETWORK_VERSION}, which this potstill reads",
                todo="update potstill, or make the student again",
            )
        if facts.get("family") == FAMILY:
            return load_sequence_network(folder, facts)
        tasks = heads_from_json(facts["tasks"])
        encoder = build_encoder(folder / "encoder" / "config.json", pooling=facts["pooling"])
        check_safetensors(folder / "encoder" / "model.safetensors")
        encoder.backbone.load_state_dict(
            safetensors.torch.load_file(folder / "encoder" / "model.safetensors")
        )
        heads = {name: head.kind.head(encoder.n_features) for name, head in tasks.items()}
        model = MultiTaskModel(encoder, heads)
        check_safetensors(folder / "heads.safetensors")
        model.load_head_state(safetensors.torch.load_file(folder / "heads.safetensors"))
        network = Network(
            model=model.eval(),
            tokenizer=load_tokenizer(folder / "encoder"),
            tasks=tasks,
            pooling=facts["pooling"],
            max_tokens=facts["max_tokens"],
            task_token=facts["task_token"],
        )
    except (
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
        OSError,
        safetensors.SafetensorError,
    ) as error:
        raise ArtefactError(
            f"network in {folder}",
            got=f"files that do not fit together ({type(error).__name__}: {error})",
            wanted="a folder that potstill wrote",
            todo="copy the folder anew, or run the command that made it again",
        ) from error
    return network
