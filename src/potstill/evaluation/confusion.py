"""Confusion tables for a page: the whole table of a few classes, the worst pairs of many.

Knows counts and class names, nothing of how they came about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

MAX_CLASSES = 12
"""Above this a table does not fit a page, and its cells are mostly empty."""

MAX_PAIRS = 15

Counts: TypeAlias = Sequence[Mapping[int, int]]
"""For each true class the predicted ones with their counts, where not 0."""


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
    confusion: Mapping[str, Counts], labels: Sequence[str]
) -> list[ConfusionTable]:
    """The tables of all systems, student first; empty where there are too many classes."""
    return [
        _table(system, confusion[system], labels)
        for system in _systems(confusion)
        if len(confusion[system]) <= MAX_CLASSES
    ]


def confused_pairs(confusion: Mapping[str, Counts], labels: Sequence[str]) -> list[ConfusedPair]:
    """The pairs of classes that all systems together mistake most often."""
    systems = _systems(confusion)
    if not systems or len(confusion[systems[0]]) <= MAX_CLASSES:
        return []
    first = confusion[systems[0]]
    wrong: Counter[tuple[int, int]] = Counter()
    for each in systems:
        for truth, row in enumerate(confusion[each]):
            wrong.update({(truth, other): n for other, n in row.items() if other != truth})
    pairs = sorted(wrong, key=lambda pair: (-wrong[pair], pair))
    found = []
    for truth, predicted in pairs[:MAX_PAIRS]:
        n_truth = sum(first[truth].values())
        counts = {each: confusion[each][truth].get(predicted, 0) for each in systems}
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


def mistakes(confusion: Mapping[str, Counts]) -> dict[str, tuple[int, int]]:
    """Wrong rows and all rows, by system."""
    found = {}
    for system in _systems(confusion):
        total, right = _totals(confusion[system])
        found[system] = (total - right, total)
    return found


def _table(system: str, table: Counts, labels: Sequence[str]) -> ConfusionTable:
    names = [_label(labels, index) for index in range(len(table))]
    rows = []
    for truth, row in enumerate(table):
        all_of = max(sum(row.values()), 1)
        counts = [row.get(place, 0) for place in range(len(table))]
        cells = [
            Cell(n=n, share=n / all_of, right=truth == place) for place, n in enumerate(counts)
        ]
        rows.append((names[truth], cells))
    total, right = _totals(table)
    return ConfusionTable(
        system=system,
        labels=names,
        rows=rows,
        n_right=right,
        n=total,
    )


def _totals(table: Counts) -> tuple[int, int]:
    """All rows, and those that are right."""
    return sum(sum(row.values()) for row in table), sum(
        row.get(truth, 0) for truth, row in enumerate(table)
    )


def _systems(confusion: Mapping[str, Counts]) -> list[str]:
    return [name for name in ("student", "ensemble", "multitask") if name in confusion]


def _label(labels: Sequence[str], index: int) -> str:
    return labels[index] if index < len(labels) else f"class {index}"
