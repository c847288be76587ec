"""Read a task: rows, label space, dev, share and pools.

The order is fixed: read → drop what may be skipped → learn the label space from train → set dev
aside where none is given → take the ``rows`` share → gather pools → take from the pools what dev
or test hold. Everything random depends on the seed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from potstill.core.errors import DataError
from potstill.kinds import KINDS, Kind
from potstill.tasks.column_findings import find_lone_candidates
from potstill.tasks.inputs import READERS, Reader
from potstill.tasks.pools import join_pools
from potstill.tasks.records import NoColumnError
from potstill.tasks.rowids import (
    join_key,
    sample_groups,
    sort_keys,
    stratified_groups,
    stratified_sample,
)
from potstill.tasks.sources import Rows, Source, read_labelled, read_rows
from potstill.tasks.task import Split, Task

DEV_SHARE = 0.1


def load_task(
    name: str,
    *,
    kind: str,
    columns: Sequence[str],
    label: str | Sequence[str],
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
    like: Task | None = None,
    dev_like: Sequence[Task] = (),
    lacking: Callable[[DataError], object] | None = None,
) -> Task:
    """Read a task.

    Args:
        name: Its name.
        kind: Name of its kind.
        columns: Input columns, in order.
        label: Label column, or columns, where the kind has several.
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
        like: A task that was read from the same file in the same way: this one takes the same rows
            of it for its share and its dev, so that both can learn from one encoder pass.
        dev_like: Tasks whose dev was set aside from the same file: rows that choose there are
            not learned here, in the same network, with another label.
        lacking: Called where a pool lacks the input columns, and is left out; None refuses it.

    Raises:
        DataError: A source or a row is faulty, a split is empty, or the labels make no task.
    """
    cls = KINDS[kind]
    inputs = READERS[cls.reads](columns=tuple(columns))
    labels = (label,) if isinstance(label, str) else tuple(label)
    reader = _Rows(
        task=name,
        inputs=inputs,
        labels=labels,
        nested=cls.nested,
        group=group,
        key=key,
        allowed=skip_bad_rows,
    )
    rows_in = reader.read(train, "train", labelled=True)
    try:
        fixed = cls.learn([v for v in rows_in.raw if v is not None], options)
    except (ValueError, KeyError) as error:
        rows_in.faults.settle()  # too many faulty rows may well be the reason
        raise DataError(
            f"task '{name}', column {_named(labels)} of {rows_in.split.source}",
            got=str(error),
            wanted=f"labels for a {kind} task",
            todo="check the label column and the task's options in the run file",
        ) from error
    whole = reader.encode(rows_in, fixed)
    given_test = None if test is None else reader.encode(reader.read(test, "test", True), fixed)
    if dev is None:
        # Lists and passages stay in one piece.
        torn = fixed.grouped or fixed.together(list(whole.inputs.values())) is not None
        others = [*([] if like is None else [like]), *([] if torn else dev_like)]
        aside = _aside_there(whole, fixed, seed, others) if others else None
        whole, chosen_dev = _set_dev_aside(name, whole, fixed, seed, aside)
    else:
        chosen_dev = reader.encode(reader.read(dev, "dev", True), fixed)
    taken = None if like is None else np.isin(whole.places, like.train.places)
    share, rest = _share(whole, fixed, rows, seed, taken)
    if fixed.grouped:
        _need_lists(name, {"train": share, "dev": chosen_dev, "test": given_test})
    held_out = [s.ids for s in (chosen_dev, given_test) if s is not None]
    pools: list[Split | None] = []
    for source in pool:
        try:
            named = isinstance(source, str) and source == "rest"
            pools.append(rest if named else reader.pool(source))
        except NoColumnError as error:
            if lacking is None:
                raise
            lacking(error)
    return Task(
        name=name,
        kind=fixed,
        inputs=inputs,
        metric=fixed.metric(metric or cls.metric_names[0]),
        train=share,
        dev=chosen_dev,
        test=given_test,
        pool=join_pools([p for p in pools if p is not None], held_out, [share.ids]),
        rest=rest,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Read:
    """Rows whose labels are still raw."""

    split: Split
    raw: list[object]
    faults: _Faults


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    task: str
    inputs: Reader
    labels: tuple[str, ...]
    nested: tuple[str, ...]
    group: str | None
    key: str | None
    allowed: int

    def read(self, source: Source, split: str, labelled: bool) -> _Read:
        what = f"task '{self.task}', {split}"
        names = self.inputs.columns
        wanted = [*names, *(() if self.key is None else (self.key,))]
        if labelled:
            rows = read_labelled(
                source,
                inputs=wanted,
                labels=self.labels,
                nested=self.nested,
                what=what,
                skip_bad_rows=self.allowed,
            )
        else:
            rows = read_rows(source, columns=wanted, what=what, skip_bad_rows=self.allowed)
        columns = [rows.columns[c] for c in names]
        faults = _Faults(what, self.allowed, rows)
        keep = []
        for i, values in enumerate(zip(*columns, strict=True)):
            fault = self.inputs.faults(values)
            if fault is None:
                keep.append(i)
            else:
                faults.add(rows.where(i), fault)
        if not (keep and labelled):  # else encode finds faults of labels too, and tells all at once
            faults.settle()
        if not keep:
            raise DataError(
                what,
                got=f"no rows in {rows.source}",
                wanted="at least one row",
                todo="check the file, or leave the split out of the run file",
            )
        whole = self._of_whole_lists(rows.columns, keep)
        torn, keep = len(keep) - len(whole), whole
        texts = {c: [self.inputs.value(rows.columns[c][i]) for i in keep] for c in names}
        made = Split(
            inputs=texts,
            labels=None,
            ids=self.inputs.ids(texts),
            groups=None if self.group is None else _number(texts[self.group]),
            places=np.asarray(rows.places)[keep],
            source=rows.source,
            unit=rows.unit,
            keys=None if self.key is None else [join_key(rows.columns[self.key][i]) for i in keep],
            skipped=len(faults.found) + torn,
        )
        raw = [self._label(rows.columns, i) for i in keep] if labelled else []
        if made.groups is not None:  # rows of one query together, as batches want them
            order = np.argsort(made.groups, kind="stable")
            made, raw = made.take(order), [raw[i] for i in order] if labelled else []
        return _Read(split=made, raw=raw, faults=faults)

    def encode(self, read: _Read, kind: Kind) -> Split:
        """Labels to numbers; faulty ones are errors, or skipped with the user's leave."""
        split, faults = read.split, read.faults
        before = len(faults.found)
        if not faults.found:
            faults.what = f"task '{self.task}', column {_named(self.labels)}"
        found: list[Any] = []
        keep = np.ones(len(split), bool)
        columns = self.inputs.in_order(split.inputs)
        for i, value in enumerate(read.raw):
            try:
                found.append(kind.encode(value, [column[i] for column in columns]))
            except ValueError as error:
                keep[i] = False
                faults.add(split.where(i), str(error))
        faults.settle()
        labels = label_array(found)
        if not keep.all():  # faulty rows hold any label until they are taken out
            rows = np.maximum(np.cumsum(keep) - 1, 0)
            labels = labels[rows] if len(labels) else np.zeros(len(split))
        whole = replace(split, labels=labels, skipped=split.skipped + len(faults.found) - before)
        if kind.grouped:
            if whole.groups is None:
                raise ValueError("grouped rows without groups")
            sound = int(keep.sum())
            keep = ~np.isin(whole.groups, np.unique(whole.groups[~keep]))
            whole = replace(whole, skipped=whole.skipped + sound - int(keep.sum()))
        return whole if keep.all() else whole.take(np.flatnonzero(keep))

    def _of_whole_lists(
        self, columns: Mapping[str, Sequence[object]], keep: list[int]
    ) -> list[int]:
        """Those rows whose list loses none: a list without one of its candidates is another."""
        if self.group is None:
            return keep
        values = columns[self.group]
        sound = [self.inputs.value_fault(value) is None for value in values]
        names = [self.inputs.value(v) if ok else None for v, ok in zip(values, sound, strict=True)]
        torn = {names[i] for i in set(range(len(values))).difference(keep) if sound[i]}
        return [i for i in keep if names[i] not in torn]

    def _label(self, columns: Mapping[str, Sequence[object]], i: int) -> object:
        values = tuple(columns[name][i] for name in self.labels)
        return values[0] if len(values) == 1 else values

    def pool(self, source: Source) -> Split:
        try:
            return self.read(source, "pool", labelled=False).split
        except NoColumnError as error:
            todo = "a pool is read by its task's columns: rename the pool's, or add it"
            raise NoColumnError(
                error.thing, got=error.got, wanted=error.wanted, todo=todo
            ) from error


