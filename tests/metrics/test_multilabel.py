"""F1 of labels that do not exclude each other against scikit-learn; thresholds by brute force."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from potstill.metrics.metric import Floats, Ints
from potstill.metrics.multilabel import MACRO_F1, MICRO_F1, best_thresholds

seeds = st.integers(0, 2**16)


def make_rows(seed: int, n_rows: int, n_classes: int, *, ties: bool) -> tuple[Ints, Floats]:
    """Labels of rare, common and absent classes, and scores that lean to them."""
    rng = np.random.default_rng(seed)
    often = rng.choice([0, 0.1, 0.5, 1], size=n_classes)
    truth = (rng.random((n_rows, n_classes)) < often).astype(np.int64)
    scores = np.clip(rng.random((n_rows, n_classes)) + 0.3 * (truth - 0.5), 0, 1)
    return truth, np.rint(4 * scores) / 4 if ties else scores


def slow_f1(truth: Ints, probabilities: Floats, threshold: float) -> float:
    hits = either = 0
    for true, p in zip(truth.tolist(), probabilities.tolist(), strict=True):
        hits += int(bool(true) and p > threshold)
        either += int(true) + int(p > threshold)
    return 2 * hits / either if either else 0.0


def slow_best(truth: Ints, probabilities: Floats) -> float:
    """Every candidate tried, one class."""
    if not truth.any():
        return 0.5
    levels = [0.0, *sorted(set(probabilities.tolist()))]
    middles = [(low + high) / 2 for low, high in pairwise(levels)]
    tried = [min(max(middle, 1e-4), 1 - 1e-4) for middle in middles]
    scores = [slow_f1(truth, probabilities, threshold) for threshold in tried]
    best = [t for t, score in zip(tried, scores, strict=True) if score == max(scores)]
    return min(best, key=lambda t: (abs(t - 0.5), t)) if max(scores) else 0.5


@settings(max_examples=40)  # scikit-learn takes milliseconds for each score
@given(seeds, st.integers(1, 40), st.integers(2, 5), st.booleans())
def test_scores_equal_scikit_learn(seed: int, n_rows: int, n_classes: int, ties: bool) -> None:
    truth, output = make_rows(seed, n_rows, n_classes, ties=ties)
    said = output > 0.5
    for each, average in ((MICRO_F1, "micro"), (MACRO_F1, "macro")):
        wanted = f1_score(truth, said, average=average, zero_division=0)
        assert each.score(truth, output) == pytest.approx(wanted, abs=1e-12), average


@given(seeds, st.integers(1, 25), st.integers(1, 4), st.booleans(), st.booleans())
def test_resamples_equal_rows_written_out(
    check_resampled: Callable[..., None],
    seed: int,
    n_rows: int,
    n_classes: int,
    ties: bool,
    grouped: bool,
) -> None:
    truth, output = make_rows(seed, n_rows, n_classes, ties=ties)
    rng = np.random.default_rng(seed)
    groups = 10 * rng.integers(5, size=n_rows) + 3 if grouped else None
    for each in (MICRO_F1, MACRO_F1):
        check_resampled(each, truth, output, groups, rng)


def test_known_values() -> None:
    truth = np.array([[1, 0, 0], [1, 1, 0]])
    output = np.array([[0.9, 0.6, 0.1], [0.2, 0.8, 0.5]])
    # Class 0: 1 of 2 found; class 1: 1 right, 1 too many; class 2: 0.5 is not above 0.5.
    assert MICRO_F1.score(truth, output) == pytest.approx(2 * 2 / (3 + 3))
    assert MACRO_F1.score(truth, output) == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)


def test_nothing_there_and_nothing_said_scores_zero_and_warns_of_nothing() -> None:
    truth, output = np.zeros((2, 3)), np.full((2, 3), 0.5)
    for each in (MICRO_F1, MACRO_F1):
        assert each.score(truth, output) == 0.0
        assert each.resampled(truth, output, None, np.array([[2, 0], [1, 1]])).tolist() == [0, 0]


@given(seeds, st.integers(1, 30), st.integers(1, 4), st.booleans())
def test_thresholds_equal_brute_force(seed: int, n_rows: int, n_classes: int, ties: bool) -> None:
    truth, output = make_rows(seed, n_rows, n_classes, ties=ties)
    found = best_thresholds(truth, output)
    assert found.shape == (n_classes,)
    assert found.dtype == np.float64
    wanted = [slow_best(truth[:, c], output[:, c]) for c in range(n_classes)]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-15)


@given(seeds, st.integers(1, 30))
def test_no_other_threshold_does_better(seed: int, n_rows: int) -> None:
    truth, output = make_rows(seed, n_rows, 1, ties=False)
    found = slow_f1(truth[:, 0], output[:, 0], best_thresholds(truth, output)[0])
    rivals = np.linspace(1e-4, 1 - 1e-4, 101)
    assert found >= max(slow_f1(truth[:, 0], output[:, 0], t) for t in rivals)


@pytest.mark.parametrize(
    ("truth", "probabilities", "wanted"),
    [
        ([0, 1], [0.2, 0.9], 0.55),  # halfway
        ([0, 0], [0.2, 0.9], 0.5),  # nothing to find
        ([1, 1], [0.6, 0.8], 0.3),  # all are yes: halfway to 0
        ([1, 0, 1, 0], [0.9, 0.7, 0.3, 0.1], 0.2),  # F1 2/3, 1/2, 4/5, 2/3
        ([1, 0, 0, 1], [0.9, 0.7, 0.3, 0.1], 0.8),  # F1 2/3, 1/2, 2/5, 2/3: 0.8 is nearer than 0.05
        ([1, 1], [0.0, 0.0], 0.5),  # no threshold reaches them
        ([0, 1], [0.0, 1e-5], 0.5),  # nor this one, below the smallest threshold
        ([0, 0, 1], [0.2, 0.99999, 1.0], 0.599995),  # the largest one cannot part the last two
        ([0, 0, 1], [0.0, 2e-5, 4e-4], 2.1e-4),
        ([0, 0, 1], [0.0, 2e-5, 1.2e-4], 1e-4),  # not 7e-5
    ],
)
def test_known_thresholds(truth: list[int], probabilities: list[float], wanted: float) -> None:
    found = best_thresholds(np.array([truth]).T, np.array([probabilities]).T)
    assert found == pytest.approx([wanted])


def test_low_precision_scores_are_accepted() -> None:
    truth, output = make_rows(1, 50, 4, ties=True)
    for each in (MICRO_F1, MACRO_F1):
        assert each.score(truth, output.astype(np.float16)) == each.score(truth, output)
    assert np.array_equal(
        best_thresholds(truth, output.astype(np.float16)), best_thresholds(truth, output)
    )


def test_faulty_input_is_refused() -> None:
    truth, output = make_rows(0, 4, 2, ties=False)
    for call in (MICRO_F1.score, MACRO_F1.score, best_thresholds):
        with pytest.raises(ValueError, match=r"wanted \(N, C\) for both"):
            call(truth[:, 0], output)
        with pytest.raises(ValueError, match=r"wanted \(N, C\) for both"):
            call(truth, output[:, :1])
        with pytest.raises(ValueError, match="nothing to score"):
            call(truth[:0], output[:0])
        with pytest.raises(ValueError, match="neither 0 nor 1"):
            call(truth + 1, output)
        with pytest.raises(ValueError, match="1 values that are NaN"):
            call(truth, np.where(np.arange(8).reshape(4, 2) == 0, np.nan, output))
        with pytest.raises(ValueError, match=r"wanted values in \[0, 1\]"):
            call(truth, output + 1)
    with pytest.raises(ValueError, match="wanted \\(R, 4\\)"):
        MACRO_F1.resampled(truth, output, None, np.ones((2, 3)))
