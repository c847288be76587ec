"""A task kind outside of potstill: ordered grades, such as 1 to 5 stars.

Between K grades lie K - 1 steps; output k says whether the grade is above step k. Each is a binary
question (Cheng et al. 2008, arXiv 0704.1028), so a grade that is one step off costs less than one
that is four off, which a softmax over the grades does not know.

torch is imported where it is used: a service decodes with this class and has no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from potstill.kinds import Inputs, Key, Kind, Space
from potstill.kinds.numbers import finite_number, finite_numbers, sigmoid

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordinal(Kind):
    """Grades in a known order.

    Attributes:
        grades: The grades, lowest first.
    """

    name: ClassVar[str] = "ordinal"
    summary: ClassVar[str] = "A grade from an ordered list, for a text or a pair."
    keys: ClassVar[tuple[Key, ...]] = (
        Key(name="text", form="columns", use="input", meaning="Column of the text, or of a pair."),
        Key(
            name="label",
            form="column",
            use="label",
            meaning="Column of the grade.",
            default="label",
        ),
        Key(
            name="grades",
            form="classes",
            use="option",
            meaning="The grades, lowest first; null: the numbers of train, sorted.",
            default=None,
        ),
    )
    metric_names: ClassVar[tuple[str, ...]] = ("spearman", "pearson")
    answers: ClassVar[Literal["number", "text", "texts"]] = "text"

    grades: tuple[str, ...]

    # -- labels: what they mean, and what is wrong with one -------------------------------------

    @classmethod
    def learn(cls, labels: Sequence[object], options: Mapping[str, Any]) -> Self:
        given = options.get("grades")
        numbers = sorted(set(finite_numbers(labels)))  # what is none is refused with its row
        found = tuple(given) if given else tuple(map(_grade, numbers))
        if len(found) < 2:
            raise ValueError(f"the training labels hold one grade only ({', '.join(found)})")
        return cls(grades=found)

    def encode_label(self, value: object) -> float:
        grade = _grade(value)
        if grade not in self.grades:
            raise ValueError(f"grade '{grade}' is none of {', '.join(self.grades)}")
        return float(self.grades.index(grade))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.name, "grades": list(self.grades)}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        return cls(grades=tuple(facts["grades"]))

    # -- training -------------------------------------------------------------------------------

    @property
    def n_outputs(self) -> int:
        return len(self.grades) - 1

    def hard_loss(self, outputs: Tensor, labels: Tensor, groups: Tensor | None) -> Tensor:
        import torch

        from potstill.losses.binary import binary_cross_entropy

        steps = torch.arange(self.n_outputs, device=labels.device)
        return binary_cross_entropy(outputs, (labels[:, None] > steps).float())

    def soft_loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        groups: Tensor | None,
        *,
        temperature: float,
        space: Space,
    ) -> Tensor:
        from potstill.losses.binary import binary_cross_entropy
        from potstill.losses.logit_mse import logit_mse

        if space == "logits":
            return logit_mse(outputs, targets)
        return binary_cross_entropy(outputs, targets, temperature)

    # -- soft targets ---------------------------------------------------------------------------

    def from_scores(self, rows: Sequence[Mapping[str, object]]) -> np.ndarray:
        """Somebody else's grade, from 0 for the lowest: sure of every step that it is clear of."""
        values = np.array([finite_number(row.get("value"), "the value") for row in rows])
        return (4.0 * (values[:, None] - np.arange(self.n_outputs) - 0.5)).astype(np.float32)

    def soften(
        self, members: np.ndarray, groups: np.ndarray | None, temperature: float
    ) -> np.ndarray:
        return sigmoid(members / temperature)

    # -- answers --------------------------------------------------------------------------------

    def predict(self, outputs: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
        """(N,) the expected grade, counted from 0 for the lowest."""
        return np.asarray(sigmoid(outputs.astype(np.float64)).sum(1))

    def predict_ensemble(self, members: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
        return np.asarray(sigmoid(members.astype(np.float64)).mean(0).sum(1))

    def decode(
        self,
        predictions: np.ndarray,
        inputs: Inputs | None = None,
        groups: np.ndarray | None = None,
    ) -> list[dict[str, Any]]:
        """The nearest grade, and where between the grades the answer lies, from 0."""
        nearest = np.clip(np.rint(predictions), 0, self.n_outputs).astype(int)
        return [
            {"prediction": self.grades[place], "place": round(float(value), 4)}
            for value, place in zip(predictions, nearest, strict=True)
        ]

    def answer_schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {
                "prediction": {"enum": list(self.grades)},
                "place": {"type": "number", "minimum": 0},
            },
            "required": ["prediction", "place"],
            "additionalProperties": False,
        }

    # -- what the report shows ------------------------------------------------------------------

    def _same(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(np.rint(a) == np.rint(b))

    def distance(
        self, a: np.ndarray, b: np.ndarray, truth: Any, groups: np.ndarray | None
    ) -> np.ndarray | None:
        return np.asarray(np.abs(a - b) / self.n_outputs)

    def label_in_words(self, label: Any, inputs: Sequence[Any]) -> Any:
        return self.grades[int(label)]


def _grade(value: object) -> str:
    """A grade as text: ``3``, ``3.0`` and ``"3"`` of different file types agree."""
    if isinstance(value, str) and not value.replace(".", "", 1).isdigit():
        return value.strip()  # a word of `grades`
    number = finite_number(value, "the grade")
    return str(int(number)) if number.is_integer() else str(number)
