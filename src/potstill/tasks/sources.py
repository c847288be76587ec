"""Rows in: data files of four formats and Python data, read whole, with the place of every row.

Reads columns by name and knows nothing of tasks, labels or texts. What is wrong with a file is a
:class:`DataError`; what is wrong with a row is one too, unless it may be skipped, and then it is
recorded. See :mod:`potstill.tasks.stream` for files that are not to be held in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from potstill.core.errors import DataError
from potstill.tasks.arrow_rows import parquet_chunks, parquet_columns, table_chunk
from potstill.tasks.delimited import delimited_chunks, delimited_columns
from potstill.tasks.json_lines import encodable, json_chunks, json_columns
from potstill.tasks.nested import holds_others, part_or_all
from potstill.tasks.records import (
    BadRow,
    Chunk,
    Origin,
    RowColumns,
    RowFaults,
    nearest,
    need_columns,
)
from potstill.tasks.tables import plain, series_values

PYTHON_SOURCE = "<rows given in Python>"
SUFFIXES = ".parquet, .csv, .tsv, .jsonl or .ndjson (the text formats also with .gz)"

_WHOLE_CHUNK_ROWS = 1 << 16

DataFormat = Literal["parquet", "csv", "tsv", "jsonl"]

_FORMATS: dict[str, DataFormat] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


class ArrowStream(Protocol):
    """Anything that hands out its rows as Arrow: Arrow tables, polars, pandas."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The stream, as a capsule."""


class PandasConvertible(Protocol):
    """Anything that becomes a pandas DataFrame."""

    def to_pandas(self) -> object:
        """The DataFrame."""


Source: TypeAlias = str | Path | Sequence[Mapping[str, object]] | ArrowStream | PandasConvertible
"""A data file, a list of dicts, an Arrow table or a DataFrame."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Some columns of a source.

    Attributes:
        columns: The values of each column that was asked for, N each.
        places: (N,) int64, where each row stands: the line of a text file where it starts, from
            1; the row of a parquet file, from 1; the index of rows given in Python, from 0.
        source: The file's path, or ``<rows given in Python>``.
        unit: What places count, ``"line"`` or ``"row"``.
        skipped: The rows that were left out.
    """

    columns: dict[str, list[object]]
    places: np.ndarray
    source: str
    unit: str
    skipped: list[BadRow] = field(default_factory=list)

    @property
    def n_rows(self) -> int:
        """N, without the skipped ones."""
        return len(self.places)

    def where(self, i: int) -> str:
        """The place of row ``i`` (index from 0), for a message: ``data/rte.csv, line 12``."""
        return f"{self.source}, {self.unit} {self.places[i]}"

    def take(self, rows: Sequence[int]) -> Rows:
        """The rows with these indices, in this order."""
        return replace(
            self,
            columns={name: [values[i] for i in rows] for name, values in self.columns.items()},
            places=self.places[np.asarray(rows, np.int64)],
        )


def read_rows(source: Source, *, columns: Sequence[str], what: str, skip_bad_rows: int = 0) -> Rows:
    """Read some columns of a source whole.

    Values are those of the file: csv and tsv hold strings only, a missing value of the others is
    None. Lines of text files that are blank hold no row (except inside a table of one column,
    where one is a bad row).

    Args:
        source: A file ``.parquet``, ``.csv``, ``.tsv``, ``.jsonl`` or ``.ndjson`` (the last four
            also with ``.gz``), a list of dicts, an Arrow table, or a DataFrame.
        columns: Names of the columns to read.
        what: What the rows are for, as messages shall say it: ``"task 'rte', train"``.
        skip_bad_rows: How many faulty rows may be left out; they are recorded in ``skipped``.

    Returns:
        The rows, in the order of the source.

    Raises:
        DataError: The file is missing, empty, damaged or of another format; a column is missing
            or there twice; more rows are faulty than may be skipped (bad UTF-8, wrong number of
            fields, not a JSON object, a column that a row lacks).
        TypeError: ``source`` is of no known type.
        ValueError: ``columns`` is empty or ``skip_bad_rows`` negative.
    """
    names = list(dict.fromkeys(columns))
    if not names or skip_bad_rows < 0:
        raise ValueError("read_rows needs at least one column, and skip_bad_rows of 0 or more")
    if isinstance(source, str | Path):
        path = Path(source)
        origin = origin_of(path, what)
        faults = RowFaults(origin=origin, limit=skip_bad_rows)
        chunks = file_chunks(path, names, faults, _WHOLE_CHUNK_ROWS)
    else:
        origin = Origin(source=PYTHON_SOURCE, unit="row", what=what)
        faults = RowFaults(origin=origin, limit=skip_bad_rows)
        chunks = iter([_python_chunk(source, names, faults)])
    values: dict[str, list[object]] = {name: [] for name in names}
    places: list[np.ndarray] = [np.empty(0, np.int64)]
    for chunk in chunks:
        places.append(np.array(chunk.places, np.int64))
        for name, column in zip(names, chunk.columns, strict=True):
            values[name] += column
    return Rows(
        columns=values,
        places=np.concatenate(places),
        source=origin.source,
        unit=origin.unit,
        skipped=faults.skipped,
    )


