"""Scores that somebody computed: a table with a row of them for each row of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from potstill.core.arrays import parts_of
from potstill.core.errors import DataError
from potstill.core.files import changed
from potstill.kinds.base import Space
from potstill.kinds.scores import MixedScores
from potstill.tasks.rowids import sort_keys
from potstill.tasks.sources import Rows, Source, read_rows
from potstill.tasks.task import Split, Task, slots_of
from potstill.teachers.joining import (
    digest_of_table,
    ids_of_split,
    ids_of_table,
    taught_rows,
)
from potstill.teachers.member import Member

JOINING_VERSION = 5
"""Raised when equal tables give rows other scores."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """A table of scores, read.

    Attributes:
        table: Its R rows.
        outputs: (S, C) of all rows.
        counts: (R,) slots of each row.
        space: As what they were read; None where they are values.
    """

    table: Rows
    outputs: np.ndarray
    counts: np.ndarray
    space: Space | None


def scores_member(task: Task, scores: Source, key: str | None, name: str) -> Member:
    """A member from a table of scores; its digest is that of the values themselves.

    Raises:
        DataError: The file is missing, or lacks a column.
    """
    columns = _score_table_columns(task, key)
    table = read_rows(scores, columns=columns, what=f"task '{task.name}', scores")
    digest = digest_of_table(table, key)
    path = Path(scores) if isinstance(scores, str | Path) else Path()
    given = None if isinstance(scores, str | Path) else scores
    return Member(name=name, folder=path, digest=digest, source="scores", key=key, scores=given)


def read_scores(member: Member, task: Task) -> Scores:
    """A member's table of scores.

    Raises:
        DataError: A column or all rows are missing, a score is no number, or nearly all are
            probabilities.
        ArtefactError: The table has changed since the run began.
    """
    source: Source = member.folder if member.scores is None else member.scores
    names = task.kind.score_columns
    what = f"task '{task.name}', scores"
    table = read_rows(source, columns=_score_table_columns(task, member.key), what=what)
    if digest_of_table(table, member.key) != member.digest:
        raise changed(f"{what}, {table.source}")
    if not table.n_rows:
        raise DataError(
            what,
            got=f"no rows in {table.source}",
            wanted="a row of scores for each row of the task",
            todo="check the file, or take the teacher away",
        )
    dicts: list[Mapping[str, object]] = []
    counts = np.ones(table.n_rows, np.int64)
    for i in range(table.n_rows):
        row = {name: table.columns[name][i] for name in names}
        try:
            counts[i] = len(task.kind.from_scores([row]))
        except ValueError as error:
            raise DataError(
                table.where(i),
                got=str(error),
                wanted="a number" if not task.kind.slotted else "a list of numbers a word",
                todo="mend the scores",
            ) from error
        dicts.append(row)
    try:
        space = task.kind.space_of_scores(dicts)
    except MixedScores as error:
        raise DataError(
            table.where(error.row),
            got=str(error),
            wanted="probabilities in every row, or logits in every row",
            todo="mend the row (divide it by its sum), or write logits in all rows: log p for a "
            "probability p, or log p - log(1 - p) where each label has its own",
        ) from error
    outputs = task.kind.from_scores(dicts)
    return Scores(table=table, outputs=outputs, counts=counts, space=space)


def scores_outputs(
    member: Member,
    task: Task,
    rows: Sequence[Split],
    scores: Scores | None = None,
    warn: Callable[[str], object] = lambda _: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Outputs (S, C) and cover (N,) from a table of scores; rows that it lacks are not covered.

    Rows that a key tells apart and whose inputs are equal get the mean of their scores: a student
    that reads these inputs can answer but one thing to all of them.

    Args:
        member: The teacher.
        task: The task.
        rows: Splits, one after the other.
        scores: Its table, where it is read already.
        warn: Called where rows get such a mean.

    Raises:
        DataError: As :func:`read_scores`; or no row to learn from is covered.
    """
    names = task.kind.score_columns
    columns = _score_table_columns(task, member.key)
    joint = columns[: len(columns) - len(names)]
    what = f"task '{task.name}', scores"
    read = read_scores(member, task) if scores is None else scores
    table, outputs, counts = read.table, read.outputs, read.counts
    known = ids_of_table(task, member.key, table.columns)
    wanted = np.concatenate([ids_of_split(split, member.key, what) for split in rows])
    keys = sort_keys(known)
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    ends = np.cumsum(counts)
    parts = np.split(outputs, ends[:-1])
    clashes = [
        i
        for i in np.flatnonzero(first[group] != np.arange(len(keys)))
        if not np.array_equal(parts[i], parts[first[group[i]]])
    ]
    if clashes:
        i = int(clashes[0])
        raise DataError(
            table.where(i),
            got=f"other scores than {table.where(int(first[group[i]]))} has for the same row",
            wanted="one row of scores for each " + ", ".join(joint),
            todo="decide on one of them",
        )
    order = np.argsort(keys, kind="stable")
    places = np.searchsorted(keys[order], sort_keys(wanted)).clip(max=max(len(keys) - 1, 0))
    found = order[places]
    cover = keys[found] == sort_keys(wanted)
    taught = taught_rows(task, rows)
    if taught.any() and not cover[taught].any():
        raise DataError(
            what,
            got=f"none of the {taught.sum()} rows to learn from has a score in {table.source}",
            wanted="rows that agree in " + ", ".join(joint),
            todo="compare the columns of both files, or join with `teachers: {key: column}`",
        )
    ids = np.concatenate([split.ids for split in rows])

    def mean(several: np.ndarray) -> np.ndarray:
        """(S, C) of the outputs (M, S, C) of M equal rows."""
        if read.space != "probabilities":
            return np.asarray(several.mean(0))
        one_row = np.zeros(several.shape[1], np.int64)
        return task.kind.from_probabilities(task.kind.soften(several, one_row, 1.0).mean(0))

    slots = [own for split in rows if (own := slots_of(task, split)) is not None]
    if not slots:
        own = np.where(cover[:, None], outputs[found], np.float32(0))
        return _one_opinion(own, cover, ids, None, mean, warn), cover
    wanted_slots = np.concatenate(slots)
    unfit = np.flatnonzero(cover & (counts[found] != wanted_slots))
    if len(unfit):
        i = int(unfit[0])
        raise DataError(
            table.where(int(found[i])),
            got=f"{counts[found[i]]} scores",
            wanted=f"{wanted_slots[i]}, one for each place where the task answers",
            todo="compute the scores for these words, in their order",
        )
    known_rows = np.flatnonzero(cover)
    spread = np.zeros((int(wanted_slots.sum()), outputs.shape[1]), np.float32)
    spread[parts_of(wanted_slots, known_rows)] = outputs[parts_of(counts, found[known_rows])]
    return _one_opinion(spread, cover, ids, wanted_slots, mean, warn), cover


