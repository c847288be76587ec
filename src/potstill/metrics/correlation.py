"""Pearson and Spearman correlation of one value per row; knows no task."""

from __future__ import annotations

import numpy as np
from scipy.stats import pearsonr, rankdata

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

SMALLEST_SPREAD = 1e-12
"""Values that vary less than this, relative to their size, are constant up to rounding. scipy
warns from 1e-13 on; a one-pass variance in fp64 is sure to about 1e-15."""

_CHUNK_ELEMENTS = 2_000_000
"""Rows times resamples that Spearman holds at once: about 100 MB in its few fp64 arrays."""


def _values(truth: Numbers, output: Numbers) -> tuple[Floats, Floats]:
    check_rows(truth, output, n_dims=1)
    return truth.astype(np.float64), output.astype(np.float64)


def _is_constant(values: Floats) -> bool:
    return bool(np.ptp(values) <= SMALLEST_SPREAD * np.abs(values).max())


def _pearson(truth: Numbers, output: Numbers, groups: Ints | None = None) -> float:
    true, predicted = _values(truth, output)
    if _is_constant(true) or _is_constant(predicted):
        return 0.0
    return float(pearsonr(true, predicted).statistic)


def _pearson_resampled(
    truth: Numbers, output: Numbers, groups: Ints | None, counts: Numbers
) -> Floats:
    true, predicted = _values(truth, output)
    x, y = _standardised(true), _standardised(predicted)
    statistics = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
    n, sum_x, sum_y, sum_xx, sum_yy, sum_xy = resampled_sums(statistics, groups, counts).T
    variance_x = _clean(n * sum_xx - sum_x**2, n * sum_xx)
    variance_y = _clean(n * sum_yy - sum_y**2, n * sum_yy)
    found = _correlation(n * sum_xy - sum_x * sum_y, variance_x, variance_y)
    if x.any() and y.any():
        # Of a resample without the one row that makes the spread, one-pass sums know nothing.
        units, _ = unit_of_rows(groups, len(x))
        for i in np.flatnonzero((variance_x == 0) | (variance_y == 0)):
            rows = np.repeat(np.arange(len(x)), counts[i, units].astype(np.int64))
            found[i] = _pearson(true[rows], predicted[rows]) if len(rows) else 0.0
    return found


def _standardised(values: Floats) -> Floats:
    """Mean 0 and variance 1, so that one-pass sums stay exact enough; constants become 0."""
    if _is_constant(values):
        return np.zeros_like(values)
    centred = values - values.mean()
    scaled: Floats = centred / centred.std()
    return scaled


def _clean(variance: Floats, scale: Floats) -> Floats:
    """Variances that are rounding error of a one-pass sum are 0."""
    return np.where(variance <= SMALLEST_SPREAD * scale, 0.0, variance)


def _correlation(covariance: Floats, variance_x: Floats, variance_y: Floats) -> Floats:
    return np.clip(ratio(covariance, np.sqrt(variance_x) * np.sqrt(variance_y)), -1.0, 1.0)


PEARSON = Metric(name="pearson", score=_pearson, resampled=_pearson_resampled, low=-1.0, high=1.0)
"""Pearson correlation of output and truth."""


def _spearman(truth: Numbers, output: Numbers, groups: Ints | None = None) -> float:
    true, predicted = _values(truth, output)
    # Spearman is Pearson of the mean ranks; scipy's spearmanr does the same and a p-value.
    return _pearson(rankdata(true), rankdata(predicted), groups)


def _spearman_resampled(
    truth: Numbers, output: Numbers, groups: Ints | None, counts: Numbers
) -> Floats:
    true, predicted = _values(truth, output)
    units, n_units = unit_of_rows(groups, len(true))
    check_counts(counts, n_units)
    scores = np.empty(len(counts))
    step = max(1, _CHUNK_ELEMENTS // len(true))
    for start in range(0, len(counts), step):
        weights = counts[start : start + step, units].astype(np.float64)
        middle = (weights.sum(axis=1, keepdims=True) + 1) / 2
        x = _ranks(true, weights) - middle
        y = _ranks(predicted, weights) - middle
        # Ranks are whole or half numbers around an exact mean: a constant has variance 0 exactly.
        scores[start : start + step] = _correlation(
            (weights * x * y).sum(axis=1),
            (weights * x * x).sum(axis=1),
            (weights * y * y).sum(axis=1),
        )
    return scores


def _ranks(values: Floats, weights: Floats) -> Floats:
    """Mean rank of each row in each resample, from 1; of no meaning where the weight is 0.

    Args:
        values: (N,).
        weights: (R, N) how often each row is drawn.

    Returns:
        (R, N).
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    n_equal = np.add.reduceat(weights[:, order], starts, axis=1)
    mean_rank = np.cumsum(n_equal, axis=1) - (n_equal - 1) / 2
    place = np.empty(len(values), dtype=np.int64)
    place[order] = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(values)]))
    ranks: Floats = mean_rank[:, place]
    return ranks


SPEARMAN = Metric(
    name="spearman", score=_spearman, resampled=_spearman_resampled, low=-1.0, high=1.0
)
"""Spearman rank correlation of output and truth; equal values share their mean rank."""
