"""What is wrong, or worth knowing, with a task's rows.

Pure functions: values in, findings out. They read no files and know no run file, no kind; a row's
place comes from the caller's ``where``, such as :meth:`potstill.tasks.sources.Rows.where`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from potstill.core.characters import is_unseen, number_in
from potstill.tasks.rowids import sort_keys

Severity = Literal["error", "warning", "note"]
Where = Callable[[int], str]
"""Row index, from 0, to its place in words."""

_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")
_SHOWN_PLACES = 5
_SHOWN_REASONS = 20
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about a task's data that the user should know.

    Attributes:
        severity: ``error`` stops a run, ``warning`` may spoil it, ``note`` informs.
        what: What was found, with counts.
        where: Place of the first row that it concerns, or None.
        todo: What to do about it; empty for notes.
    """

    severity: Severity
    what: str
    where: str | None
    todo: str


def find_empty_split(n_rows: int, split: str, source: str) -> list[Finding]:
    """An error for a split without rows."""
    if n_rows:
        return []
    return [an_error(f"{split} has no rows", source, "check the file, or leave the split out")]


def find_empty_texts(
    columns: Mapping[str, Sequence[object]],
    where: Where,
    is_empty: Callable[[Any], bool] | None = None,
) -> list[Finding]:
    """An error for each input column with values that are None or blank text.

    Args:
        columns: Values of the input columns by name.
        where: Place of a row.
        is_empty: Whether a value that is a list says nothing.
    """
    found = []
    for name, values in columns.items():
        empty = [
            i
            for i, value in enumerate(values)
            if _is_blank(value) or (isinstance(value, list) and is_empty and is_empty(value))
        ]
        if empty:
            what = f"column '{name}': {in_rows(len(empty))} without text{_also(empty, where)}"
            found.append(an_error(what, where(empty[0]), "fill the texts in, or remove the rows"))
    return found


def find_non_texts(
    columns: Mapping[str, Sequence[object]],
    where: Where,
    fault_of: Callable[[object], str | None] | None = None,
    wanted: str = "text",
) -> list[Finding]:
    """An error for each input column with values that are not text: numbers are not converted.

    Args:
        columns: Values of the input columns by name; None is left to :func:`find_empty_texts`.
        where: Place of a row.
        fault_of: Why a value is not what the task reads; None takes strings only.
        wanted: What the task reads.
    """
    found = []
    for name, values in columns.items():
        odd = [
            i
            for i, v in enumerate(values)
            if v is not None
            and (not isinstance(v, str) if fault_of is None else fault_of(v) is not None)
            and not (isinstance(v, list) and not v)  # reported as empty
        ]
        if odd:
            first = values[odd[0]]
            why = fault_of(first) if fault_of is not None else None
            what = (
                f"column '{name}': {in_rows(len(odd))} with a value that is not {wanted}, first "
                f"{why or f'{type(first).__name__} {_short(first)}'}{_also(odd, where)}"
            )
            todo = f"write the values as {wanted}, or name another column"
            if wanted == "text":
                todo = "write the values as strings, or name another column under `text:`"
            found.append(an_error(what, where(odd[0]), todo))
    return found


def find_missing_labels(
    column: str, labels: Sequence[object], where: Where, *, numeric: bool = False
) -> list[Finding]:
    """Errors for labels that are missing (None, NaN, blank) and for infinite ones.

    Args:
        column: The label column's name.
        labels: Its values.
        where: Place of a row.
        numeric: Labels are numbers: text is read as a number, and what is none is an error too.
    """
    rows: dict[str, list[int]] = {"missing (empty)": [], "NaN": [], "infinite": [], "no number": []}
    for i, label in enumerate(labels):
        fault = label_fault(label, numeric=numeric)
        if fault is not None:
            rows[fault].append(i)
    return [
        an_error(
            f"column '{column}': the label of {in_rows(len(faulty))} is {fault}, first "
            f"{_short(labels[faulty[0]])}{_also(faulty, where)}",
            where(faulty[0]),
            "give the rows a label, or remove them; rows without labels belong into `pool:`",
        )
        for fault, faulty in rows.items()
        if faulty
    ]


def label_fault(label: object, *, numeric: bool) -> str | None:
    """Why a label is no label, whatever the label space: in one or two words, or None."""
    if _is_blank(label):
        return "missing (empty)"
    number = label
    if numeric or isinstance(label, float | np.floating):
        try:
            number = number_in(label)
        except (TypeError, ValueError, OverflowError):
            return "no number"
    if isinstance(number, float):
        if math.isnan(number):
            return "NaN"
        if math.isinf(number):
            return "infinite"
    return None


def find_single_value(
    column: str, labels: Sequence[object], where: Where, *, thing: str = "class"
) -> list[Finding]:
    """An error where all train labels are the same: there is nothing to learn.

    Args:
        column: The label column's name.
        labels: The train labels, at least one, without missing ones.
        where: Place of a row.
        thing: What a label is: ``class``, ``value`` or ``relevance``.
    """
    distinct = {str(label).strip() for label in labels}
    if len(distinct) != 1:
        return []
    n = in_rows(len(labels))
    what = f"column '{column}': all {n} of train have one {thing}: '{distinct.pop()}'"
    return [an_error(what, where(0), f"give train rows of a second {thing}, or drop the task")]


