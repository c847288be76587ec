"""Answered rows to a file: JSON lines, or a table.

A table has a row's number, each task's prediction and, for kinds that know it, ``<task>_score``:
how probable that is. Cells of tasks that a row does not have are empty.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import starmap
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from potstill.core.errors import UsageError
from potstill.core.files import atomic_writer
from potstill.kinds import Kind

_ENDINGS = (".jsonl", ".ndjson", ".csv", ".parquet")
_TABLES = (".csv", ".parquet")
_TYPES = {"number": pa.float64(), "text": pa.string(), "texts": pa.list_(pa.string())}


class Sink(Protocol):
    """Where answered rows go."""

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take some rows."""


def need_ending(out: Path) -> None:
    """Check that answers can be written in the form that a file's name says.

    Raises:
        UsageError: It has another ending.
    """
    if out.suffix not in _ENDINGS:
        raise UsageError(
            f"--out {out}",
            got=f"the ending '{out.suffix}'",
            wanted=", ".join(_ENDINGS),
            todo="give the file one of these endings",
        )


@contextmanager
def answer_sink(out: Path | None, kinds: Mapping[str, Kind]) -> Iterator[Sink]:
    """Where answers go: jsonl, csv or parquet by the file's name, which appears when all is well.

    Args:
        out: The file; None writes JSON lines to standard output.
        kinds: The tasks that may be answered, with their kinds.

    Raises:
        UsageError: ``out`` has another ending, or two columns of its table would share a name.
    """
    if out is None:
        yield _Lines(sys.stdout.buffer)
        return
    need_ending(out)
    if out.suffix in _TABLES:
        _need_own_columns(out, kinds)
    with atomic_writer(out) as file:
        if out.suffix == ".parquet":
            sink = _Parquet(file, kinds)
            try:
                yield sink
            finally:  # after a fault too: a writer that is collected later writes its end then
                sink.close()
        elif out.suffix == ".csv":
            yield _Csv(file, kinds)
        else:
            yield _Lines(file)


class _Binary(Protocol):
    def write(self, data: bytes, /) -> int: ...


class _Lines:
    """JSON lines, as the service answers."""

    def __init__(self, file: _Binary) -> None:
        self._file = file

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        self._file.write(text.encode())


class _Csv:
    """The table as text: lists are JSON, since labels may hold blanks."""

    def __init__(self, file: _Binary, kinds: Mapping[str, Kind]) -> None:
        self._kinds = kinds
        self._writer = csv.writer(_LineFeeds(file), lineterminator="\r\n")
        self._writer.writerow(["row", *(name for name, _ in _columns(kinds))])

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            self._writer.writerow([row["row"], *map(_cell, _cells(row, self._kinds))])


class _LineFeeds:
    """Ends rows in LF that csv ends in CR LF, for csv quotes only the signs that end its rows.

    A carriage return in a cell would otherwise stand bare, and readers would end the row there.
    """

    def __init__(self, file: _Binary) -> None:
        self._file = file

    def write(self, row: str) -> None:
        """Take one row, as csv hands each of them on."""
        self._file.write((row.removesuffix("\r\n") + "\n").encode())


class _Parquet:
    """The table with types."""

    def __init__(self, file: _Binary, kinds: Mapping[str, Kind]) -> None:
        self._kinds = kinds
        self._schema = pa.schema([pa.field("row", pa.int64()), *starmap(pa.field, _columns(kinds))])
        self._writer = pq.ParquetWriter(pa.PythonFile(file, mode="w"), self._schema)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        table = [[row["row"], *_cells(row, self._kinds)] for row in rows]
        columns = [list(column) for column in zip(*table, strict=True)]
        self._writer.write_table(pa.table(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def _need_own_columns(out: Path, kinds: Mapping[str, Kind]) -> None:
    """Refuse tasks whose columns in a table share a name, as those of mood and mood_score may.

    Raises:
        UsageError: Some do.
    """
    holds = {"row": "the number of a row"}
    for task, kind in kinds.items():
        for column, _ in _columns({task: kind}):
            what = f"task '{task}'" if column == task else f"the score of task '{task}'"
            if column in holds:
                raise UsageError(
                    f"--out {out}",
                    got=f"two columns '{column}': {holds[column]}, and {what}",
                    wanted="a name for each column",
                    todo="leave one out with --tasks, or give the file the ending .jsonl",
                )
            holds[column] = what


def _columns(kinds: Mapping[str, Kind]) -> Iterator[tuple[str, pa.DataType]]:
    """Name and type of each column."""
    for task, kind in kinds.items():
        yield task, _TYPES[kind.answers]
        if kind.scored:
            each = kind.answers == "texts"
            yield f"{task}_score", pa.list_(pa.float64()) if each else pa.float64()


def _cells(row: Mapping[str, Any], kinds: Mapping[str, Kind]) -> Iterator[Any]:
    """A row's values of these columns."""
    for task, kind in kinds.items():
        answer = row["tasks"].get(task)
        yield None if answer is None else answer["prediction"]
        if kind.scored:
            yield None if answer is None else kind.score(answer)


def _cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
