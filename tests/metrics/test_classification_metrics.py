"""Accuracy, F1, Matthews, likelihood and calibration against slow definitions and scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, log_loss

from potstill.metrics.metric import Floats, Ints
from potstill.metrics.named import metric

seeds = st.integers(0, 2**16)
NAMES = ["accuracy", "f1", "matthews", "nll", "ece"]


def make_rows(
    seed: int, n_rows: int, n_classes: int, scales: tuple[float, ...] = (0.1, 1, 30)
) -> tuple[Ints, Floats]:
    """Random classes and probabilities that lean to the truth, some of them extreme."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(n_classes, size=n_rows)
    logits = rng.normal(size=(n_rows, n_classes)) * rng.choice(scales) + np.eye(n_classes)[truth]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return truth, odds / odds.sum(axis=1, keepdims=True)


def slow_f1(truth: Ints, predicted: Ints, which: int) -> float:
    hits = sum(1 for t, p in zip(truth, predicted, strict=True) if t == p == which)
    either = sum(int(t == which) + int(p == which) for t, p in zip(truth, predicted, strict=True))
    return 2 * hits / either if either else 0.0


def slow_matthews(truth: Ints, predicted: Ints, n_classes: int) -> float:
    """R_K as Gorodkin wrote it: covariances of the indicator vectors of the classes."""
    x, y = np.eye(n_classes)[truth], np.eye(n_classes)[predicted]
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    below = math.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / below) if below > 1e-9 else 0.0


def slow_ece(truth: Ints, output: Floats) -> float:
    total = 0.0
    for low in range(15):
        rows = [i for i, p in enumerate(output) if low / 15 < p.max() <= (low + 1) / 15]
        if rows:
            accuracy = np.mean([output[i].argmax() == truth[i] for i in rows])
            confidence = np.mean([output[i].max() for i in rows])
            total += len(rows) / len(truth) * abs(accuracy - confidence)
    return total


@given(seeds, st.integers(1, 40), st.integers(2, 4))
def test_scores_equal_slow_definitions(seed: int, n_rows: int, n_classes: int) -> None:
    truth, output = make_rows(seed, n_rows, n_classes)
    predicted = output.argmax(axis=1)
    present = sorted(set(truth) | set(predicted))
    wanted = {
        "accuracy": sum(truth == predicted) / n_rows,
        "f1": np.mean([slow_f1(truth, predicted, which) for which in present]),
        "matthews": slow_matthews(truth, predicted, n_classes),
        "ece": slow_ece(truth, output),
        "nll": np.mean([-math.log(max(p[t], 1e-12)) for t, p in zip(truth, output, strict=True)]),
    }
    for name, value in wanted.items():
        assert metric(name).score(truth, output) == pytest.approx(value, abs=1e-9), name
    for which in range(n_classes):
        assert metric("f1", positive=which).score(truth, output) == pytest.approx(
            slow_f1(truth, predicted, which)
        )


@settings(max_examples=20)  # scikit-learn takes a millisecond for each score
@given(seeds, st.integers(2, 25), st.integers(2, 4), st.booleans())
def test_resamples_equal_rows_written_out(
    check_resampled: Callable[..., None], seed: int, n_rows: int, n_classes: int, grouped: bool
) -> None:
    truth, output = make_rows(seed, n_rows, n_classes)
    rng = np.random.default_rng(seed)
    groups = 10 * rng.integers(5, size=n_rows) + 3 if grouped else None
    for name in NAMES:
        check_resampled(metric(name), truth, output, groups, rng)
    check_resampled(metric("f1", positive=1), truth, output, groups, rng)


def test_scores_equal_scikit_learn() -> None:
    truth, output = make_rows(3, 200, 3, scales=(1,))
    predicted = output.argmax(axis=1)
    assert metric("nll").score(truth, output) == pytest.approx(log_loss(truth, output))
    two = (output[:, 1] > output[:, 0]).astype(int)
    pair = output[:, :2] / output[:, :2].sum(axis=1, keepdims=True)
    assert metric("f1", positive=1).score(np.minimum(truth, 1), pair) == pytest.approx(
        f1_score(np.minimum(truth, 1), two)
    )
    table = confusion_matrix(truth, predicted)
    assert metric("accuracy").score(truth, output) == table.trace() / table.sum()


def test_perfect_and_opposite_outputs() -> None:
    truth = np.array([0, 1, 1, 0])
    right, wrong = np.eye(2)[truth], np.eye(2)[1 - truth]
    assert [metric(name).score(truth, right) for name in NAMES] == [1, 1, 1, 0, 0]
    scores = [metric(name).score(truth, wrong) for name in NAMES]
    assert scores == pytest.approx([0, 0, -1, -math.log(1e-12), 1])


@pytest.mark.parametrize("classes", [(0, 0), (0, 1)])
def test_one_class_only_scores_zero_and_warns_of_nothing(classes: tuple[int, int]) -> None:
    truth, output = np.array(classes), np.array([[0.9, 0.1, 0.0]] * 2)
    assert metric("matthews").score(truth, output) == 0.0
    assert metric("f1", positive=2).score(truth, output) == 0.0
    assert metric("matthews").resampled(
        truth, output, None, np.array([[2, 0], [1, 1]])
    ).tolist() == [
        0.0,
        0.0,
    ]


def test_a_tie_is_the_first_class() -> None:
    assert metric("accuracy").score(np.array([0]), np.array([[0.5, 0.5]])) == 1.0


def test_matthews_of_many_rows_is_exact() -> None:
    truth = np.arange(60_000) % 3
    assert metric("matthews").resampled(
        truth, np.eye(3)[truth], None, np.ones((1, 60_000), dtype=np.int64)
    ) == pytest.approx(1.0, abs=1e-12)


def test_confidence_on_a_bin_edge_belongs_to_the_bin_below() -> None:
    output = np.array([[0.6, 0.4], [0.62, 0.38]])
    # 0.6 lies in (8/15, 9/15], 0.62 in the next bin, so gaps of unlike sign do not cancel.
    assert metric("ece").score(np.array([0, 1]), output) == pytest.approx((0.4 + 0.62) / 2)


def test_low_precision_probabilities_are_accepted() -> None:
    truth, output = make_rows(0, 50, 4)
    assert metric("nll").score(truth, output.astype(np.float16)) == pytest.approx(
        metric("nll").score(truth, output), rel=1e-2
    )


def test_faulty_input_is_refused() -> None:
    truth, output = make_rows(0, 4, 2)
    accuracy = metric("accuracy")
    with pytest.raises(ValueError, match=r"wanted \(N,\) and \(N, C\)"):
        accuracy.score(truth, output[:, 0])
    with pytest.raises(ValueError, match="no rows"):
        accuracy.score(truth[:0], output[:0])
    with pytest.raises(ValueError, match="1 values that are NaN"):
        accuracy.score(truth, np.where(np.arange(8).reshape(4, 2) == 0, np.nan, output))
    with pytest.raises(ValueError, match="not one of the 2 classes"):
        accuracy.score(truth + 1, output)
    with pytest.raises(ValueError, match="wanted \\(R, 4\\)"):
        accuracy.resampled(truth, output, None, np.ones((2, 3)))
    with pytest.raises(ValueError, match="one for each row"):
        accuracy.resampled(truth, output, np.zeros(3, dtype=np.int64), np.ones((2, 1)))
    for name in ("nll", "ece"):
        with pytest.raises(ValueError, match="not class probabilities"):
            metric(name).score(truth, np.log(output))
