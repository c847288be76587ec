"""Is one model better than another? Paired bootstrap intervals and verdicts.

Knows metrics and arrays, no task, model or run folder. A comparison is always of the same rows:
a resample that draws a row draws it for both models.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from potstill.metrics.metric import Floats, Ints, Metric, Numbers, unit_of_rows

Verdict: TypeAlias = Literal["helped", "hurt", "no difference"]

CONFIDENCE = 0.95

_LEAST_UNITS = 10
_DUST = 1e-9
"""What means over seeds leave of a difference that is exactly zero."""

_CHUNK_ELEMENTS = 4_000_000
"""Resamples times units that are drawn at once: 32 MB of int64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A difference of scores, a - b, with its 95 % interval."""

    delta: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedPair:
    """What two models of one seed said about the same rows.

    Args:
        truth: What the metric takes: class indices, values, relevances, passages.
        groups: (N,) the query of each row, or None. Where given, groups are drawn, not rows.
        a: Output of the model in question: (N, C) class probabilities, or (N,) values or scores.
        b: Output of the model that it is compared with.
    """

    truth: Any
    groups: Ints | None
    a: Numbers
    b: Numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A paired bootstrap of score(a) - score(b).

    Args:
        delta: Plain mean over seeds of score(a) - score(b), without resampling.
        deltas: (R,) the same of each resample.
    """

    delta: float
    deltas: Floats

    @property
    def interval(self) -> Interval:
        """The difference with its 95 % percentile interval."""
        tail = 100 * (1 - CONFIDENCE) / 2
        low, high = np.percentile(self.deltas, [tail, 100 - tail])
        return Interval(delta=self.delta, low=float(low), high=float(high))


def paired_bootstrap(
    metric: Metric,
    pairs: Sequence[SeedPair],
    resamples: int = 2000,
    seed: int = 0,
    rows: int | None = None,
) -> Comparison:
    """Bootstrap the difference of two models' scores over rows, and over seeds where several.

    With one seed a resample draws rows (queries, where groups are given) with replacement. With
    S seeds it draws S seeds with replacement, and rows within: where all seeds have the same
    truth, the same rows for every drawn seed; where each seed has its own split, rows of its own
    for each draw. So the interval covers the choice of rows and the luck of the seeds.

    The drawn seeds depend on ``seed``, ``resamples`` and S alone, so comparisons of several tasks
    draw the same ones: seed s of all tasks is one run, often one student. The drawn rows depend
    on ``rows`` as well: tasks with labels for the same rows, such as intent and slots of one
    utterance, must draw the same, or the interval of their mean is too narrow.

    Few seeds say little about the spread of seeds: with S = 3 and differences that come from
    the seeds alone, the interval goes from the worst seed to the best, and holds the true
    difference about 3 times in 4, not 19 times in 20. Where rows are the larger part it holds.

    Args:
        metric: What is compared; a - b of its scores, whichever direction is better.
        pairs: One for each seed, in the same order for every task.
        resamples: R, the number of resamples.
        seed: Of the random draws; the same seed gives the same numbers.
        rows: A number of the rows: equal for tasks over the same rows in the same order. None
            takes it from the truth: the same for all comparisons of one task.

    Raises:
        ValueError: No pairs, no resamples, or arrays that do not fit.

    Examples:
        >>> from potstill.metrics.named import metric
        >>> truth = np.array([0, 1] * 50)
        >>> right, wrong = np.eye(2)[truth], np.eye(2)[1 - truth]
        >>> pair = SeedPair(truth=truth, groups=None, a=right, b=wrong)
        >>> paired_bootstrap(metric("accuracy"), [pair]).interval
        Interval(delta=1.0, low=1.0, high=1.0)
    """
    if not pairs or resamples < 1:
        raise ValueError(f"{len(pairs)} pairs, {resamples} resamples: wanted at least 1 of each")
    points = [
        metric.score(pair.truth, pair.a, pair.groups)
        - metric.score(pair.truth, pair.b, pair.groups)
        for pair in pairs
    ]
    n_seeds = len(pairs)
    drawn = np.random.default_rng([seed, 0]).integers(n_seeds, size=(resamples, n_seeds))
    named = [_digest(pair) for pair in pairs] if rows is None else [rows]
    rows_rng = np.random.default_rng([seed, 1, *named])
    if all(_same_rows(pair, pairs[0]) for pair in pairs):
        by_seed = _differences(metric, pairs, resamples, rows_rng)
        deltas = np.take_along_axis(by_seed, drawn.T, axis=0).mean(axis=0)
    else:
        terms = np.empty((resamples, n_seeds))
        for index, pair in enumerate(pairs):
            here = drawn == index
            n_draws = int(here.sum())
            terms[here] = _differences(metric, [pair], n_draws, rows_rng)[0]
        deltas = terms.mean(axis=1)
    return Comparison(delta=float(np.mean(points)), deltas=deltas)