class _Faults:
    """Faulty rows of one source, those that the reader skipped among them, up to a number."""

    def __init__(self, what: str, allowed: int, rows: Rows) -> None:
        self.what = what
        self.allowed = allowed
        self.found = [
            (f"{rows.source}, {rows.unit} {bad.place}", bad.reason) for bad in rows.skipped
        ]

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
            todo=f"mend the rows, or leave them out with --skip-bad-rows {len(self.found)} (in "
            f"Python skip_bad_rows={len(self.found)})",
        )


def _need_lists(name: str, splits: Mapping[str, Split | None]) -> None:
    """Refuse a ranking that ranks nothing."""
    for split, rows in splits.items():
        if rows is None or rows.groups is None or rows.labels is None:
            continue
        for finding in find_lone_candidates(rows.groups.tolist(), rows.labels, split, rows.where):
            if finding.severity == "error":
                raise DataError(
                    f"task '{name}', {finding.where}",
                    got=finding.what,
                    wanted="queries with candidates of different relevance",
                    todo=finding.todo,
                )


def _set_dev_aside(
    name: str, whole: Split, kind: Kind, seed: int, taken: np.ndarray | None
) -> tuple[Split, Split]:
    """A tenth of train as dev; rows with equal inputs go together.

    Where another task of the same file has ``taken`` its dev, these rows are dev here, too, and no
    others: the other direction of a translation learns them. If the input is another column
    there, rows that stay may have an input of dev: those are in neither split.
    """
    dev = _draw_dev(whole, kind, seed) if taken is None else taken
    train = ~dev
    if whole.groups is None:
        keys = sort_keys(whole.ids)
        train &= ~np.isin(keys, keys[dev])
    if not train.any() or not dev.any():
        n = len(np.unique(sort_keys(whole.ids) if whole.groups is None else whole.groups))
        of = f" of {n} {'different inputs' if whole.groups is None else 'lists'}"
        raise DataError(
            f"task '{name}', train",
            got=f"{len(whole)} rows{of}, too few to set a dev split aside",
            wanted="enough for train and dev: rows of equal inputs, the candidates of a query and "
            "the questions on a passage are in one of them",
            todo="give more rows, or a `dev:` file",
        )
    return whole.take(np.flatnonzero(train)), whole.take(np.flatnonzero(dev))


