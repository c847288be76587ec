"""A task with its rows: read, checked, split, sampled, and identified.

The order is fixed: read → drop what may be skipped → learn the label space from train → set dev
aside where none is given → take the ``rows`` share → gather pools → take from the pools what dev
or test hold. Everything random depends on the seed alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from potstill.core.errors import DataError
from potstill.core.files import digest_json
from potstill.kinds import KINDS, Kind
from potstill.metrics.metric import Metric
from potstill.metrics.named import metric as named_metric
from potstill.tasks.rowids import (
    digest_rows,
    fold_of,
    row_ids,
    sample_groups,
    sort_keys,
    stratified_sample,
)
from potstill.tasks.sources import Source, read_rows
from potstill.tasks.text import TextInputs

DEV_SHARE = 0.1


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
        """SHA-256 over ids and labels in order."""
        return digest_rows(self.ids, self.labels)

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


def load_task(
    name: str,
    *,
    kind: str,
    columns: Sequence[str],
    label: str,
    group: str | None = None,
    options: Mapping[str, Any],
    metric: str | None,
    train: Source,
    dev: Source | None,
    test: Source | None,
    pool: Sequence[Source],
    rows: int | None,
    seed: int,
    key: str | None = None,
    skip_bad_rows: int = 0,
) -> Task:
    """Read a task.

    Args:
        name: Its name.
        kind: Name of its kind.
        columns: Input columns, in order.
        label: Label column.
        group: The input column whose equal values make a list (ranking), or None.
        options: The kind's options (classes, positive, range).
        metric: Name of the metric; None for the kind's default.
        train: Labelled rows.
        dev: Rows that choose; None sets a tenth of train aside.
        test: Rows that are reported, or None.
        pool: Sources of unlabelled rows; the word ``rest`` stands for what ``rows`` left out.
        rows: Use this many train rows, a stratified share; None uses all.
        seed: Decides dev and the share.
        key: A column that joins rows with somebody's scores, or None.
        skip_bad_rows: How many faulty rows each source may have.

    Raises:
        DataError: A source or a row is faulty, a split is empty, or the labels make no task.
    """
    cls = KINDS[kind]
    reader = _Reader(
        task=name,
        columns=tuple(columns),
        label=label,
        group=group,
        key=key,
        allowed=skip_bad_rows,
    )
    rows_in = reader.read(train, "train", labelled=True)
    try:
        fixed = cls.learn([v for v in rows_in.raw if v is not None], options)
    except (ValueError, KeyError) as error:
        raise DataError(
            f"task '{name}', column '{label}' of {rows_in.split.source}",
            got=str(error),
            wanted=f"labels for a {kind} task",
            todo="check the label column and the task's options in the run file",
        ) from error
    whole = reader.encode(rows_in, fixed)
    given_test = None if test is None else reader.encode(reader.read(test, "test", True), fixed)
    if dev is None:
        whole, chosen_dev = _set_dev_aside(name, whole, seed)
    else:
        chosen_dev = reader.encode(reader.read(dev, "dev", True), fixed)
    share, rest = _share(whole, rows, seed)
    held_out = [s.ids for s in (chosen_dev, given_test) if s is not None]
    pools = [
        rest if isinstance(source, str) and source == "rest" else reader.pool(source)
        for source in pool
    ]
    return Task(
        name=name,
        kind=fixed,
        inputs=TextInputs(columns=tuple(columns)),
        metric=named_metric(metric or cls.metric_names[0], fixed.positive),
        train=share,
        dev=chosen_dev,
        test=given_test,
        pool=join_pools([p for p in pools if p is not None], held_out, [share.ids]),
        rest=rest,
    )


def join_pools(
    pools: Sequence[Split], held_out: Sequence[np.ndarray], known: Sequence[np.ndarray]
) -> Split | None:
    """One pool without repeats, and without any row that dev, test or train hold (by row id)."""
    if not pools:
        return None
    ids = np.concatenate([p.ids for p in pools])
    names = list(pools[0].inputs)
    keys_in = [p.keys for p in pools if p.keys is not None]
    joined = Split(
        inputs={n: [v for p in pools for v in p.inputs[n]] for n in names},
        labels=None,
        ids=ids,
        groups=_join_groups(pools),
        places=np.concatenate([p.places for p in pools]),
        source=" + ".join(dict.fromkeys(p.source for p in pools)),
        keys=[k for part in keys_in for k in part] if len(keys_in) == len(pools) else None,
    )
    keys = sort_keys(ids)
    banned = [sort_keys(taken) for taken in (*held_out, *known)]
    keep = np.zeros(len(ids), bool)
    keep[np.unique(keys, return_index=True)[1]] = True
    keep &= ~np.isin(keys, np.concatenate([keys[:0], *banned]))
    if joined.groups is not None:  # a list stays whole or goes whole
        keep = ~np.isin(joined.groups, np.unique(joined.groups[~keep]))
    pool = joined.take(np.flatnonzero(keep))
    return pool if len(pool) else None


def pool_of_others(task: Task, others: Sequence[Task]) -> Split:
    """The training texts of other tasks as unlabelled rows of this one.

    A task on one text takes every text of the others; a task on pairs takes their pairs. Lists
    of candidates are never made from other tasks' texts.

    Raises:
        DataError: The task is a ranking task, or no other task has texts of its shape.
    """
    n = len(task.inputs.columns)
    if task.kind.grouped:
        raise DataError(
            f"task '{task.name}', pool: others",
            got=f"a {task.kind.name} task",
            wanted="a task whose rows stand alone: other tasks' texts make no candidate lists",
            todo="use `pool: rest` or a file of queries and candidates",
        )
    rows: list[tuple[str, ...]] = []
    for other in others:
        columns = [other.train.inputs[c] for c in other.inputs.columns]
        if other.name == task.name:
            continue
        if n == 1:
            rows += [(text,) for column in columns for text in column]
        elif len(columns) == n:
            rows += list(zip(*columns, strict=True))
    if not rows:
        raise DataError(
            f"task '{task.name}', pool: others",
            got="no other task with pairs of texts",
            wanted=f"tasks that read {n} text(s), as this one",
            todo="use `pool: rest` or a file instead",
        )
    inputs = {c: [row[i] for row in rows] for i, c in enumerate(task.inputs.columns)}
    return Split(
        inputs=inputs,
        labels=None,
        ids=row_ids(list(inputs.values())),
        groups=None,
        places=np.arange(len(rows)),
        source="<texts of the other tasks>",
    )


def folds(task: Task, n_folds: int) -> np.ndarray:
    """(N,) fold of each train row, by row id: equal inputs share a fold. Lists stay whole."""
    by_row = fold_of(task.train.ids, n_folds)
    if task.train.groups is None:
        return by_row
    first = np.searchsorted(task.train.groups, np.arange(task.train.groups.max() + 1))
    return np.asarray(by_row[first][task.train.groups])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Read:
    """Rows whose labels are still raw."""

    split: Split
    raw: list[object]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    task: str
    columns: tuple[str, ...]
    label: str
    group: str | None
    key: str | None
    allowed: int

    def read(self, source: Source, split: str, labelled: bool) -> _Read:
        what = f"task '{self.task}', {split}"
        wanted = [*self.columns, *([self.label] if labelled else [])]
        if self.key is not None:
            wanted.append(self.key)
        rows = read_rows(source, columns=wanted, what=what, skip_bad_rows=self.allowed)
        inputs = TextInputs(columns=self.columns)
        columns = [rows.columns[c] for c in self.columns]
        faults = _Faults(what, self.allowed - len(rows.skipped))
        keep = []
        for i, values in enumerate(zip(*columns, strict=True)):
            fault = inputs.faults(values)
            if fault is None:
                keep.append(i)
            else:
                faults.add(rows.where(i), fault)
        faults.settle()
        if not keep:
            raise DataError(
                what,
                got=f"no rows in {rows.source}",
                wanted="at least one row",
                todo="check the file, or leave the split out of the run file",
            )
        texts = {c: [str(rows.columns[c][i]) for i in keep] for c in self.columns}
        made = Split(
            inputs=texts,
            labels=None,
            ids=row_ids(list(texts.values())),
            groups=None if self.group is None else _number(texts[self.group]),
            places=np.asarray(rows.places)[keep],
            source=rows.source,
            unit=rows.unit,
            keys=None if self.key is None else [str(rows.columns[self.key][i]) for i in keep],
            skipped=len(rows.skipped) + len(faults.found),
        )
        raw = [rows.columns[self.label][i] for i in keep] if labelled else []
        if made.groups is not None:  # rows of one query together, as batches want them
            order = np.argsort(made.groups, kind="stable")
            made, raw = made.take(order), [raw[i] for i in order] if labelled else []
        return _Read(split=made, raw=raw)

    def encode(self, read: _Read, kind: Kind) -> Split:
        """Labels to numbers; faulty ones are errors, or skipped with the user's leave."""
        split = read.split
        faults = _Faults(f"task '{self.task}', column '{self.label}'", self.allowed - split.skipped)
        labels = np.zeros(len(split))
        keep = np.ones(len(split), bool)
        for i, value in enumerate(read.raw):
            try:
                labels[i] = kind.encode_label(value)
            except ValueError as error:
                keep[i] = False
                faults.add(f"{split.source}, {split.unit} {split.places[i]}", str(error))
        faults.settle()
        whole = replace(split, labels=labels, skipped=split.skipped + len(faults.found))
        if kind.grouped:
            groups = _need(whole.groups)
            keep = ~np.isin(groups, np.unique(groups[~keep]))
        return whole if keep.all() else whole.take(np.flatnonzero(keep))

    def pool(self, source: Source) -> Split:
        return self.read(source, "pool", labelled=False).split


