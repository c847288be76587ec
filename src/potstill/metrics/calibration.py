"""Negative log-likelihood and expected calibration error of class probabilities; knows no task."""

from __future__ import annotations

import numpy as np

from potstill.metrics.classification import predicted_classes
from potstill.metrics.metric import Floats, Ints, Metric, Numbers, ratio, resampled_sums

N_BINS = 15
"""Equal-width bins of the confidence, as in Guo et al. 2017."""

SMALLEST_PROBABILITY = 1e-12
"""Floor of the likelihood: a true class that was given probability 0 costs 27.6 nats, not
infinity, so that one row cannot hide all others."""

_SUM_TOLERANCE = 0.02
"""Rows may miss the sum 1 by what bf16 probabilities miss it; logits miss it by more."""


def _checked(truth: Numbers, output: Numbers) -> tuple[Ints, Ints, Floats]:
    true, predicted = predicted_classes(truth, output)
    probabilities = output.astype(np.float64)
    if probabilities.min() < 0 or np.abs(probabilities.sum(axis=1) - 1).max() > _SUM_TOLERANCE:
        raise ValueError("output is not class probabilities: rows must be >= 0 and sum to 1")
    return true, predicted, probabilities


def _surprise(truth: Numbers, output: Numbers) -> Floats:
    true, _, probabilities = _checked(truth, output)
    likelihood = probabilities[np.arange(len(true)), true]
    return -np.log(np.clip(likelihood, SMALLEST_PROBABILITY, 1.0))


def _nll(truth: Numbers, output: Numbers, groups: Ints | None = None) -> float:
    return float(_surprise(truth, output).mean())


def _nll_resampled(truth: Numbers, output: Numbers, groups: Ints | None, counts: Numbers) -> Floats:
    surprise = _surprise(truth, output)
    statistics = np.stack([surprise, np.ones_like(surprise)], axis=1)
    total, n_rows = resampled_sums(statistics, groups, counts).T
    return ratio(total, n_rows)


NLL = Metric(
    name="nll",
    score=_nll,
    resampled=_nll_resampled,
    low=0.0,
    high=float("inf"),
    higher_is_better=False,
)
"""Mean over rows of -log probability of the true class, in nats."""


def _bin_gaps(truth: Numbers, output: Numbers) -> Floats:
    """(N, bins + 1): right minus confidence in the column of the row's bin, then a column of 1."""
    true, predicted, probabilities = _checked(truth, output)
    confidence = probabilities.max(axis=1)
    # Bins are open below and closed above, (0, 1/15] to (14/15, 1], as in Guo et al.'s code.
    bins = np.clip(np.ceil(confidence * N_BINS).astype(np.int64) - 1, 0, N_BINS - 1)
    gaps = np.zeros((len(true), N_BINS + 1))
    gaps[np.arange(len(true)), bins] = (true == predicted) - confidence
    gaps[:, N_BINS] = 1.0
    return gaps


def _ece_of_sums(sums: Floats) -> Floats:
    return ratio(np.abs(sums[:, :N_BINS]).sum(axis=1), sums[:, N_BINS])


def _ece(truth: Numbers, output: Numbers, groups: Ints | None = None) -> float:
    return float(_ece_of_sums(_bin_gaps(truth, output).sum(axis=0, keepdims=True))[0])


def _ece_resampled(truth: Numbers, output: Numbers, groups: Ints | None, counts: Numbers) -> Floats:
    return _ece_of_sums(resampled_sums(_bin_gaps(truth, output), groups, counts))


ECE = Metric(
    name="ece", score=_ece, resampled=_ece_resampled, low=0.0, high=1.0, higher_is_better=False
)
"""Expected calibration error of the top class: the mean over rows of |accuracy - confidence| of
the row's bin (Guo et al. 2017, https://arxiv.org/abs/1706.04599, eq. 3)."""
