"""Rows in, answers out: what a student and an exported bundle have in common. Needs no torch.

Checks rows, decides which tasks they can answer, lets tasks that read the same text share a pass,
and decodes. How outputs are computed is the business of what derives from :class:`Predictor`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np

from potstill.core.errors import UsageError
from potstill.kinds import Kind, kind_from_json
from potstill.models.token_rows import TokenRows
from potstill.tasks.inputs import READERS, Columns, Reader
from potstill.tasks.records import separator_hint
from potstill.tasks.tables import dicts_of

if TYPE_CHECKING:  # reading files needs pyarrow, a service does not
    from potstill.tasks.sources import ArrowStream, PandasConvertible

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskHead:
    """What a network knows of one of its tasks.

    Attributes:
        kind: Kind and label space.
        inputs: How it reads its columns.
        metric: Name of the metric it was chosen by.
    """

    kind: Kind
    inputs: Reader
    metric: str


class Predictor(ABC):
    """Something that answers rows for several tasks."""

    @property
    @abstractmethod
    def heads(self) -> Mapping[str, TaskHead]:
        """The tasks in order."""

    @property
    @abstractmethod
    def task_token(self) -> bool:
        """A task-identifier token stands before each text, so each task needs its own pass."""

    @property
    @abstractmethod
    def max_tokens(self) -> int:
        """Longer rows lose their end."""

    @abstractmethod
    def outputs(
        self, tasks: Sequence[str], inputs: Columns
    ) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
        """Outputs (S, C) of tasks that share a pass, for N rows given as columns.

        Returns:
            Task to outputs, and (N,) which rows were too long and lost their end.
        """

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that it answers."""
        return tuple(self.heads)

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
            rows: A row (column name to value), a list of rows, an Arrow table, a DataFrame or a
                row of it; columns that no task reads are ignored.
            tasks: Which tasks to answer; None answers each row for all whose columns it has.

        Returns:
            For one row ``{task: {"prediction": ..., "scores": {...}}}``; for many a list of
            ``{"row": index, "tasks": {...}}``.

        Raises:
            UsageError: ``rows`` is something else, a task is unknown, or a row lacks the columns
                of every task or of one that was asked for.
            DataError: A value is missing or not text.

        Examples:
            >>> student = load("runs/reviews/student")  # doctest: +SKIP
            >>> student.predict({"sentence": "A warm, funny film."})  # doctest: +SKIP
            {'sst2': {'prediction': 'positive', 'scores': {'negative': 0.02, 'positive': 0.98}}}
        """
        if hasattr(rows, "iloc") and not hasattr(rows, "columns"):  # one row of a DataFrame
            rows = cast("Any", rows).to_dict()
        if isinstance(rows, Mapping):
            return self.predict([rows], tasks)[0]["tasks"]  # type: ignore[no-any-return]
        rows = dicts_of(rows, {c for head in self.heads.values() for c in head.inputs.columns})
        wanted: dict[tuple[str, ...], tuple[str, ...]] = {}
        for i, row in enumerate(rows):
            columns = tuple(row)
            if columns not in wanted:
                where = f"row {i}: " if len(rows) > 1 else ""
                wanted[columns] = self.answerable(columns, tasks, where=where)
        asked = [wanted[tuple(row)] for row in rows]
        return self.answer_mixed(rows, asked, numbers=range(len(rows)))[0]

    def answerable(
        self, columns: Sequence[str], tasks: Sequence[str] | None, *, where: str = ""
    ) -> tuple[str, ...]:
        """The tasks to answer for rows with these columns; ``where`` heads the message of a fault.

        Raises:
            UsageError: A task is unknown, lacks a column, or nothing can be answered.
        """
        there = set(columns)
        readable = {n: set(head.inputs.columns) <= there for n, head in self.heads.items()}
        if isinstance(tasks, str) or (tasks is not None and not tasks):
            raise UsageError(
                "tasks",
                got=f"'{tasks}'" if tasks else "none",
                wanted=f"a list of names: of {', '.join(self.heads)}",
                todo="name some, or leave the tasks out to get all",
            )
        wanted = list(readable) if tasks is None else list(tasks)
        for name in wanted:
            if name not in readable:
                raise self.unknown_task(name)
            if tasks is not None and not readable[name]:
                raise UsageError(
                    f"{where}task '{name}'",
                    got=f"rows with the columns {', '.join(columns) or '(none)'}",
                    wanted=", ".join(self.heads[name].inputs.columns),
                    todo=separator_hint(columns) or "add the columns, or leave the task out",
                )
        chosen = tuple(name for name in wanted if readable[name])
        if not chosen:
            needs = "; ".join(f"{n}: {', '.join(h.inputs.columns)}" for n, h in self.heads.items())
            raise UsageError(
                f"{where}no task can be answered",
                got=f"rows with the columns {', '.join(columns) or '(none)'}",
                wanted=f"the columns of a task ({needs})",
                todo=separator_hint(columns) or "rename the columns of the input",
            )
        return chosen

    def answer(
        self,
        table: Mapping[str, Sequence[object]],
        tasks: Sequence[str],
        *,
        numbers: Sequence[int],
        where: Callable[[int], str] | None = None,
    ) -> tuple[list[dict[str, Any]], int]:
        """Answer a table of rows.

        Args:
            table: Values by column.
            tasks: What to answer.
            numbers: Of its rows, in the answers.
            where: Place of a row of the table (from 0), for messages; None: its number.

        Returns:
            The answers, and how many rows were too long for a task and lost their end.

        Raises:
            DataError: A value is missing or not text, with its row.
        """
        answers: dict[str, list[dict[str, Any]]] = {}
        cut = np.zeros(len(numbers), bool)
        for group in passes(self.heads, tasks, task_token=self.task_token):
            reader = self.heads[leader(self.heads, group)].inputs
            inputs = reader.checked(table, where or (lambda i: f"row {numbers[i]}"))
            found, too_long = self.outputs(group, inputs)
            cut |= too_long
            for task, outputs in found.items():
                answers[task] = decoded(self.heads[task], outputs, inputs)
        rows = [
            {"row": number, "tasks": {task: answers[task][i] for task in tasks}}
            for i, number in enumerate(numbers)
        ]
        return rows, int(cut.sum())

    def answer_mixed(
        self,
        rows: Sequence[Row],
        tasks: Sequence[tuple[str, ...]],
        *,
        numbers: Sequence[int],
        where: Callable[[int], str] | None = None,
    ) -> tuple[list[dict[str, Any]], int]:
        """Answer rows for tasks of their own: ``tasks[i]`` are those of ``rows[i]``.

        Args:
            rows: Column to value.
            tasks: What to answer.
            numbers: As :meth:`answer`.
            where: As :meth:`answer`.

        Returns:
            As :meth:`answer`.

        Raises:
            DataError: As :meth:`answer`.
        """
        together: dict[tuple[str, ...], list[int]] = {}
        for i, names in enumerate(tasks):
            together.setdefault(names, []).append(i)
        answers: dict[int, dict[str, Any]] = {}
        n_cut = 0
        for names, chosen in together.items():
            columns = {c for task in names for c in self.heads[task].inputs.columns}
            table = {c: [rows[i].get(c) for i in chosen] for c in columns}
            found, n = self.answer(
                table,
                names,
                numbers=[numbers[i] for i in chosen],
                where=None if where is None else partial(_of_chosen, where, chosen),
            )
            answers |= zip(chosen, found, strict=True)
            n_cut += n
        return [answers[i] for i in range(len(rows))], n_cut

    def unknown_task(self, name: str) -> UsageError:
        """The error for a task that is not there."""
        return UsageError(
            f"task '{name}'",
            got="a task that the student does not know",
            wanted=f"one of {', '.join(self.heads)}",
            todo="check the name",
        )


def _of_chosen(where: Callable[[int], str], chosen: Sequence[int], i: int) -> str:
    return where(chosen[i])


def passes(
    heads: Mapping[str, TaskHead], tasks: Iterable[str], *, task_token: bool
) -> list[tuple[str, ...]]:
    """Tasks that can share an encoder pass: those that read the same columns, no task token.

    Words of a column are read as its text is, so tasks on either share; a question and a passage
    are read in windows, which a pair of texts is not.
    """
    if task_token:
        return [(task,) for task in tasks]
    by_columns: dict[tuple[str, ...], list[str]] = {}
    for task in tasks:
        by_columns.setdefault(shared_by(heads[task]), []).append(task)
    return [tuple(group) for group in by_columns.values()]


def shared_by(head: TaskHead) -> tuple[str, ...]:
    """What tasks of one pass have in common."""
    columns = head.inputs.columns
    return columns if len(columns) == 1 else (*columns, head.kind.reads)


def leader(heads: Mapping[str, TaskHead], group: Sequence[str]) -> str:
    """The task of a pass whose reader reads for all: one with slots, where there is one."""
    return next((task for task in group if heads[task].kind.slotted), group[0])


def readers_of(heads: Mapping[str, TaskHead]) -> dict[str, Reader]:
    """Who reads each column; of several the one with slots, which asks for most."""
    readers: dict[str, Reader] = {}
    for head in sorted(heads.values(), key=lambda head: head.kind.slotted):
        readers |= dict.fromkeys(head.inputs.columns, head.inputs)
    return readers


def lost_ends(heads: Mapping[str, TaskHead], tasks: Sequence[str], tokens: TokenRows) -> np.ndarray:
    """(N,) rows of a pass that were too long for one of its tasks, which read them without an end.

    Tasks with slots read on in windows.
    """
    if tokens.windows is None or all(heads[task].kind.slotted for task in tasks):
        return tokens.truncated
    return np.asarray(tokens.truncated | (np.diff(tokens.windows) > 1))


def slots_at_last(heads: Mapping[str, TaskHead]) -> list[tuple[int, ...] | None]:
    """For each task what an engine must know of its slots: see ``Engine.outputs``."""
    return [h.kind.at_last if h.kind.slotted else None for h in heads.values()]


def of_rows(outputs: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Outputs of rows from those of their texts.

    Args:
        outputs: (R, C) of texts, or (R,) arrays (slots of the text, C).
        windows: (N + 1,) the texts of row i are ``windows[i]`` to ``windows[i + 1]``.

    Returns:
        (N, C) of each row's first text, or (S, C) of all slots in order.
    """
    if outputs.dtype != object:
        return np.asarray(outputs[windows[:-1]])
    return np.concatenate([*outputs[windows[0] : windows[-1]]])