class _Faults:
    """Faulty rows of one source, up to what the user allowed."""

    def __init__(self, what: str, allowed: int) -> None:
        self.what = what
        self.allowed = allowed
        self.found: list[tuple[str, str]] = []

    def add(self, where: str, reason: str) -> None:
        self.found.append((where, reason))

    def settle(self) -> None:
        """Raise when more rows are faulty than may be skipped.

        Raises:
            DataError: With the first few rows.
        """
        if len(self.found) <= self.allowed:
            return
        first = "; ".join(f"{where}: {reason}" for where, reason in self.found[:5])
        more = f" (and {len(self.found) - 5} more)" if len(self.found) > 5 else ""
        raise DataError(
            f"{self.what}: {len(self.found)} faulty row(s)",
            got=first + more,
            wanted="rows that can be used"
            + (f", at most {self.allowed} faulty" if self.allowed else ""),
            todo=f"mend the rows, or leave them out with --skip-bad-rows {len(self.found)}",
        )


def _set_dev_aside(name: str, whole: Split, seed: int) -> tuple[Split, Split]:
    """A tenth of train as dev; rows with equal inputs go together."""
    n = max(1, round(DEV_SHARE * len(whole)))
    chosen = np.zeros(len(whole), bool)
    chosen[_sample(whole, n, seed)] = True
    if whole.groups is None:
        keys = sort_keys(whole.ids)
        chosen |= np.isin(keys, keys[chosen])
    if chosen.all() or not chosen.any():
        raise DataError(
            f"task '{name}', train",
            got=f"{len(whole)} rows, too few to set a dev split aside",
            wanted="enough rows for train and dev",
            todo="give more rows, or a `dev:` file",
        )
    return whole.take(np.flatnonzero(~chosen)), whole.take(np.flatnonzero(chosen))


