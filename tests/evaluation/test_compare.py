"""Paired bootstrap against a slow loop, its coverage, and its laws."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from potstill.evaluation.compare import (
    Comparison,
    Draw,
    Interval,
    SeedPair,
    mean_interval,
    paired_bootstrap,
    verdict,
)
from potstill.metrics.named import metric

ACCURACY = metric("accuracy")


def one_hot(right: np.ndarray) -> np.ndarray:
    """Probabilities that predict class 0 (the truth in these tests) where ``right``."""
    return np.stack([right, ~right], axis=1).astype(np.float64)


def pair_of(a: np.ndarray, b: np.ndarray, *, rows: int = 0) -> SeedPair:
    """Two models that are right on these rows."""
    truth = np.zeros(len(a), dtype=np.int64)
    draw = Draw(number=rows, size=len(a))
    return SeedPair(truth=truth, groups=None, a=one_hot(a), b=one_hot(b), draw=draw)


def make_pair(rng: np.random.Generator, n_rows: int, gain: float = 0.3, rows: int = 0) -> SeedPair:
    """Two models that agree on most rows; a is right more often."""
    easy = rng.normal(size=n_rows)
    a = easy + 0.8 + gain + rng.normal(size=n_rows) / 2 > 0
    b = easy + 0.8 + rng.normal(size=n_rows) / 2 > 0
    return pair_of(a, b, rows=rows)


def test_delta_is_the_plain_difference_and_the_interval_its_percentiles() -> None:
    pair = make_pair(np.random.default_rng(0), 200)
    comparison = paired_bootstrap(ACCURACY, [pair], resamples=500)
    right_a, right_b = pair.a.argmax(1) == 0, pair.b.argmax(1) == 0
    assert comparison.delta == pytest.approx(right_a.mean() - right_b.mean())
    assert comparison.deltas.shape == (500,)
    interval = comparison.interval
    assert interval.delta == comparison.delta
    inside = (comparison.deltas >= interval.low) & (comparison.deltas <= interval.high)
    assert inside.mean() == pytest.approx(0.95, abs=0.02)


def test_spread_equals_the_formula_for_paired_rows() -> None:
    pair = make_pair(np.random.default_rng(1), 400)
    differences = (pair.a[:, 0] - pair.b[:, 0]).astype(np.float64)
    comparison = paired_bootstrap(ACCURACY, [pair], resamples=4000)
    assert comparison.deltas.std() == pytest.approx(differences.std() / math.sqrt(400), rel=0.05)


def test_same_seed_same_numbers_and_another_seed_others() -> None:
    pairs = [make_pair(np.random.default_rng(seed), 50) for seed in range(3)]
    first = paired_bootstrap(ACCURACY, pairs, resamples=100, seed=5)
    assert np.array_equal(first.deltas, paired_bootstrap(ACCURACY, pairs, 100, 5).deltas)
    assert not np.array_equal(first.deltas, paired_bootstrap(ACCURACY, pairs, 100, 6).deltas)


def test_chunks_do_not_change_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [make_pair(np.random.default_rng(seed), 50) for seed in range(2)]
    whole = paired_bootstrap(ACCURACY, pairs, resamples=100)
    monkeypatch.setattr("potstill.evaluation.compare._CHUNK_ELEMENTS", 333)
    assert np.array_equal(whole.deltas, paired_bootstrap(ACCURACY, pairs, resamples=100).deltas)


def test_a_model_against_itself_is_exactly_zero() -> None:
    pair = make_pair(np.random.default_rng(0), 50)
    same = replace(pair, b=pair.a)
    interval = paired_bootstrap(ACCURACY, [same, same], resamples=200).interval
    assert interval == Interval(delta=0.0, low=0.0, high=0.0)


def test_swapping_the_models_turns_the_interval() -> None:
    pair = make_pair(np.random.default_rng(0), 50)
    swapped = replace(pair, a=pair.b, b=pair.a)
    forth = paired_bootstrap(ACCURACY, [pair]).interval
    back = paired_bootstrap(ACCURACY, [swapped]).interval
    assert (back.delta, back.low, back.high) == pytest.approx(
        (-forth.delta, -forth.high, -forth.low)
    )


def test_queries_are_drawn_whole() -> None:
    """Rows of a query repeat each other, so only the number of queries may narrow the interval."""
    rng = np.random.default_rng(0)
    pair = make_pair(rng, 30)
    groups = np.arange(30).repeat(20)
    repeated = SeedPair(
        truth=pair.truth.repeat(20),
        groups=groups,
        a=pair.a.repeat(20, 0),
        b=pair.b.repeat(20, 0),
        draw=pair.draw,
    )
    once = paired_bootstrap(ACCURACY, [pair], resamples=2000).deltas.std()
    whole = paired_bootstrap(ACCURACY, [repeated], resamples=2000).deltas.std()
    assert whole == pytest.approx(once, rel=0.1)


def test_ranking_metric_over_queries() -> None:
    rng = np.random.default_rng(0)
    groups, truth = np.arange(40).repeat(5), np.tile([1, 0, 0, 0, 0], 40)
    pair = SeedPair(
        truth=truth,
        groups=groups,
        a=truth + rng.normal(size=200) / 4,
        b=truth + rng.normal(size=200) * 3,
        draw=Draw(number=0, size=40),
    )
    assert verdict(paired_bootstrap(metric("mrr"), [pair]).interval, 40) == "helped"


def slow_deltas(pairs: list[SeedPair], resamples: int) -> np.ndarray:
    """The bootstrap of rows, one row index at a time; the same rows for pairs of the same rows."""
    rng = np.random.default_rng(99)
    deltas = []
    for _ in range(resamples):
        drawn: dict[int, np.ndarray] = {}
        terms = []
        for pair in pairs:
            n = len(pair.truth)
            rows = drawn.setdefault(pair.draw.number, rng.integers(n, size=n))
            terms.append((pair.a[rows, 0] - pair.b[rows, 0]).mean())
        deltas.append(np.mean(terms))
    return np.array(deltas)


@pytest.mark.parametrize("shared", [True, False])
def test_rows_of_several_seeds_equal_the_slow_bootstrap(shared: bool) -> None:
    """Seeds on the same test rows fail on the same hard ones; on rows of their own they do not."""
    hard = np.random.default_rng(2).random(60) < 0.3
    pairs = [
        pair_of(hard | (np.arange(60) % 5 == seed), hard.copy() & False, rows=0 if shared else seed)
        for seed in range(3)
    ]
    fast = paired_bootstrap(ACCURACY, pairs, resamples=4000).deltas
    slow = slow_deltas(pairs, 4000)
    assert fast.mean() == pytest.approx(slow.mean(), abs=0.005)
    assert fast.std() == pytest.approx(slow.std(), rel=0.07)
    assert np.percentile(fast, [2.5, 97.5]) == pytest.approx(
        np.percentile(slow, [2.5, 97.5]), abs=0.025
    )


def test_the_interval_of_several_seeds_is_welchs() -> None:
    """By hand: variances of 0.01 (rows) and 0.02 / 2 (seeds), so 4 degrees of freedom."""
    deltas = 0.3 + 0.1 * np.tile([1.0, -1.0], 50)
    comparison = Comparison(by_seed=np.array([0.2, 0.4]), deltas=deltas)
    margin = scipy.stats.t.ppf(0.975, 4) * math.sqrt(0.02)
    assert comparison.interval.low == pytest.approx(0.3 - margin)
    assert comparison.interval.high == pytest.approx(0.3 + margin)
    alike = Comparison(by_seed=np.array([0.3, 0.3]), deltas=deltas).interval
    assert alike.high - 0.3 == pytest.approx(1.96 * 0.1, rel=1e-3)


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
@pytest.mark.parametrize("luck", [0.02, 0.0])
def test_models_that_differ_in_luck_alone_are_seldom_told_apart(n_seeds: int, luck: float) -> None:
    """300 simulations of two methods with no difference: 5 verdicts in 100 are allowed.

    The accuracy of a training has a standard deviation of ``luck``.
    """
    wrong = 0
    for simulation in range(300):
        rng = np.random.default_rng([n_seeds, simulation])
        level = rng.random(500)  # hard rows are hard for all
        pairs = []
        for _ in range(n_seeds):
            a, b = (
                np.where(rng.random(500) < 0.7, level, rng.random(500)) < 0.8 + luck * rng.normal()
                for _ in range(2)
            )
            pairs.append(pair_of(a, b))
        found = verdict(paired_bootstrap(ACCURACY, pairs, resamples=200).interval, 500)
        wrong += found != "no difference"
    assert wrong / 300 <= 0.08


def test_interval_covers_the_true_difference_in_about_95_percent() -> None:
    """200 simulated test sets; the true accuracies are known."""
    share_a, share_b, covered = 0.8, 0.7, 0
    for simulation in range(200):
        rng = np.random.default_rng(simulation)
        level = rng.random(250)  # common to both: hard rows are hard for both models
        right_a = np.where(rng.random(250) < 0.5, level, rng.random(250)) < share_a
        right_b = np.where(rng.random(250) < 0.5, level, rng.random(250)) < share_b
        pair = pair_of(right_a, right_b)
        interval = paired_bootstrap(ACCURACY, [pair], resamples=400, seed=simulation).interval
        covered += interval.low <= share_a - share_b <= interval.high
    assert 0.90 <= covered / 200 <= 0.99


def test_mean_over_tasks_is_narrower_than_a_task_and_independent_of_its_order() -> None:
    rng = np.random.default_rng(4)
    tasks = [paired_bootstrap(ACCURACY, [make_pair(rng, 200, rows=task)]) for task in range(4)]
    mean = mean_interval(tasks)
    assert mean.delta == pytest.approx(np.mean([task.delta for task in tasks]))
    widths = [task.interval.high - task.interval.low for task in tasks]
    assert mean.high - mean.low == pytest.approx(np.mean(widths) / 2, rel=0.15)
    assert mean_interval(tasks[::-1]).low == pytest.approx(mean.low)


def test_tasks_draw_their_own_rows_unless_they_are_the_same() -> None:
    rng = np.random.default_rng(5)
    right = rng.random(100) < 0.5

    def compare(rows: int) -> np.ndarray:
        a = right | (np.arange(100) < 40)
        return paired_bootstrap(ACCURACY, [pair_of(a, right, rows=rows)]).deltas

    assert abs(np.corrcoef(compare(1), compare(2))[0, 1]) < 0.1
    assert np.array_equal(compare(1), compare(1))


def test_a_part_of_what_is_drawn_is_drawn_with_the_rest() -> None:
    """One task has labels for all but a row of what the other has."""
    rng = np.random.default_rng(7)
    right = rng.random(100) < 0.5
    whole = pair_of(right | (np.arange(100) < 40), right)
    part = replace(
        whole,
        truth=whole.truth[:99],
        a=whole.a[:99],
        b=whole.b[:99],
        draw=Draw(number=0, size=100, units=np.arange(99)),
    )
    a, b = (paired_bootstrap(ACCURACY, [pair], resamples=500).deltas for pair in (whole, part))
    assert np.corrcoef(a, b)[0, 1] > 0.98


def test_the_luck_of_a_seed_stays_in_the_mean_over_tasks() -> None:
    """Seed 1 is the better one on all tasks: their mean says as little of seeds as one of them."""
    rng = np.random.default_rng(6)
    right = rng.random(4000) < 0.5
    worse, better = (right | (rng.random(4000) < gain) for gain in (0.1, 0.3))
    tasks = [
        paired_bootstrap(ACCURACY, [pair_of(a, right, rows=task) for a in (worse, better)])
        for task in range(4)
    ]
    one, mean = tasks[0].interval, mean_interval(tasks)
    assert mean.high - mean.low == pytest.approx(one.high - one.low, rel=0.1)


def test_verdict_needs_the_interval_to_exclude_zero() -> None:
    better, worse = (
        Interval(delta=s * 0.1, low=s * 0.15 - 0.14, high=s * 0.15 + 0.14) for s in (1, -1)
    )
    assert verdict(better, 10) == "helped"
    assert verdict(worse, 10) == "hurt"
    assert verdict(better, 9) == verdict(worse, 9) == "no difference"
    assert verdict(Interval(delta=0.1, low=0.0, high=0.2), 10) == "no difference"
    assert verdict(Interval(delta=-0.1, low=-0.2, high=0.0), 10) == "no difference"


def test_faulty_input_is_refused() -> None:
    pair = make_pair(np.random.default_rng(0), 5)
    with pytest.raises(ValueError, match="0 pairs"):
        paired_bootstrap(ACCURACY, [])
    with pytest.raises(ValueError, match="0 resamples"):
        paired_bootstrap(ACCURACY, [pair], resamples=0)
    with pytest.raises(ValueError, match="wanted the same for all"):
        mean_interval([])
    with pytest.raises(ValueError, match="wanted the same for all"):
        mean_interval([Comparison(by_seed=np.zeros(1), deltas=np.zeros(n)) for n in (2, 3)])
    with pytest.raises(ValueError, match="wanted the same for all"):
        mean_interval([Comparison(by_seed=np.zeros(n), deltas=np.zeros(2)) for n in (1, 2)])
