"""Faults of a run file: where each stands, what was there, what belongs there; all in one message.

Knows nothing of the schema; `reading`, `checks` and `loading` find the faults.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from potstill.core.errors import RunFileError

KeyPath = tuple[str | int, ...]
"""Keys and list positions from the top of the run file down to a value."""

_LONGEST_TEXT = 60  # of a value that a message repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a key or value was written.

    Attributes:
        source: The run file, or the ``--set`` argument.
        line: From 1; None for an argument.
        column: From 1; None for an argument.
    """

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        if self.line is None:
            return self.source
        return f"{self.source}, line {self.line}, column {self.column}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong in a run file.

    Attributes:
        place: Where; None for a run that was given in Python.
        path: Keys from the top; empty for the file as a whole.
        got: What was found.
        wanted: What would have been right.
        todo: What the user can do next.
    """

    place: Place | None
    path: KeyPath
    got: str
    wanted: str
    todo: str

    def thing(self, source: str) -> str:
        """Which thing is wrong, in words."""
        where = str(self.place) if self.place is not None else source
        return f"{where}, key '{dotted(self.path)}'" if self.path else where


def faults_error(faults: Sequence[Fault], source: str) -> RunFileError:
    """One error for all faults, in the order of the file.

    Args:
        faults: At least one.
        source: Name of the run file, for the head of the message.
    """
    first = faults[0]
    if len(faults) == 1:
        return RunFileError(
            first.thing(source), got=first.got, wanted=first.wanted, todo=first.todo
        )
    ordered = sorted(faults, key=_order)
    parts = [
        f"{number}. {fault.thing(source)}\n     got:    {fault.got}\n"
        f"     wanted: {fault.wanted}\n     next:   {fault.todo}"
        for number, fault in enumerate(ordered, 1)
    ]
    return RunFileError(
        f"{source} has {len(faults)} faults\n  " + "\n  ".join(parts),
        got=f"{len(faults)} faults",
        wanted="a run file without any",
        todo="mend them all, then run `potstill check` on the file",
    )


def _order(fault: Fault) -> tuple[float, float]:
    if fault.place is None or fault.place.line is None:
        return (math.inf, 0)  # arguments after the file; the sort is stable
    return (fault.place.line, fault.place.column or 0)


def dotted(path: Iterable[str | int]) -> str:
    """A key path as people write it: ``teachers.each.0.base``."""
    return ".".join(str(part) for part in path)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` was probably meant to be."""
    by_lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), by_lower, 1)
    return by_lower[found[0]] if found else None


def choices(known: Iterable[str], word: object = None) -> str:
    """``one of: a, b; nearest: 'b'``."""
    names = list(known)
    near = nearest(word, names) if isinstance(word, str) else None
    hint = f"; nearest: '{near}'" if near else ""
    return "one of: " + ", ".join(names) + hint


def shortened(text: str) -> str:
    """The beginning of a text that is too long for a message."""
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"


def named(value: object) -> str:
    """A value as a message repeats it: its type in the user's words, and a short form."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str | Path):
        text = str(value)
        return f"the text '{shortened(text)}'" if text else "an empty text"
    if isinstance(value, Mapping):
        keys = shortened(", ".join(map(str, value)))
        return f"a mapping with the keys {keys}" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return f"an object of type {type(value).__name__}"