def _share(whole: Split, rows: int | None, seed: int) -> tuple[Split, Split | None]:
    """A seeded, stratified share of train and the rest as a pool."""
    if rows is None or rows >= len(whole):
        return whole, None
    chosen = np.zeros(len(whole), bool)
    chosen[_sample(whole, rows, seed)] = True
    rest = whole.take(np.flatnonzero(~chosen)).without_labels()
    return whole.take(np.flatnonzero(chosen)), rest if len(rest) else None


def _sample(whole: Split, n: int, seed: int) -> np.ndarray:
    if whole.groups is not None:
        return sample_groups(whole.groups, n, seed)
    if whole.labels is None:
        raise ValueError("a stratified sample needs labels")
    integral = bool(np.all(whole.labels == np.round(whole.labels)))
    labels = whole.labels.astype(np.int64) if integral else whole.labels
    return stratified_sample(labels, n, seed)


def _number(values: Sequence[str]) -> np.ndarray:
    """Equal values to equal numbers, 0.. in order of appearance."""
    numbers = {value: i for i, value in enumerate(dict.fromkeys(values))}
    return np.array([numbers[value] for value in values], np.int64)


def _renumber(groups: np.ndarray) -> np.ndarray:
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return np.asarray(order[inverse], np.int64)


def _join_groups(pools: Sequence[Split]) -> np.ndarray | None:
    if any(p.groups is None for p in pools):
        return None
    parts, start = [], 0
    for pool in pools:
        groups = _need(pool.groups)
        parts.append(groups + start)
        start += int(groups.max()) + 1 if len(groups) else 0
    return np.concatenate(parts)


def _need(groups: np.ndarray | None) -> np.ndarray:
    if groups is None:
        raise ValueError("grouped rows without groups")
    return groups