def find_unfit_labels(
    column: str,
    labels: Sequence[object],
    where: Where,
    encode: Callable[[object], object],
    *,
    numeric: bool = False,
) -> list[Finding]:
    """Errors for labels outside the label space: unknown classes, numbers out of range.

    Labels that :func:`find_missing_labels` reports are passed over.

    Args:
        column: The label column's name.
        labels: Its values.
        where: Place of a row.
        encode: The kind's ``encode_label``; its ValueError says why a label does not fit, with
            the nearest known label or the range.
        numeric: As for :func:`find_missing_labels`.

    Returns:
        One finding for each distinct reason, twenty at most and one that counts the others.
    """
    rows: dict[str, list[int]] = {}
    reasons: dict[str, str] = {}
    for i, label in enumerate(labels):
        try:
            encode(label)
        except ValueError as error:
            if label_fault(label, numeric=numeric) is None:
                # Numbers out of range are one fault, whichever they are.
                same = _NUMBER.sub("", str(error), count=1) if numeric else str(error)
                rows.setdefault(same, []).append(i)
                reasons.setdefault(same, str(error))
    found = []
    for same, unfit in list(rows.items())[:_SHOWN_REASONS]:
        reason = reasons[same]
        what = f"column '{column}': {reason}; {in_rows(len(unfit))}{_also(unfit, where)}"
        todo = "correct the label; or the train data, the classes or the range, if those are wrong"
        found.append(an_error(what, where(unfit[0]), todo))
    rest = list(rows.values())[_SHOWN_REASONS:]
    if rest:
        n_rows = sum(map(len, rest))
        what = f"column '{column}': {len(rest)} more kinds of unfit labels in {in_rows(n_rows)}"
        found.append(an_error(what, where(rest[0][0]), "correct those above first"))
    return found


def find_faulty_labels(column: str, faults: Mapping[int, str], where: Where) -> list[Finding]:
    """Errors for labels that a kind refuses, twenty at most and one that counts the others.

    Args:
        column: The label column's name.
        faults: Row to what is wrong with its label.
        where: Place of a row.
    """
    found = [
        an_error(f"column '{column}': {why}", where(i), "correct the label, or leave the row out")
        for i, why in list(faults.items())[:_SHOWN_REASONS]
    ]
    rest = list(faults)[_SHOWN_REASONS:]
    if rest:
        what = f"column '{column}': {in_rows(len(rest))} more with faulty labels"
        found.append(an_error(what, where(rest[0]), "correct those above first"))
    return found


def find_duplicates(
    ids: np.ndarray, labels: Sequence[object] | np.ndarray | None, split: str, where: Where
) -> list[Finding]:
    """Warnings for rows that repeat the inputs of an earlier one; different labels apart.

    Args:
        ids: (N, 16) row ids.
        labels: N labels, or None in a pool. Equal labels must be equal values.
        split: The split's name.
        where: Place of a row.
    """
    _, first, group = np.unique(sort_keys(ids), return_index=True, return_inverse=True)
    original = first[group]  # unique gives the first occurrence of each id
    again = np.flatnonzero(original != np.arange(len(ids)))
    if not len(again):
        return []
    i = int(again[0])
    what = f"{split}: {in_rows(len(again))} with the inputs of an earlier row, first {where(i)}"
    what += f", which repeats {where(int(original[i]))}{_also(again, where)}"
    found = [a_warning(what, where(i), "remove the copies, unless they are meant to weigh more")]
    if labels is None:
        return found
    values = labels.tolist() if isinstance(labels, np.ndarray) else labels
    clashes = [j for j in again.tolist() if values[j] != values[int(original[j])]]
    if clashes:
        j, k = clashes[0], int(original[clashes[0]])
        n_inputs = len(set(original[clashes].tolist()))
        inputs = "1 input has" if n_inputs == 1 else f"{n_inputs} inputs have"
        what = (
            f"{split}: {inputs} rows of different labels, first {where(j)} "
            f"({_short(values[j])}) and {where(k)} ({_short(values[k])})"
            f"{_also(clashes, where)}"
        )
        found.append(a_warning(what, where(j), "decide on one label for each input"))
    return found


def find_shared_rows(
    names: tuple[str, str],
    ids: tuple[np.ndarray, np.ndarray],
    wheres: tuple[Where, Where],
) -> list[Finding]:
    """A warning where rows of the second split have the inputs of rows of the first.

    Args:
        names: Names of the two splits, ``("train", "dev")``.
        ids: Their row ids, (N, 16) and (M, 16).
        wheres: Places of their rows.
    """
    known, first = np.unique(sort_keys(ids[0]), return_index=True)
    if not len(known):
        return []
    keys = sort_keys(ids[1])
    slot = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    shared = np.flatnonzero(known[slot] == keys)
    if not len(shared):
        return []
    i = int(shared[0])
    share = len(shared) / len(keys)
    what = (
        f"{in_rows(len(shared))} of {names[1]} ({share:.1%}) stand{'s' * (len(shared) == 1)} in "
        f"{names[0]} too, first "
        f"{wheres[1](i)}, which is {wheres[0](int(first[slot[i]]))}{_also(shared, wheres[1])}"
    )
    todo = f"remove them from {names[0]}: the score of {names[1]} counts rows that were seen"
    return [a_warning(what, wheres[1](i), todo)]


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and is_unseen(value))


def in_rows(n: int) -> str:
    """``1 row``, ``2 rows``."""
    return f"{n} row" if n == 1 else f"{n} rows"


def _also(rows: Sequence[int] | np.ndarray, where: Where) -> str:
    """The next few places after the first, in brackets, where there are any."""
    places = "; ".join(where(int(i)) for i in rows[1 : 1 + _SHOWN_PLACES])
    return f" (also {places}{'; …' if len(rows) > 1 + _SHOWN_PLACES else ''})" if places else ""


def _short(value: object) -> str:
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def an_error(what: str, where: str, todo: str) -> Finding:
    """A fault that stops a run."""
    return Finding(severity="error", what=what, where=where, todo=todo)


def a_warning(what: str, where: str, todo: str) -> Finding:
    """What may spoil a run."""
    return Finding(severity="warning", what=what, where=where, todo=todo)
