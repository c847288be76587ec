"""Unlabelled rows of a task: gathered, without what dev, test or train hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from potstill.core.errors import DataError
from potstill.tasks.rowids import sort_keys
from potstill.tasks.task import Split, Task

_MOST_SLOTS = 1000
"""Words of another task's text that a task on words may borrow."""


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
        groups=join_groups(pools),
        places=np.concatenate([p.places for p in pools]),
        source=" + ".join(dict.fromkeys(p.source for p in pools)),
        origins=np.concatenate([_origins(p) for p in pools]),
        keys=[k for part in keys_in for k in part] if len(keys_in) == len(pools) else None,
        skipped=sum(p.skipped for p in pools),
    )
    keys = sort_keys(ids)
    banned = [sort_keys(taken) for taken in (*held_out, *known)]
    _, first, same = np.unique(keys, return_index=True, return_inverse=True)
    earliest = first[same]
    if joined.groups is None:
        keep = earliest == np.arange(len(ids))
    else:  # a candidate may stand twice in one list
        keep = joined.groups[earliest] == joined.groups
    keep &= ~np.isin(keys, np.concatenate([keys[:0], *banned]))
    if joined.groups is not None:  # a list stays whole or goes whole
        keep = ~np.isin(joined.groups, np.unique(joined.groups[~keep]))
    pool = joined.take(np.flatnonzero(keep))
    return pool if len(pool) else None


def _origins(pool: Split) -> np.ndarray:
    origin = np.array([f"{pool.source}, {pool.unit}"], object)
    return pool.origins if pool.origins is not None else origin.repeat(len(pool))


def pool_of_others(task: Task, others: Sequence[Task]) -> Split:
    """The training texts of other tasks as unlabelled rows of this one.

    A task on one text takes every text of the others, one on words takes them with blanks between
    words; a task on pairs, or on questions and passages, takes those that are read as its own are.
    A task that answers at words leaves out texts of more than a thousand.
    Lists of candidates are never made from other tasks' texts.

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
    rows: list[tuple[Any, ...]] = []
    for other in others:
        columns = other.inputs.in_order(other.train.inputs)
        if other.name == task.name:
            continue
        if task.kind.generates and other.inputs.columns != task.inputs.columns:
            continue  # a text of another column may be of another language
        if n == 1:
            rows += [(task.inputs.value(text),) for column in columns for text in column]
        elif type(other.inputs) is type(task.inputs) and len(columns) == n:
            rows += list(zip(*columns, strict=True))
    if not rows:
        raise DataError(
            f"task '{task.name}', pool: others",
            got=f"no other task that reads as many texts ({n}) as this one does",
            wanted="a task besides this one with such rows",
            todo="use `pool: rest` or a file instead",
        )
    if task.kind.slotted:
        rows = _short(task, rows)
    inputs = {c: [row[i] for row in rows] for i, c in enumerate(task.inputs.columns)}
    return Split(
        inputs=inputs,
        labels=None,
        ids=task.inputs.ids(inputs),
        groups=None,
        places=np.arange(1, len(rows) + 1),
        source="<texts of the other tasks>",
    )


def _short(task: Task, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The rows of few words: all words of a row are learned in one batch.

    Raises:
        DataError: There are none.
    """
    slots = task.inputs.slots({c: [r[i] for r in rows] for i, c in enumerate(task.inputs.columns)})
    if slots is None:
        return rows
    kept = [row for row, n in zip(rows, slots.tolist(), strict=True) if n <= _MOST_SLOTS]
    if not kept:
        raise DataError(
            f"task '{task.name}', pool: others",
            got=f"texts of more than {_MOST_SLOTS:,} words alone",
            wanted="shorter ones: all words of a row are learned in one batch",
            todo="use `pool: rest` or a file instead",
        )
    return kept


def whole_groups(flags: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """(U,) true for a group where it is true for all of its rows (N,); without groups as it is."""
    if groups is None:
        return flags
    missing = np.bincount(groups, weights=~flags, minlength=int(groups.max()) + 1)
    return np.asarray(missing == 0)


def join_groups(pools: Sequence[Split]) -> np.ndarray | None:
    """Groups of all pools, counted on from one to the next; None where a pool has none."""
    parts, start = [], 0
    for pool in pools:
        if pool.groups is None:
            return None
        parts.append(pool.groups + start)
        start += int(pool.groups.max()) + 1 if len(pool.groups) else 0
    return np.concatenate(parts)