def decoded(head: TaskHead, outputs: np.ndarray, inputs: Columns) -> list[dict[str, Any]]:
    """Answers of a task for rows, from its outputs (S, C) for them."""
    slots = head.inputs.slots(inputs) if head.kind.slotted else None
    groups = None if slots is None else np.repeat(np.arange(len(slots)), slots)
    predictions = head.kind.predict(outputs, groups)
    return head.kind.decode(predictions, head.inputs.in_order(inputs), groups)


def heads_to_json(heads: Mapping[str, TaskHead]) -> dict[str, dict[str, Any]]:
    """The tasks as a student's folder records them."""
    return {
        name: {
            "space": head.kind.to_json(),
            "columns": list(head.inputs.columns),
            "metric": head.metric,
        }
        for name, head in heads.items()
    }


def heads_from_json(facts: Mapping[str, Any]) -> dict[str, TaskHead]:
    """Restore what :func:`heads_to_json` gave."""
    return {name: _head(kind_from_json(entry["space"]), entry) for name, entry in facts.items()}


def _head(kind: Kind, entry: Mapping[str, Any]) -> TaskHead:
    return TaskHead(
        kind=kind,
        inputs=READERS[kind.reads](columns=tuple(entry["columns"])),
        metric=str(entry["metric"]),
    )
