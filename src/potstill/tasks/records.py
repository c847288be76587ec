"""What every reader of rows gives back: chunks of good rows, and the faults of the bad ones.

Knows how a fault is counted and worded; no file format, no task.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from potstill.core.errors import DataError

ABSENT: Final = object()
"""Stands for the value of a column that a row does not have, where rows may lack some."""

_SHOWN_FAULTS = 5
_SHOWN_COLUMNS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """A row that was left out, and why.

    Attributes:
        place: Line of the file where the row starts, from 1 (parquet and Arrow files: row from 1;
            rows given in Python: index from 0).
        column: The column that is faulty, or None where the whole row is.
        reason: What is wrong with it.
    """

    place: int
    column: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some good rows, in the order of the source.

    Attributes:
        places: Place of each row, as in :class:`BadRow`.
        columns: The values of each column that was asked for, one list a column.
    """

    places: list[int]
    columns: list[list[object]]

    @classmethod
    def of(cls, records: Iterable[tuple[int, Sequence[object]]]) -> Chunk:
        """From ``(place, values)`` rows; there must be one at least."""
        places, rows = zip(*records, strict=True)
        return cls(places=list(places), columns=[list(c) for c in zip(*rows, strict=True)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where rows come from and what they are for, as messages put it.

    Attributes:
        source: The file's path, or words for rows that came from Python.
        unit: What places count: lines of the file, or rows.
        what: What the rows are for, ``"task 'rte', train"``; may be empty.
    """

    source: str
    unit: str
    what: str

    def where(self, place: int | None = None, column: str | None = None) -> str:
        """``data/rte.csv, line 12, column 'label'``."""
        text = self.source if place is None else f"{self.source}, {self.unit} {place}"
        return text if column is None else f"{text}, column '{column}'"

    def fault(
        self,
        *,
        got: str,
        wanted: str,
        todo: str,
        place: int | None = None,
        column: str | None = None,
    ) -> DataError:
        """The error for a fault of this source."""
        where = self.where(place, column)
        thing = f"{self.what}: {where}" if self.what else where
        return DataError(thing, got=got, wanted=wanted, todo=todo)


@dataclass(slots=True, kw_only=True)
class RowFaults:
    """Counts the bad rows of a source and raises once there are more than may be skipped.

    Attributes:
        origin: Where the rows come from.
        limit: How many bad rows may be skipped.
        may_skip: Whether the caller offers to skip any; messages say so.
        skipped: The bad rows so far.
    """

    origin: Origin
    limit: int = 0
    may_skip: bool = True
    skipped: list[BadRow] = field(default_factory=list)

    def add(self, place: int, column: str | None, reason: str, *, wanted: str) -> None:
        """Record a bad row.

        Raises:
            DataError: It is one more than may be skipped.
        """
        bad = BadRow(place=place, column=column, reason=reason)
        if len(self.skipped) < self.limit:
            self.skipped.append(bad)
            return
        if not self.limit:
            raise self.origin.fault(
                place=place,
                column=column,
                got=reason,
                wanted=wanted,
                todo=how_to_mend([reason])
                + (
                    ", or allow faulty rows to be left out with `--skip-bad-rows N` "
                    "(from Python: skip_bad_rows=N)"
                    if self.may_skip
                    else ", or leave it out"
                ),
            )
        shown = [*self.skipped[:_SHOWN_FAULTS], bad]
        dots = "; …" if len(self.skipped) > _SHOWN_FAULTS else ""
        first = "; ".join(self._line(row) for row in shown[:-1])
        raise self.origin.fault(
            got=f"{self.limit + 1} faulty rows or more: {first}{dots}; {self._line(bad)}",
            wanted=f"at most {self.limit}, the number that may be skipped",
            todo=f"{how_to_mend(row.reason for row in shown)}, or allow more with "
            f"`--skip-bad-rows N`, N above {self.limit} "
            "(from Python: skip_bad_rows=N)",
        )

    def add_lines(
        self, first: int, last: int, column: str | None, reason: str, wanted: str
    ) -> None:
        """Record a bad row that takes several lines: each of them counts.

        A stray quote can swallow good rows; counting lines keeps them from going unseen.

        Raises:
            DataError: There are more than may be skipped.
        """
        span = "" if first == last else f" (the row runs to line {last}: a stray quote?)"
        self.add(first, column, reason + span, wanted=wanted)
        for line in range(first + 1, last + 1):
            self.add(line, column, f"belongs to the faulty row of line {first}", wanted=wanted)

    def _line(self, bad: BadRow) -> str:
        column = "" if bad.column is None else f", column '{bad.column}'"
        return f"{self.origin.unit} {bad.place}{column}: {bad.reason}"


class RowColumns:
    """Picks columns of rows that name their own, and tells a wrong name from gaps.

    A column that some rows lack is a fault of those rows; one that no row has is one of the
    source, whatever number of rows may be skipped.
    """

    def __init__(self, columns: Sequence[str], faults: RowFaults) -> None:
        self._columns = columns
        self._faults = faults
        self._unseen = set(columns)
        self._first: list[str] = []  # the columns of the first row that lacked one

    def pick(self, place: int, row: Mapping[Any, object]) -> list[object] | None:
        """The values of a row; None where it lacks a column, which is counted.

        Raises:
            DataError: More rows are faulty than may be skipped.
        """
        lacking = next((column for column in self._columns if column not in row), None)
        if lacking is not None and (named := with_text_names(row)) is not row:
            return self.pick(place, named)
        if lacking is None:
            self._unseen.clear()
            return [row[column] for column in self._columns]
        there = [str(name) for name in row]
        self._first = self._first or there
        self._unseen.difference_update(there)
        if lacking in self._unseen and len(self._faults.skipped) >= self._faults.limit:
            raise no_column(lacking, self._first, self._faults.origin)
        wanted = f"a value, or null, for '{lacking}' in every row"
        self._faults.add(place, lacking, missing_column(lacking, there), wanted=wanted)
        return None

    def finish(self) -> None:
        """After the last row.

        Raises:
            DataError: No row had one of the columns.
        """
        lacking = next((column for column in self._columns if column in self._unseen), None)
        if lacking is not None and self._first:
            raise no_column(lacking, self._first, self._faults.origin)


def with_text_names(row: Mapping[Any, object]) -> Mapping[str, object]:
    """A row whose columns have texts as names: tables without a header have numbers."""
    if all(isinstance(name, str) for name in row):
        return row
    return {str(name): value for name, value in row.items()}


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name most like ``name``, whatever the case; None where none is like it."""
    by_fold = {candidate.casefold().strip(): candidate for candidate in reversed(list(known))}
    near = difflib.get_close_matches(name.casefold().strip(), by_fold, 1, cutoff=0.5)
    return by_fold[near[0]] if near else None


def missing_column(wanted: str, there: Sequence[str]) -> str:
    """Words for a column that is not there: which ones are, and the nearest."""
    shown = ", ".join(f"'{name}'" for name in there[:_SHOWN_COLUMNS])
    more = f" and {len(there) - _SHOWN_COLUMNS} more" if len(there) > _SHOWN_COLUMNS else ""
    near = nearest(wanted, there)
    hint = "" if near is None else f"; nearest: '{near}'"
    return f"no column '{wanted}'; there are {shown}{more}{hint}" if there else "no columns"


def need_columns(columns: Sequence[str], there: Sequence[str], origin: Origin) -> None:
    """Refuse a source that lacks a column, or has it twice.

    Raises:
        DataError: It does.
    """
    for column in columns:
        n = there.count(column)
        if n == 0:
            raise no_column(column, there, origin)
        if n > 1:
            raise origin.fault(
                column=column,
                got=f"{n} columns of that name",
                wanted="one",
                todo="rename or drop the others: which one is meant cannot be known",
            )


NOT_UTF8 = "not UTF-8"
"""How the reason of a row begins whose bytes are no text."""


def how_to_mend(reasons: Iterable[str]) -> str:
    """What to do about rows that could not be read."""
    if any(reason.startswith(NOT_UTF8) for reason in reasons):
        return "save the file as UTF-8"
    return "mend the rows"


class NoColumnError(DataError):
    """A source lacks a column."""


def no_column(column: str, there: Sequence[str], origin: Origin) -> NoColumnError:
    """The error for a source that lacks a column."""
    near = nearest(column, there)
    hint = "" if near is None else f" ('{near}' is nearest)"
    separated = separator_hint(there)
    fault = origin.fault(
        column=column,
        got=missing_column(column, there),
        wanted=f"a column '{column}'",
        todo=separated or f"name a column that is there{hint}, or add the column to the data",
    )
    return NoColumnError(fault.thing, got=fault.got, wanted=fault.wanted, todo=fault.todo)


def separator_hint(columns: Sequence[str]) -> str:
    """What to do about a header that looks as if something else parted its columns; else empty."""
    if len(columns) != 1:
        return ""
    marks = {";": "semicolons", "\t": "tabs", "|": "bars"}
    used = [name for mark, name in marks.items() if mark in columns[0].strip(mark)]
    if not used:
        return ""
    return f"its columns seem to be parted by {used[0]}: write it with commas, or with tabs as .tsv"
