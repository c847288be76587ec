"""A task and its rows, whatever its kind. Where rows come from is its neighbours' business."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from potstill.core.files import digest_json
from potstill.kinds import Kind
from potstill.metrics.metric import Metric
from potstill.tasks.batches import Mixing, units_of_epoch
from potstill.tasks.inputs import Reader
from potstill.tasks.rowids import digest_rows, fold_of, row_ids


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """N rows of a task.

    Attributes:
        inputs: Column name to N values, as the task's reader keeps them.
        labels: (N,) labels as the kind encodes them, (N, C) or (N,) tuples where a row has several;
            None in a pool.
        ids: (N, 16) uint8 row ids: digests of the inputs.
        groups: (N,) query of each row, 0.. in order of appearance, rows of a query together;
            None for kinds without groups.
        places: (N,) where each row stands in its source.
        unit: What places count: ``line`` or ``row``.
        source: The source's name.
        keys: N values of the column that joins rows with somebody's scores, None for a row without
            one; None without that column.
        skipped: Rows that were left out with the user's leave.
        origins: (N,) source and unit of each row, where they come from several.
    """

    inputs: Mapping[str, list[Any]]
    labels: np.ndarray | None
    ids: np.ndarray
    groups: np.ndarray | None
    places: np.ndarray
    source: str
    unit: str = "row"
    keys: list[str | None] | None = None
    skipped: int = 0
    origins: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def digest(self) -> str:
        """SHA-256 over ids and labels in order, and over lists where there are any."""
        rows = digest_rows(self.ids, self.labels)
        if self.groups is None:
            return rows
        return digest_json({"rows": rows, "groups": self.groups.tolist(), "keys": None})

    @property
    def keyed_digest(self) -> str:
        """The same over keys too, for what joins these rows with somebody's table."""
        if self.keys is None:
            return self.digest
        return digest_json({"rows": self.digest, "keys": self.keys})

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
            origins=None if self.origins is None else self.origins[rows],
        )

    def where(self, i: int) -> str:
        """The place of row ``i``, for a message: ``data/rte.csv, line 12``."""
        origin = f"{self.source}, {self.unit}" if self.origins is None else self.origins[i]
        return f"{origin} {self.places[i]}"

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
    inputs: Reader
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
                **self.kind.version_facts,
            }
        )


def pair_ids(rows: Split) -> np.ndarray:
    """(N, 16) ids of labelled rows with their labels: of sources with their targets.

    Raises:
        ValueError: The rows have no labels.
    """
    if rows.labels is None:
        raise ValueError("rows without labels")
    return row_ids([*rows.inputs.values(), rows.labels.tolist()])


class Asked(Protocol):
    """What is asked of rows: a task, or a network's head for it."""

    @property
    def kind(self) -> Kind:
        """Kind and label space."""

    @property
    def inputs(self) -> Reader:
        """How its rows are read."""


def slots_of(task: Asked, rows: Split) -> np.ndarray | None:
    """(N,) slots of each row of a task's split; None where each row is one."""
    return task.inputs.slots(rows.inputs) if task.kind.slotted else None


def groups_of(task: Asked, split: Split) -> np.ndarray | None:
    """(S,) group of each slot of a split, as kinds take them; None where slots stand alone."""
    slots = slots_of(task, split)
    return split.groups if slots is None else np.repeat(np.arange(len(split)), slots)


def truth_of(task: Asked, split: Split) -> Any:
    """Labels of a split as metrics read them."""
    if split.labels is None:
        raise ValueError("rows without labels")
    return task.kind.truth(split.labels, task.inputs.in_order(split.inputs))


def shared_texts(
    tasks: Sequence[Task], *, pools: bool, task_token: bool
) -> dict[str, list[list[str]]]:
    """Tasks that may learn from one encoder pass, as a part of a stage's facts; empty without any.

    They have labels for the same texts in the same order, and no task token makes them differ.

    Args:
        tasks: What a network is trained on.
        pools: It learns from their pools too.
        task_token: A task-identifier token stands before each text.
    """
    if task_token:
        return {}
    by_size: dict[tuple[int, int], list[Task]] = {}
    for task in tasks:
        if not task.kind.grouped and not task.kind.generates:
            n_pool = 0 if task.pool is None or not pools else len(task.pool)
            by_size.setdefault((len(task.train), n_pool), []).append(task)
    shared: list[list[str]] = []
    for alike in (found for found in by_size.values() if len(found) > 1):
        by_texts: dict[str, list[str]] = {}
        for task in alike:
            splits = [task.train] + ([task.pool] if pools and task.pool is not None else [])
            ids = np.concatenate([split.ids for split in splits])
            by_texts.setdefault(digest_rows(ids, None), []).append(task.name)
        shared += [names for names in by_texts.values() if len(names) > 1]
    return {"shared": sorted(shared)} if shared else {}


def rows_of_training(
    tasks: Sequence[Task], *, pools: bool, task_token: bool, mixing: Mixing, n_epochs: int
) -> float:
    """Rows that a training encodes, those of shared texts counted once; steps go by them.

    Args:
        tasks: What is learned.
        pools: Their pools too.
        task_token: A task-identifier token stands before each text.
        mixing: How often tasks are visited: an epoch has as many units (rows, or lists of
            candidates) as all tasks together, of which each has its share.
        n_epochs: Epochs.
    """
    shared = shared_texts(tasks, pools=pools, task_token=task_token).get("shared", [])
    again = {name for names in shared for name in names[1:]}
    rows, units = {}, {}
    for task in tasks:
        if task.name not in again:
            splits = [task.train] + ([task.pool] if pools and task.pool is not None else [])
            rows[task.name] = sum(len(s) for s in splits)
            units[task.name] = sum(
                len(s) if s.groups is None else len(np.unique(s.groups)) for s in splits
            )
    return sum(
        n * rows[name] / units[name]
        for epoch in range(n_epochs)
        for name, n in units_of_epoch(units, mixing, epoch, n_epochs).items()
    )


def folds(task: Task, n_folds: int) -> np.ndarray:
    """(N,) fold of each train row, by row id: equal inputs share a fold.

    Lists stay whole, and so do rows that the kind keeps together, such as those of one passage.
    """
    together = task.kind.together(task.inputs.in_order(task.train.inputs))
    by_row = fold_of(task.train.ids if together is None else row_ids([together]), n_folds)
    if task.train.groups is None:
        return by_row
    first = np.searchsorted(task.train.groups, np.arange(task.train.groups.max() + 1))
    return np.asarray(by_row[first][task.train.groups])


def _renumber(groups: np.ndarray) -> np.ndarray:
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return np.asarray(order[inverse], np.int64)
