"""One of C classes for a text or a pair of texts."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from potstill.core.characters import as_integer, folded, is_unseen, made_visible, number_in
from potstill.kinds.base import Inputs, Kind, Space
from potstill.kinds.numbers import finite_number, softmax
from potstill.kinds.scores import are_distributions, centred, one_space

if TYPE_CHECKING:
    from torch import Tensor

_N_BINS = 10
_LEAST_PROBABILITY = 1e-6  # of somebody else's scores: the logit of 0 would be minus infinity


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification(Kind):
    """Classification with a fixed list of classes.

    Attributes:
        classes: Labels in the order of the outputs.
        positive_class: The class whose F1 is reported; None for the macro mean.
    """

    name: ClassVar[str] = "classification"
    problem_type: ClassVar[str | None] = "single_label_classification"
    metric_names: ClassVar[tuple[str, ...]] = ("accuracy", "f1", "matthews")
    answers: ClassVar[Literal["number", "text", "texts"]] = "text"
    scored: ClassVar[bool] = True

    classes: tuple[str, ...]
    positive_class: str | None = None

    @classmethod
    def learn(cls, labels: Sequence[object], options: Mapping[str, Any]) -> Self:
        given = options.get("classes")
        seen, fault = readable_labels(labels)
        classes = (
            tuple(label_text(c) for c in given) if given else tuple(sorted(seen, key=label_order))
        )
        if len({as_spelled(label, classes) for label in seen} & set(classes)) < 2:
            found = ", ".join(sorted(seen)) or "none"
            what = f"the training labels hold one class only ({found})"
            if given and len(seen) > 1:
                what = (
                    f"fewer than two of `classes:` ({', '.join(classes)}) occur among the training "
                    f"labels ({found})"
                )
            raise ValueError(what + ("" if fault is None else f"; {fault}"))
        positive = options.get("positive")
        chosen = None if positive is None else as_spelled(label_text(positive), classes)
        if chosen is not None and chosen not in classes:
            raise ValueError(
                f"positive class '{chosen}' (`positive:`) is not among {', '.join(classes)}"
            )
        return cls(classes=classes, positive_class=chosen)

    def encode_label(self, value: object) -> float:
        text = as_spelled(label_text(value), self.classes)
        try:
            return float(self.classes.index(text))
        except ValueError:
            raise ValueError(no_class(text, self.classes)) from None

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.name, "classes": list(self.classes), "positive": self.positive_class}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        return cls(classes=tuple(facts["classes"]), positive_class=facts.get("positive"))

    @property
    def positive(self) -> int | None:
        return None if self.positive_class is None else self.classes.index(self.positive_class)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.classes

    def label_in_words(self, label: Any, inputs: Sequence[Any]) -> Any:
        return self.classes[int(label)]

    def classes_in(self, label: Any) -> Sequence[str]:
        return (self.classes[int(label)],)

    def truth(self, labels: np.ndarray, inputs: Inputs) -> Any:
        return labels.astype(np.int64)

    @property
    def n_outputs(self) -> int:
        return len(self.classes)

    def hard_loss(self, outputs: Tensor, labels: Tensor, groups: Tensor | None) -> Tensor:
        from potstill.losses.cross_entropy import cross_entropy

        return cross_entropy(outputs, labels.long())

    def soft_loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        groups: Tensor | None,
        *,
        temperature: float,
        space: Space,
    ) -> Tensor:
        from potstill.losses.cross_entropy import soft_cross_entropy
        from potstill.losses.logit_mse import logit_mse

        if space == "logits":
            return logit_mse(outputs, targets)
        return soft_cross_entropy(outputs, targets, temperature)

    def from_scores(self, rows: Sequence[Mapping[str, object]]) -> np.ndarray:
        values = self._values(rows)
        if are_distributions(values).all():
            return self.from_probabilities(values).astype(np.float32)
        return centred(values).astype(np.float32)

    def from_probabilities(self, probabilities: np.ndarray) -> np.ndarray:
        return centred(np.log(np.maximum(probabilities, _LEAST_PROBABILITY)))

    def space_of_scores(self, rows: Sequence[Mapping[str, object]]) -> Space:
        values = self._values(rows)
        return one_space(values, are_distributions(values))

    def _values(self, rows: Sequence[Mapping[str, object]]) -> np.ndarray:
        values = np.empty((len(rows), self.n_outputs), np.float64)
        for i, row in enumerate(rows):
            for j, label in enumerate(self.classes):
                values[i, j] = finite_number(row.get(label), f"the score of class '{label}'")
        return values

    def soften(
        self, members: np.ndarray, groups: np.ndarray | None, temperature: float
    ) -> np.ndarray:
        return softmax(members / temperature)

    def predict(self, outputs: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
        return softmax(outputs.astype(np.float64))

    def predict_ensemble(self, members: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
        return np.asarray(softmax(members.astype(np.float64)).mean(0))

    def decode(
        self,
        predictions: np.ndarray,
        inputs: Inputs | None = None,
        groups: np.ndarray | None = None,
    ) -> list[dict[str, Any]]:
        best = predictions.argmax(-1)
        return [
            {
                "prediction": self.classes[b],
                "scores": {c: round(float(p), 6) for c, p in zip(self.classes, row, strict=True)},
            }
            for b, row in zip(best, predictions, strict=True)
        ]

    def score(self, answer: Mapping[str, Any]) -> float | list[float]:
        return float(answer["scores"][answer["prediction"]])

    def answer_schema(self) -> dict[str, Any]:
        share = {"type": "number", "minimum": 0, "maximum": 1}
        return {
            "type": "object",
            "properties": {
                "prediction": {"enum": list(self.classes)},
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

    def _same(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a.argmax(1) == b.argmax(1))

    def distance(
        self, a: np.ndarray, b: np.ndarray, truth: Any, groups: np.ndarray | None
    ) -> np.ndarray | None:
        return np.asarray(0.5 * np.abs(a - b).sum(1))  # total variation

    def details(
        self, truth: Any, predictions: Mapping[str, np.ndarray], groups: np.ndarray | None
    ) -> dict[str, Any]:
        return {
            "labels": list(self.classes),
            "confusion": {s: _confusion(truth, p) for s, p in predictions.items()},
            "reliability": {s: _reliability(truth, p) for s, p in predictions.items()},
        }


def _confusion(truth: np.ndarray, probabilities: np.ndarray) -> list[dict[str, int]]:
    """For each true class the predicted ones with their counts: of thousands most are 0."""
    pairs, counts = np.unique(
        np.stack([truth, probabilities.argmax(1)]), axis=1, return_counts=True
    )
    rows: list[dict[str, int]] = [{} for _ in range(probabilities.shape[1])]
    for (true, predicted), n in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        rows[true][str(predicted)] = n
    return rows


def _reliability(truth: np.ndarray, probabilities: np.ndarray) -> list[dict[str, float]]:
    confidence, right = probabilities.max(1), probabilities.argmax(1) == truth
    bins = np.minimum((confidence * _N_BINS).astype(int), _N_BINS - 1)
    return [
        {
            "confidence": round(float(confidence[bins == b].mean()), 4),
            "accuracy": round(float(right[bins == b].mean()), 4),
            "n": int((bins == b).sum()),
        }
        for b in range(_N_BINS)
        if (bins == b).any()
    ]


def label_text(value: object) -> str:
    """A label as text: the numbers ``1`` and ``1.0`` and the text ``"1"`` agree.

    True is ``true``, as JSON and YAML write it; see :func:`as_spelled` for other spellings.
    """
    if is_missing(value):
        raise ValueError("the label is missing or empty")
    if isinstance(value, list | tuple | dict | np.ndarray):
        raise ValueError(f"the label is a {type(value).__name__}, not one class")  # noqa: TRY004
    if isinstance(value, bytes | bytearray | memoryview):
        raise ValueError(  # noqa: TRY004
            f"the label is {type(value).__name__} {value!r:.60}, not text or a number"
        )
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | Decimal) and math.isfinite(value):
        return str(int(value)) if value == int(value) else str(value)
    return str(value).strip()


def as_spelled(label: str, classes: Sequence[str]) -> str:
    """A label as ``classes`` spell it: csv files say TRUE, or 1.0, where others say true, or 1.

    Classes keep the spelling of train, so predictions are compared with the data as they are. Only
    a label that is no class itself is looked up: `True` and `true` may be two classes.

    Examples:
        >>> as_spelled("true", ["False", "True"]), as_spelled("true", ["True", "true"])
        ('True', 'true')
        >>> as_spelled("1", ["0.0", "1.0"]), as_spelled("1.0", ["0", "1"])
        ('1.0', '1')
    """
    if label in classes:
        return label
    if label.lower() in ("true", "false"):
        alike = [name for name in classes if name.lower() == label.lower()]
    else:
        alike = [name for name in classes if as_integer(name) == as_integer(label)]
    return alike[0] if len(alike) == 1 else label


def no_class(label: str, classes: Sequence[str]) -> str:
    """What to say of a label that is no class: what classes there are, and the nearest."""
    near = difflib.get_close_matches(label, classes, 1)
    hint = f"; nearest: '{made_visible(near[0])}'" if near else ""
    if near and near[0].casefold() != label.casefold() and folded(near[0]) == folded(label):
        hint += ", which differs in blanks, in unseen characters or in how accents are stored"
    known = ", ".join(map(made_visible, classes[:12])) + (", …" if len(classes) > 12 else "")
    return (
        f"label '{made_visible(label)}' is none of the classes (known: {known}{hint}), "
        "which are those of train or of `classes:`"
    )


def readable_labels(labels: Iterable[object]) -> tuple[set[str], str | None]:
    """The texts of the labels that have one, and what is wrong with the first that has none."""
    texts: set[str] = set()
    fault: str | None = None
    for label in labels:
        try:
            texts.add(label_text(label))
        except ValueError as error:
            fault = fault or str(error)
    return texts, fault


def is_missing(value: object) -> bool:
    """Whether a label is None, NaN, or text without a character that can be seen."""
    return (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or (isinstance(value, str) and is_unseen(value))
    )


def label_order(label: str) -> tuple[int, float, str]:
    """Numbers by value, then words by alphabet; ``nan`` and ``inf`` are words."""
    try:
        number = number_in(label)
    except ValueError:
        return (1, 0.0, label)
    # NaN is neither smaller nor larger than anything: among numbers it would leave no one order.
    return (0, number, label) if math.isfinite(number) else (1, 0.0, label)
