"""The student: a finished multi-task network, loaded from its folder, that answers rows.

student = Student.load("runs/x/student")
student.predict({"sentence": "A warm, funny film."}, tasks=["sst2"])
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import pyarrow as pa

from potstill.core.device import Device, resolve_device
from potstill.core.errors import ArtefactError, DataError, UsageError
from potstill.core.files import MANIFEST, verify
from potstill.models.base_folder import STUDENT_FILE
from potstill.students.classifier import save_classifier
from potstill.tasks.sources import ArrowStream, PandasConvertible
from potstill.training.network import Network, load_network

Row = Mapping[str, object]


class Student:
    """One network that answers many tasks.

    Args:
        network: Encoder, heads and label spaces.
        folder: Where it was loaded from.
        device: Where it runs.
    """

    def __init__(self, network: Network, folder: Path, device: Device) -> None:
        self.network = network
        self.folder = folder
        self.device = device

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto", precision: str = "auto") -> Student:
        """Load a student after checking every byte against its manifest.

        Args:
            folder: A student's folder, or a run's folder that holds one.
            device: ``auto``, ``cpu``, ``cuda``, ``mps``.
            precision: ``auto``, ``fp32`` or ``bf16``.

        Raises:
            ArtefactError: No student is there, or a file of it is damaged.
        """
        place = Path(folder)
        if not (place / STUDENT_FILE).is_file() and (place / "student" / STUDENT_FILE).is_file():
            place = place / "student"
        if not (place / STUDENT_FILE).is_file():
            raise ArtefactError(
                f"student folder {place}",
                got="no student there" if place.is_dir() else "no such folder",
                wanted=f"a folder with {STUDENT_FILE}, as a run leaves it under student/",
                todo="give the folder that `potstill run` printed; `potstill runs` lists them",
            )
        if precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"precision '{precision}': wanted auto, fp32 or bf16")
        again = "copy the student's folder whole, or run the command that made it again"
        if (place / MANIFEST).is_file():
            try:
                verify(place)
            except ArtefactError as error:  # whose advice is for stages, which can be deleted
                raise ArtefactError(
                    error.thing, got=error.got, wanted=error.wanted, todo=again
                ) from error
        else:
            raise ArtefactError(
                str(place / MANIFEST),
                got="no manifest",
                wanted="the digests of the student's files",
                todo=again,
            )
        resolved = resolve_device(device, precision)  # type: ignore[arg-type]
        return cls(load_network(place), place, resolved)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that it answers."""
        return tuple(self.network.tasks)

    @property
    def n_parameters(self) -> int:
        """Parameters of encoder and heads."""
        return self.network.n_parameters

    @overload
    def predict(self, rows: Row, tasks: Sequence[str] | None = None) -> dict[str, Any]: ...

    @overload
    def predict(
        self,
        rows: Sequence[Row] | ArrowStream | PandasConvertible,
        tasks: Sequence[str] | None = None,
    ) -> list[dict[str, Any]]: ...

    def predict(
        self,
        rows: Row | Sequence[Row] | ArrowStream | PandasConvertible,
        tasks: Sequence[str] | None = None,
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Answer one row or many.

        Tasks that read the same columns are answered from one encoder pass.

        Args:
            rows: A row (column name to value), a list of rows, an Arrow table or a DataFrame;
                columns that no task reads are ignored.
            tasks: Which tasks to answer; None answers all whose columns the first row has.

        Returns:
            For one row ``{task: {"prediction": ..., "scores": {...}}}``; for many a list of
            ``{"row": index, "tasks": {...}}``.

        Raises:
            UsageError: ``rows`` is something else, a task is unknown, or no task can be answered
                from these columns.
            DataError: A value is missing or not text.

        Examples:
            >>> student = load("runs/reviews/student")  # doctest: +SKIP
            >>> student.predict({"sentence": "A warm, funny film."})  # doctest: +SKIP
            {'sst2': {'prediction': 'positive', 'scores': {'negative': 0.02, 'positive': 0.98}}}
        """
        if isinstance(rows, Mapping):
            return self.predict([rows], tasks)[0]["tasks"]  # type: ignore[no-any-return]
        rows = _dicts(rows)
        if not rows:
            return []
        names = self.answerable(list(rows[0]), tasks)
        columns = {c for t in names for c in self.network.tasks[t].inputs.columns}
        table = {c: [row.get(c) for row in rows] for c in columns}
        return list(self.answer(table, names, start=0))

    def answerable(self, columns: Sequence[str], tasks: Sequence[str] | None) -> tuple[str, ...]:
        """The tasks to answer for rows with these columns.

        Raises:
            UsageError: A task is unknown, lacks a column, or nothing can be answered.
        """
        there = set(columns)
        readable = {
            name: set(head.inputs.columns) <= there for name, head in self.network.tasks.items()
        }
        wanted = list(readable) if tasks is None else list(tasks)
        for name in wanted:
            if name not in readable:
                raise UsageError(
                    f"task '{name}'",
                    got="a task that the student does not know",
                    wanted=f"one of {', '.join(readable)}",
                    todo="check the name, or leave the tasks out to get all",
                )
            if tasks is not None and not readable[name]:
                raise UsageError(
                    f"task '{name}'",
                    got=f"rows with the columns {', '.join(columns)}",
                    wanted=", ".join(self.network.tasks[name].inputs.columns),
                    todo="add the columns, or leave the task out",
                )
        chosen = tuple(name for name in wanted if readable[name])
        if not chosen:
            needs = "; ".join(
                f"{name}: {', '.join(head.inputs.columns)}"
                for name, head in self.network.tasks.items()
            )
            raise UsageError(
                "no task can be answered",
                got=f"rows with the columns {', '.join(columns) or '(none)'}",
                wanted=f"the columns of a task ({needs})",
                todo="rename the columns of the input",
            )
        return chosen

    def answer(
        self, table: Mapping[str, Sequence[object]], tasks: Sequence[str], *, start: int
    ) -> Iterator[dict[str, Any]]:
        """Answer a table of rows, numbered from ``start``.

        Raises:
            DataError: A value is missing or not text, with its row.
        """
        answers: dict[str, list[dict[str, Any]]] = {}
        n_rows = 0
        for group in self.network.passes(tasks):
            head = self.network.tasks[group[0]]
            inputs = self._checked(table, head.inputs.columns, start)
            tokens = self.network.tokenise(group[0], inputs)
            n_rows = len(tokens)
            for task, outputs in self.network.outputs(tokens, group, self.device).items():
                kind = self.network.tasks[task].kind
                answers[task] = kind.decode(kind.predict(outputs))
        for i in range(n_rows):
            yield {"row": start + i, "tasks": {task: answers[task][i] for task in tasks}}

    def save_classifier(self, task: str, folder: str | Path) -> Path:
        """Write one task as a standard transformers classifier.

        ``AutoModelForSequenceClassification.from_pretrained(folder)`` then gives the same
        logits; see :func:`potstill.students.classifier.save_classifier` for how.

        Raises:
            UsageError: The task is unknown, or cannot be said as such a classifier.
        """
        if task not in self.network.tasks:
            self.answerable([], [task])
        return save_classifier(self.network, task, Path(folder))

    def _checked(
        self, table: Mapping[str, Sequence[object]], columns: Sequence[str], start: int
    ) -> dict[str, list[str]]:
        checked: dict[str, list[str]] = {}
        for column in columns:
            values: list[str] = []
            for i, value in enumerate(table[column]):
                if not isinstance(value, str):
                    raise DataError(
                        f"row {start + i}, column '{column}'",
                        got="no value" if value is None else f"{type(value).__name__} {value!r}",
                        wanted="text",
                        todo="fill it in, or leave the row out",
                    )
                values.append(value)
            checked[column] = values
        return checked


def _dicts(rows: object) -> Sequence[Row]:
    """Rows as dicts, whatever table they come in."""
    if hasattr(rows, "to_pandas") and not hasattr(rows, "__arrow_c_stream__"):
        rows = rows.to_pandas()
    if hasattr(rows, "iloc") and hasattr(rows, "columns"):  # an older pandas hands out no stream
        rows = pa.Table.from_pandas(rows, preserve_index=False)
    elif hasattr(rows, "__arrow_c_stream__"):
        rows = pa.table(rows)
    if isinstance(rows, pa.Table):
        found: list[Row] = rows.to_pylist()
        return found
    if isinstance(rows, Sequence) and all(isinstance(row, Mapping) for row in rows):
        return rows
    raise UsageError(
        "rows to predict",
        got=f"{type(rows).__name__} {rows!r:.60}",
        wanted="a dict (column to text), a list of dicts, an Arrow table or a DataFrame",
        todo="put the text under the column that the task reads: {'text': ...}",
    )
