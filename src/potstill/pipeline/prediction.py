"""Predict a file of any size in constant memory: chunks in, rows out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from potstill.core.errors import DataError, UsageError
from potstill.core.places import need_file_place, resolved
from potstill.core.progress import Progress
from potstill.export.bundle import is_bundle
from potstill.pipeline.answer_files import answer_sink, need_ending
from potstill.serving.predictor import BundlePredictor
from potstill.tasks.inputs import Reader
from potstill.tasks.predictor import Predictor, readers_of
from potstill.tasks.records import ABSENT
from potstill.tasks.sources import column_names, origin_of
from potstill.tasks.stream import stream_keys, stream_mixed, stream_rows

_CHUNK_ROWS = 4096


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
        tasks: Which tasks; None answers each row for all whose columns it has.
        device: As :meth:`Student.load` takes it; a bundle runs on the CPU.
        precision: Likewise.
        progress: A bar over the file.

    Returns:
        The number of rows.

    Raises:
        UsageError: No task, or not one that was asked for, can be answered from the file's
            columns, or ``out`` has another ending or cannot be written.
        DataError: The file or a row of it is faulty, or it has no row.
    """
    if out is not None:
        need_file_place(out, f"--out {out}")
        need_ending(out)
        if out.is_symlink() and resolved(out).suffix == out.suffix:
            out = resolved(out)  # the link stays, its target changes
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
    if out is not None and out.exists() and file.exists() and out.samefile(file):
        raise UsageError(
            f"--out {out}",
            got="the file that is read",
            wanted="another file: answers hold no texts, so the texts would be lost",
            todo="name a new file",
        )
    plan = _plan(loaded, file, tasks, progress)
    kinds = {task: loaded.heads[task].kind for task in plan.tasks}
    plan.look_through(file, loaded, progress)
    n_rows = n_blank = n_cut = 0
    with answer_sink(out, kinds) as sink, progress.bar("predicting", plan.n_rows) as bar:
        for places, table in plan.chunks(file):
            where = _where(file, places)
            progress.stop.check(f"predicting {where(0)}")
            numbers = range(n_rows, n_rows + len(places))
            rows, n_rows_cut = plan.answer(loaded, table, numbers, where)
            n_cut += n_rows_cut
            n_blank += sum(r.nothing(v) for _, _, r, v in plan.values(loaded, table))
            sink.write(rows)
            n_rows += len(rows)
            bar.advance(len(rows), info=f"row {n_rows}")
        if not n_rows:  # within the sink: no file of answers is left
            raise DataError(
                str(file),
                got="no rows",
                wanted="at least one row",
                todo="check that the file was written whole, or name another",
            )
    if n_blank:
        progress.warn(f"{n_blank} texts are blank: what is answered there means nothing")
    if n_cut:
        progress.warn(
            f"{n_cut} of {n_rows} rows are longer than the {loaded.max_tokens} tokens that the "
            "student reads, and were answered without their end"
        )
    return n_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What is read and answered of a file.

    Attributes:
        tasks: The tasks that some row is answered for, in the student's order.
        columns: The columns that they read.
        by_columns: Tasks of a row, by those of ``columns`` that it has; None where all rows have
            all of them.
        n_rows: Rows of the file, for the bar; None if unknown.
    """

    tasks: tuple[str, ...]
    columns: tuple[str, ...]
    by_columns: Mapping[frozenset[str], tuple[str, ...]] | None
    n_rows: float | None

    def chunks(self, file: Path) -> Iterator[tuple[list[int], dict[str, list[object]]]]:
        """Places of the rows and columns of each chunk."""
        read = stream_rows if self.by_columns is None else stream_mixed
        return read(file, columns=self.columns, chunk_rows=_CHUNK_ROWS)

    def values(
        self, student: Predictor, table: Mapping[str, Sequence[object]]
    ) -> Iterator[tuple[int, str, Reader, object]]:
        """Row, column, reader and value of all that a chunk's rows are answered from."""
        by_columns = self.by_columns or {frozenset(self.columns): self.tasks}
        readers = {
            has: readers_of({task: student.heads[task] for task in tasks})
            for has, tasks in by_columns.items()
        }
        for i in range(len(table[self.columns[0]])):
            row = {c: table[c][i] for c in self.columns if table[c][i] is not ABSENT}
            for column, reader in readers[frozenset(row)].items():
                yield i, column, reader, row[column]

    def look_through(self, file: Path, student: Predictor, progress: Progress) -> None:
        """Read all values once: a faulty one at the end would cost the answers of all before it.

        Raises:
            DataError: Values are missing or cannot be read: the first, and how many.
            Stopped: Stop was requested.
        """
        first: DataError | None = None
        n_faulty = 0
        with progress.bar("looking through", self.n_rows) as bar:
            for places, table in self.chunks(file):
                where = _where(file, places)
                progress.stop.check(f"looking through {where(0)}")
                for i, column, reader, value in self.values(student, table):
                    if (fault := reader.value_fault(value)) is not None:
                        first = first or reader.refusal(fault, column, where(i))
                        n_faulty += 1
                bar.advance(len(places))
        if first is not None:
            more = f" (one of {n_faulty:,} such values of the file)" if n_faulty > 1 else ""
            raise DataError(
                first.thing, got=f"{first.got}{more}", wanted=first.wanted, todo=first.todo
            )

    def answer(
        self,
        student: Predictor,
        table: Mapping[str, Sequence[object]],
        numbers: Sequence[int],
        where: Callable[[int], str],
    ) -> tuple[list[dict[str, Any]], int]:
        """The answers of a chunk, and how many rows lost their end."""
        if self.by_columns is None:
            return student.answer(table, self.tasks, numbers=numbers, where=where)
        rows = [
            {column: table[column][i] for column in self.columns if table[column][i] is not ABSENT}
            for i in range(len(numbers))
        ]
        asked = [self.by_columns[frozenset(row)] for row in rows]
        return student.answer_mixed(rows, asked, numbers=numbers, where=where)