def mean_interval(comparisons: Sequence[Comparison]) -> Interval:
    """The mean over tasks of a - b, with its 95 % interval.

    The tasks are fixed, not drawn. Where the comparisons were made with the same ``seed`` and
    number of seeds, their drawn seeds are the same ones; with the same ``rows``, their drawn rows.

    Args:
        comparisons: One for each task.

    Raises:
        ValueError: No comparisons, or unequal numbers of resamples.
    """
    sizes = {len(each.deltas) for each in comparisons}
    if len(sizes) != 1:
        raise ValueError(f"comparisons with {sorted(sizes)} resamples: wanted one number for all")
    return Comparison(
        delta=float(np.mean([each.delta for each in comparisons])),
        deltas=np.mean([each.deltas for each in comparisons], axis=0),
    ).interval


def verdict(interval: Interval, n_units: int) -> Verdict:
    """``helped`` or ``hurt`` where the interval excludes 0, else ``no difference``.

    Fewer than ten units (rows, or queries of a ranking) show no difference, whatever their
    interval: a resample of a few rows does not know what other rows would have been.
    """
    if n_units < _LEAST_UNITS:
        return "no difference"
    if interval.low > _DUST:
        return "helped"
    if interval.high < -_DUST:
        return "hurt"
    return "no difference"


def _same_rows(one: SeedPair, other: SeedPair) -> bool:
    if (one.groups is None) != (other.groups is None):
        return False
    same_groups = (
        one.groups is None or other.groups is None or np.array_equal(one.groups, other.groups)
    )
    return same_groups and _bytes(one.truth) == _bytes(other.truth)


def _bytes(truth: Any) -> bytes:
    """A truth as bytes, the same whatever its dtype; of objects, what they say of themselves."""
    values = np.asarray(truth)
    if values.dtype == object:
        return "\n".join(map(repr, values)).encode()
    return np.ascontiguousarray(values, dtype=np.float64).tobytes()


def _digest(pair: SeedPair) -> int:
    """A number of the truth alone, the same whatever its dtype."""
    truth = zlib.crc32(_bytes(pair.truth))
    if pair.groups is None:
        return truth
    return zlib.crc32(np.ascontiguousarray(pair.groups, dtype=np.int64).tobytes(), truth)


def _differences(
    metric: Metric, pairs: Sequence[SeedPair], resamples: int, rng: np.random.Generator
) -> Floats:
    """score(a) - score(b) of each pair in each resample of rows that all pairs share: (S, R)."""
    first = pairs[0]
    _, n_units = unit_of_rows(first.groups, len(first.truth))
    chunks = [
        np.stack(
            [
                metric.resampled(pair.truth, pair.a, pair.groups, counts)
                - metric.resampled(pair.truth, pair.b, pair.groups, counts)
                for pair in pairs
            ]
        )
        for counts in _multiplicities(n_units, resamples, rng)
    ]
    return np.concatenate(chunks, axis=1) if chunks else np.empty((len(pairs), 0))


def _multiplicities(n_units: int, resamples: int, rng: np.random.Generator) -> Iterator[Ints]:
    """How often each unit is drawn, in chunks of (r, U); every row sums to U."""
    step = max(1, _CHUNK_ELEMENTS // n_units)
    for start in range(0, resamples, step):
        n_here = min(step, resamples - start)
        draws = rng.integers(n_units, size=(n_here, n_units))
        draws += n_units * np.arange(n_here)[:, None]
        counts = np.bincount(draws.ravel(), minlength=n_here * n_units)
        yield counts.reshape(n_here, n_units)
