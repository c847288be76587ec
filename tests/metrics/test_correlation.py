"""Correlations against scipy and slow definitions."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from potstill.metrics.metric import Floats
from potstill.metrics.named import metric

seeds = st.integers(0, 2**16)
PEARSON, SPEARMAN = metric("pearson"), metric("spearman")


def make_rows(seed: int, n_rows: int, *, ties: bool) -> tuple[Floats, Floats]:
    """Values of many sizes, with an offset or not; with ``ties`` few distinct ones."""
    rng = np.random.default_rng(seed)
    truth: Floats = rng.normal(size=n_rows) * rng.choice([1e-3, 1, 1e4])
    output: Floats = truth + rng.normal(size=n_rows) * np.abs(truth).max() + rng.choice([0, 1e5])
    if ties:
        truth = 1.25 * rng.integers(4, size=n_rows).astype(np.float64)
        output = np.rint(2 * (output - output.mean()))
    return truth, output


def slow_pearson(x: Floats, y: Floats) -> float:
    n = len(x)
    mean_x, mean_y = math.fsum(x) / n, math.fsum(y) / n
    covariance = math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    below = math.fsum((a - mean_x) ** 2 for a in x) * math.fsum((b - mean_y) ** 2 for b in y)
    return covariance / math.sqrt(below) if below else 0.0


@given(seeds, st.integers(2, 40), st.booleans())
def test_scores_equal_slow_definition_and_scipy(seed: int, n_rows: int, ties: bool) -> None:
    truth, output = make_rows(seed, n_rows, ties=ties)
    assume(np.ptp(truth) > 0 and np.ptp(output) > 0)
    assert PEARSON.score(truth, output) == pytest.approx(slow_pearson(truth, output), abs=1e-9)
    assert SPEARMAN.score(truth, output) == pytest.approx(
        spearmanr(truth, output).statistic, abs=1e-9
    )


@given(seeds, st.integers(2, 25), st.booleans(), st.booleans())
def test_resamples_equal_rows_written_out(
    check_resampled: Callable[..., None], seed: int, n_rows: int, ties: bool, grouped: bool
) -> None:
    truth, output = make_rows(seed, n_rows, ties=ties)
    rng = np.random.default_rng(seed)
    groups = rng.integers(5, size=n_rows) if grouped else None
    for each in (PEARSON, SPEARMAN):
        check_resampled(each, truth, output, groups, rng)


@given(seeds)
def test_laws(seed: int) -> None:
    truth, output = make_rows(seed, 20, ties=False)
    for each in (PEARSON, SPEARMAN):
        assert each.score(truth, truth) == pytest.approx(1)
        assert each.score(truth, -truth) == pytest.approx(-1)
        assert each.score(output, truth) == pytest.approx(each.score(truth, output))
        assert each.score(truth, 3 * output + 7) == pytest.approx(
            each.score(truth, output), abs=1e-6
        )
    ranks = np.argsort(np.argsort(output)).astype(float)
    assert SPEARMAN.score(truth, ranks) == pytest.approx(SPEARMAN.score(truth, output))


@pytest.mark.parametrize("far", [1e8, 1e9, 1e15])
def test_a_resample_without_the_row_that_makes_the_spread(far: float) -> None:
    rng = np.random.default_rng(0)
    truth = np.r_[np.linspace(0, 100, 20), far]
    output = np.r_[np.linspace(0, 100, 20) + rng.normal(size=20) * 30, far]
    counts = np.array([[1] * 20 + [0], [2] * 10 + [0] * 11])
    for i, rows in enumerate((np.arange(20), np.arange(10).repeat(2))):
        wanted = PEARSON.score(truth[rows], output[rows])
        assert wanted > 0.3
        found = PEARSON.resampled(truth, output, None, counts)
        assert found[i] == pytest.approx(wanted, abs=1e-4)


def test_constants_score_zero_and_warn_of_nothing() -> None:
    truth = np.array([0.1, 0.2, 0.3])
    counts = np.array([[1, 1, 1], [3, 0, 0], [0, 2, 1]])
    for constant in (0.0, 0.1, 1e8):
        output = np.full(3, constant)
        for each in (PEARSON, SPEARMAN):
            assert each.score(truth, output) == each.score(output, truth) == 0.0
            assert each.resampled(truth, output, None, counts).tolist() == [0.0, 0.0, 0.0]
    rounding = 1e8 + np.array([0.0, 1e-8, 0.0])
    assert PEARSON.score(truth, rounding) == 0.0
    assert PEARSON.score(truth[:1], truth[:1]) == 0.0


def test_spearman_in_chunks_equals_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, output = make_rows(0, 30, ties=True)
    counts = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), size=17)
    whole = SPEARMAN.resampled(truth, output, None, counts)
    monkeypatch.setattr("potstill.metrics.correlation._CHUNK_ELEMENTS", 100)
    assert np.array_equal(whole, SPEARMAN.resampled(truth, output, None, counts))


def test_faulty_input_is_refused() -> None:
    values = np.zeros(3)
    with pytest.raises(ValueError, match=r"wanted \(N,\) and \(N,\)"):
        PEARSON.score(values, np.zeros((3, 1)))
    with pytest.raises(ValueError, match="infinite"):
        SPEARMAN.score(values, np.array([0, np.inf, 1]))