def _aside_there(whole: Split, kind: Kind, seed: int, others: Sequence[Task]) -> np.ndarray:
    """(N,) which rows are dev because they are dev in other tasks of the same file.

    Where these have labels for other rows and share too few, rows that they lack are drawn.
    """
    aside = np.isin(whole.places, np.concatenate([other.dev.places for other in others]))
    if aside.sum() < DEV_SHARE * len(whole) / 2:
        splits = [split for other in others for split in (other.train, other.rest)]
        known = [split.places for split in splits if split is not None]
        free = np.flatnonzero(~aside & ~np.isin(whole.places, np.concatenate(known)))
        if len(free):
            aside[free[_draw_dev(whole.take(free), kind, seed)]] = True
    return aside


def _draw_dev(whole: Split, kind: Kind, seed: int) -> np.ndarray:
    """(N,) which rows are dev: near a tenth, and all or none of those that belong together."""
    n = max(1, round(DEV_SHARE * len(whole)))
    together = kind.together(list(whole.inputs.values()))
    if whole.groups is not None or whole.labels is None:
        groups, strata = whole.groups, None
    elif together is not None:  # such as the questions on one passage
        groups, strata = _number(together), None
    else:
        groups = np.unique(sort_keys(whole.ids), return_inverse=True)[1]
        strata = kind.strata(whole.labels)
    if groups is None:
        raise ValueError("dev needs groups or labels")
    dev = np.zeros(len(whole), bool)
    if strata is not None:
        dev[stratified_groups(strata, groups, n, seed)] = True
    if dev.sum() < n / 2:  # no strata, or texts that stand too often for their share
        dev[:] = False
        dev[sample_groups(groups, n, seed)] = True
    return dev


def _share(
    whole: Split, kind: Kind, rows: int | None, seed: int, taken: np.ndarray | None
) -> tuple[Split, Split | None]:
    """A seeded, stratified share of train and the rest as a pool.

    Those that are ``taken`` by another task of the file are in it; where that one has labels for
    other rows, and too few are taken, the others are drawn.
    """
    if rows is None or rows >= len(whole):
        return whole, None
    chosen = np.zeros(len(whole), bool) if taken is None else taken
    if taken is None:
        chosen[_sample(whole, kind, rows, seed)] = True
    elif (lacking := rows - int(taken.sum())) > 0:
        free = np.flatnonzero(~taken)
        chosen[free[_sample(whole.take(free), kind, lacking, seed)]] = True
    rest = whole.take(np.flatnonzero(~chosen)).without_labels()
    rest = replace(rest, skipped=0)  # those of its source are counted in train
    return whole.take(np.flatnonzero(chosen)), rest if len(rest) else None


def _sample(whole: Split, kind: Kind, n: int, seed: int) -> np.ndarray:
    if whole.groups is not None:
        return sample_groups(whole.groups, n, seed)
    if whole.labels is None:
        raise ValueError("a stratified sample needs labels")
    return stratified_sample(kind.strata(whole.labels), n, seed)


def label_array(labels: list[Any]) -> np.ndarray:
    """Labels of N rows: (N,) numbers, (N, C) where each has as many, else (N,) tuples."""
    if all(isinstance(label, float | int) for label in labels):
        return np.array(labels, np.float64)
    sizes = {len(label) for label in labels}
    flat = all(isinstance(part, float) for label in labels for part in label)
    if len(sizes) == 1 and flat:
        return np.array(labels, np.float64)
    found = np.empty(len(labels), object)
    for i, label in enumerate(labels):  # a slice would make a table of tuples of equal length
        found[i] = label
    return found


def _named(columns: Sequence[str]) -> str:
    return " and ".join(f"'{column}'" for column in columns)


def _number(values: Sequence[str]) -> np.ndarray:
    """Equal values to equal numbers, 0.. in order of appearance."""
    numbers = {value: i for i, value in enumerate(dict.fromkeys(values))}
    return np.array([numbers[value] for value in values], np.int64)
