"""How one training runs: the numbers of the run file's ``training:`` section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from potstill.kinds.base import Kind
from potstill.tasks.batches import Mixing

_BETWEEN_TASKS = ("mixing", "tasks_per_step", "balance")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Settings of one training.

    Attributes:
        epochs: Passes over the data.
        learning_rate: Peak learning rate.
        head_learning_rate: Peak learning rate of the heads; None is ``learning_rate`` times what
            suits each kind.
        batch: Rows a step, on average (batches hold equal numbers of tokens).
        tasks_per_step: A step's rows come in up to so many batches, each of one task.
        max_tokens: Longer texts lose their end.
        optimizer: ``adamw`` or ``adamax``.
        warmup: Share of the steps in which the learning rate rises from 0.
        decay: Shape of the fall after the warm-up.
        weight_decay: Decoupled decay of weight matrices (not of biases, norms, token tables).
        clip: Largest norm of the gradient of a step.
        accumulate: Gradients of so many times ``batch`` rows are summed for a step.
        dropout: Rate inside the encoder; None keeps the base's own.
        head_dropout: Rate on the features that a head reads.
        mixing: How often tasks are visited.
        balance: ``gradients`` scales each task's loss so that its gradient at the shared features
            is as large as the others'; ``none`` takes losses as they are.
        patience: Stop after this many epochs without a better dev score; None never does.
        checkpoint_seconds: Time between two checkpoints within an epoch. Not part of a digest.
    """

    epochs: int = 3
    learning_rate: float = 1e-4
    head_learning_rate: float | None = None
    batch: int = 32
    tasks_per_step: int = 4
    max_tokens: int = 128
    optimizer: Literal["adamw", "adamax"] = "adamw"
    warmup: float = 0.1
    decay: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: float = 0.01
    clip: float = 1.0
    accumulate: int = 1
    dropout: float | None = None
    head_dropout: float = 0.1
    mixing: Mixing = "proportional"
    balance: Literal["gradients", "none"] = "gradients"
    patience: int | None = None
    checkpoint_seconds: float = 60.0

    def head_times(self, kind: Kind) -> float:
        """The learning rate of a kind's head, in times the encoder's."""
        if self.head_learning_rate is None:
            return kind.head_rate
        return self.head_learning_rate / self.learning_rate

    def facts(self, kinds: Mapping[str, Kind]) -> dict[str, object]:
        """What a stage's digest and record hold: all that can change a number.

        Args:
            kinds: Task of the network to its kind; what lies between tasks changes no number of
                one.
        """
        idle = ("checkpoint_seconds", *(_BETWEEN_TASKS if len(kinds) == 1 else ()))
        facts: dict[str, object] = {k: v for k, v in asdict(self).items() if k not in idle}
        heads = {n: self.head_times(kind) for n, kind in kinds.items() if not kind.generates}
        return facts | {"head_times": heads}
