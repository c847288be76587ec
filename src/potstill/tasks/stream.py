"""Rows in, a chunk at a time: files of any size in constant memory, for prediction.

Rows of a file of JSON lines may have different columns: :func:`stream_keys` tells which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from potstill.core.errors import DataError
from potstill.tasks.json_lines import json_chunks, json_keys
from potstill.tasks.records import ABSENT, Chunk, RowFaults, need_columns, separator_hint
from potstill.tasks.sources import column_names, data_format, file_chunks, origin_of

_HEAD_ROWS = 200


def stream_rows(
    path: str | Path,
    *,
    columns: Sequence[str] | None = None,
    chunk_rows: int = 4096,
    what: str = "",
) -> Iterator[tuple[list[int], dict[str, list[object]]]]:
    """Read a data file chunk by chunk.

    The columns are checked at once, the rows as they come. No row is skipped: the first faulty
    one raises, so that the index of a row is its index in the file.

    Args:
        path: A data file, as in :func:`potstill.tasks.sources.read_rows`.
        columns: Names of the columns to read; by default those of the header, or of the first
            JSON object.
        chunk_rows: Most rows a chunk; it holds fewer where rows are long (about 16 MiB of file).
        what: What the rows are for, as messages shall say it.

    Yields:
        The place of each row of the chunk, as in :class:`potstill.tasks.records.BadRow`, and its
        values by column.

    Raises:
        DataError: The file is missing, empty, damaged or of another format, lacks a column or has
            it twice, or a row is faulty.
        ValueError: ``columns`` is empty, or ``chunk_rows`` below 1.
    """
    place = Path(path)
    origin = origin_of(place, what)
    there = column_names(place, what=what)
    names = list(dict.fromkeys(there if columns is None else columns))
    if not names and columns is None:
        raise origin.fault(
            place=1, got="no columns", wanted="a column at least", todo="check the file"
        )
    if not names or chunk_rows < 1:
        raise ValueError("stream_rows needs at least one column, and chunk_rows of 1 or more")
    need_columns(names, there, origin)
    faults = RowFaults(origin=origin, may_skip=False)
    return _placed(file_chunks(place, names, faults, chunk_rows), names)


def stream_mixed(
    path: Path, *, columns: Sequence[str], chunk_rows: int = 4096
) -> Iterator[tuple[list[int], dict[str, list[object]]]]:
    """As :func:`stream_rows`, of JSON lines whose rows may lack columns: these hold ``ABSENT``."""
    faults = RowFaults(origin=origin_of(path, ""), may_skip=False)
    return _placed(json_chunks(path, columns, faults, chunk_rows, may_lack=True), columns)


def stream_keys(path: Path) -> Iterator[tuple[int, list[str]]] | None:
    """Line and columns of each row; None for files whose rows all have the same.

    Raises:
        DataError: The file is missing, empty or damaged, or a row is faulty.
    """
    origin = origin_of(path, "")
    if data_format(path, origin) != "jsonl":
        return None
    return json_keys(path, RowFaults(origin=origin, may_skip=False))


def _placed(
    chunks: Iterator[Chunk], names: Sequence[str]
) -> Iterator[tuple[list[int], dict[str, list[object]]]]:
    for chunk in chunks:
        yield chunk.places, dict(zip(names, chunk.columns, strict=True))


def read_head(path: Path) -> dict[str, list[object]]:
    """The first rows of a data file by column, to guess from.

    Left out, if others are there, are columns that no task could read: those with a name that the
    header has twice, and those that most rows lack. Of the rest, a row that lacks one has None.

    Raises:
        DataError: As :func:`stream_rows`.
    """
    keys = stream_keys(path)
    if keys is None:
        there = column_names(path)
        names = [name for name in there if there.count(name) == 1]
    else:
        rows = [columns for _, columns in islice(keys, _HEAD_ROWS)]
        counts = Counter(chain.from_iterable(rows))
        names = [name for name, count in counts.items() if 2 * count >= len(rows)]
    if keys is None or not names:
        chunks = stream_rows(path, columns=names or None, chunk_rows=_HEAD_ROWS)
    else:
        chunks = stream_mixed(path, columns=names, chunk_rows=_HEAD_ROWS)
    try:
        for _, table in chunks:
            return {n: [None if v is ABSENT else v for v in values] for n, values in table.items()}
    except DataError as error:  # of a row, which the header may explain
        if keys is None and (hint := separator_hint(column_names(path))):
            raise DataError(str(path), got=hint, wanted=error.wanted, todo=error.todo) from error
        raise
    return {}
