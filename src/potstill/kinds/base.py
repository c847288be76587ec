"""What a task kind is: the one place that says what labels, outputs and soft targets mean.

A kind is one file here: labels, head, hard loss, soft loss, how teachers combine, metrics and
decoding. It knows tensors and label values; no files, no models, no training. An object is a
kind *with its label space*: two tasks of one kind are two objects. Decoding runs in services
without torch, so what trains imports it where it is called.

Shapes: B rows of a batch, N rows of a split, C outputs, M members, G groups.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

Space = Literal["probabilities", "logits"]
"""Where soft targets live: combined probabilities at a temperature, or mean logits."""


class Kind(ABC):
    """A task kind with its label space fixed."""

    name: ClassVar[str]
    metric_names: ClassVar[tuple[str, ...]]  # the first is the default
    grouped: ClassVar[bool] = False  # the rows of one group are one example (ranking)
    storage: ClassVar[Literal["float16", "float32"]] = "float16"

    # -- labels ---------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def learn(cls, labels: Sequence[object], options: Mapping[str, Any]) -> Self:
        """Fix the label space from the training labels and the task's options.

        Labels that cannot be read are left out: :meth:`encode_label` refuses them, and its
        caller knows the row.

        Raises:
            ValueError: The labels leave no task (one class only, say); the text says why.
        """

    @abstractmethod
    def encode_label(self, value: object) -> float:
        """One label as a number.

        Raises:
            ValueError: The label is missing or not in the label space; the text says why.
        """

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The label space; ``kinds.from_json`` restores it."""

    @classmethod
    @abstractmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """Restore what :meth:`to_json` gave."""

    @property
    def positive(self) -> int | None:
        """Index of the class that F1 counts, where there is one."""
        return None

    # -- network --------------------------------------------------------------------------------

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """C, the width of the head."""

    @abstractmethod
    def head(self, n_features: int) -> nn.Module:
        """A fresh head on D features."""

    # -- training -------------------------------------------------------------------------------

    @abstractmethod
    def hard_loss(self, outputs: Tensor, labels: Tensor, groups: Tensor | None) -> Tensor:
        """Loss against labels: (B,), or (G,) for grouped kinds; of the order of 1 at the start."""

    @abstractmethod
    def soft_loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        groups: Tensor | None,
        *,
        temperature: float,
        space: Space,
    ) -> Tensor:
        """Loss against soft targets from :meth:`combine`: (B,) or (G,), on the hard loss's scale.

        Args:
            outputs: (B, C) the student's outputs.
            targets: (B, C) combined soft targets in ``space``.
            groups: (B,) group of each row, for grouped kinds.
            temperature: T of probabilities; the loss carries T squared.
            space: What ``targets`` are.
        """

    # -- soft targets ---------------------------------------------------------------------------

    def to_store(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs (N, C) of a member as the store keeps them."""
        return outputs.astype(self.storage)

    def from_store(self, stored: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`to_store`, fp32."""
        return stored.astype(np.float32)

    @abstractmethod
    def from_scores(self, rows: Sequence[Mapping[str, object]]) -> np.ndarray:
        """Outputs (N, C) from somebody else's scores, one mapping a row.

        Raises:
            ValueError: A score is missing or not a number; the text says which.
        """

    @abstractmethod
    def combine(
        self,
        members: np.ndarray,
        cover: np.ndarray,
        groups: np.ndarray | None,
        *,
        temperature: float,
        space: Space,
    ) -> np.ndarray:
        """The ensemble's soft targets.

        Args:
            members: (M, N, C) outputs of the members; rows that a member does not cover are 0.
            cover: (M, N) true where a member has an opinion.
            groups: (N,) group of each row, for grouped kinds.
            temperature: T.
            space: ``probabilities``: the mean of the members' probabilities at T (Liu et al.
                2019, eq. 3); ``logits``: the mean of their logits.

        Returns:
            (N, C) fp32; rows that nobody covers are 0.
        """

    # -- inference ------------------------------------------------------------------------------

    @abstractmethod
    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """What metrics read: class probabilities (N, C), or values (N,), from outputs (N, C)."""

    @abstractmethod
    def predict_ensemble(self, members: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
        """What metrics read, for an ensemble: ``members`` is (M, N, C), all rows covered."""

    def output_line(self) -> tuple[float, float]:
        """Scale and shift from an output to the value that people read, for one-output kinds."""
        return 1.0, 0.0

    @abstractmethod
    def decode(self, predictions: np.ndarray) -> list[dict[str, Any]]:
        """Answers for people: ``{"prediction": ..., "scores": {...}}`` a row."""

    def answer_schema(self) -> dict[str, Any]:
        """JSON schema of one answer of :meth:`decode`; a number, where a kind says nothing else."""
        return {
            "type": "object",
            "properties": {"prediction": {"type": "number"}},
            "required": ["prediction"],
            "additionalProperties": False,
        }


def covered_mean(members: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """Mean over the members that cover each row: (M, N, C) and (M, N) to (N, C), fp32."""
    weights = cover.astype(np.float32)
    counts = np.maximum(weights.sum(0), 1.0)
    total = np.einsum("mnc,mn->nc", members.astype(np.float32), weights, optimize=True)
    return np.asarray(total / counts[:, None], np.float32)