def _one_opinion(
    outputs: np.ndarray,
    cover: np.ndarray,
    ids: np.ndarray,
    slots: np.ndarray | None,
    mean: Callable[[np.ndarray], np.ndarray],
    warn: Callable[[str], object],
) -> np.ndarray:
    """The mean opinion of covered rows with equal ids, in the place of each."""
    known = np.flatnonzero(cover)
    _, group, sizes = np.unique(sort_keys(ids[known]), return_inverse=True, return_counts=True)
    counts = np.ones(len(ids), np.int64) if slots is None else slots
    starts = np.cumsum(counts) - counts
    means, n_rows = outputs.copy(), 0
    for places in np.split(np.argsort(group, kind="stable"), np.cumsum(sizes)[:-1]):
        rows = known[places]
        own = starts[rows][:, None] + np.arange(counts[rows[0]]) if len(rows) > 1 else None
        if own is None or (outputs[own] == outputs[own[0]]).all():
            continue
        n_rows += len(rows)
        means[own] = mean(outputs[own])
    if n_rows:
        warn(
            f"{n_rows} rows have the inputs of others and other scores: each is taught, and the "
            "ensemble scored with, the mean of their scores"
        )
    return means


def _score_table_columns(task: Task, key: str | None) -> list[str]:
    """The columns that join rows and scores, then those of the scores."""
    joint = list(task.inputs.columns) if key is None else [key]
    return [*joint, *task.kind.score_columns]
