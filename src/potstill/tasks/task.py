"""A task and its rows, whatever its kind. Where rows come from is its neighbours' business."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from potstill.core.files import digest_json
from potstill.kinds import Kind
from potstill.metrics.metric import Metric
from potstill.tasks.rowids import digest_rows, fold_of
from potstill.tasks.text import TextInputs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """N rows of a task.

    Attributes:
        inputs: Column name to N values.
        labels: (N,) labels as the kind encodes them; None in a pool.
        ids: (N, 16) uint8 row ids: digests of the inputs.
        groups: (N,) query of each row, 0.. in order of appearance, rows of a query together;
            None for kinds without groups.
        places: (N,) where each row stands in its source.
        unit: What places count: ``line`` or ``row``.
        source: The source's name.
        keys: N values of the column that joins rows with somebody's scores, or None.
        skipped: Rows that were left out with the user's leave.
    """

    inputs: Mapping[str, list[str]]
    labels: np.ndarray | None
    ids: np.ndarray
    groups: np.ndarray | None
    places: np.ndarray
    source: str
    unit: str = "row"
    keys: list[str] | None = None
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def digest(self) -> str:
        """SHA-256 over ids and labels in order, and over lists and keys where there are any."""
        rows = digest_rows(self.ids, self.labels)
        if self.groups is None and self.keys is None:
            return rows
        groups = None if self.groups is None else self.groups.tolist()
        return digest_json({"rows": rows, "groups": groups, "keys": self.keys})

    def take(self, rows: np.ndarray) -> Split:
        """The rows with these indices, in this order; groups are renumbered."""
        groups = None
        if self.groups is not None:
            groups = _renumber(self.groups[rows])
        return replace(
            self,
            inputs={name: [values[i] for i in rows] for name, values in self.inputs.items()},
            labels=None if self.labels is None else self.labels[rows],
            ids=self.ids[rows],
            groups=groups,
            places=self.places[rows],
            keys=None if self.keys is None else [self.keys[i] for i in rows],
        )

    def where(self, i: int) -> str:
        """The place of row ``i``, for a message: ``data/rte.csv, line 12``."""
        return f"{self.source}, {self.unit} {self.places[i]}"

    def without_labels(self) -> Split:
        """The same rows as a pool."""
        return replace(self, labels=None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """A task, ready to train and to evaluate.

    Attributes:
        name: Its name in the run file.
        kind: Its kind with the label space.
        inputs: The columns that it reads.
        metric: How it is scored.
        train: Labelled rows.
        dev: Rows that choose weights and members.
        test: Rows that are reported; None where dev is.
        pool: Unlabelled rows; None without.
        rest: Train rows that ``rows`` left out, as a pool.
    """

    name: str
    kind: Kind
    inputs: TextInputs
    metric: Metric
    train: Split
    dev: Split
    test: Split | None
    pool: Split | None
    rest: Split | None

    @property
    def reported(self) -> Split:
        """The split whose scores are reported."""
        return self.dev if self.test is None else self.test

    @property
    def digest(self) -> str:
        """Digest of all that a training on this task reads: not of test."""
        return digest_json(
            {
                "kind": self.kind.to_json(),
                "metric": self.metric.name,
                "inputs": self.inputs.to_json(),
                "train": self.train.digest,
                "dev": self.dev.digest,
            }
        )


def folds(task: Task, n_folds: int) -> np.ndarray:
    """(N,) fold of each train row, by row id: equal inputs share a fold. Lists stay whole."""
    by_row = fold_of(task.train.ids, n_folds)
    if task.train.groups is None:
        return by_row
    first = np.searchsorted(task.train.groups, np.arange(task.train.groups.max() + 1))
    return np.asarray(by_row[first][task.train.groups])


def _renumber(groups: np.ndarray) -> np.ndarray:
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return np.asarray(order[inverse], np.int64)
