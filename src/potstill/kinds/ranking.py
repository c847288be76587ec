"""Order the candidates of a query: each (query, candidate) row gets a score; a query is a list."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from potstill.kinds.base import Inputs, Kind, Space
from potstill.kinds.numbers import finite_number, finite_numbers, need_groups, too_few_numbers

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking(Kind):
    """Listwise ranking (Cao et al. 2007, ListNet: the softmax over the candidates of a query).

    Attributes:
        highest: Largest relevance among the training labels.
    """

    name: ClassVar[str] = "ranking"
    problem_type: ClassVar[str | None] = "regression"
    metric_names: ClassVar[tuple[str, ...]] = ("mrr", "ndcg")
    grouped: ClassVar[bool] = True
    storage: ClassVar[Literal["float16", "float32"]] = "float32"

    highest: float

    @classmethod
    def learn(cls, labels: Sequence[object], options: Mapping[str, Any]) -> Self:
        values = [v for v in finite_numbers(labels) if v >= 0]
        if len(set(values)) < 2:
            why = too_few_numbers(labels, 0.0, math.inf)
            much = "fewer than two that can be learned" if why else "one relevance only"
            raise ValueError(f"the training labels hold {much}{why}")
        return cls(highest=max(values))

    def encode_label(self, value: object) -> float:
        number = finite_number(value, "the relevance")
        if number < 0:
            raise ValueError(f"relevance {number:g} is negative; 0 means not relevant")
        return number

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.name, "highest": self.highest}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        return cls(highest=facts["highest"])

    @property
    def n_outputs(self) -> int:
        return 1

    def hard_loss(self, outputs: Tensor, labels: Tensor, groups: Tensor | None) -> Tensor:
        from potstill.losses.listwise import listwise_cross_entropy, relevance_to_probabilities

        groups = need_groups(groups)
        return listwise_cross_entropy(
            outputs[:, 0], relevance_to_probabilities(labels, groups), groups
        )

    def soft_loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        groups: Tensor | None,
        *,
        temperature: float,
        space: Space,
    ) -> Tensor:
        from potstill.losses.listwise import listwise_cross_entropy, listwise_logit_mse

        groups = need_groups(groups)
        if space == "logits":
            return listwise_logit_mse(outputs[:, 0], targets[:, 0], groups)
        return listwise_cross_entropy(outputs[:, 0], targets[:, 0], groups, temperature)

    def from_scores(self, rows: Sequence[Mapping[str, object]]) -> np.ndarray:
        values = [[finite_number(row.get("value"), "the value")] for row in rows]
        return np.array(values, np.float32)

    def odd_scores(self, outputs: np.ndarray) -> str | None:
        if outputs.min() < 0 or outputs.max() > 1:
            return None
        return (
            "values from 0 to 1 only, read as scores whose softmax is taken: nearly flat; of "
            "probabilities give the logarithms, or set a low `temperature`"
        )

    def soften(
        self, members: np.ndarray, groups: np.ndarray | None, temperature: float
    ) -> np.ndarray:
        return _list_probabilities(members, groups, temperature)

    def predict(self, outputs: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
        return outputs[:, 0].astype(np.float64)

    def predict_ensemble(self, members: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
        """Logarithms of the mean probabilities: far behind the first all would be zero."""
        if groups is None:
            raise ValueError("an ensemble of rankings needs groups: the query of each row")
        _, units = np.unique(groups, return_inverse=True)
        logs = [_log_softmax(own[:, 0].astype(np.float64), units) for own in members]
        return np.asarray(np.logaddexp.reduce(logs) - np.log(len(logs)), np.float64)

    def decode(
        self,
        predictions: np.ndarray,
        inputs: Inputs | None = None,
        groups: np.ndarray | None = None,
    ) -> list[dict[str, Any]]:
        return [{"prediction": round(float(value), 6)} for value in predictions]

    def n_scored(self, truth: Any, groups: np.ndarray) -> int:
        from potstill.metrics.ranking import count_queries_without_relevant

        return len(np.unique(groups)) - count_queries_without_relevant(truth, groups)

    def agreement(self, a: np.ndarray, b: np.ndarray, groups: np.ndarray | None) -> float:
        """Share of queries with the same first candidate (of equal scores the first row)."""
        if groups is None:
            raise ValueError("agreement of rankings needs groups: the query of each row")
        return float(np.mean(_first_candidates(a, groups) == _first_candidates(b, groups)))

    def comparable(self, predictions: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
        """(N,) a candidate's probability to be the first of its list."""
        if groups is None:
            raise ValueError("candidates need groups: the query of each row")
        units = np.unique(groups, return_inverse=True)[1]
        return np.asarray(np.exp(_log_softmax(predictions, units)))

    def distance(
        self, a: np.ndarray, b: np.ndarray, truth: Any, groups: np.ndarray | None
    ) -> np.ndarray | None:
        return np.asarray(np.abs(self.comparable(a, groups) - self.comparable(b, groups)))


def _log_softmax(scores: np.ndarray, units: np.ndarray) -> np.ndarray:
    """(N,) over the rows of each of ``units``, which are 0.. without gaps."""
    top = np.full(units.max() + 1, -np.inf)
    np.maximum.at(top, units, scores)
    rest = np.zeros(len(top))
    np.add.at(rest, units, np.exp(scores - top[units]))
    return np.asarray(scores - top[units] - np.log(rest)[units])


def _first_candidates(scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Row with the highest score of each query; lexsort keeps the order of rows on ties."""
    order = np.lexsort((-scores, groups))
    return np.asarray(order[np.unique(groups[order], return_index=True)[1]])


def _list_probabilities(
    members: np.ndarray, groups: np.ndarray | None, temperature: float
) -> np.ndarray:
    """(M, N, 1) scores to probabilities over the candidates of each query."""
    import torch

    from potstill.losses.listwise import group_softmax

    groups = need_groups(groups)
    index = torch.from_numpy(np.ascontiguousarray(groups, np.int64))
    n_groups = int(groups.max()) + 1
    scores = torch.from_numpy(members[..., 0].astype(np.float32))
    rows = [group_softmax(one, index, n_groups, temperature).numpy() for one in scores]
    return np.stack(rows)[..., None]
