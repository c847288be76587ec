"""One member of a task's ensemble: a network folder that has an opinion on the task's rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from potstill.tasks.sources import Source


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Member:
    """A member of an ensemble.

    Attributes:
        name: What reports call it.
        folder: A network folder, a transformers classifier, or a file of scores.
        digest: Of all that it was made from.
        source: What the folder is.
        labels: Of a classifier: what its outputs mean, in order; empty: as it says itself.
        key: Of scores: the column that joins them with rows; None: the input columns.
        scores: Scores that were given in Python.
        dev: Its dev score on the task, where known.
        fold: Which fold of train rows it has not seen (cross-fitting); None: it saw all.
        n_folds: Number of folds.
    """

    name: str
    folder: Path
    digest: str
    source: Literal["network", "classifier", "scores"] = "network"
    labels: tuple[str, ...] = ()
    key: str | None = None
    scores: Source | None = None
    dev: float | None = None
    fold: int | None = None
    n_folds: int | None = None
