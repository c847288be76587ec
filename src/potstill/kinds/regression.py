"""A number in a known range for a text or a pair of texts.

Outputs are in units of the label's standard deviation around its mean (both from the training
labels): the squared error then starts near 1, as a cross entropy does, so that a regression task
is not drowned by its neighbours in a multi-task student.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from potstill.kinds.base import Inputs, Kind, Space
from potstill.kinds.numbers import finite_number, finite_numbers, too_few_numbers

if TYPE_CHECKING:
    from torch import Tensor

_LEAST_SPREAD = 1e-5  # of the range: what is stored in fp32 tells a hundredth of it
_N_POINTS = 500
_FAR_MEAN = 1.0
_WIDE = 4.0
"""Means and spreads that differ more, in units of the labels' spread, are of other units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression(Kind):
    """Regression with a fixed range.

    Attributes:
        low: Smallest label.
        high: Largest label.
        mean: Mean of the training labels, as a share of the range.
        spread: Standard deviation of the training labels, as a share of the range.
    """

    name: ClassVar[str] = "regression"
    problem_type: ClassVar[str | None] = "regression"
    metric_names: ClassVar[tuple[str, ...]] = ("pearson", "spearman")
    storage: ClassVar[Literal["float16", "float32"]] = "float32"

    low: float
    high: float
    mean: float
    spread: float

    @classmethod
    def learn(cls, labels: Sequence[object], options: Mapping[str, Any]) -> Self:
        low, high = (float(v) for v in options["range"])
        values = np.array([v for v in finite_numbers(labels) if low <= v <= high])
        scaled = (values - low) / (high - low)
        if len(np.unique(scaled)) < 2:
            why = too_few_numbers(labels, low, high)
            much = "fewer than two values that can be learned" if why else "one value only"
            raise ValueError(f"the training labels hold {much}{why}")
        spread = max(float(scaled.std()), _LEAST_SPREAD)
        return cls(low=low, high=high, mean=float(scaled.mean()), spread=spread)

    def encode_label(self, value: object) -> float:
        number = finite_number(value, "the label")
        if not self.low <= number <= self.high:
            raise ValueError(
                f"label {number:g} lies outside the range [{self.low:g}, {self.high:g}]"
            )
        return number

    def flat(self, labels: np.ndarray, slots: np.ndarray | None) -> np.ndarray:
        """In units of the spread, from the mean: fp32 would round large labels."""
        scaled = (labels.astype(np.float64) - self.low) / (self.high - self.low)
        return np.asarray((scaled - self.mean) / self.spread)

    def strata(self, labels: np.ndarray) -> np.ndarray:
        return labels.astype(np.float64)  # whole numbers may be as many as rows

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.name,
            "range": [self.low, self.high],
            "mean": self.mean,
            "spread": self.spread,
        }

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        low, high = facts["range"]
        return cls(low=low, high=high, mean=facts["mean"], spread=facts["spread"])

    @property
    def n_outputs(self) -> int:
        return 1

    def hard_loss(self, outputs: Tensor, labels: Tensor, groups: Tensor | None) -> Tensor:
        from potstill.losses.squared_error import squared_error

        return squared_error(outputs[:, 0], labels)

    def soft_loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        groups: Tensor | None,
        *,
        temperature: float,
        space: Space,
    ) -> Tensor:
        from potstill.losses.squared_error import squared_error

        return squared_error(outputs[:, 0], targets[:, 0])

    def to_store(self, outputs: np.ndarray) -> np.ndarray:
        """Shares of the range, which mean the same whatever the training labels were."""
        return (outputs.astype(np.float32) * self.spread + self.mean).astype(self.storage)

    def from_store(self, stored: np.ndarray) -> np.ndarray:
        return (stored.astype(np.float32) - self.mean) / self.spread

    def from_scores(self, rows: Sequence[Mapping[str, object]]) -> np.ndarray:
        values = np.array([[finite_number(row.get("value"), "the value")] for row in rows])
        scaled = (values - self.low) / (self.high - self.low)
        return ((scaled - self.mean) / self.spread).astype(np.float32)

    def odd_scores(self, outputs: np.ndarray) -> str | None:
        """Outputs are in units of the labels' spread, from their mean: other units show."""
        mean, spread = float(outputs.mean()), float(outputs.std())
        if abs(mean) <= _FAR_MEAN and spread <= _WIDE and (spread >= 1 / _WIDE or len(outputs) < 2):
            return None
        slope, middle = self.output_line()
        return (
            f"values of mean {middle + slope * mean:.3g} and spread {slope * spread:.3g}, labels "
            f"of mean {middle:.3g} and spread {slope:.3g}: give values in the labels' units"
        )

    def soften(
        self, members: np.ndarray, groups: np.ndarray | None, temperature: float
    ) -> np.ndarray:
        return members  # values have no temperature

    def predict(self, outputs: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
        scaled = outputs[:, 0].astype(np.float64) * self.spread + self.mean
        return np.clip(self.low + scaled * (self.high - self.low), self.low, self.high)

    def predict_ensemble(self, members: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
        return self.predict(members.mean(0))

    def output_line(self) -> tuple[float, float]:
        width = self.high - self.low
        return self.spread * width, self.low + self.mean * width

    def decode(
        self,
        predictions: np.ndarray,
        inputs: Inputs | None = None,
        groups: np.ndarray | None = None,
    ) -> list[dict[str, Any]]:
        return [{"prediction": self._rounded(value, 6)} for value in predictions]

    def agreement(self, a: np.ndarray, b: np.ndarray, groups: np.ndarray | None) -> float:
        """Spearman's correlation."""
        from potstill.metrics.correlation import SPEARMAN

        return SPEARMAN.score(a, b)

    def distance(
        self, a: np.ndarray, b: np.ndarray, truth: Any, groups: np.ndarray | None
    ) -> np.ndarray | None:
        return np.asarray(np.abs(a - b) / (float(np.ptp(truth)) or 1.0))

    def details(
        self, truth: Any, predictions: Mapping[str, np.ndarray], groups: np.ndarray | None
    ) -> dict[str, Any]:
        shown = np.linspace(0, len(truth) - 1, min(_N_POINTS, len(truth))).astype(int)
        series = {"truth": truth, **predictions}
        return {
            "scatter": {
                name: [self._rounded(v, 4) for v in values[shown]]
                for name, values in series.items()
            }
        }

    def _rounded(self, value: float, digits: int) -> float:
        """With so many decimals, and more where the range is below 1."""
        return round(float(value), digits - min(0, math.floor(math.log10(self.high - self.low))))
