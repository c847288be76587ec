"""Rows of a task and rows of a table that somebody else made: which belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from potstill.core.errors import DataError
from potstill.core.files import digest_json
from potstill.tasks.rowids import digest_rows, join_key, row_ids
from potstill.tasks.sources import Rows
from potstill.tasks.task import Split, Task


def ids_of_table(
    task: Task, key: str | None, columns: Mapping[str, Sequence[object]]
) -> np.ndarray:
    """(N, 16) ids of a table's rows: by ``key``, or as the task's own rows have them.

    A row without a key has the id of its place, which no row of a task has.
    """
    if key is not None:
        keys = map(join_key, columns[key])
        return row_ids([[i if own is None else own for i, own in enumerate(keys)]])
    reader = task.inputs
    return reader.ids(
        {
            c: [reader.value(v if reader.value_fault(v) is None else str(v)) for v in columns[c]]
            for c in reader.columns
        }
    )


def digest_of_table(table: Rows, key: str | None) -> str:
    """Of all values of a table, in their order, and of the column that joins it."""
    values = row_ids([[str(value) for value in column] for column in table.columns.values()])
    return digest_json({"scores": digest_rows(values, None), "key": key})


def ids_of_split(split: Split, key: str | None, what: str) -> np.ndarray:
    """(N, 16) the same of the task's own rows; ``what`` the table holds, for messages.

    Raises:
        DataError: The split has no column ``key``.
    """
    if key is None:
        return split.ids
    if split.keys is None:
        raise DataError(
            f"{what}, column '{key}' of {split.source}",
            got="rows without that column",
            wanted="the key that joins rows with them",
            todo="add the column (texts of other tasks have none: take `others` out of `pool:`), "
            "or join by the input columns (no `key:`)",
        )
    return row_ids([split.keys])


def taught_rows(task: Task, splits: Sequence[Split]) -> np.ndarray:
    """(N,) true for the rows of train and pool among these splits' rows, if train is one of them.

    Who asks for a score of dev or test alone takes what there is.
    """
    if not any(split is task.train for split in splits):
        return np.zeros(sum(map(len, splits)), bool)
    learned = [split is task.train or split is task.pool for split in splits]
    return np.repeat(learned, [len(split) for split in splits])
