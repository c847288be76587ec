"""Any number of C labels for a text or a pair of texts, none and all included.

Each label is a question of its own: binary cross entropy, hard and soft. How sure an output must be
to count as yes is decided on dev, a threshold a label, by its F1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from potstill.kinds.base import Inputs, Key, Kind, Space
from potstill.kinds.classification import (
    as_spelled,
    label_order,
    label_text,
    no_class,
    readable_labels,
)
from potstill.kinds.numbers import finite_number, logit, sigmoid
from potstill.kinds.scores import are_shares, one_space

if TYPE_CHECKING:
    from torch import Tensor

_LEAST_PROBABILITY = 1e-6  # of somebody else's scores: the logit of 0 would be minus infinity


@dataclass(frozen=True, slots=True, kw_only=True)
class Multilabel(Kind):
    """Several labels a row, from a fixed list.

    Attributes:
        classes: Labels in the order of the outputs.
        thresholds: Probability of each label above which it is given; None before they are tuned,
            which means one half.
    """

    name: ClassVar[str] = "multilabel"
    summary: ClassVar[str] = "Any number of labels for a text or a pair."
    keys: ClassVar[tuple[Key, ...]] = (
        Key(
            name="text",
            form="columns",
            use="input",
            meaning="Column of the text, or the two columns of a pair.",
        ),
        Key(
            name="label",
            form="column",
            use="label",
            meaning="Column of the labels: a list in each row, which may be empty.",
            default="label",
        ),
        Key(
            name="classes",
            form="classes",
            use="option",
            meaning="All labels in a fixed order; null: those of train, sorted.",
            default=None,
        ),
    )
    problem_type: ClassVar[str | None] = "multi_label_classification"
    metric_names: ClassVar[tuple[str, ...]] = ("micro_f1", "macro_f1")
    tunes: ClassVar[bool] = True
    answers: ClassVar[Literal["number", "text", "texts"]] = "texts"
    scored: ClassVar[bool] = True

    classes: tuple[str, ...]
    thresholds: tuple[float, ...] | None = None

    @classmethod
    def learn(cls, labels: Sequence[object], options: Mapping[str, Any]) -> Self:
        given = options.get("classes")
        lists = [value for value in labels if isinstance(value, list | tuple)]
        seen, fault = readable_labels(label for value in lists for label in value)
        if labels and not lists:
            raise ValueError(_no_list(labels[0]))
        if not seen:
            raise ValueError(
                "the training rows name no label at all: "
                + (fault or "their lists are empty, or missing")
            )
        classes = tuple(map(label_text, given)) if given else tuple(sorted(seen, key=label_order))
        if len({tuple(sorted(map(str, value))) for value in lists}) < 2:
            raise ValueError(
                f"all training rows have the same labels, {', '.join(sorted(seen))}: a class is "
                "learned from rows with it and rows without"
            )
        return cls(classes=classes)

    def encode_label(self, value: object) -> Any:
        if value is None:
            raise ValueError("the labels are missing; an empty list means none")
        if not isinstance(value, list | tuple):
            raise ValueError(_no_list(value))  # noqa: TRY004 (so is whatever is wrong with a label)
        names = [as_spelled(label_text(label), self.classes) for label in value]
        found = np.zeros(len(self.classes))
        for name in names:
            if name not in self.classes:
                raise ValueError(no_class(name, self.classes))
            if found[self.classes.index(name)]:
                raise ValueError(f"label '{name}' stands in the list twice")
            found[self.classes.index(name)] = 1.0
        return tuple(found)

    def label_in_words(self, label: Any, inputs: Sequence[Any]) -> Any:
        return self.classes_in(label)

    def classes_in(self, label: Any) -> list[str]:
        return [name for name, given in zip(self.classes, label, strict=True) if given]

    def strata(self, labels: np.ndarray) -> np.ndarray:
        """The rarest label of each row decides: common ones are shared out anyway."""
        rarity = np.argsort(np.argsort(labels.sum(0), kind="stable"), kind="stable")
        ranks = np.where(labels > 0, rarity, len(self.classes))
        return np.asarray(ranks.min(1))

    def describe(self, labels: np.ndarray) -> str:
        counts = labels.sum(0).astype(int)
        order = np.argsort(-counts, kind="stable")
        shown = ", ".join(f"{self.classes[c]} {counts[c]}" for c in order[:50])
        return (
            f"{labels.sum(1).mean():.2f} labels a row, {int((labels.sum(1) == 0).sum())} rows "
            f"without; {shown}"
        )

    def to_json(self) -> dict[str, Any]:
        tuned = {} if self.thresholds is None else {"thresholds": list(self.thresholds)}
        return {"kind": self.name, "classes": list(self.classes), **tuned}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        thresholds = facts.get("thresholds")
        return cls(
            classes=tuple(facts["classes"]),
            thresholds=None if thresholds is None else tuple(map(float, thresholds)),
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.classes

    @property
    def n_outputs(self) -> int:
        return len(self.classes)

    def hard_loss(self, outputs: Tensor, labels: Tensor, groups: Tensor | None) -> Tensor:
        from potstill.losses.binary import binary_cross_entropy

        return binary_cross_entropy(outputs, labels)

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

    def from_scores(self, rows: Sequence[Mapping[str, object]]) -> np.ndarray:
        values = self._values(rows)
        if are_shares(values).all():
            values = self.from_probabilities(values)
        return values.astype(np.float32)

    def from_probabilities(self, probabilities: np.ndarray) -> np.ndarray:
        return logit(probabilities.clip(_LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY))

    def space_of_scores(self, rows: Sequence[Mapping[str, object]]) -> Space:
        values = self._values(rows)
        return one_space(values, are_shares(values))

    def _values(self, rows: Sequence[Mapping[str, object]]) -> np.ndarray:
        return np.array(
            [
                [finite_number(row.get(label), f"the score of '{label}'") for label in self.classes]
                for row in rows
            ]
        )

    def soften(
        self, members: np.ndarray, groups: np.ndarray | None, temperature: float
    ) -> np.ndarray:
        return sigmoid(members / temperature)

    def predict(self, outputs: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
        """(N, C) how much each label is meant; above one half it is given."""
        return self._decided(outputs.astype(np.float64))

    def predict_ensemble(self, members: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
        mean = sigmoid(members.astype(np.float64)).mean(0)
        return self._decided(logit(mean.clip(1e-12, 1 - 1e-12)))

    def _decided(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities, moved so that each label's threshold lies at one half."""
        return sigmoid(logits - self._shift)

    @property
    def _shift(self) -> np.ndarray:
        if self.thresholds is None:
            return np.zeros(self.n_outputs)
        return logit(np.array(self.thresholds))

    def tune(self, predictions: np.ndarray, truth: Any, groups: np.ndarray | None) -> Self:
        from potstill.metrics.multilabel import best_thresholds

        probabilities = sigmoid(logit(predictions.clip(1e-12, 1 - 1e-12)) + self._shift)
        found = best_thresholds(truth, probabilities)
        return replace(self, thresholds=tuple(float(t) for t in found))

    @property
    def tuned(self) -> dict[str, Any]:
        if self.thresholds is None:
            return {}
        return {"thresholds": dict(zip(self.classes, self.thresholds, strict=True))}

    def decode(
        self,
        predictions: np.ndarray,
        inputs: Inputs | None = None,
        groups: np.ndarray | None = None,
    ) -> list[dict[str, Any]]:
        probabilities = sigmoid(logit(predictions.clip(1e-12, 1 - 1e-12)) + self._shift)
        return [
            {
                "prediction": [self.classes[c] for c in np.flatnonzero(chosen)],
                "scores": {c: round(float(p), 6) for c, p in zip(self.classes, row, strict=True)},
            }
            for chosen, row in zip(predictions > 0.5, probabilities, strict=True)
        ]

    def score(self, answer: Mapping[str, Any]) -> float | list[float]:
        return [float(answer["scores"][label]) for label in answer["prediction"]]

    def answer_schema(self) -> dict[str, Any]:
        share = {"type": "number", "minimum": 0, "maximum": 1}
        return {
            "type": "object",
            "properties": {
                "prediction": {"type": "array", "items": {"enum": list(self.classes)}},
                "scores": {
                    "type": "object",
                    "properties": dict.fromkeys(self.classes, share),
                    "required": list(self.classes),
                    "additionalProperties": False,
                },
            },
            "required": ["prediction", "scores"],
            "additionalProperties": False,
        }

    def metric(self, name: str) -> Any:
        from potstill.metrics.multilabel import MACRO_F1, MICRO_F1

        return {m.name: m for m in (MICRO_F1, MACRO_F1)}[name]

    def _same(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Rows that get the same labels."""
        return np.asarray(((a > 0.5) == (b > 0.5)).all(1))

    def distance(
        self, a: np.ndarray, b: np.ndarray, truth: Any, groups: np.ndarray | None
    ) -> np.ndarray | None:
        return np.asarray(np.abs(a - b).max(1))

    def details(
        self, truth: Any, predictions: Mapping[str, np.ndarray], groups: np.ndarray | None
    ) -> dict[str, Any]:
        from potstill.metrics.multilabel import MICRO_F1

        return {
            "by_label": {
                label: {
                    "n": int(truth[:, c].sum()),
                    **{s: MICRO_F1.score(truth[:, [c]], p[:, [c]]) for s, p in predictions.items()},
                }
                for c, label in enumerate(self.classes)
            }
        }


def _no_list(value: object) -> str:
    return (
        f"the labels are {value!r:.60}, not a list (csv files hold no lists: use jsonl or parquet)"
    )
