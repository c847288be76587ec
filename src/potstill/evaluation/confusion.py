"""Confusion tables for a page: the whole table of a few classes, the worst pairs of many.

Knows counts and class names, nothing of how they came about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MAX_CLASSES = 12
"""Above this a table does not fit a page, and its cells are mostly empty."""

MAX_PAIRS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A count and its share of the row, that is of all rows of the true class."""

    n: int
    share: float
    right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusionTable:
    """One system's table: the true class down, the predicted one across."""

    system: str
    labels: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    n_right: int
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusedPair:
    """Rows of one class that were taken for another, by system."""

    truth: str
    predicted: str
    n_truth: int
    counts: Mapping[str, int]
    share: Mapping[str, float]


def confusion_tables(
    confusion: Mapping[str, Sequence[Sequence[int]]], labels: Sequence[str]
) -> list[ConfusionTable]:
    """The tables of all systems, student first; empty where there are too many classes."""
    return [
        _table(system, confusion[system], labels)
        for system in _systems(confusion)
        if len(confusion[system]) <= MAX_CLASSES
    ]


def confused_pairs(
    confusion: Mapping[str, Sequence[Sequence[int]]], labels: Sequence[str]
) -> list[ConfusedPair]:
    """The pairs of classes that all systems together mistake most often."""
    systems = _systems(confusion)
    if not systems or len(confusion[systems[0]]) <= MAX_CLASSES:
        return []
    first = confusion[systems[0]]
    pairs = [
        (truth, predicted)
        for truth in range(len(first))
        for predicted in range(len(first))
        if truth != predicted and any(confusion[each][truth][predicted] for each in systems)
    ]
    pairs.sort(key=lambda pair: (-sum(confusion[each][pair[0]][pair[1]] for each in systems), pair))
    found = []
    for truth, predicted in pairs[:MAX_PAIRS]:
        n_truth = sum(first[truth])
        counts = {each: confusion[each][truth][predicted] for each in systems}
        found.append(
            ConfusedPair(
                truth=_label(labels, truth),
                predicted=_label(labels, predicted),
                n_truth=n_truth,
                counts=counts,
                share={each: n / max(n_truth, 1) for each, n in counts.items()},
            )
        )
    return found


def mistakes(confusion: Mapping[str, Sequence[Sequence[int]]]) -> dict[str, tuple[int, int]]:
    """Wrong rows and all rows, by system."""
    found = {}
    for system in _systems(confusion):
        table = confusion[system]
        total = sum(sum(row) for row in table)
        found[system] = (total - sum(row[index] for index, row in enumerate(table)), total)
    return found


def _table(system: str, table: Sequence[Sequence[int]], labels: Sequence[str]) -> ConfusionTable:
    names = [_label(labels, index) for index in range(len(table))]
    rows = []
    for truth, row in enumerate(table):
        total = max(sum(row), 1)
        cells = [Cell(n=n, share=n / total, right=truth == place) for place, n in enumerate(row)]
        rows.append((names[truth], cells))
    return ConfusionTable(
        system=system,
        labels=names,
        rows=rows,
        n_right=sum(row[index] for index, row in enumerate(table)),
        n=sum(sum(row) for row in table),
    )


def _systems(confusion: Mapping[str, Sequence[Sequence[int]]]) -> list[str]:
    return [name for name in ("student", "ensemble", "multitask") if name in confusion]


def _label(labels: Sequence[str], index: int) -> str:
    return labels[index] if index < len(labels) else f"class {index}"
