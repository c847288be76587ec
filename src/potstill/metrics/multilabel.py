"""F1 of labels of which a row may have any number, and thresholds for them; knows no task.

Truth is (N, C) of 0 and 1, output (N, C) decision scores in [0, 1]: above 0.5 is "yes".
"""

from __future__ import annotations

import numpy as np

from potstill.metrics.metric import Floats, Ints, Metric, Numbers, ratio, resampled_sums

YES_ABOVE = 0.5
"""A decision score above this one is "yes", and the threshold of a class that has no better one."""

SMALLEST_THRESHOLD = 1e-4
"""Thresholds keep this distance from 0 and 1, where no rounded probability could pass or fail."""


def _checked(truth: Numbers, output: Numbers) -> tuple[Floats, Floats]:
    if truth.ndim != 2 or truth.shape != output.shape:
        raise ValueError(f"truth {truth.shape} and output {output.shape}: wanted (N, C) for both")
    if not truth.size:
        raise ValueError(f"truth {truth.shape}: no rows or no classes, there is nothing to score")
    if np.any((truth != 0) & (truth != 1)):
        raise ValueError("truth holds values that are neither 0 nor 1")
    n_faulty = int(np.count_nonzero(~np.isfinite(output)))
    if n_faulty:
        raise ValueError(f"output holds {n_faulty} values that are NaN or infinite")
    if output.min() < 0 or output.max() > 1:
        raise ValueError("output is not decision scores: wanted values in [0, 1]")
    return truth.astype(np.float64), output.astype(np.float64)


def _statistics(truth: Numbers, output: Numbers) -> Floats:
    """(N, 3 C): for each row and class yes and right, truly yes, said to be yes."""
    true, scores = _checked(truth, output)
    said = (scores > YES_ABOVE).astype(np.float64)
    return np.concatenate([true * said, true, said], axis=1)


def _micro_of_sums(sums: Floats) -> Floats:
    hits, n_true, n_said = (part.sum(axis=1) for part in np.split(sums, 3, axis=1))
    return ratio(2 * hits, n_true + n_said)


def _macro_of_sums(sums: Floats) -> Floats:
    hits, n_true, n_said = np.split(sums, 3, axis=1)
    means: Floats = ratio(2 * hits, n_true + n_said).mean(axis=1)
    return means


def _micro(truth: Numbers, output: Numbers, groups: Ints | None = None) -> float:
    return float(_micro_of_sums(_statistics(truth, output).sum(axis=0, keepdims=True))[0])


def _micro_resampled(
    truth: Numbers, output: Numbers, groups: Ints | None, counts: Numbers
) -> Floats:
    return _micro_of_sums(resampled_sums(_statistics(truth, output), groups, counts))


MICRO_F1 = Metric(name="micro_f1", score=_micro, resampled=_micro_resampled, low=0.0, high=1.0)
"""F1 of all decisions of all classes taken together."""


def _macro(truth: Numbers, output: Numbers, groups: Ints | None = None) -> float:
    return float(_macro_of_sums(_statistics(truth, output).sum(axis=0, keepdims=True))[0])


def _macro_resampled(
    truth: Numbers, output: Numbers, groups: Ints | None, counts: Numbers
) -> Floats:
    return _macro_of_sums(resampled_sums(_statistics(truth, output), groups, counts))


MACRO_F1 = Metric(name="macro_f1", score=_macro, resampled=_macro_resampled, low=0.0, high=1.0)
"""Plain mean over all C classes of their F1. A class that neither truth nor output has in the rows
scored gives 0, as scikit-learn's ``zero_division=0``."""


def best_thresholds(truth: Numbers, probabilities: Numbers) -> Floats:
    """The threshold of each class whose decisions "yes where p > threshold" have the best F1.

    Considered are the values halfway between two neighbouring distinct probabilities of the
    class, and halfway between 0 and the smallest one, where all rows are "yes". They are kept in
    [1e-4, 1 - 1e-4] and judged by the decisions they then make. Of equally good ones the nearest
    to 0.5 is taken, of equally near ones the lower. A class without a positive row keeps 0.5, and
    so does one whose positive rows no threshold reaches.

    Args:
        truth: (N, C) 0 or 1.
        probabilities: (N, C) in [0, 1].

    Returns:
        (C,) thresholds.

    Raises:
        ValueError: Shapes that do not fit, nothing to choose from, or values outside their range.

    Examples:
        >>> truth = np.array([[0], [1], [1]])
        >>> best_thresholds(truth, np.array([[0.1], [0.2], [0.9]])).round(2).tolist()
        [0.15]
    """
    true, scores = _checked(truth, probabilities)
    columns = zip(true.T, scores.T, strict=True)
    return np.array([_best_threshold(each, p) for each, p in columns])


def _best_threshold(true: Floats, scores: Floats) -> float:
    """The same for one class: (N,) 0 or 1, (N,) probabilities."""
    order = np.argsort(scores)
    ordered = scores[order]
    distinct = np.unique(ordered)
    halfway = (distinct + np.r_[0.0, distinct[:-1]]) / 2
    thresholds = np.clip(halfway, SMALLEST_THRESHOLD, 1 - SMALLEST_THRESHOLD)
    n_no = np.searchsorted(ordered, thresholds, side="right")
    # Positives from the n-th row of the order on, for n from 0 to N.
    n_hits = np.r_[true.sum(), true.sum() - np.cumsum(true[order])]
    f1 = ratio(2 * n_hits[n_no], true.sum() + len(true) - n_no)
    if not f1.max():
        return YES_ABOVE
    best = thresholds[f1 == f1.max()]
    return float(best[np.abs(best - YES_ABOVE).argmin()])
