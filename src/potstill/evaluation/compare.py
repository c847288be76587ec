"""Is one model better than another? Paired bootstrap intervals and verdicts.

Knows metrics and arrays, no task, model or run folder. A comparison is always of the same rows:
a resample that draws a row draws it for both models.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy.special import stdtrit

from potstill.metrics.metric import Floats, Ints, Metric, Numbers

Verdict: TypeAlias = Literal["helped", "hurt", "no difference"]

CONFIDENCE = 0.95

LEAST_UNITS = 10
_DUST = 1e-9
"""What means over seeds leave of a difference that is exactly zero."""

_LEAST_SHARE = 1e-4
"""Of the variance: below it the luck of seeds no longer counts (and t is the normal one)."""

_CHUNK_ELEMENTS = 16_000_000
"""Resamples times units that are drawn at once: 128 MB of int64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A difference of scores, a - b, with its 95 % interval."""

    delta: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draw:
    """What a resample draws, and which of it are the units of a pair.

    Args:
        number: Pairs with the same number, of other seeds or of other tasks, are drawn together.
        size: D, how many are drawn, of as many; the same for all pairs of a number.
        units: (U,) for each unit of a pair which of the D it is; None: they are all of them.
    """

    number: int
    size: int
    units: Ints | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedPair:
    """What two models of one seed said about the same rows.

    Args:
        truth: What the metric takes: class indices, values, relevances, passages.
        groups: (N,) the query of each row, or None. Where given, groups are drawn, not rows.
        a: Output of the model in question: (N, C) class probabilities, or (N,) values or scores.
        b: Output of the model that it is compared with.
        draw: How its rows are drawn, together with those of other pairs.
    """

    truth: Any
    groups: Ints | None
    a: Numbers
    b: Numbers
    draw: Draw


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A paired bootstrap of score(a) - score(b), over one seed or several.

    Args:
        by_seed: (S,) score(a) - score(b) of each seed, without resampling.
        deltas: (R,) their mean over seeds in each resample of rows.
    """

    by_seed: Floats
    deltas: Floats

    @property
    def delta(self) -> float:
        """Plain mean over seeds of score(a) - score(b), without resampling."""
        return float(np.mean(self.by_seed))

    @property
    def interval(self) -> Interval:
        """The difference with its 95 % interval.

        Of one seed it is the percentile interval, and covers the choice of rows alone. With S
        seeds it covers their luck, too: the variance of resampled rows and that of a mean of S
        seeds are added, with Student's t for the degrees of freedom that both together have
        (Welch-Satterthwaite). Rows that differ in luck from seed to seed are counted in both, so
        it is too wide where luck is small, and a little too narrow with two or three seeds whose
        luck is far larger (docs/method.md has the coverage).
        """
        n_seeds = len(self.by_seed)
        if n_seeds == 1:
            tail = 100 * (1 - CONFIDENCE) / 2
            low, high = np.percentile(self.deltas, [tail, 100 - tail])
            return Interval(delta=self.delta, low=float(low), high=float(high))
        return interval_of_seeds(self.by_seed, float(np.var(self.deltas)))


def interval_of_seeds(by_seed: Floats, variance_of_rows: float) -> Interval:
    """The mean of two seeds or more with the interval of :attr:`Comparison.interval`.

    Args:
        by_seed: (S,) a - b of each seed, S > 1.
        variance_of_rows: Of their mean, over resampled rows.
    """
    n_seeds = len(by_seed)
    of_seeds = float(np.var(by_seed, ddof=1)) / n_seeds
    whole = variance_of_rows + of_seeds
    margin = 0.0
    if whole > 0:
        share = max(of_seeds / whole, _LEAST_SHARE)
        freedom = (n_seeds - 1) / share**2
        margin = float(stdtrit(freedom, 0.5 + CONFIDENCE / 2)) * math.sqrt(whole)
    delta = float(np.mean(by_seed))
    # Scores lie in [-1, 1], so their differences in [-2, 2], which two seeds may know nothing of.
    return Interval(delta=delta, low=max(delta - margin, -2.0), high=min(delta + margin, 2.0))