def _plan(student: Predictor, file: Path, tasks: Sequence[str] | None, progress: Progress) -> _Plan:
    """Which tasks each row of a file can be answered for.

    Rows of JSON lines may have different columns; all lines are looked at before any is answered,
    so that a row that cannot be is known at once.

    Raises:
        UsageError: The first row can be answered for no task, or not for one of ``tasks``.
        DataError: The file or a row of it is faulty, or a later row cannot be answered.
    """
    keys = stream_keys(file)
    known = frozenset(column for head in student.heads.values() for column in head.inputs.columns)
    by_columns: dict[frozenset[str], tuple[str, ...]] = {}
    if keys is None:
        there = column_names(file)
        by_columns[known.intersection(there)] = student.answerable(there, tasks)
        n_rows = _n_rows(file)
    else:
        n_rows = 0
        for line, columns in keys:
            n_rows += 1
            if (has := known.intersection(columns)) not in by_columns:
                where = f"{file}, line {line}: "
                try:
                    by_columns[has] = student.answerable(columns, tasks, where=where)
                except UsageError as error:
                    if not by_columns:  # the first row: file and student do not fit
                        raise
                    raise DataError(
                        error.thing, got=error.got, wanted=error.wanted, todo=error.todo
                    ) from None
            if n_rows % _CHUNK_ROWS == 0:
                progress.stop.check(f"looking through {file}, line {line}")
        if not n_rows:
            column_names(file)  # says that the file is empty
    answered = {task for names in by_columns.values() for task in names}
    for name in student.tasks if tasks is None else ():
        if name not in answered:
            wanted = student.heads[name].inputs.columns
            lacking = [c for c in wanted if not any(c in has for has in by_columns)]
            progress.say(f"task '{name}' is left out: no column {', '.join(lacking or wanted)}")
    chosen = tuple(task for task in (tasks or student.tasks) if task in answered)
    read = tuple(dict.fromkeys(c for task in chosen for c in student.heads[task].inputs.columns))
    mixed = len(set(by_columns.values())) > 1
    return _Plan(
        tasks=chosen,
        columns=read,
        by_columns={has.intersection(read): names for has, names in by_columns.items()}
        if mixed
        else None,
        n_rows=n_rows,
    )


def _where(file: Path, places: Sequence[int]) -> Callable[[int], str]:
    """The place of a chunk's row in its file: answers count rows from 0, but who mends opens it."""
    origin = origin_of(file, "")
    note = "" if origin.unit == "line" else " (the first is 1)"
    return lambda i: origin.where(places[i]) + note


def _n_rows(file: Path) -> float | None:
    """Rows for the bar: lines, where a quoted line break may count as a row; None if unknown."""
    if file.suffix == ".parquet":
        return float(pq.read_metadata(file).num_rows)
    if file.suffix == ".gz":
        return None
    with file.open("rb") as lines:
        n_lines = sum(block.count(b"\n") for block in iter(lambda: lines.read(1 << 20), b""))
    return n_lines - (file.suffix in (".csv", ".tsv")) or None
