"""MRR and NDCG of candidates that are ranked within their query; knows no task.

Ties are broken against the ranker: of candidates with equal scores the less relevant one comes
first. So the result does not depend on the order of the rows, and a ranker that gives all
candidates one score gets the worst result, not the luck of the file's order. Queries without a
relevant candidate have no score: they are left out of the mean (`count_queries_without_relevant`
says how many they are).
"""

from __future__ import annotations

import numpy as np

from potstill.metrics.metric import (
    Floats,
    Ints,
    Metric,
    Numbers,
    check_counts,
    check_rows,
    ratio,
    unit_of_rows,
)


def count_queries_without_relevant(truth: Numbers, groups: Ints) -> int:
    """Number of queries of which no candidate has a relevance above 0."""
    units, n_queries = unit_of_rows(groups, len(truth))
    return n_queries - len(np.unique(units[truth > 0]))


def reciprocal_ranks(truth: Numbers, output: Numbers, groups: Ints | None) -> tuple[Floats, Floats]:
    """1 / rank of the first relevant candidate of each query.

    Args:
        truth: (N,) relevance, 0 or more; above 0 is relevant.
        output: (N,) scores, higher is better.
        groups: (N,) the query of each row.

    Returns:
        (U,) reciprocal ranks, 0 where nothing is relevant, and (U,) 1.0 where something is.

    Raises:
        ValueError: No groups, negative relevance, or arrays that do not fit.
    """
    units, n_queries = _queries(truth, output, groups)
    order = np.lexsort((truth, -output, units))
    relevant = truth[order] > 0
    # In the order of queries, then ranks, so the first row of each query is its best one.
    found, first = np.unique(units[order][relevant], return_index=True)
    scores, has_relevant = np.zeros(n_queries), np.zeros(n_queries)
    scores[found] = 1.0 / _ranks(units, order)[relevant][first]
    has_relevant[found] = 1.0
    return scores, has_relevant


def normalised_gains(truth: Numbers, output: Numbers, groups: Ints | None) -> tuple[Floats, Floats]:
    """NDCG of each query: gain 2^relevance - 1, discount log2(1 + rank), over all candidates.

    Args:
        truth: (N,) relevance, 0 or more.
        output: (N,) scores, higher is better.
        groups: (N,) the query of each row.

    Returns:
        (U,) NDCG, 0 where nothing is relevant, and (U,) 1.0 where something is.

    Raises:
        ValueError: No groups, negative relevance, or arrays that do not fit.

    Reference:
        Burges et al. 2005, "Learning to Rank using Gradient Descent",
        https://doi.org/10.1145/1102351.1102363.
    """
    units, n_queries = _queries(truth, output, groups)
    # As shares of the query's largest 2^relevance, which counts of clicks would overflow.
    relevance = truth.astype(np.float64)
    top = np.zeros(n_queries)
    np.maximum.at(top, units, relevance)
    gains = np.exp2(relevance - top[units]) - np.exp2(-top[units])

    def discounted(order: Ints) -> Floats:
        discounts = np.log2(1 + _ranks(units, order))
        sums: Floats = np.zeros(n_queries)
        np.add.at(sums, units[order], gains[order] / discounts)
        return sums

    reached = discounted(np.lexsort((truth, -output, units)))
    ideal = discounted(np.lexsort((-truth, units)))
    return ratio(reached, ideal), (ideal > 0).astype(np.float64)


def _queries(truth: Numbers, output: Numbers, groups: Ints | None) -> tuple[Ints, int]:
    check_rows(truth, output, n_dims=1)
    if groups is None:
        raise ValueError("a ranking metric needs groups: the query of each row")
    if truth.min() < 0:
        raise ValueError(f"truth holds the relevance {truth.min()}: wanted 0 or more")
    return unit_of_rows(groups, len(truth))


def _ranks(units: Ints, order: Ints) -> Floats:
    """Rank within its query, from 1, of each row in ``order`` (which keeps queries together)."""
    ordered = units[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[starts, len(ordered)])
    ranks: Floats = np.arange(1, len(ordered) + 1, dtype=np.float64) - np.repeat(starts, lengths)
    return ranks


def _mrr(truth: Numbers, output: Numbers, groups: Ints | None = None) -> float:
    return _mean(*reciprocal_ranks(truth, output, groups))


def _mrr_resampled(truth: Numbers, output: Numbers, groups: Ints | None, counts: Numbers) -> Floats:
    return _resampled_mean(*reciprocal_ranks(truth, output, groups), counts)


def _ndcg(truth: Numbers, output: Numbers, groups: Ints | None = None) -> float:
    return _mean(*normalised_gains(truth, output, groups))


def _ndcg_resampled(
    truth: Numbers, output: Numbers, groups: Ints | None, counts: Numbers
) -> Floats:
    return _resampled_mean(*normalised_gains(truth, output, groups), counts)


def _mean(scores: Floats, has_relevant: Floats) -> float:
    return float(ratio(scores.sum(keepdims=True), has_relevant.sum(keepdims=True))[0])


def _resampled_mean(scores: Floats, has_relevant: Floats, counts: Numbers) -> Floats:
    check_counts(counts, len(scores))
    weights = counts.astype(np.float64)
    return ratio(weights @ scores, weights @ has_relevant)


MRR = Metric(name="mrr", score=_mrr, resampled=_mrr_resampled, low=0.0, high=1.0)
"""Mean reciprocal rank of the first relevant candidate."""

NDCG = Metric(name="ndcg", score=_ndcg, resampled=_ndcg_resampled, low=0.0, high=1.0)
"""Mean normalised discounted cumulative gain, over the whole list of each query."""
