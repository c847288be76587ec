"""MRR and NDCG against slow definitions and scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from potstill.metrics.metric import Floats, Ints
from potstill.metrics.named import metric
from potstill.metrics.ranking import count_queries_without_relevant

seeds = st.integers(0, 2**16)
MRR, NDCG = metric("mrr"), metric("ndcg")


def make_rows(seed: int, n_rows: int, *, ties: bool) -> tuple[Ints, Floats, Ints]:
    """Candidates of a few queries, rows in no order, some queries without a relevant one."""
    rng = np.random.default_rng(seed)
    groups = 7 * rng.integers(5, size=n_rows) - 3
    truth = rng.choice([0, 0, 0, 1, 3], size=n_rows) * (groups != -3)
    scores = rng.integers(3, size=n_rows) / 2 if ties else rng.normal(size=n_rows)
    return truth, scores.astype(np.float64), groups


def slow_lists(truth: Ints, output: Floats, groups: Ints) -> list[list[int]]:
    """Relevances of each query in ranked order; of equal scores the less relevant first."""
    lists = []
    for query in sorted(set(groups.tolist())):
        rows = [(-s, t) for t, s, g in zip(truth, output, groups, strict=True) if g == query]
        lists.append([int(relevance) for _, relevance in sorted(rows)])
    return [each for each in lists if any(each)]


def slow_mrr(lists: list[list[int]]) -> float:
    ranks = [next(i for i, r in enumerate(each, 1) if r > 0) for each in lists]
    return sum(1 / rank for rank in ranks) / len(ranks) if ranks else 0.0


def slow_ndcg(lists: list[list[int]]) -> float:
    def gain(each: list[int]) -> float:
        return math.fsum((2**r - 1) / math.log2(i + 1) for i, r in enumerate(each, 1))

    values = [gain(each) / gain(sorted(each, reverse=True)) for each in lists]
    return sum(values) / len(values) if values else 0.0


@given(seeds, st.integers(1, 40), st.booleans())
def test_scores_equal_slow_definitions(seed: int, n_rows: int, ties: bool) -> None:
    truth, output, groups = make_rows(seed, n_rows, ties=ties)
    lists = slow_lists(truth, output, groups)
    assert MRR.score(truth, output, groups) == pytest.approx(slow_mrr(lists))
    assert NDCG.score(truth, output, groups) == pytest.approx(slow_ndcg(lists))
    n_queries = len(set(groups.tolist()))
    assert count_queries_without_relevant(truth, groups) == n_queries - len(lists)


@given(seeds, st.integers(2, 20))
def test_ndcg_equals_scikit_learn(seed: int, n_candidates: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(4, size=n_candidates)
    truth[0] = 1
    output = rng.permutation(n_candidates).astype(np.float64)
    wanted = ndcg_score([2.0**truth - 1], [output])
    groups = np.zeros(n_candidates, dtype=np.int64)
    assert NDCG.score(truth, output, groups) == pytest.approx(wanted)


@given(seeds, st.integers(2, 25), st.booleans())
def test_resamples_equal_queries_written_out(
    check_resampled: Callable[..., None], seed: int, n_rows: int, ties: bool
) -> None:
    truth, output, groups = make_rows(seed, n_rows, ties=ties)
    rng = np.random.default_rng(seed)
    for each in (MRR, NDCG):
        check_resampled(each, truth, output, groups, rng)


@given(seeds, st.booleans())
def test_order_of_rows_changes_nothing(seed: int, ties: bool) -> None:
    truth, output, groups = make_rows(seed, 20, ties=ties)
    order = np.random.default_rng(seed).permutation(20)
    for each in (MRR, NDCG):
        assert each.score(truth[order], output[order], groups[order]) == pytest.approx(
            each.score(truth, output, groups)
        )


def test_known_values() -> None:
    truth = np.array([0, 1, 0, 0, 0, 2])
    output = np.array([0.9, 0.8, 0.1, 0.5, 0.4, 0.6])
    groups = np.array([0, 0, 0, 1, 1, 1])
    assert MRR.score(truth, output, groups) == pytest.approx((1 / 2 + 1) / 2)
    assert NDCG.score(truth, output, groups) == pytest.approx((1 / math.log2(3) + 1) / 2)


def test_counts_as_relevance_do_not_overflow() -> None:
    truth, groups = np.array([1500, 0, 1499]), np.zeros(3, dtype=np.int64)
    perfect, swapped = np.array([3.0, 1, 2]), np.array([2.0, 1, 3])
    assert NDCG.score(truth, perfect, groups) == 1.0
    best = 1 + 0.5 / math.log2(3)
    wanted = (0.5 + 1 / math.log2(3)) / best
    assert NDCG.score(truth, swapped, groups) == pytest.approx(wanted)


def test_a_constant_ranker_gets_the_worst_result() -> None:
    truth, groups = np.array([1, 0, 0, 0]), np.zeros(4, dtype=np.int64)
    assert MRR.score(truth, np.zeros(4), groups) == 0.25
    assert MRR.score(truth, -truth.astype(float), groups) == 0.25


def test_nothing_relevant_scores_zero_and_is_counted() -> None:
    truth, groups = np.zeros(4), np.array([0, 0, 1, 1])
    for each in (MRR, NDCG):
        assert each.score(truth, np.arange(4.0), groups) == 0.0
        assert each.resampled(truth, np.arange(4.0), groups, np.array([[1, 1]])).tolist() == [0.0]
    assert count_queries_without_relevant(truth, groups) == 2


def test_faulty_input_is_refused() -> None:
    truth = np.zeros(2)
    with pytest.raises(ValueError, match="needs groups"):
        MRR.score(truth, truth)
    with pytest.raises(ValueError, match="relevance -1"):
        NDCG.score(truth - 1, truth, np.zeros(2, dtype=np.int64))