def read_labelled(
    source: Source,
    *,
    inputs: Sequence[str],
    labels: Sequence[str],
    nested: Sequence[str],
    what: str,
    skip_bad_rows: int = 0,
) -> Rows:
    """Read rows with their labels, as :func:`read_rows` reads columns.

    Args:
        source: The rows.
        inputs: Columns that are not labels.
        labels: The label columns.
        nested: The name of each label inside the first label's column, where that column holds
            them all and the others are not there; empty where they never stand so.
        what: What the rows are for, for messages.
        skip_bad_rows: How many faulty rows may be left out.

    Returns:
        The rows, with every label column whether it stood alone or not.

    Raises:
        DataError: As :func:`read_rows`.
    """
    names = _names(source, what, skip_bad_rows) if nested else []
    if nested and not set(labels[1:]) & set(names):
        rows = read_rows(
            source, columns=[*inputs, labels[0]], what=what, skip_bad_rows=skip_bad_rows
        )
        values = rows.columns[labels[0]]
        if any(map(holds_others, values)) or all(map(_is_nothing, values)):
            for label, field in zip(labels, nested, strict=True):
                rows.columns[label] = [part_or_all(value, field) for value in values]
            return rows
    try:
        return read_rows(source, columns=[*inputs, *labels], what=what, skip_bad_rows=skip_bad_rows)
    except DataError as error:
        if not nested or not error.thing.endswith(f"column '{labels[1]}'"):
            raise
        raise DataError(
            error.thing,
            got=error.got,
            wanted=f"a column '{labels[1]}' beside '{labels[0]}', or both in one: "
            f"'{labels[0]}': {{{', '.join(f'{field!r}: […]' for field in nested)}}}",
            todo=f"add the column to the data: for each of '{labels[0]}', its '{nested[1]}'",
        ) from None


def _is_nothing(value: object) -> bool:
    return value is None or (isinstance(value, Sized) and not len(value))


def column_names(path: str | Path, *, what: str = "", skip_bad_rows: int = 0) -> list[str]:
    """The columns of a data file: its header, or the keys of its first JSON object.

    Args:
        path: The file.
        what: What the rows are for, for messages.
        skip_bad_rows: How many faulty lines may stand before that object.

    Raises:
        DataError: The file is missing, empty, damaged or of another format.
    """
    place = Path(path)
    origin = origin_of(place, what)
    form = data_format(place, origin)
    if form == "parquet":
        return parquet_columns(place, origin)
    if form == "jsonl":
        return json_columns(place, RowFaults(origin=origin, limit=skip_bad_rows, may_skip=False))
    return delimited_columns(place, origin, tabs=form == "tsv")


def origin_of(path: Path, what: str) -> Origin:
    """How messages speak of a file."""
    unit = "row" if path.suffix.lower() == ".parquet" else "line"
    return Origin(source=str(path), unit=unit, what=what)


def data_format(path: Path, origin: Origin) -> DataFormat:
    """The format that the file's name stands for; the file must exist.

    Raises:
        DataError: There is no such file, or its name says no known format.
    """
    if not path.is_file():
        raise _no_file(path, origin)
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    packed = bool(suffixes) and suffixes[-1] == ".gz"
    if packed:
        suffixes.pop()
    form = _FORMATS.get(suffixes[-1]) if suffixes else None
    if form is None or (packed and form == "parquet"):
        raise origin.fault(
            got=f"a file name that ends in '{''.join(path.suffixes[-2:])}'",
            wanted=SUFFIXES,
            todo="unpack the file: parquet has its own compression"
            if form
            else "convert the file, or rename it if it is one of these",
        )
    return form


