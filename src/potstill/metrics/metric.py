"""What a metric is, and the units that a bootstrap draws; knows no task.

N is rows, C classes, U units, R resamples. A unit is what a resample draws or leaves out: a row,
or a whole group of rows (the candidates of one query) where groups are given. Units are numbered
in the order of the sorted, distinct group values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Numbers: TypeAlias = npt.NDArray[np.floating[Any]] | npt.NDArray[np.integer[Any]]
Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]


class Score(Protocol):
    """Truth and output to one number."""

    def __call__(self, truth: Numbers, output: Numbers, groups: Ints | None = None) -> float:
        """Score all rows, each once."""


class ResampledScore(Protocol):
    """Truth, output and the multiplicities of the units to one number per resample."""

    def __call__(
        self, truth: Numbers, output: Numbers, groups: Ints | None, counts: Numbers
    ) -> Floats:
        """Score each resample: (R, U) multiplicities in, (R,) scores out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric, for the rows as they are and for bootstrap resamples of them.

    Inputs of both functions: ``truth`` (N,) class indices, values or relevances; ``output``
    (N, C) class probabilities, or (N,) values or scores; ``groups`` (N,) the query of each row,
    or None. ``resampled`` takes ``counts`` (R, U), how often each unit is drawn, and equals
    ``score`` on the rows written out that often (a unit drawn twice counts as two units).

    Inputs that define no score (one class only, a constant output, no query with a relevant
    candidate) score 0.0, without NaN and without a warning. Both raise ValueError on
    shapes that do not fit, on no rows, and on outputs that are not finite.

    Args:
        name: Its name in the run file and in results.
        score: ``score(truth, output, groups=None) -> float``.
        resampled: ``resampled(truth, output, groups, counts) -> (R,)``.
        low: Smallest possible score.
        high: Largest possible score (infinity where there is none).
        higher_is_better: False for losses and calibration errors.
    """

    name: str
    score: Score
    resampled: ResampledScore
    low: float
    high: float
    higher_is_better: bool = True


def unit_of_rows(groups: Ints | None, n_rows: int) -> tuple[Ints, int]:
    """The unit of each row (N,) and the number of units U.

    Raises:
        ValueError: ``groups`` is not (N,).
    """
    if groups is None:
        return np.arange(n_rows, dtype=np.int64), n_rows
    if groups.shape != (n_rows,):
        raise ValueError(f"groups {groups.shape}: wanted ({n_rows},), one for each row")
    distinct, units = np.unique(groups, return_inverse=True)
    return units.astype(np.int64, copy=False), len(distinct)


def check_rows(truth: Numbers, output: Numbers, *, n_dims: int) -> None:
    """Refuse arrays that do not fit together or that are not finite.

    Raises:
        ValueError: No rows, shapes that do not fit, NaN or infinity.
    """
    if truth.ndim != 1 or output.ndim != n_dims or len(truth) != len(output):
        wanted = "(N,) and (N, C)" if n_dims == 2 else "(N,) and (N,)"
        raise ValueError(f"truth {truth.shape} and output {output.shape}: wanted {wanted}")
    if not len(truth):
        raise ValueError("no rows: there is nothing to score")
    for what, array in (("truth", truth), ("output", output)):
        n_faulty = int(np.count_nonzero(~np.isfinite(array)))
        if n_faulty:
            raise ValueError(f"{what} holds {n_faulty} values that are NaN or infinite")


def resampled_sums(statistics: Floats, groups: Ints | None, counts: Numbers) -> Floats:
    """Sums over the rows of each resample, as one matrix product.

    Args:
        statistics: (N, K), K numbers for each row.
        groups: (N,) or None.
        counts: (R, U) multiplicities.

    Returns:
        (R, K).

    Raises:
        ValueError: ``groups`` or ``counts`` do not fit the rows.
    """
    units, n_units = unit_of_rows(groups, len(statistics))
    check_counts(counts, n_units)
    if groups is not None:
        sums = np.zeros((n_units, statistics.shape[1]))
        np.add.at(sums, units, statistics)
        statistics = sums
    product: Floats = counts.astype(np.float64) @ statistics
    return product


def check_counts(counts: Numbers, n_units: int) -> None:
    """Refuse multiplicities that are not (R, U)."""
    if counts.ndim != 2 or counts.shape[1] != n_units:
        raise ValueError(f"counts {counts.shape}: wanted (R, {n_units}), one column for each unit")


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Elementwise quotient, 0 where the denominator is not above 0."""
    quotient: Floats = np.zeros_like(numerator)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient
