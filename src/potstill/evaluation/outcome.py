"""What the systems of one seed said about the reported rows of each task.

Gathered by whoever ran the systems; read by everything that scores, compares and draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from potstill.kinds import Inputs, Kind
from potstill.metrics.metric import Metric
from potstill.tasks.task import Split


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TaskOutcome:
    """One task, one seed.

    Attributes:
        task: Its name.
        kind: Kind and label space.
        metric: How it is scored.
        split_name: ``test``, or ``dev`` where no test was given.
        split: The reported rows.
        groups: (S,) group of each slot, where the kind has groups.
        inputs: The rows' input columns in order.
        truth: Labels as metrics read them.
        predictions: System to what metrics read: (S, C) probabilities or (N,) values.
        members: Name, dev score and test score of each member.
        kinds: System to the kind with its own thresholds, where they differ.
    """

    task: str
    kind: Kind
    metric: Metric
    split_name: str
    split: Split
    groups: np.ndarray | None
    inputs: Inputs
    truth: Any
    predictions: Mapping[str, np.ndarray]
    members: list[dict[str, object]]
    kinds: Mapping[str, Kind] = field(default_factory=dict)

    def score(self, system: str) -> float:
        """The metric of one system."""
        return self.metric.score(self.truth, self.predictions[system], self.score_groups)

    @property
    def score_groups(self) -> np.ndarray | None:
        """What metrics take as groups."""
        return self.kind.score_groups(self.groups)

    @property
    def n_units(self) -> int:
        """Rows, or queries of a ranking, that have a score."""
        if self.groups is None:
            return len(self.split)
        return self.kind.n_scored(self.truth, self.groups)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeedOutcome:
    """One seed of a run.

    Attributes:
        seed: The seed.
        tasks: Task name to its outcome.
        dev_mean: Mean dev score of the student, which chooses among seeds.
        train_seconds: What was done to the seconds of each stage, by digest, when it was made.
    """

    seed: int
    tasks: Mapping[str, TaskOutcome]
    dev_mean: float
    train_seconds: Mapping[str, Mapping[str, float]]
