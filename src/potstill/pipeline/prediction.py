"""Predict a file of any size in constant memory: chunks in, rows out."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from potstill.core.errors import DataError, UsageError
from potstill.core.files import atomic_writer
from potstill.core.progress import Progress
from potstill.export.bundle import is_bundle
from potstill.serving.predictor import BundlePredictor
from potstill.tasks.predictor import Predictor
from potstill.tasks.sources import column_names
from potstill.tasks.stream import stream_rows

_CHUNK_ROWS = 4096


class Sink(Protocol):
    """Where answered rows go."""

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take some rows."""


def predict_file(
    student: Path,
    file: Path,
    *,
    out: Path | None,
    tasks: Sequence[str] | None,
    device: str,
    precision: str,
    progress: Progress,
) -> int:
    """Answer every row of a file.

    Args:
        student: A student's or run's folder, or a bundle.
        file: jsonl, csv, tsv or parquet.
        out: jsonl, csv or parquet by its name; None writes jsonl to standard output. The file
            appears when all rows are written.
        tasks: Which tasks; None answers all whose columns the file has.
        device: As :meth:`Student.load` takes it; a bundle runs on the CPU.
        precision: Likewise.
        progress: A bar over the file.

    Returns:
        The number of rows.

    Raises:
        UsageError: No task can be answered from the file's columns, or ``out`` has another ending.
        DataError: The file or a row of it is faulty.
    """
    loaded: Predictor
    if is_bundle(student):
        if (device, precision) not in (("auto", "auto"), ("cpu", "auto")):
            raise UsageError(
                f"--device {device}, --precision {precision}",
                got="a bundle, which runs on the CPU with the engine it was exported for",
                wanted="both left at auto",
                todo="leave them out, or give the run's folder instead of the bundle",
            )
        loaded = BundlePredictor.load(student)
    else:
        from potstill.students.student import Student  # noqa: PLC0415 (a bundle needs no torch)

        loaded = Student.load(student, device=device, precision=precision)
    names = loaded.answerable(column_names(file), tasks)
    columns = list(dict.fromkeys(c for t in names for c in loaded.heads[t].inputs.columns))
    if out is not None and out.exists() and out.samefile(file):
        raise UsageError(
            f"--out {out}",
            got="the file that is read",
            wanted="another file: answers hold no texts, so the texts would be lost",
            todo="name a new file",
        )
    for name in sorted(set(loaded.tasks) - set(names) if tasks is None else ()):
        lacking = set(loaded.heads[name].inputs.columns) - set(column_names(file))
        progress.say(f"task '{name}' is left out: no column {', '.join(sorted(lacking))}")
    n_rows = n_blank = n_cut = 0
    with _sink(out, loaded, names) as sink, progress.bar("predicting", _n_rows(file)) as bar:
        for start, table in stream_rows(file, columns=columns, chunk_rows=_CHUNK_ROWS):
            progress.stop.check(f"predicting {file}, row {start}")
            try:
                rows, n_rows_cut = loaded.answer(table, names, start=start)
            except DataError as error:
                thing = f"{file}, {error.thing} (the first is 0)"
                raise DataError(
                    thing, got=error.got, wanted=error.wanted, todo=error.todo
                ) from None
            n_cut += n_rows_cut
            n_blank += sum(_is_blank(value) for c in columns for value in table[c])
            sink.write(rows)
            n_rows += len(rows)
            bar.advance(len(rows), info=f"row {n_rows}")
    if n_blank:
        progress.warn(f"{n_blank} texts are blank: what is answered there means nothing")
    if n_cut:
        progress.warn(
            f"{n_cut} of {n_rows} rows are longer than the {loaded.max_tokens} tokens that the "
            "student reads, and were answered without their end"
        )
    if not n_rows:
        progress.warn(f"{file} holds no rows")
    return n_rows


def _n_rows(file: Path) -> float | None:
    """Rows for the bar: lines, where a quoted line break may count as a row; None if unknown."""
    if file.suffix == ".parquet":
        return float(pq.read_metadata(file).num_rows)
    if file.suffix == ".gz":
        return None
    with file.open("rb") as lines:
        n_lines = sum(block.count(b"\n") for block in iter(lambda: lines.read(1 << 20), b""))
    return n_lines - (file.suffix in (".csv", ".tsv")) or None


@contextmanager
def _sink(out: Path | None, student: Predictor, tasks: Sequence[str]) -> Iterator[Sink]:
    if out is None:
        yield _Lines(sys.stdout.buffer)
        return
    makers = {".jsonl": _Lines, ".ndjson": _Lines, ".csv": _Csv, ".parquet": _Parquet}
    if out.suffix not in makers:
        raise UsageError(
            f"--out {out}",
            got=f"the ending '{out.suffix}'",
            wanted=", ".join(makers),
            todo="give the file one of these endings",
        )
    with atomic_writer(out) as file:
        if out.suffix == ".parquet":
            sink = _Parquet(file, student, tasks)
            try:
                yield sink
            finally:  # after a fault too: a writer that is collected later writes its end then
                sink.close()
        elif out.suffix == ".csv":
            yield _Csv(file, tasks)
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
    """A table: ``row``, and for each task its prediction and its highest score."""

    def __init__(self, file: _Binary, tasks: Sequence[str]) -> None:
        self._file = file
        self._tasks = tasks
        self._put([["row", *_flat_names(tasks)]])

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._put([[row["row"], *map(_cell, _flat(row, self._tasks))] for row in rows])

    def _put(self, rows: Sequence[Sequence[Any]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue().encode())


class _Parquet:
    """The same table with types: predictions are text for classes, lists of it, or numbers."""

    def __init__(self, file: _Binary, student: Predictor, tasks: Sequence[str]) -> None:
        self._tasks = tasks
        fields = [pa.field("row", pa.int64())]
        for task in tasks:
            types = {"number": pa.float64(), "text": pa.string(), "texts": pa.list_(pa.string())}
            fields += [
                pa.field(f"{task}", types[student.heads[task].kind.answers]),
                pa.field(f"{task}_score", pa.float64()),
            ]
        self._schema = pa.schema(fields)
        self._writer = pq.ParquetWriter(pa.PythonFile(file, mode="w"), self._schema)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        table = [[row["row"], *_flat(row, self._tasks)] for row in rows]
        columns = [list(column) for column in zip(*table, strict=True)]
        self._writer.write_table(pa.table(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def _is_blank(value: object) -> bool:
    return not (value.strip() if isinstance(value, str) else value)


def _cell(value: object) -> object:
    """A value of a CSV table: lists as JSON, since labels may hold blanks."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def _flat_names(tasks: Sequence[str]) -> list[str]:
    return [name for task in tasks for name in (task, f"{task}_score")]


def _flat(row: Mapping[str, Any], tasks: Sequence[str]) -> list[Any]:
    flat: list[Any] = []
    for task in tasks:
        answer = row["tasks"][task]
        scores = answer.get("scores")
        score = answer.get("score") if scores is None else max(scores.values())
        flat += [answer["prediction"], score]
    return flat