def file_chunks(
    path: Path, columns: Sequence[str], faults: RowFaults, chunk_rows: int
) -> Iterator[Chunk]:
    """The rows of a file, chunk by chunk.

    Raises:
        DataError: As :func:`read_rows`.
    """
    form = data_format(path, faults.origin)
    if form == "parquet":
        return parquet_chunks(path, columns, faults, chunk_rows)
    if form == "jsonl":
        return json_chunks(path, columns, faults, chunk_rows)
    return delimited_chunks(path, columns, faults, chunk_rows, tabs=form == "tsv")


def _names(source: Source, what: str, skip_bad_rows: int) -> list[str]:
    """The columns of a source; none where only its reading can say what is wrong with it."""
    if isinstance(source, str | Path):
        with suppress(DataError):
            return column_names(source, what=what, skip_bad_rows=skip_bad_rows)
        return []
    for attribute in ("column_names", "columns"):  # Arrow and datasets; DataFrames
        if (found := getattr(source, attribute, None)) is not None:
            return [str(name) for name in found]
    first = source[0] if isinstance(source, Sequence) and len(source) else None
    return [str(name) for name in first] if isinstance(first, Mapping) else []


def _no_file(path: Path, origin: Origin) -> DataError:
    if path.is_dir():
        return origin.fault(got="a folder", wanted="a data file", todo=f"name a file: {SUFFIXES}")
    folder = path.parent
    if path.name == PYTHON_SOURCE:
        got, todo = "rows that are not kept", "run it from Python again, and give it these rows"
    elif path.exists():
        got = "a pipe or a device, not a file"
        todo = "write the rows to a file first: they are read more than once"
    elif not folder.is_dir():
        got, todo = f"no such folder: {folder}", "check the path"
    else:
        got = "no such file"
        near = nearest(path.name, [item.name for item in folder.iterdir() if item.is_file()])
        todo = "check the path" if near is None else f"nearest name in that folder: '{near}'"
    return origin.fault(got=got, wanted="a data file", todo=todo)


def _python_chunk(source: object, columns: Sequence[str], faults: RowFaults) -> Chunk:
    if isinstance(source, pa.Table | pa.RecordBatch):
        return table_chunk(source, columns, faults, first_place=0)
    if hasattr(source, "iloc") and hasattr(source, "columns"):
        return _frame_chunk(source, columns, faults)
    if hasattr(source, "__arrow_c_stream__"):
        return table_chunk(pa.table(source), columns, faults, first_place=0)
    if hasattr(source, "to_pandas"):
        return _frame_chunk(source.to_pandas(), columns, faults)
    if isinstance(source, Sequence) and not isinstance(source, bytes | bytearray):
        return _dicts_chunk(source, columns, faults)
    raise TypeError(
        f"rows must be a file, a list of dicts, an Arrow table or a DataFrame, not {type(source)}"
    )


def _dicts_chunk(rows: Sequence[object], columns: Sequence[str], faults: RowFaults) -> Chunk:
    records: list[tuple[int, list[object]]] = []
    picked = RowColumns(columns, faults)
    for i, row in enumerate(rows):
        if not isinstance(row, Mapping):
            faults.add(i, None, f"a {type(row).__name__}, not a dict", wanted="a dict a row")
            continue
        found = picked.pick(i, row)
        if found is None:
            continue
        values = [plain(value) for value in found]
        if _sound(i, values, columns, faults):
            records.append((i, values))
    picked.finish()
    return Chunk.of(records) if records else Chunk(places=[], columns=[[] for _ in columns])


def _frame_chunk(frame: object, columns: Sequence[str], faults: RowFaults) -> Chunk:
    """Rows of a pandas DataFrame.

    Columns that have numbers as names, as classes of scores or a table without a header, are
    found by those as text.
    """
    names = [str(name) for name in frame.columns]  # type: ignore[attr-defined]
    need_columns(columns, names, faults.origin)
    values = [
        series_values(frame.iloc[:, names.index(column)])  # type: ignore[attr-defined]
        for column in columns
    ]
    records = []
    for i, row in enumerate(zip(*values, strict=True)):
        if _sound(i, row, columns, faults):
            records.append((i, row))
    return Chunk.of(records) if records else Chunk(places=[], columns=[[] for _ in columns])


def _sound(i: int, values: Sequence[object], columns: Sequence[str], faults: RowFaults) -> bool:
    for column, value in zip(columns, values, strict=True):
        if not encodable(value):
            faults.add(
                i, column, "half of a surrogate pair: not Unicode text", wanted="whole characters"
            )
            return False
    return True