def paired_bootstrap(
    metric: Metric, pairs: Sequence[SeedPair], resamples: int = 2000, seed: int = 0
) -> Comparison:
    """Bootstrap the difference of two models' scores over rows; seeds are kept apart.

    A resample draws rows (queries, where groups are given) with replacement, the same for all
    pairs of one draw. So tasks with labels for the same rows, such as intent and slots of one
    utterance, are drawn alike: otherwise the interval of their mean would be too narrow.

    Args:
        metric: What is compared; a - b of its scores, whichever direction is better.
        pairs: One for each seed, in the same order for every task.
        resamples: R, the number of resamples.
        seed: Of the random draws; the same seed gives the same numbers.

    Raises:
        ValueError: No pairs, no resamples, or arrays that do not fit.

    Examples:
        >>> from potstill.metrics.named import metric
        >>> truth = np.array([0, 1] * 50)
        >>> right, wrong = np.eye(2)[truth], np.eye(2)[1 - truth]
        >>> draw = Draw(number=0, size=100)
        >>> pair = SeedPair(truth=truth, groups=None, a=right, b=wrong, draw=draw)
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
    together: dict[tuple[int, int], list[SeedPair]] = {}
    for pair in pairs:
        together.setdefault((pair.draw.number, pair.draw.size), []).append(pair)
    resampled = [
        _differences(metric, own, resamples, size, np.random.default_rng([seed, number]))
        for (number, size), own in together.items()
    ]
    return Comparison(by_seed=np.array(points), deltas=np.concatenate(resampled).mean(axis=0))


def mean_interval(comparisons: Sequence[Comparison]) -> Interval:
    """The mean over tasks of a - b, with its 95 % interval.

    The tasks are fixed, not drawn. Seed s of all tasks is one run, often one student.

    Args:
        comparisons: One for each task, made with the same ``seed`` and the same seeds of the runs.

    Raises:
        ValueError: No comparisons, or unequal numbers of resamples or seeds.
    """
    sizes = {(len(each.deltas), len(each.by_seed)) for each in comparisons}
    if len(sizes) != 1:
        raise ValueError(f"(resamples, seeds) are {sorted(sizes)}: wanted the same for all")
    return Comparison(
        by_seed=np.mean([each.by_seed for each in comparisons], axis=0),
        deltas=np.mean([each.deltas for each in comparisons], axis=0),
    ).interval


def verdict(interval: Interval, n_units: int) -> Verdict:
    """``helped`` or ``hurt`` where the interval excludes 0, else ``no difference``.

    Fewer than ten units (rows, or queries of a ranking) show no difference, whatever their
    interval: a resample of a few rows does not know what other rows would have been.
    """
    if n_units < LEAST_UNITS:
        return "no difference"
    if interval.low > _DUST:
        return "helped"
    if interval.high < -_DUST:
        return "hurt"
    return "no difference"


def _differences(
    metric: Metric,
    pairs: Sequence[SeedPair],
    resamples: int,
    size: int,
    rng: np.random.Generator,
) -> Floats:
    """score(a) - score(b) of each pair in each resample of what all are drawn from: (S, R)."""
    chunks = [
        np.stack(
            [
                metric.resampled(pair.truth, pair.a, pair.groups, counts)
                - metric.resampled(pair.truth, pair.b, pair.groups, counts)
                for pair, counts in (
                    (pair, drawn if pair.draw.units is None else drawn[:, pair.draw.units])
                    for pair in pairs
                )
            ]
        )
        for drawn in _multiplicities(size, resamples, rng)
    ]
    return np.concatenate(chunks, axis=1)


def _multiplicities(n_units: int, resamples: int, rng: np.random.Generator) -> Iterator[Ints]:
    """How often each unit is drawn, in chunks of (r, U); every row sums to U."""
    step = max(1, _CHUNK_ELEMENTS // n_units)
    for start in range(0, resamples, step):
        n_here = min(step, resamples - start)
        draws = rng.integers(n_units, size=(n_here, n_units))
        draws += n_units * np.arange(n_here)[:, None]
        counts = np.bincount(draws.ravel(), minlength=n_here * n_units)
        yield counts.reshape(n_here, n_units)
