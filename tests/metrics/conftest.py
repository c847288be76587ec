"""Resamples written out row by row, the slow oracle of every metric."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from potstill.metrics.metric import Floats, Ints, Metric, Numbers

# The first call of a test pays for imports and warm-up; a deadline would measure the machine.


def _written_out(
    metric: Metric, truth: Numbers, output: Numbers, groups: Ints | None, counts: Ints
) -> Floats:
    """Score every resample on real arrays; a query drawn twice becomes two queries."""
    scores = []
    for multiplicities in counts:
        rows: list[int] = []
        new_groups: list[int] = []
        units = np.arange(len(truth)) if groups is None else np.unique(groups)
        for unit, times in zip(units, multiplicities, strict=True):
            of_unit = [int(unit)] if groups is None else np.flatnonzero(groups == unit).tolist()
            for _ in range(times):
                number = new_groups[-1] + 1 if new_groups else 0
                rows += of_unit
                new_groups += [number] * len(of_unit)
        scores.append(
            metric.score(
                truth[rows], output[rows], None if groups is None else np.array(new_groups)
            )
        )
    return np.array(scores)


def _draw_counts(rng: np.random.Generator, n_units: int, resamples: int = 12) -> Ints:
    """Multiplicities as a bootstrap draws them, and the extreme one of a single unit."""
    counts = rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=resamples)
    counts[0] = 0
    counts[0, rng.integers(n_units)] = n_units
    return counts


def _check(
    metric: Metric,
    truth: Numbers,
    output: Numbers,
    groups: Ints | None,
    rng: np.random.Generator,
) -> None:
    """The contract of every metric: fast resamples equal the score of slow ones."""
    n_units = len(truth) if groups is None else len(np.unique(groups))
    counts = _draw_counts(rng, n_units)
    fast = metric.resampled(truth, output, groups, counts)
    assert fast.shape == (len(counts),)
    # Sums of powers lose digits where a resample is nearly constant.
    np.testing.assert_allclose(
        fast, _written_out(metric, truth, output, groups, counts), rtol=1e-6, atol=1e-6
    )
    once = metric.resampled(truth, output, groups, np.ones((1, n_units), dtype=np.int64))
    np.testing.assert_allclose(once[0], metric.score(truth, output, groups), atol=1e-12)
    assert metric.low <= once[0] <= metric.high


@pytest.fixture(scope="session")
def check_resampled() -> Callable[..., None]:
    """`_check` for the tests of each metric: (metric, truth, output, groups, rng)."""
    return _check
