"""Accuracy, F1 and Matthews correlation of class probabilities; knows no task.

The predicted class is the most probable one, the first of them on a tie.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from potstill.metrics.metric import (
    Floats,
    Ints,
    Metric,
    Numbers,
    check_counts,
    check_rows,
    ratio,
    resampled_sums,
    unit_of_rows,
)


def predicted_classes(truth: Numbers, output: Numbers) -> tuple[Ints, Ints]:
    """True and predicted class of each row.

    Args:
        truth: (N,) class indices in [0, C).
        output: (N, C) class probabilities (or logits: only the order counts).

    Raises:
        ValueError: Shapes that do not fit, values that are not finite, or a class outside [0, C).
    """
    check_rows(truth, output, n_dims=2)
    classes = truth.astype(np.int64)
    n_classes = output.shape[1]
    if not np.array_equal(classes, truth) or classes.min() < 0 or classes.max() >= n_classes:
        raise ValueError(f"truth holds values that are not one of the {n_classes} classes")
    return classes, output.argmax(axis=1).astype(np.int64)


def _accuracy(truth: Numbers, output: Numbers, groups: Ints | None = None) -> float:
    return float(accuracy_score(*predicted_classes(truth, output)))


def _accuracy_resampled(
    truth: Numbers, output: Numbers, groups: Ints | None, counts: Numbers
) -> Floats:
    true, predicted = predicted_classes(truth, output)
    statistics = np.stack([true == predicted, np.ones(len(true))], axis=1).astype(np.float64)
    n_correct, n_rows = resampled_sums(statistics, groups, counts).T
    return ratio(n_correct, n_rows)


ACCURACY = Metric(
    name="accuracy", score=_accuracy, resampled=_accuracy_resampled, low=0.0, high=1.0
)
"""Share of rows whose most probable class is the true one."""


def f1(positive: int | None = None) -> Metric:
    """F1 of one class, or the plain mean over classes.

    The mean goes over the classes that occur as truth or as prediction, as in scikit-learn; a
    class with neither a true nor a predicted row has no F1. With ``positive`` such a class
    scores 0.

    Args:
        positive: Index of the class that counts as positive; None for the mean over classes.
    """

    def score(truth: Numbers, output: Numbers, groups: Ints | None = None) -> float:
        true, predicted = predicted_classes(truth, output)
        labels = None if positive is None else [positive]
        return float(f1_score(true, predicted, labels=labels, average="macro", zero_division=0.0))

    def resampled(truth: Numbers, output: Numbers, groups: Ints | None, counts: Numbers) -> Floats:
        true, predicted = predicted_classes(truth, output)
        hits, n_true, n_predicted = _class_sums(true, predicted, output.shape[1], groups, counts)
        scores = ratio(2 * hits, n_true + n_predicted)
        if positive is not None:
            return scores[:, positive]
        n_present = np.count_nonzero(n_true + n_predicted, axis=1).astype(np.float64)
        return ratio(scores.sum(axis=1), n_present)

    return Metric(name="f1", score=score, resampled=resampled, low=0.0, high=1.0)


def _matthews(truth: Numbers, output: Numbers, groups: Ints | None = None) -> float:
    true, predicted = predicted_classes(truth, output)
    if np.ptp(true) == 0 or np.ptp(predicted) == 0:
        return 0.0  # scikit-learn's own answer, which comes with a warning
    return float(np.clip(matthews_corrcoef(true, predicted), -1.0, 1.0))


def _matthews_resampled(
    truth: Numbers, output: Numbers, groups: Ints | None, counts: Numbers
) -> Floats:
    true, predicted = predicted_classes(truth, output)
    hits, n_true, n_predicted = _class_sums(true, predicted, output.shape[1], groups, counts)
    n_rows = n_true.sum(axis=1)
    covariance = hits.sum(axis=1) * n_rows - (n_true * n_predicted).sum(axis=1)
    true_variance = n_rows**2 - (n_true**2).sum(axis=1)
    predicted_variance = n_rows**2 - (n_predicted**2).sum(axis=1)
    # Two roots, not the root of the product: n⁴ loses exact zeros and units from 10⁴ rows on.
    scores = ratio(covariance, np.sqrt(true_variance) * np.sqrt(predicted_variance))
    return np.clip(scores, -1.0, 1.0)


MATTHEWS = Metric(
    name="matthews", score=_matthews, resampled=_matthews_resampled, low=-1.0, high=1.0
)
"""Matthews correlation; for more than two classes R_K (Gorodkin 2004)."""


def _class_sums(
    true: Ints, predicted: Ints, n_classes: int, groups: Ints | None, counts: Numbers
) -> tuple[Floats, Floats, Floats]:
    """For each resample and class (R, C): rows right, rows true, rows predicted.

    A table of rows and classes would be nearly all zeros: with thousands of classes gigabytes.
    """
    units, n_units = unit_of_rows(groups, len(true))
    check_counts(counts, n_units)
    drawn = counts.astype(np.float64).T

    def sums(classes: Ints, rows: Ints | slice = slice(None)) -> Floats:
        places = classes[rows], units[rows]
        table = csr_array((np.ones(len(places[0])), places), shape=(n_classes, n_units))
        found: Floats = (table @ drawn).T
        return found

    return sums(true, np.flatnonzero(true == predicted)), sums(true), sums(predicted)
