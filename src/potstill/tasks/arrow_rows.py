"""Rows of Arrow tables and of parquet files, as Python values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from potstill.tasks.lines import CHUNK_BYTES, unreadable
from potstill.tasks.records import NOT_UTF8, Chunk, Origin, RowFaults, need_columns

_READ_BYTES = 1 << 20


def parquet_columns(path: Path, origin: Origin) -> list[str]:
    """The names of the columns.

    Raises:
        DataError: The file cannot be read, or is no sound parquet file.
    """
    with _named_faults(origin), pq.ParquetFile(path) as file:
        return [str(name) for name in file.schema_arrow.names]


def parquet_chunks(
    path: Path, columns: Sequence[str], faults: RowFaults, chunk_rows: int
) -> Iterator[Chunk]:
    """The rows of a file, in chunks of ``chunk_rows`` rows or fewer where rows are long.

    Raises:
        DataError: The file cannot be read or is damaged, lacks a column or has it twice, or there
            are more bad rows than may be skipped.
    """
    origin = faults.origin
    # Pages are read as they are needed: a whole row group may be larger than memory.
    with (
        _named_faults(origin),
        pq.ParquetFile(path, pre_buffer=False, buffer_size=_READ_BYTES) as file,
    ):
        need_columns(columns, list(file.schema_arrow.names), origin)
        n_rows = _rows_per_chunk(file.metadata, chunk_rows)
        place = 1
        batches = file.iter_batches(batch_size=n_rows, columns=list(columns))
        while (batch := next(batches, None)) is not None:
            chunk = table_chunk(batch, columns, faults, first_place=place)
            place += batch.num_rows
            if chunk.places:
                yield chunk


def table_chunk(
    table: pa.Table | pa.RecordBatch, columns: Sequence[str], faults: RowFaults, *, first_place: int
) -> Chunk:
    """All rows of a table.

    Raises:
        DataError: It lacks a column or has it twice, or there are more bad rows than may be
            skipped: text that is not UTF-8, values that Python cannot hold.
    """
    need_columns(columns, list(table.schema.names), faults.origin)
    values: list[list[object]] = []
    bad: dict[int, tuple[str, str]] = {}
    for name in columns:
        column = table.column(name)
        try:
            values.append(column.to_pylist())
        except (ValueError, OverflowError):
            found, reasons = _values_one_by_one(column)
            values.append(found)
            bad |= {i: (name, reason) for i, reason in reasons.items() if i not in bad}
    for i in sorted(bad):
        name, reason = bad[i]
        faults.add(first_place + i, name, reason, wanted="a value that can be read")
    kept = [i for i in range(table.num_rows) if i not in bad]
    if bad:
        values = [[column[i] for i in kept] for column in values]
    return Chunk(places=[first_place + i for i in kept], columns=values)


def _values_one_by_one(column: pa.ChunkedArray) -> tuple[list[object], dict[int, str]]:
    """Values, and why the unreadable ones (None) are so, by index."""
    values: list[object] = []
    reasons: dict[int, str] = {}
    for i in range(len(column)):
        value = None
        try:
            value = column[i].as_py()
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            reasons[i] = f"{NOT_UTF8}: byte 0x{byte:02x} at byte offset {error.start} of the value"
        except (ValueError, OverflowError) as error:
            reasons[i] = f"a {column.type} that cannot be read ({error})"
        values.append(value)
    return values, reasons


def _rows_per_chunk(metadata: pq.FileMetaData, chunk_rows: int) -> int:
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    row_bytes = max((g.total_byte_size / max(g.num_rows, 1) for g in groups), default=1.0)
    return max(1, min(chunk_rows, int(CHUNK_BYTES / max(row_bytes, 1.0))))


@contextmanager
def _named_faults(origin: Origin) -> Iterator[None]:
    """Turn the errors of pyarrow into ours."""
    try:
        yield
    except (pa.ArrowException, EOFError) as error:
        raise origin.fault(
            got=f"not a sound parquet file ({_first_line(error)})",
            wanted="a whole parquet file",
            todo="copy or write it again; it may be cut off, or be another format",
        ) from error
    except OSError as error:
        if error.errno is None:  # pyarrow's own: pages or metadata that make no sense
            raise origin.fault(
                got=f"a damaged parquet file ({_first_line(error)})",
                wanted="the bytes that were written",
                todo="copy or write it again",
            ) from error
        raise unreadable(error, origin) from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
